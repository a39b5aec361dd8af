"""What has become of a thing, and how it is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from actors.modelhub.models import Node


@dataclass(frozen=True)
class Evidence:
    """What is known beyond the edges. ``sure``: the edges out of the starts are proof. ``seen``: runs that read the very thing.

    ``cleared``: a run and the id of a start of which it read other parts; counts only once the run is FINISHED.
    """

    sure: bool = True
    seen: Sequence[UUID] = ()
    cleared: Sequence[tuple[UUID, str]] = ()


@dataclass(frozen=True)
class Affected:
    """A thing that came of the starts; not ``sure``: of something that holds them, and nothing says whether they were read."""

    node: Node
    sure: bool


@dataclass(frozen=True)
class TracedRun:
    """What lineage tells of a run beside its edges. ``parent``: what it names as the run that it belongs to, empty where none."""

    id: UUID
    name: str
    experiment: str
    job_id: UUID | None
    parent: str
