"""The text of an API key: ``aidos_live_<id>_<secret>_<crc32>``.

The prefix is for secret scanners, the checksum lets them (and us) discard look-alikes without asking the database, the
id finds the row, and the secret has 256 random bits.
"""

from __future__ import annotations

import re
import secrets
import zlib
from uuid import UUID

PREFIX = "aidos_live_"
_FORM = re.compile(r"aidos_live_([0-9a-f]{32})_([0-9a-f]{64})_([0-9a-f]{8})")


def new_key(id: UUID) -> tuple[str, str]:
    """The key as its owner gets it, and the secret in it."""
    secret = secrets.token_hex(32)
    body = f"{PREFIX}{id.hex}_{secret}"
    return f"{body}_{_checksum(body)}", secret


def parse_key(text: str) -> tuple[UUID, str] | None:
    """Id and secret of a well-formed key; None of anything else."""
    match = _FORM.fullmatch(text)
    if match is None or _checksum(text[:-9]) != match.group(3):
        return None
    return UUID(match.group(1)), match.group(2)


def _checksum(body: str) -> str:
    return f"{zlib.crc32(body.encode()):08x}"
