"""What the queue decides over: gangs that wait, gangs that run, nodes, quotas. Plain values, live or replayed from a trace."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from tune.trainos.models import JobSpec, Resources

NOTHING, UNLIMITED = Resources(), Resources(math.inf, math.inf, math.inf)


@dataclass(frozen=True, slots=True)
class Gang:
    """What starts together or not at all: a driver, and ``workers`` times the same bundle. A bundle lies on one node."""

    driver: Resources
    worker: Resources
    workers: int

    @classmethod
    def of(cls, spec: JobSpec) -> Gang:
        """What a job asks for."""
        worker = Resources(spec.cpus_per_worker, spec.gpus_per_worker, spec.memory_gib_per_worker)
        return cls(Resources(spec.driver_cpus), worker, spec.workers)

    @property
    def resources(self) -> Resources:
        """All of it together."""
        return self.driver + self.worker * self.workers


@dataclass(frozen=True, slots=True)
class Workload:
    """A gang in the queue.

    ``limit_s`` is the longest that it may run (it is stopped then), None without a bound: only a bound lets it be backfilled before
    a job that waits for the same resources. ``priority`` orders the workloads of one project. ``queued_at`` is since when it waits: what
    gave way queues anew, for else its age would put it before whom it made room for.
    """

    id: UUID
    name: str
    project_id: UUID
    user: str
    gang: Gang
    queued_at: datetime
    priority: int = 0
    limit_s: float | None = None
    begun: bool = False
    """It has run before: so there were nodes for it."""


@dataclass(frozen=True, slots=True)
class Running:
    """An admitted gang. ``placement`` is how many bundles of it were planned on each node, the driver's node first and the driver counted.

    ``saved_at``: its latest checkpoint, or its start. ``settled``: Ray's account of free resources shows it already.
    ``leaving``: asked to save and stop, or being cancelled. ``preemptible`` is False for what may never be asked.
    """

    workload: Workload
    placement: tuple[tuple[str, int], ...]
    started_at: datetime
    saved_at: datetime
    settled: bool = True
    leaving: bool = False
    preemptible: bool = True


@dataclass(frozen=True, slots=True)
class Node:
    """A node: all it has, and what Ray has not handed out.

    ``leaving``: it is about to be taken away, so nothing starts there any more. ``jobs``: whose processes it then still has.
    """

    id: str
    total: Resources
    available: Resources
    leaving: bool = False
    jobs: frozenset[UUID] = frozenset()


@dataclass(frozen=True, slots=True)
class Quota:
    """What a project may hold at once. ``nominal`` is its own: reclaimed from who borrowed it. ``limit`` bounds own and borrowed
    together, ``user_limit`` each of its users. ``weight`` divides what nobody owns or its owner leaves idle.
    """

    nominal: Resources = NOTHING
    limit: Resources = UNLIMITED
    user_limit: Resources = UNLIMITED
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that a decision rests on. ``waiting`` holds each project's first few by priority, then age, and its oldest.

    ``usage``: resource-seconds that each project used of late, halved every ``HALF_LIFE_S``, as of ``now`` (runs in progress included).
    ``ceiling``: the nodes that an autoscaler could add up to its maximum, none where the cluster is fixed. ``closed``: the projects that may
    hold nothing now, and why.
    """

    now: datetime
    nodes: Sequence[Node]
    waiting: Sequence[Workload]
    running: Sequence[Running]
    quotas: Mapping[UUID, Quota] = field(default_factory=dict)
    usage: Mapping[UUID, Resources] = field(default_factory=dict)
    ceiling: Sequence[Node] = ()
    closed: Mapping[UUID, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Admitted:
    """Start it now, planned so. ``borrows``: its project goes above its nominal quota with it."""

    id: UUID
    placement: tuple[tuple[str, int], ...]
    borrows: bool = False
    backfilled: bool = False


@dataclass(frozen=True, slots=True)
class Preempted:
    """Ask it to save and stop, for another; for nobody where its project was closed or its node is leaving. ``loss``: seconds since its latest checkpoint × its part of the cluster × priority weight."""

    id: UUID
    by: UUID | None
    loss: float


@dataclass(frozen=True, slots=True)
class Pending:
    """Why it waits, in a sentence; ``starts_at``: when it can start by the bounds of what runs, where they say so."""

    id: UUID
    reason: str
    starts_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What one look at the queue came to. ``refused``: what can never start, with the reason. ``wanted``: bundles to ask an autoscaler for."""

    admitted: tuple[Admitted, ...] = ()
    preempted: tuple[Preempted, ...] = ()
    pending: tuple[Pending, ...] = ()
    refused: tuple[Pending, ...] = ()
    wanted: tuple[Resources, ...] = ()


@dataclass(frozen=True, slots=True)
class Forecast:
    """When a workload starts and ends, as it looked at ``made_at``: most likely, and with eight of ten probable bounds."""

    made_at: datetime
    starts_at: datetime
    starts_from: datetime
    starts_until: datetime
    ends_at: datetime
    ends_from: datetime
    ends_until: datetime


@dataclass(frozen=True, slots=True)
class Coverage:
    """How many promises have come due, and how many of them were kept."""

    starts: int
    starts_within: int
    ends: int
    ends_within: int


@dataclass(frozen=True, slots=True)
class Dependent:
    """A job all of whose dependencies have succeeded, or one of which has ended otherwise: ``failed`` is its name."""

    id: UUID
    failed: str | None
