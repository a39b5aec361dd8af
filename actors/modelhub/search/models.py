"""What may be searched for, and a search once it was read."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal


class Entity(enum.StrEnum):
    """What a comparison looks at."""

    ATTRIBUTE = "attribute"
    METRIC = "metric"
    PARAM = "param"
    TAG = "tag"
    DATASET = "dataset"
    DATA = "data"
    ALIAS = "alias"
    METADATA = "metadata"
    FEEDBACK = "feedback"
    EXPECTATION = "expectation"


class Lifecycle(enum.StrEnum):
    """Which of the deleted and the others are looked at."""

    ACTIVE = "ACTIVE_ONLY"
    DELETED = "DELETED_ONLY"
    ALL = "ALL"


@dataclass(frozen=True)
class Comparison:
    """``value`` is a number, a text, a moment, several of them (IN, NOT IN), or None (IS NULL, IS NOT NULL)."""

    entity: Entity
    key: str
    operator: str
    value: float | str | datetime | tuple[Any, ...] | None


@dataclass(frozen=True)
class Combination:
    """``operator``: AND, OR, or NOT of one part, which holds wherever that part does not."""

    operator: Literal["AND", "OR", "NOT"]
    parts: tuple[Condition, ...]


Condition = Comparison | Combination


@dataclass(frozen=True)
class OrderBy:
    """``dataset``: name and digest (any where empty) of what a metric was measured on."""

    entity: Entity
    key: str
    descending: bool
    dataset: tuple[str, str] | None = None


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
    datasets: tuple[tuple[str, str], ...] = ()
    """Metrics measured on one of these alone are compared; any where there is none."""
