"""How the jobs of an array are written: as behind Slurm's ``--array`` (https://slurm.schedmd.com/job_array.html)."""

from __future__ import annotations

import re
from typing import Annotated, NamedTuple
from uuid import UUID

from pydantic import AfterValidator, Field, StringConstraints

from aidos.schemas.common import Wire

MAX_ARRAY_JOBS = 10_000
_PART = re.compile(r"(\d{1,6})(?:-(\d{1,6})(?::(\d{1,6}))?)?", re.ASCII)
_LIMIT = re.compile(r"[1-9]\d{0,4}", re.ASCII)


class ArrayIndices(NamedTuple):
    """The index of each job, ascending, and how many of them run at once: None is without a bound."""

    indices: list[int]
    at_once: int | None


def parse_array(text: str) -> ArrayIndices:
    """``0-99``, ``1,3,7-9``, ``0-15:4``, each at will with ``%8`` behind. Raises: ValueError."""
    listed, percent, limit = text.partition("%")
    if percent and not _LIMIT.fullmatch(limit):
        raise ValueError(f"must say behind % how many jobs run at once, such as 0-99%8, got {limit!r}")
    parts = [_range(part) for part in listed.split(",")]
    if sum(map(len, parts)) > MAX_ARRAY_JOBS:
        raise ValueError(f"must be at most {MAX_ARRAY_JOBS:,} jobs, got {sum(map(len, parts)):,}")
    return ArrayIndices(sorted({index for part in parts for index in part}), int(limit) if limit else None)


def _range(part: str) -> range:
    match = _PART.fullmatch(part)
    if match is None:
        raise ValueError(f"must be indices such as 0-99, 1,3,7-9 or 0-15:4, got {part!r}")
    first, last, step = (int(number) if number else None for number in match.groups())
    found = range(first or 0, (first or 0 if last is None else last) + 1, 1 if step is None else max(1, step))
    if not found or step == 0:
        raise ValueError(f"must count up from its first index in steps of one or more, got {part!r}")
    return found


def _checked(text: str) -> str:
    parse_array(text)
    return text


ArrayText = Annotated[str, StringConstraints(max_length=1000), AfterValidator(_checked)]


class ArrayRead(Wire):
    """The array that a job is, or that it is one of."""

    id: UUID
    index: int | None = Field(description="Of one of its jobs; null of the array itself.")
    size: int = Field(description="How many jobs it has.")
    at_once: int | None = Field(description="How many of them are in the queue or run at once; null is without a bound.")
    counts: dict[str, int] | None = Field(None, description="Of the array itself: how many of its jobs are in each state.")
