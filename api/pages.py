"""Pages by key: where the cursor of a list points, and the rows behind it with the cursor of the next page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from uuid import UUID

from aidos.schemas.common import PageOf, Wire, decode_cursor, encode_cursor

W = TypeVar("W", bound=Wire)
K = TypeVar("K")


def key_of(cursor: str | None, kind: Callable[[str], K]) -> K | None:
    """The last row's key in a cursor of one part; None on the first page. Raises: InvalidRequest."""
    key = decode_cursor(cursor, [kind])
    return key[0] if key else None


def id_of(cursor: str | None) -> UUID | None:
    """``key_of`` for a list that is ordered by id."""
    return key_of(cursor, UUID)


def page_of(kind: type[W], rows: Sequence[Any], limit: int, *key: str) -> PageOf[W]:
    """Rows as a page of ``kind``. A full one has a cursor, made of the attributes ``key`` of its last row."""
    full = len(rows) == limit
    cursor = encode_cursor(*(getattr(rows[-1], name) for name in key)) if full else None
    return PageOf(items=[kind.model_validate(row) for row in rows], next_cursor=cursor)


def stored_text(part: str) -> str:
    """A part of a cursor that PostgreSQL can compare as text. Raises: ValueError."""
    part.encode()  # a lone surrogate is no text
    if "\x00" in part:
        raise ValueError("NUL")
    return part


def whole_below(limit: int) -> Callable[[str], int]:
    """The kind of a part that is a whole number, from 0 to below ``limit``. It raises: ValueError."""

    def read(part: str) -> int:
        if not 0 <= (number := int(part)) < limit:
            raise ValueError("out of range")
        return number

    return read
