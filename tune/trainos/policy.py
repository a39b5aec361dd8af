"""Pure decisions of TrainOS: facts in, a decision out. No Ray, no database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from tune.trainos.errors import DatasetReferenceInvalid
from tune.trainos.models import Checkpoint, Job, JobState, RayJob, RayState, Resources, Retention

_UNITS = (("cpu", "CPU"), ("gpu", "GPU"), ("memory_gib", "GiB memory"))
# Failures of Ray itself; JOB_ENTRYPOINT_COMMAND_ERROR is the user's command, RUNTIME_ENV_SETUP_FAILURE the user's package.
_PLATFORM_ERRORS = frozenset(
    {
        "JOB_SUPERVISOR_ACTOR_START_TIMEOUT",
        "JOB_SUPERVISOR_ACTOR_START_FAILURE",
        "JOB_SUPERVISOR_ACTOR_UNSCHEDULABLE",
        "JOB_SUPERVISOR_ACTOR_UNKNOWN_FAILURE",
        "JOB_SUPERVISOR_ACTOR_DIED",
        "JOB_ENTRYPOINT_COMMAND_START_ERROR",
    }
)
_SIGNALS = {9: "SIGKILL, mostly because memory ran out", 11: "SIGSEGV", 6: "SIGABRT", 15: "SIGTERM"}
_MAX_REASON_CHARS = 1000


@dataclass(frozen=True)
class Capacity:
    """The cluster: all it has, and what Ray has not handed out."""

    total: Resources
    available: Resources


@dataclass(frozen=True)
class Leased:
    """What an admitted job holds; ``settled`` when Ray's ``available`` already shows it."""

    resources: Resources
    settled: bool


@dataclass(frozen=True)
class Admission:
    """``ADMIT`` now, ``WAIT`` for a reason that passes, ``REFUSE`` for one that does not."""

    verdict: str
    reason: str = ""


ADMIT, WAIT, REFUSE = "ADMIT", "WAIT", "REFUSE"


def admit(wanted: Resources, capacity: Capacity, leased: Sequence[Leased]) -> Admission:
    """Admit the whole gang or nothing of it.

    Free is the smaller of two truths: the total less all leases, and what Ray has available less the leases that do not show there
    yet. The first counts jobs that do not use all they asked for, the second serving and whatever else runs on the cluster.
    """
    if lacking := _lacking(wanted, capacity.total):
        return Admission(REFUSE, f"can never start: needs {lacking} in the whole cluster")
    held, unsettled = Resources(), Resources()
    for lease in leased:
        held += lease.resources
        if not lease.settled:
            unsettled += lease.resources
    free = (capacity.total - held).at_most(capacity.available - unsettled)
    if lacking := _lacking(wanted, free):
        return Admission(WAIT, f"needs {lacking} free")
    return Admission(ADMIT)


def _lacking(wanted: Resources, have: Resources) -> str:
    lacking = [
        f"{getattr(wanted, name):g} {unit}, {max(0.0, getattr(have, name)):g}"
        for name, unit in _UNITS
        if getattr(wanted, name) > max(0.0, getattr(have, name)) + 1e-6
    ]
    return " and ".join(lacking)


SUBMIT, STOP, FOLLOW, RETRY, END = "SUBMIT", "STOP", "FOLLOW", "RETRY", "END"


@dataclass(frozen=True)
class Step:
    """What to do with an admitted job, and the state that is true after it."""

    action: str
    state: JobState
    reason: str = ""
    exit_code: int | None = None


