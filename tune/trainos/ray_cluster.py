"""What TrainOS does with Ray: submissions through its Jobs API, capacity, driver logs by byte offset, tokens.

Log files are read by offset and not through Ray's tail, which has none: what was kept is then exact after a restart, and a job that
prints 100 MB costs one chunk of memory. Everything blocks in a thread, never in the event loop.
"""

from __future__ import annotations

import asyncio
import functools
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

import ray
from ray._common.constants import HEAD_NODE_RESOURCE_NAME
from ray._private.ray_constants import WORKER_PROCESS_SETUP_HOOK_ENV_VAR
from ray._private.state import available_resources_per_node, state
from ray._private.worker import global_worker
from ray.autoscaler.sdk import request_resources
from ray.dashboard.modules.job.common import JOB_ACTOR_NAME_TEMPLATE, SUPERVISOR_ACTOR_RAY_NAMESPACE
from ray.exceptions import RayActorError
from ray.experimental import internal_kv
from ray.job_submission import JobDetails, JobSubmissionClient
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from ray.util.state import list_actors

from cluster.settings import SYSTEM_GROUP, USER_GROUP, Settings
from tune.trainos.job_environment import show_selector
from tune.trainos.job_token import NAMESPACE
from tune.trainos.models import Job, JobSpec, RayJob, RayState, Resources, Trust
from tune.trainos.queue.models import Node

SETUP_HOOK = "tune.trainos.worker.setup"
_PYTHON = (sys.executable, "-I", "-m")
_GIB = 2**30
_SUPERVISOR_START = timedelta(seconds=60)
_WATCHER = JOB_ACTOR_NAME_TEMPLATE.format(job_id="")
_OURS = re.compile(r"aidos-([0-9a-f-]{36})-\d+")
_MOST_ACTORS = 10_000


@dataclass(frozen=True)
class Session:
    """One life of the Ray cluster, and where its nodes keep their logs."""

    name: str
    log_directory: str


class JobCluster(Protocol):
    """What the reconciler needs of a cluster."""

    def session(self) -> Session: ...
    async def nodes(self) -> list[Node]: ...
    async def find(self, submission_id: str) -> RayJob | None: ...
    async def list_jobs(self) -> list[RayJob]: ...
    async def submit(self, job: Job, package: Path | None, environment: dict[str, str]) -> None: ...
    async def stop(self, submission_id: str) -> None: ...
    async def read_log(self, directory: str, submission_id: str, node_id: str | None, offset: int, limit: int) -> bytes: ...
    async def put_note(self, key: bytes, text: str) -> None: ...
    async def drop_note(self, key: bytes) -> None: ...


