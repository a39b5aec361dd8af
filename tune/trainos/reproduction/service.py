"""A run again, as a new job through the one queue, and what came out differently."""

from __future__ import annotations

from uuid import UUID

from actors.modelhub import service as modelhub
from actors.modelhub.comparison import service as comparison
from actors.modelhub.models import Direction, Node, NodeKind, Run
from actors.securityvault.models import Scope
from aidos.errors import NotFound
from cluster.db import Connection
from cluster.objects import Objects
from data_pipelines.dataforge import service as dataforge
from tune.trainos import service as trainos
from tune.trainos.models import Input, Job
from tune.trainos.policy import split_reference
from tune.trainos.reproduction import policy
from tune.trainos.reproduction.errors import ReproductionNotFound, RunNotReproducible
from tune.trainos.reproduction.models import ORIGINAL, Code, Part, Plan, Reproduction, Tolerances


async def plan(conn: Connection, scope: Scope, run_id: UUID, code: Code | None, part: Part | None = None) -> Plan:
    """The job that does what the run did, on the commits that it read; ``part``: where it was one of its job's, and not the job's own.

    Raises: RunNotFound, RunNotReproducible.
    """
    run = await modelhub.get_run(conn, scope, run_id)
    job = await trainos.get_job(conn, scope, str(run.job_id)) if run.job_id else None
    spec = policy.build_spec(run, job, code, part)
    inputs = await _list_inputs(conn, scope, run, job)
    for item in inputs:
        await _require_commit(conn, scope, run, item)
    return Plan(run.id, run.name, spec, inputs, part.params if part else {})


async def _list_inputs(conn: Connection, scope: Scope, run: Run, job: Job | None) -> tuple[Input, ...]:
    """The commits by what the code calls them: those of its job, and those that the run named when it began."""
    found = {item.reference: item for item in (job.inputs if job else ())}
    graph = await modelhub.trace(conn, scope, Node(NodeKind.RUN, str(run.id), run.name), Direction.UP, 1)
    for source in (edge.source for edge in graph.edges if edge.source.kind == NodeKind.COMMIT):
        # A commit that was only seen to be read has no name but its id: the code asks for it by one that nobody knows.
        if not source.label.endswith(f"@{source.id}"):
            found.setdefault(source.label, Input(source.label, split_reference(source.label)[0], UUID(source.id)))
    return tuple(found.values())


async def _require_commit(conn: Connection, scope: Scope, run: Run, item: Input) -> None:
    try:
        await dataforge.get_commit(conn, scope, item.dataset, str(item.commit_id))
    except NotFound:
        reason = f"its data '{item.reference}', commit {item.commit_id} of dataset '{item.dataset}', was collected or deleted."
        raise RunNotReproducible(run_id=run.id, reason=reason, remedy="Push the data again and begin a new run on it.") from None


async def check_code(objects: Objects, scope: Scope, planned: Plan) -> None:
    """Network: call it outside any transaction. Raises: RunNotReproducible where the code is no longer in the store."""
    sha256 = planned.spec.code_sha256
    if sha256 is not None and await objects.find(trainos.code_key(scope.project, sha256)) is None:
        reason = f"its code package {sha256} is not in the store."
        raise RunNotReproducible(run_id=planned.original, reason=reason, remedy="Submit the job again from its directory.")


async def start(conn: Connection, scope: Scope, planned: Plan) -> Job:
    """Queue the job; its run knows which one it reproduces, and so does the lineage graph."""
    job = await trainos.submit_pinned(conn, scope, planned.spec, planned.inputs)
    assert job.run_id is not None
    await modelhub.set_tags(conn, scope, job.run_id, {ORIGINAL: str(planned.original)})
    await modelhub.set_params(conn, scope, job.run_id, planned.params)
    original = Node(NodeKind.RUN, str(planned.original), planned.name)
    await modelhub.add_edge(conn, scope, original, Node(NodeKind.RUN, str(job.run_id), job.name), "reproduced as")
    return job


async def get_reproduction(conn: Connection, scope: Scope, run_id: UUID, tolerances: Tolerances) -> Reproduction:
    """How the run came out beside the one that it reproduces. Raises: RunNotFound, ReproductionNotFound, MetricNotMeasured."""
    run = await modelhub.get_run(conn, scope, run_id)
    original_id = _read_id(run.tags.get(ORIGINAL, ""))
    if original_id is None:
        raise ReproductionNotFound(run_id=run_id)
    both = await comparison.find_runs(conn, scope, [original_id, run_id], {})
    original, reproduced = (each.run for each in both)
    verdict, reason, metrics = policy.judge(original, reproduced, tolerances)
    differs = policy.find_differences((await comparison.compare(conn, scope, both, [], 2)).facts)
    return Reproduction(run_id, original_id, run.job_id, reproduced.state, verdict, reason, metrics, differs)


def _read_id(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
