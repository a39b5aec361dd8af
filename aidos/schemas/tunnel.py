"""What goes through a tunnel into a running job. A message is binary: one letter that says what it is, then its content.

The first is what is asked for (``TunnelAsk`` as JSON, without a letter). ``END`` is the last of the job's, and says how it went: a JSON
object with ``exit_code`` of a command, or ``reason`` of what could not be done.
"""

from __future__ import annotations

INPUT = b"i"
"""To the command, or to the port. Without content: no more will come."""
SIZE = b"s"
"""The terminal's size now: JSON of columns and rows."""
OUTPUT, ERRORS = b"o", b"e"
"""Of the command or the port; of the command's standard error."""
TAKEN = b"t"
"""One ``INPUT`` was passed on. At most ``WINDOW`` of them go ahead of it, so that nobody between keeps more."""
END = b"x"

CONTENT_BYTES, WINDOW = 2**16, 16
MESSAGE_BYTES = CONTENT_BYTES + 1
