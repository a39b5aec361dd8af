"""What a dataset promises about itself: ``.aidos/expectations.yaml`` in the commit, so that it is versioned with the data."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from aidos.schemas.common import Asked, Name
from aidos.schemas.dataforge.versions import FilePath, RefName

ABOUT = ".aidos/"
PATH = f"{ABOUT}expectations.yaml"
Column = Annotated[str, StringConstraints(min_length=1, max_length=500)]
Age = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,5}[smhdw]$")]
"""A number with its unit: seconds, minutes, hours, days or weeks, as ``36h``."""


class ColumnType(StrEnum):
    """What values are, whether the file stores them as such (Parquet) or as text (CSV)."""

    INTEGER = "integer"
    NUMBER = "number"
    TEXT = "text"
    BOOLEAN = "boolean"
    DATE = "date"


class Reference(Asked):
    """A column of another dataset (or of this one) that has every value."""

    dataset: Name | None = Field(None, description="The other dataset; absent: this commit.")
    ref: RefName = Field("main", description="Branch, tag or commit id of the other dataset.")
    files: FilePath = Field(description="Files that have the column: a path, or a pattern with * and ?.")
    column: Column


class ColumnExpectation(Asked):
    """What holds for the values of a column. What is absent is not checked."""

    column_type: ColumnType | None = Field(None, alias="type")
    not_null: bool = False
    min: float | str | None = Field(None, description="Smallest value: a number, or a date as ISO 8601 text.")
    max: float | str | None = Field(None, description="Largest value.")
    matches: str | None = Field(None, max_length=1000, description="Regular expression (RE2) that the text contains; ^ and $ anchor it.")
    values: list[str | int | float | bool] | None = Field(None, max_length=10_000, description="The only values that there may be.")
    unique: bool = False
    references: Reference | None = None
    max_age: Age | None = Field(None, description="The newest value is at most this much older than the commit.")
    mostly: float = Field(1.0, gt=0, le=1, description="Share of the values that must keep to it.")


class RowCount(Asked):
    """How many rows there are."""

    min: int = Field(0, ge=0)
    max: int | None = Field(None, ge=0)


class TableExpectation(Asked):
    """What holds for the rows of some files, all of them together."""

    files: FilePath = Field(description="A path, or a pattern with * and ?.")
    rows: RowCount | None = None
    columns: dict[Column, ColumnExpectation] = Field({}, max_length=1000)
    only_these_columns: bool = False
    unique: list[list[Column]] = Field([], max_length=20, description="Columns that together are unique.")


class Expectations(Asked):
    """The file as a whole."""

    tables: list[TableExpectation] = Field(min_length=1, max_length=100)
