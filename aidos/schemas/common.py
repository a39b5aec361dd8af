"""Shapes that every module's wire schemas share."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, StringConstraints
from pydantic_core import CoreSchema

from aidos.errors import InvalidRequest
from aidos.schemas.json_types import refuse_other_types

T = TypeVar("T")

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
"""Letters, digits, dot, underscore and hyphen, at most 100 characters, beginning with a letter or digit."""
Text = Annotated[str, StringConstraints(max_length=10_000, pattern=r"^[^\x00]*$")]
"""Free text without NUL."""


class Wire(BaseModel):
    """Base of what is sent: built from a stored dataclass by ``model_validate``."""

    model_config = ConfigDict(from_attributes=True, defer_build=True)


class Asked(BaseModel):
    """Base of what is received: unknown fields are refused, and values of another JSON type than the document says."""

    model_config = ConfigDict(extra="forbid", defer_build=True)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = handler(source)
        refuse_other_types(handler.resolve_ref_schema(schema), cls)
        return schema


class Problem(BaseModel):
    """RFC 9457 problem details; further members are the error's own fields."""

    model_config = ConfigDict(extra="allow", defer_build=True)

    type: str = Field(description="URN of the error, e.g. `urn:aidos:modelhub:run-not-found`.")
    title: str
    status: int
    detail: str
    instance: str | None = Field(None, description="Request id, found again in the logs.")


class PageOf(Wire, Generic[T]):
    """A page; ``next_cursor`` is absent on the last one."""

    items: list[T]
    next_cursor: str | None = None


def encode_cursor(*key: Any) -> str:
    """An opaque cursor of the last row's sort key."""
    return base64.urlsafe_b64encode(json.dumps(key, default=str).encode()).decode().rstrip("=")


def decode_cursor(cursor: str | None, kinds: Sequence[Callable[[str], Any]]) -> list[Any] | None:
    """The sort key in a cursor, each part made by its kind, e.g. ``[datetime.fromisoformat, UUID]``.

    Raises: InvalidRequest when the cursor is not one of ours.
    """
    if cursor is None:
        return None
    try:
        key = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        return [kind(str(part)) for kind, part in zip(kinds, key, strict=True)]
    except (ValueError, TypeError, RecursionError, binascii.Error) as error:
        raise InvalidRequest(reason="The cursor is not one that this list gave out. Start again without it.") from error
