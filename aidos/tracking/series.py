"""A metric whole, as an Arrow table: every point as it was logged."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from aidos import optional

if TYPE_CHECKING:
    from aidos.client import Client

MEDIA_TYPE = "application/vnd.apache.arrow.stream"
_PURPOSE = "Reading a metric as an Arrow table"


def read_series(client: Client, run_id: str, key: str) -> Any:
    """A ``pyarrow.Table`` of ``step``, ``at`` (microseconds, UTC) and ``value``, by step. Raises: NotFound, LibraryMissing."""
    ipc = optional.load("pyarrow.ipc", _PURPOSE)
    reply = client.runs.with_options(headers={"Accept": MEDIA_TYPE}).history.raw(run_id, key=key)
    return ipc.open_stream(reply.content).read_all()


def write_series(client: Client, run_id: str, key: str, path: Path) -> int:
    """The same as a file that ``pandas.read_feather`` and ``polars.read_ipc`` open; how many points. Raises: as ``read_series``."""
    table = read_series(client, run_id, key)
    with optional.load("pyarrow.ipc", _PURPOSE).new_file(str(path), table.schema) as file:
        file.write_table(table)
    return int(table.num_rows)
