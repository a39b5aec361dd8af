"""Pure decisions of TrainOS: facts in, a decision out. No Ray, no database."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from tune.trainos.errors import DatasetReferenceInvalid
from tune.trainos.models import (
    GAVE_WAY,
    SECRETS_AWAY,
    SECRETS_REFUSED,
    Checkpoint,
    Job,
    JobState,
    RayJob,
    RayState,
    Resources,
    Retention,
)

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


HALF_LIFE_S = 3600.0
"""After so long half of what a project used is forgiven: ``trainos.decay`` of the schema says the same."""


def decayed_use(held: Resources, seconds: float) -> Resources:
    """Resource-seconds of a lease that was held for so long until now, halved every ``HALF_LIFE_S``: the integral of held · 2^(-t/H)."""
    rate = math.log(2) / HALF_LIFE_S
    return held * (-math.expm1(-rate * max(0.0, seconds)) / rate)


SUBMIT, STOP, FOLLOW, END = "SUBMIT", "STOP", "FOLLOW", "END"
RETRY, RESTART, GIVE_WAY = "RETRY", "RESTART", "GIVE_WAY"
"""Back to the queue: lost by the platform, failed by itself, asked to make room."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 5.0, 600.0
_NOT_DONE = {JobState.FAILED: "failed", JobState.CANCELLED: "were cancelled"}


@dataclass(frozen=True)
class Step:
    """What to do with an admitted job, and the state that is true after it."""

    action: str
    state: JobState
    reason: str = ""
    exit_code: int | None = None
    pause_s: float = 0.0


def decide(job: Job, ray: RayJob | None, session: str, now: datetime, saved: bool = False, grace_s: float = math.inf) -> Step:
    """The next step of an admitted job. ``ray`` is None where Ray does not know the submission; ``session`` is Ray's present one.

    ``saved``: a job that was asked to give way has saved a checkpoint since; ``grace_s`` is the time that it has for that.
    """
    if ray is None:
        return _unknown_to_ray(job)
    if not ray.ended:
        return _alive(job, ray, now, saved, grace_s)
    if job.state is JobState.PREEMPTING and _has_given_way(ray, saved):
        return _give_way(job)
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
    no_secrets = ray.exit_code if job.spec.secrets else None
    if no_secrets == SECRETS_AWAY:
        return _retry(job, explain_failure(ray))
    if job.spec.max_restarts_on_errors > job.restarts and no_secrets != SECRETS_REFUSED:
        reason = f"attempt {job.attempt} failed and is made again: {explain_failure(ray)}"[:_MAX_REASON_CHARS]
        return Step(RESTART, JobState.QUEUED, reason, ray.exit_code, _pause(job.restarts + 1))
    return Step(END, JobState.FAILED, explain_failure(ray), ray.exit_code)


def _unknown_to_ray(job: Job) -> Step:
    if job.state is JobState.CANCELLING:
        return Step(END, JobState.CANCELLED, job.reason or "cancelled")
    if job.state is JobState.PREEMPTING:
        return _give_way(job)
    if job.state is JobState.STARTING and job.origin == "aidos":
        return Step(SUBMIT, JobState.STARTING)
    return _retry(job, "the Ray cluster restarted and no longer knows the job")


def _alive(job: Job, ray: RayJob, now: datetime, saved: bool, grace_s: float) -> Step:
    if job.state is JobState.CANCELLING:
        return Step(STOP, JobState.CANCELLING, job.reason)
    if timed_out(job, now):
        return Step(STOP, job.state, f"ran longer than its limit of {job.spec.timeout_s} s")
    if job.state is JobState.PREEMPTING:
        late = job.preempted_at is not None and (now - job.preempted_at).total_seconds() > grace_s
        return Step(STOP if saved or late else FOLLOW, job.state, job.reason)
    return Step(FOLLOW, JobState.RUNNING if ray.state is RayState.RUNNING else job.state)


def _has_given_way(ray: RayJob, saved: bool) -> bool:
    """Of one that was asked to and has ended: it was stopped, or left by itself with work left.

    Exit code 0 alone does not tell who left from who had just finished. Whoever saved since has left, though it end before it is
    stopped: one that had nothing more to do finds that out in its next attempt.
    """
    return ray.state is RayState.STOPPED or ray.exit_code == GAVE_WAY or (ray.state is RayState.SUCCEEDED and saved)


def _give_way(job: Job) -> Step:
    return Step(GIVE_WAY, JobState.QUEUED, f"attempt {job.attempt} gave way to {job.preempted_for}")


def _retry(job: Job, reason: str) -> Step:
    lost = job.attempt - job.preemptions - job.restarts
    if job.origin == "aidos" and lost <= job.spec.max_retries:
        text = f"attempt {job.attempt} was lost: {reason}"[:_MAX_REASON_CHARS]
        return Step(RETRY, JobState.QUEUED, text, pause_s=_pause(lost - 1))
    return Step(END, JobState.FAILED, f"lost after {job.attempt} attempts: {reason}"[:_MAX_REASON_CHARS])


def _pause(times: int) -> float:
    """Seconds before the next attempt: none at first, then twice as long each time."""
    return min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** (times - 1)) if times > 0 else 0.0


def end_of_array(counts: Mapping[JobState, int], cancelled: bool) -> tuple[JobState, str]:
    """How an array ends whose jobs have all ended, so many in each state, and why; ``cancelled``: as a whole."""
    told = " and ".join(f"{counts[state]} {word}" for state, word in _NOT_DONE.items() if counts.get(state))
    if not told and not cancelled:
        return JobState.SUCCEEDED, ""
    state = JobState.FAILED if counts.get(JobState.FAILED) and not cancelled else JobState.CANCELLED
    return state, f"of {sum(counts.values())} jobs {told or 'all succeeded before'}"


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