class RayCluster:
    """The cluster that this process is connected to."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._readers: dict[str, Any] = {}  # an actor ends with the handle that it was made with

    @functools.cached_property
    def _client(self) -> JobSubmissionClient:
        return JobSubmissionClient(self._settings.ray_dashboard_url or None)

    def session(self) -> Session:
        """The present life of the cluster."""
        node = global_worker.node
        return Session(node.session_name, node.get_logs_dir_path())

    async def nodes(self) -> list[Node]:
        """The living nodes for jobs: what each has, and what of it is free by Ray's own account. One that Ray drains is leaving."""
        nodes = await asyncio.to_thread(self._nodes)
        leaving = [node.id for node in nodes if node.leaving]
        jobs = await asyncio.to_thread(self._jobs_on, leaving) if leaving else {}
        return [replace(node, jobs=frozenset(jobs.get(node.id, ()))) for node in nodes]

    async def request_nodes(self, bundles: Sequence[Resources]) -> None:
        """Have Ray's autoscaler bring the cluster to what holds all of these at once, until the next call; without any, as it sees fit."""
        asked = [bundle for each in bundles if (bundle := _bundle(each))]
        selectors = [await asyncio.to_thread(self._selector)] * len(asked)
        await asyncio.to_thread(request_resources, bundles=asked, bundle_label_selectors=selectors)

    def _nodes(self) -> list[Node]:
        free, leaving = available_resources_per_node(), state.get_draining_nodes()
        return [
            Node(node["NodeID"], _resources(node["Resources"]), _resources(free.get(node["NodeID"], {})), node["NodeID"] in leaving)
            for node in self._nodes_for_jobs()
        ]

    def _nodes_for_jobs(self) -> list[dict[str, Any]]:
        """Those that do not hold the platform's secrets, where there are any; all where the head holds them, as in a cluster of `aidos up`."""
        alive = [node for node in ray.nodes() if node["Alive"]]
        others = [node for node in alive if not _holds_secrets(node)]
        on_head = any(_holds_secrets(node) and HEAD_NODE_RESOURCE_NAME in node["Resources"] for node in alive)
        return alive if on_head or not others else others

    def _selector(self) -> dict[str, str]:
        return {} if any(map(_holds_secrets, self._nodes_for_jobs())) else USER_GROUP

    def _jobs_on(self, nodes: Sequence[str]) -> dict[str, set[UUID]]:
        """Whose actors are on these nodes: the watcher of its command, its workers."""
        submissions = {job.job_id: job.submission_id for job in self._client.list_jobs() if job.job_id}
        found: dict[str, set[UUID]] = {}
        for node in nodes:
            for actor in list_actors(
                filters=[("node_id", "=", node), ("state", "=", "ALIVE")], limit=_MOST_ACTORS, raise_on_missing_output=False
            ):
                submission = (
                    (actor.name or "").removeprefix(_WATCHER) if (actor.name or "").startswith(_WATCHER) else submissions.get(actor.job_id)
                )
                if job := _OURS.match(submission or ""):
                    found.setdefault(node, set()).add(UUID(job[1]))
        return found

    async def find(self, submission_id: str) -> RayJob | None:
        """None where Ray does not know it. One whose supervisor is gone has failed, whatever Ray's record says."""
        return await asyncio.to_thread(self._find, submission_id)

    def _find(self, submission_id: str) -> RayJob | None:
        job = self._info(submission_id)
        if job is None or job.ended or _has_supervisor(job):
            return job
        # A supervisor writes how its command ended before it goes: only what is unchanged now was lost.
        job = self._info(submission_id)
        if job is None or job.ended:
            return job
        return replace(
            job, state=RayState.FAILED, error_type="JOB_SUPERVISOR_ACTOR_DIED", message="it is gone with the node that it ran on"
        )

    def _info(self, submission_id: str) -> RayJob | None:
        try:
            return _ray_job(self._client.get_job_info(submission_id))
        except RuntimeError as error:
            if "status code 404" in str(error):
                return None
            raise

    async def list_jobs(self) -> list[RayJob]:
        """All submissions that Ray remembers."""
        details = await asyncio.to_thread(self._client.list_jobs)
        return [_ray_job(detail) for detail in details if detail.submission_id]

    async def submit(self, job: Job, package: Path | None, environment: dict[str, str]) -> None:
        """Start the job's present attempt. Its id makes a second call harmless: the caller looks before."""
        # By its name alone the hook is run in the workers of the command; by the variable in the one that begins the command, too.
        hook = {WORKER_PROCESS_SETUP_HOOK_ENV_VAR: SETUP_HOOK}
        selector = await asyncio.to_thread(self._selector)
        environment = environment | show_selector(selector) | hook
        runtime_env: dict[str, Any] = {"env_vars": environment, "worker_process_setup_hook": SETUP_HOOK}
        if package is not None:
            runtime_env["working_dir"] = str(package)
        start = functools.partial(
            self._client.submit_job,
            entrypoint=shlex.join(_entrypoint(job.spec)),
            submission_id=job.submission_id,
            runtime_env=runtime_env,
            entrypoint_label_selector=selector,
            metadata={"aidos_job_id": str(job.id), "aidos_project_id": str(job.project_id), "job_name": job.name},
            **_leased(job.spec),
        )
        await asyncio.to_thread(start)

    async def stop(self, submission_id: str) -> None:
        """Ask for its end: SIGTERM, and SIGKILL three seconds later."""
        await asyncio.to_thread(self._client.stop_job, submission_id)

    async def read_log(self, directory: str, submission_id: str, node_id: str | None, offset: int, limit: int) -> bytes:
        """Up to ``limit`` bytes of the driver's log; nothing where the file or its node is gone."""
        path = Path(directory) / f"job-driver-{submission_id}.log"
        if node_id is None or path.exists() or node_id == ray.get_runtime_context().get_node_id():
            return await asyncio.to_thread(read_range, path, offset, limit)
        return await asyncio.to_thread(self._read_there, node_id, path, offset, limit)

    def _read_there(self, node_id: str, path: Path, offset: int, limit: int) -> bytes:
        if node_id not in {node["NodeID"] for node in ray.nodes() if node["Alive"]}:
            self._readers.pop(node_id, None)
            return b""
        if node_id not in self._readers:
            self._readers[node_id] = get_or_create_log_reader(node_id)
        try:
            return ray.get(self._readers[node_id].read.remote(str(path), offset, limit), timeout=30)
        except RayActorError:  # the next reading makes another
            self._readers.pop(node_id, None)
            raise

    async def put_note(self, key: bytes, text: str) -> None:
        """Lay it where the job's processes find it."""
        await asyncio.to_thread(internal_kv._internal_kv_put, key, text.encode(), overwrite=True, namespace=NAMESPACE)

    async def drop_note(self, key: bytes) -> None:
        """Take it away."""
        await asyncio.to_thread(internal_kv._internal_kv_del, key, namespace=NAMESPACE)


