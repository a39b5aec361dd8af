"""What may be searched for, and a search once it was read."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field


class Entity(enum.StrEnum):
    """What a comparison looks at."""

    ATTRIBUTE = "attribute"
    METRIC = "metric"
    PARAM = "param"
    TAG = "tag"
    DATASET = "dataset"
    ALIAS = "alias"
    METADATA = "metadata"


class Lifecycle(enum.StrEnum):
    """Which of the deleted and the others are looked at."""

    ACTIVE = "ACTIVE_ONLY"
    DELETED = "DELETED_ONLY"
    ALL = "ALL"


@dataclass(frozen=True)
class Comparison:
    """``value`` is a number, a text, texts (IN, NOT IN), or None (IS NULL, IS NOT NULL)."""

    entity: Entity
    key: str
    operator: str
    value: float | str | tuple[str, ...] | None


@dataclass(frozen=True)
class OrderBy:
    entity: Entity
    key: str
    descending: bool


@dataclass(frozen=True)
class Vocabulary:
    """What one kind of search understands. ``aliases``: other names of attributes."""

    texts: frozenset[str]
    numbers: frozenset[str] = frozenset()
    entities: frozenset[Entity] = frozenset()
    aliases: Mapping[str, str] = field(default_factory=dict)
    nested: Mapping[Entity, frozenset[str]] = field(default_factory=dict)
    """Entities that have only these keys."""


@dataclass(frozen=True)
class Search:
    """A page of a search: ``offset`` rows are left out, at most ``limit`` come."""

    comparisons: tuple[Comparison, ...] = ()
    order: tuple[OrderBy, ...] = ()
    lifecycle: Lifecycle = Lifecycle.ACTIVE
    limit: int = 1000
    offset: int = 0
