"""A cluster in memory: what the reconciler needs of Ray, with the test's hand on every state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tune.trainos.models import Job, RayJob, RayState, Resources
from tune.trainos.queue.models import Node
from tune.trainos.ray_cluster import Session


@dataclass
class FakeCluster:
    """Submissions, their logs and tokens; ``life`` is the session's name."""

    total: Resources = field(default_factory=lambda: Resources(8, 0, 16))
    free: Resources | None = None
    life: str = "session-1"
    leaving: bool = False
    more: list[Node] = field(default_factory=list)
    jobs: dict[str, RayJob] = field(default_factory=dict)
    environments: dict[str, dict[str, str]] = field(default_factory=dict)
    packages: dict[str, bytes | None] = field(default_factory=dict)
    logs: dict[str, bytes] = field(default_factory=dict)
    notes: dict[bytes, str] = field(default_factory=dict)
    stopped: list[str] = field(default_factory=list)
    requests: list[list[Resources]] = field(default_factory=list)
    fails: Exception | None = None

    def session(self) -> Session:
        return Session(self.life, "/logs")

    async def nodes(self) -> list[Node]:
        return [Node("one", self.total, self.total if self.free is None else self.free, leaving=self.leaving), *self.more]

    async def request_nodes(self, bundles: Sequence[Resources]) -> None:
        self.requests.append(list(bundles))

    async def find(self, submission_id: str) -> RayJob | None:
        return self.jobs.get(submission_id)

    async def list_jobs(self) -> list[RayJob]:
        return list(self.jobs.values())

    async def submit(self, job: Job, package: Path | None, environment: dict[str, str]) -> None:
        if self.fails:
            raise self.fails
        assert job.submission_id is not None and job.submission_id not in self.jobs, "submitted twice"
        self.jobs[job.submission_id] = RayJob(job.submission_id, RayState.PENDING)
        self.environments[job.submission_id] = environment
        self.packages[job.submission_id] = package.read_bytes() if package else None

    async def stop(self, submission_id: str) -> None:
        self.stopped.append(submission_id)
        self.become(submission_id, RayState.STOPPED)

    async def read_log(self, directory: str, submission_id: str, node_id: str | None, offset: int, limit: int) -> bytes:
        return self.logs.get(submission_id, b"")[offset : offset + limit]

    async def put_note(self, key: bytes, text: str) -> None:
        self.notes[key] = text

    async def drop_note(self, key: bytes) -> None:
        self.notes.pop(key, None)

    def become(self, submission_id: str, state: RayState, **changes: object) -> None:
        """What Ray says from now on."""
        self.jobs[submission_id] = replace(self.jobs[submission_id], state=state, **changes)  # type: ignore[arg-type]  # fields by name