def _entrypoint(spec: JobSpec) -> tuple[str, ...]:
    if spec.trust is Trust.UNTRUSTED:
        return (*_PYTHON, "tune.trainos.sandboxed", "--", *spec.command)
    packages = (*_PYTHON, "tune.trainos.packages", spec.requirements, "--") if spec.requirements is not None else ()
    return (*_PYTHON, "tune.trainos.entrypoint", "--", *packages, *spec.command)


def _leased(spec: JobSpec) -> dict[str, Any]:
    """What Ray holds for the command itself: an untrusted one asks for nothing later."""
    if spec.trust is Trust.UNTRUSTED:
        return {"entrypoint_num_cpus": spec.resources.cpu or None, "entrypoint_memory": int(spec.resources.memory_gib * _GIB)}
    return {"entrypoint_num_cpus": spec.driver_cpus or None}


def _holds_secrets(node: dict[str, Any]) -> bool:
    return SYSTEM_GROUP.items() <= node["Labels"].items()


def _resources(amounts: dict[str, float]) -> Resources:
    return Resources(amounts.get("CPU", 0.0), amounts.get("GPU", 0.0), amounts.get("memory", 0.0) / _GIB)


def _bundle(resources: Resources) -> dict[str, float]:
    amounts = {"CPU": resources.cpu, "GPU": resources.gpu, "memory": int(resources.memory_gib * _GIB)}
    return {name: amount for name, amount in amounts.items() if amount}


def _ray_job(details: JobDetails) -> RayJob:
    return RayJob(
        submission_id=details.submission_id or "",
        state=RayState(details.status.value),
        entrypoint=details.entrypoint,
        message=details.message or "",
        error_type=str(getattr(details.error_type, "value", details.error_type)) if details.error_type else None,
        exit_code=details.driver_exit_code,
        node_id=details.driver_node_id,
        started_at=datetime.fromtimestamp(details.start_time / 1000, UTC) if details.start_time else None,
    )


def _has_supervisor(job: RayJob) -> bool:
    """Whether the actor that watches over the job's command exists.

    After a node died nobody in Ray 2.60 looks: its JobManager begins to watch when the first call reaches it, and until then the
    record says RUNNING for ever.
    """
    if job.state is RayState.PENDING and job.started_at and datetime.now(UTC) < job.started_at + _SUPERVISOR_START:
        return True
    try:
        ray.get_actor(JOB_ACTOR_NAME_TEMPLATE.format(job_id=job.submission_id), namespace=SUPERVISOR_ACTOR_RAY_NAMESPACE)
    except ValueError:
        return False
    return True


def read_range(path: Path, offset: int, limit: int) -> bytes:
    """A piece of a file; empty at its end and where there is none."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(limit)
    except FileNotFoundError:
        return b""


class LogReader:
    """Reads driver logs on the node that it was put on."""

    def read(self, path: str, offset: int, limit: int) -> bytes:
        return read_range(Path(path), offset, limit)


def get_or_create_log_reader(node_id: str) -> Any:
    """The reader on that node; it ends with this process."""
    strategy = NodeAffinitySchedulingStrategy(node_id, soft=False)
    options = {"name": f"trainos-log-reader-{node_id}", "get_if_exists": True, "num_cpus": 0, "scheduling_strategy": strategy}
    return ray.remote(LogReader).options(**options).remote()
