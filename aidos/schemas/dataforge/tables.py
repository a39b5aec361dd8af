"""Wire schemas of the viewer: pages of tables, queries and their answers."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from pydantic import Field, StringConstraints

from aidos.schemas.common import Asked, Wire
from aidos.schemas.dataforge.versions import ChangeKind, FilePath, RefName

ARROW = "application/vnd.apache.arrow.stream"
SQL_CHARS = 20_000
Sql = Annotated[str, StringConstraints(min_length=1, max_length=SQL_CHARS, pattern=r"^[^\x00]*$")]
TableName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$")]


class TableColumn(Wire):
    """A column of a table."""

    name: str
    type: str = Field(description="As DuckDB writes it: `BIGINT`, `VARCHAR`, `STRUCT(x DOUBLE)`, …")


class SchemaRead(Wire):
    """What a table has."""

    commit_id: UUID
    path: str
    columns: list[TableColumn]
    rows: int


class TableRead(Wire):
    """Rows, their values in the order of `columns`."""

    commit_id: UUID
    columns: list[TableColumn]
    rows: list[list[Any]] = Field(
        description="`NaN` and infinities are strings, as are decimals, dates (ISO 8601) and integers beyond 2^53; bytes are base64."
    )
    cut_cells: list[list[int]] = Field(description="Row and column of values that were cut at 16,384 characters.")


class RowsRead(TableRead):
    """A page of a table."""

    path: str
    row_numbers: list[int] = Field(description="Where each row is in the file, from 0.")
    total_rows: int | None = Field(description="Rows of the file; absent where they are filtered.")
    next_cursor: str | None = None


class QueryRead(TableRead):
    """The answer to a query."""

    truncated: bool = Field(description="Whether the query has more rows than these.")


class QueryCreate(Asked):
    """A query over files of a commit."""

    sql: Sql = Field(description="One SELECT, in DuckDB's dialect.")
    files: dict[TableName, FilePath] = Field(
        description="Files by the names of the tables that they are in the query.", min_length=1, max_length=16
    )
    ref: RefName = "main"
    limit: int = Field(1000, ge=1, le=100_000, description="At most so many rows.")


class RowChangeRead(Wire):
    """A row that differs."""

    kind: ChangeKind
    old: str | None = Field(description="The row as JSON; text of over 16,384 characters is cut.")
    new: str | None


class RowDiffRead(Wire):
    """Which rows of a table differ between two commits."""

    base_id: UUID
    head_id: UUID
    path: str
    added: int
    changed: int
    removed: int
    rows: list[RowChangeRead] = Field(description="Some of each kind.")