def decide(job: Job, ray: RayJob | None, session: str, now: datetime) -> Step:
    """The next step of an admitted job. ``ray`` is None where Ray does not know the submission; ``session`` is Ray's present one."""
    if ray is None:
        return _unknown_to_ray(job)
    if not ray.ended:
        return _alive(job, ray, now)
    if job.state is JobState.CANCELLING and ray.state is not RayState.SUCCEEDED:
        return Step(END, JobState.CANCELLED, job.reason or "cancelled", ray.exit_code)
    if ray.state is RayState.SUCCEEDED:
        return Step(END, JobState.SUCCEEDED, "", 0)
    if ray.state is RayState.STOPPED:
        if timed_out(job, now):
            return Step(END, JobState.FAILED, f"ran longer than its limit of {job.spec.timeout_s} s and was stopped")
        return Step(END, JobState.CANCELLED, "stopped through Ray")
    if ray.error_type in _PLATFORM_ERRORS or (job.ray_session is not None and job.ray_session != session):
        return _retry(job, explain_failure(ray))
    return Step(END, JobState.FAILED, explain_failure(ray), ray.exit_code)


def _unknown_to_ray(job: Job) -> Step:
    if job.state is JobState.CANCELLING:
        return Step(END, JobState.CANCELLED, job.reason or "cancelled")
    if job.state is JobState.STARTING and job.origin == "aidos":
        return Step(SUBMIT, JobState.STARTING)
    return _retry(job, "the Ray cluster restarted and no longer knows the job")


def _alive(job: Job, ray: RayJob, now: datetime) -> Step:
    if job.state is JobState.CANCELLING:
        return Step(STOP, JobState.CANCELLING, job.reason)
    if timed_out(job, now):
        return Step(STOP, job.state, f"ran longer than its limit of {job.spec.timeout_s} s")
    return Step(FOLLOW, JobState.RUNNING if ray.state is RayState.RUNNING else job.state)


def _retry(job: Job, reason: str) -> Step:
    if job.origin == "aidos" and job.attempt <= job.spec.max_retries:
        return Step(RETRY, JobState.QUEUED, f"attempt {job.attempt} was lost: {reason}"[:_MAX_REASON_CHARS])
    return Step(END, JobState.FAILED, f"lost after {job.attempt} attempts: {reason}"[:_MAX_REASON_CHARS])


def timed_out(job: Job, now: datetime) -> bool:
    """Whether the present attempt has run longer than the job allows."""
    return job.spec.timeout_s is not None and job.started_at is not None and now > job.started_at + timedelta(seconds=job.spec.timeout_s)


def split_reference(reference: str) -> tuple[str, str]:
    """``digits@main`` as dataset and ref; without a ref it is ``main``. Raises: DatasetReferenceInvalid."""
    dataset, at, ref = reference.partition("@")
    if not dataset or (at and not ref):
        raise DatasetReferenceInvalid(reference=reference)
    return dataset, ref or "main"


def explain_failure(ray: RayJob) -> str:
    """One sentence on why a submission failed, with the last thing that it said."""
    lines = [line.strip() for line in ray.message.splitlines() if line.strip()]
    last = lines[-1] if lines else ""
    if ray.error_type == "JOB_ENTRYPOINT_COMMAND_ERROR" and ray.exit_code is not None:
        signal = ray.exit_code - 128 if ray.exit_code > 128 else -ray.exit_code
        how = (
            f"the command was killed by {_SIGNALS[signal]} (exit code {ray.exit_code})"
            if signal in _SIGNALS
            else f"exit code {ray.exit_code}"
        )
        return f"{how}; last line: {last}"[:_MAX_REASON_CHARS] if last else how
    return " ".join(lines)[:_MAX_REASON_CHARS] or "Ray gave no reason"


def find_expired(checkpoints: Sequence[Checkpoint], keep: Retention) -> list[Checkpoint]:
    """Those that are neither among the last nor among the best; of equally good ones the later is the better. One without the metric is not good."""
    by_step = sorted(checkpoints, key=lambda each: -each.step)
    sign = 1 if keep.mode == "min" else -1
    measured = [each for each in by_step if keep.metric in each.metrics]
    best = sorted(measured, key=lambda each: sign * each.metrics[str(keep.metric)])[: keep.best]
    kept = {each.step for each in by_step[: keep.last]} | {each.step for each in best}
    return [each for each in by_step if each.step not in kept]
