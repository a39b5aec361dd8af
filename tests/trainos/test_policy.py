"""Decisions of TrainOS, without a cluster."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tune.trainos import policy
from tune.trainos.errors import DatasetReferenceInvalid
from tune.trainos.models import GAVE_WAY, TRANSITIONS, Checkpoint, Job, JobSpec, JobState, Origin, RayJob, RayState, Retention, Submitter

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def job(state: JobState = JobState.RUNNING, **changes: object) -> Job:
    made = Job(
        id=UUID(int=1),
        org_id=UUID(int=2),
        project_id=UUID(int=3),
        project_name="default",
        name="digits",
        origin=Origin.AIDOS,
        spec=JobSpec("digits", ("true",)),
        inputs=(),
        state=state,
        reason="",
        exit_code=None,
        run_id=None,
        attempt=1,
        submission_id="aidos-1-1",
        ray_session="one",
        log_directory="/logs",
        lease_id=None,
        created_by="user:1",
        submitter=Submitter(),
        traceparent=None,
        created_at=NOW,
        updated_at=NOW,
        started_at=NOW,
        finished_at=None,
    )
    return replace(made, **changes)  # type: ignore[arg-type]  # fields by name


def ray(state: RayState, **changes: object) -> RayJob:
    return replace(RayJob("aidos-1-1", state), **changes)  # type: ignore[arg-type]  # fields by name


def decide(job: Job, ray: RayJob | None, session: str = "one", after_s: float = 1) -> policy.Step:
    return policy.decide(job, ray, session, NOW + timedelta(seconds=after_s))


class TestDecide:
    def test_an_admitted_job_that_ray_does_not_know_is_submitted(self) -> None:
        assert decide(job(JobState.STARTING), None).action == policy.SUBMIT

    def test_a_running_job_that_ray_forgot_is_begun_again(self) -> None:
        step = decide(job(), None, session="two")
        assert (step.action, step.state) == (policy.RETRY, JobState.QUEUED) and "restarted" in step.reason

    def test_it_is_not_begun_again_for_ever(self) -> None:
        step = decide(job(attempt=4), None)
        assert (step.action, step.state) == (policy.END, JobState.FAILED) and "lost after 4 attempts" in step.reason

    @pytest.mark.parametrize("error", ["JOB_SUPERVISOR_ACTOR_DIED", "JOB_SUPERVISOR_ACTOR_START_FAILURE"])
    def test_a_failure_of_ray_is_not_the_jobs(self, error: str) -> None:
        assert decide(job(), ray(RayState.FAILED, error_type=error, message="died")).action == policy.RETRY

    def test_a_command_that_failed_because_the_cluster_went_is_begun_again(self) -> None:
        lost = ray(RayState.FAILED, error_type="JOB_ENTRYPOINT_COMMAND_ERROR", exit_code=1)
        assert decide(job(ray_session="one"), lost, session="two").action == policy.RETRY
        assert decide(job(ray_session="two"), lost, session="two").action == policy.END

    def test_says_the_exit_code_and_the_last_line(self) -> None:
        failed = ray(RayState.FAILED, error_type="JOB_ENTRYPOINT_COMMAND_ERROR", exit_code=1, message="Traceback\nValueError: boom\n")
        step = decide(job(), failed)
        assert (step.state, step.exit_code, step.reason) == (JobState.FAILED, 1, "exit code 1; last line: ValueError: boom")

    def test_says_what_137_means(self) -> None:
        step = decide(job(), ray(RayState.FAILED, error_type="JOB_ENTRYPOINT_COMMAND_ERROR", exit_code=137))
        assert "SIGKILL" in step.reason and "memory" in step.reason and "137" in step.reason

    def test_a_job_over_its_time_is_stopped_and_failed(self) -> None:
        limited = job(spec=JobSpec("digits", ("true",), timeout_s=10))
        assert decide(limited, ray(RayState.RUNNING), after_s=9).action == policy.FOLLOW
        assert decide(limited, ray(RayState.RUNNING), after_s=11).action == policy.STOP
        ended = decide(limited, ray(RayState.STOPPED), after_s=12)
        assert (ended.state, ended.reason) == (JobState.FAILED, "ran longer than its limit of 10 s and was stopped")

    def test_one_that_must_give_way_is_stopped_once_it_has_saved_and_goes_back_to_the_queue(self) -> None:
        leaving = job(JobState.PREEMPTING, preempted_for="urgent", preempted_at=NOW, attempt=2)
        assert policy.decide(leaving, ray(RayState.RUNNING), "one", NOW, grace_s=60).action == policy.FOLLOW
        saved = policy.decide(leaving, ray(RayState.RUNNING), "one", NOW, saved=True, grace_s=60)
        late = policy.decide(leaving, ray(RayState.RUNNING), "one", NOW + timedelta(seconds=61), grace_s=60)
        assert {(stop.action, stop.state) for stop in (saved, late)} == {(policy.STOP, JobState.PREEMPTING)}
        for gone in (ray(RayState.STOPPED), None):
            step = decide(leaving, gone)
            assert (step.action, step.state, step.reason) == (policy.GIVE_WAY, JobState.QUEUED, "attempt 2 gave way to urgent")

    def test_one_that_leaves_by_itself_with_work_left_gives_way_and_one_that_had_finished_succeeded(self) -> None:
        leaving = job(JobState.PREEMPTING, preempted_for="urgent", preempted_at=NOW)
        saved_and_ended = policy.decide(leaving, ray(RayState.SUCCEEDED, exit_code=0), "one", NOW, saved=True)
        said_so = decide(leaving, ray(RayState.FAILED, error_type="JOB_ENTRYPOINT_COMMAND_ERROR", exit_code=GAVE_WAY))
        assert [(step.action, step.state) for step in (saved_and_ended, said_so)] == [(policy.GIVE_WAY, JobState.QUEUED)] * 2
        assert decide(leaving, ray(RayState.SUCCEEDED, exit_code=0)).state is JobState.SUCCEEDED
        assert decide(leaving, ray(RayState.FAILED, error_type="JOB_ENTRYPOINT_COMMAND_ERROR", exit_code=1)).state is JobState.FAILED
        assert decide(job(), ray(RayState.FAILED, error_type="JOB_ENTRYPOINT_COMMAND_ERROR", exit_code=GAVE_WAY)).state is JobState.FAILED

    def test_giving_way_does_not_count_as_a_loss(self) -> None:
        lost = ray(RayState.FAILED, error_type="JOB_SUPERVISOR_ACTOR_DIED")
        assert decide(job(attempt=6, preemptions=3), lost).action == policy.RETRY
        assert decide(job(attempt=7, preemptions=3), lost).action == policy.END

    def test_one_that_may_fails_again_and_again_with_longer_pauses(self) -> None:
        spec = JobSpec("digits", ("true",), max_restarts_on_errors=3)
        failed = ray(RayState.FAILED, error_type="JOB_ENTRYPOINT_COMMAND_ERROR", exit_code=1)
        steps = [decide(job(spec=spec, attempt=1 + restarts, restarts=restarts), failed) for restarts in range(4)]
        assert [(step.action, step.pause_s) for step in steps] == [
            (policy.RESTART, 5),
            (policy.RESTART, 10),
            (policy.RESTART, 20),
            (policy.END, 0),
        ]

    def test_what_the_platform_lost_is_begun_again_at_once_and_then_after_a_pause(self) -> None:
        lost = ray(RayState.FAILED, error_type="JOB_SUPERVISOR_ACTOR_DIED")
        assert [decide(job(attempt=attempt), lost).pause_s for attempt in (1, 2, 3)] == [0, 5, 10]

    def test_a_cancelled_job_is_stopped_then_cancelled(self) -> None:
        assert decide(job(JobState.CANCELLING), ray(RayState.RUNNING)).action == policy.STOP
        assert decide(job(JobState.CANCELLING), ray(RayState.STOPPED)).state is JobState.CANCELLED
        assert decide(job(JobState.CANCELLING), None).state is JobState.CANCELLED

    def test_a_job_that_succeeded_before_its_cancellation_succeeded(self) -> None:
        assert decide(job(JobState.CANCELLING), ray(RayState.SUCCEEDED)).state is JobState.SUCCEEDED

    def test_a_job_stopped_by_an_operator_is_cancelled(self) -> None:
        assert decide(job(), ray(RayState.STOPPED)).state is JobState.CANCELLED

    @given(
        st.sampled_from([JobState.STARTING, JobState.RUNNING, JobState.PREEMPTING, JobState.CANCELLING]),
        st.sampled_from([None, *RayState]),
        st.sampled_from([None, "JOB_SUPERVISOR_ACTOR_DIED", "JOB_ENTRYPOINT_COMMAND_ERROR"]),
        st.integers(1, 9),
        st.sampled_from([Origin.AIDOS, Origin.RAY]),
    )
    def test_every_step_is_a_transition_that_there_is(
        self, state: JobState, found: RayState | None, error: str | None, attempt: int, origin: Origin
    ) -> None:
        step = decide(job(state, attempt=attempt, origin=origin), ray(found, error_type=error) if found else None)
        assert step.state is state or step.state in TRANSITIONS[state]
        assert step.state.final == (step.action == policy.END)


class TestSplitReference:
    @pytest.mark.parametrize(
        ("text", "parts"), [("digits@main", ("digits", "main")), ("digits", ("digits", "main")), ("a@b/c", ("a", "b/c"))]
    )
    def test_is_dataset_and_ref(self, text: str, parts: tuple[str, str]) -> None:
        assert policy.split_reference(text) == parts

    @pytest.mark.parametrize("text", ["", "@main", "digits@"])
    def test_half_of_one_is_refused(self, text: str) -> None:
        with pytest.raises(DatasetReferenceInvalid):
            policy.split_reference(text)


class TestFindExpired:
    def expired(self, keep: Retention, *losses: float | None) -> list[int]:
        """Of checkpoints of steps 0, 1, … with these losses."""
        made = [
            Checkpoint(UUID(int=step), UUID(int=1), step, (), 1, {} if loss is None else {"loss": loss}, 1, NOW)
            for step, loss in enumerate(losses)
        ]
        return sorted(each.step for each in policy.find_expired(made, keep))

    def test_the_last_stay(self) -> None:
        assert self.expired(Retention(2), 1, 1, 1, 1) == [0, 1]

    def test_the_best_stay_beside_them(self) -> None:
        assert self.expired(Retention(1, 1, "loss"), 3, 1, 2, 4) == [0, 2]
        assert self.expired(Retention(1, 2, "loss", "max"), 3, 1, 2, 4) == [1, 2]

    def test_one_without_the_metric_is_not_the_best(self) -> None:
        assert self.expired(Retention(1, 1, "loss"), None, 2, None) == [0]

    @given(st.integers(1, 5), st.integers(0, 5), st.lists(st.integers(0, 3), max_size=12))
    def test_what_stays_is_enough_and_no_more(self, last: int, best: int, losses: list[int]) -> None:
        expired = self.expired(Retention(last, best, "loss"), *losses)
        stay = len(losses) - len(expired)
        assert min(last, len(losses)) <= stay <= last + best
        assert len(losses) - 1 not in expired and (
            not best or not losses or min(losses) in {losses[s] for s in range(len(losses)) if s not in expired}
        )
