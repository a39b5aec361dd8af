"""Traces and assessments by MLflow's own client: decorated functions, searches over them, and what is said of them."""

from __future__ import annotations

import mlflow
import pytest
from mlflow import MlflowClient, MlflowException
from mlflow.entities import AssessmentSource, Feedback

pytestmark = pytest.mark.postgres
PERSON = AssessmentSource(source_type="HUMAN", source_id="ada")


@pytest.fixture
def traces(tracking: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Traces of a program by name: one that worked, and one that failed."""
    monkeypatch.setenv("MLFLOW_ENABLE_ASYNC_TRACE_LOGGING", "false")
    mlflow.set_experiment("llm")
    made = {}

    @mlflow.trace(name="inner", attributes={"model": "tiny"})
    def inner(question: str) -> str:
        mlflow.update_current_trace(tags={"user": "ada"}, metadata={"session": "7"})
        if not question:
            raise ValueError("no question")
        return question.upper()

    @mlflow.trace(name="answer")
    def answer(question: str) -> str:
        return inner(question)

    assert answer("why?") == "WHY?"
    made["good"] = str(mlflow.get_last_active_trace_id())
    with pytest.raises(ValueError, match="no question"):
        answer("")
    made["bad"] = str(mlflow.get_last_active_trace_id())
    return made


@pytest.fixture
def experiment(tracking: MlflowClient, traces: dict[str, str]) -> str:
    found = tracking.get_experiment_by_name("llm")
    assert found is not None
    return found.experiment_id


class TestTraces:
    def test_come_back_with_their_spans(self, tracking: MlflowClient, traces: dict[str, str]) -> None:
        good, bad = (tracking.get_trace(traces[name]) for name in ("good", "bad"))
        assert [(span.name, span.inputs, span.outputs) for span in good.data.spans] == [
            ("answer", {"question": "why?"}, "WHY?"), ("inner", {"question": "why?"}, "WHY?"),
        ]  # fmt: skip
        assert good.data.spans[1].attributes["model"] == "tiny" and good.data.spans[1].parent_id == good.data.spans[0].span_id
        assert (good.info.state, bad.info.state) == ("OK", "ERROR")
        assert good.info.tags["user"] == "ada" and good.info.trace_metadata["session"] == "7"
        assert good.info.execution_duration is not None and "why?" in str(good.info.request_preview)

    def test_are_searched(self, tracking: MlflowClient, traces: dict[str, str], experiment: str) -> None:
        def ids(asked: str = "", **more: object) -> list[str]:
            found = tracking.search_traces(locations=[experiment], filter_string=asked, include_spans=False, **more)  # type: ignore[arg-type]  # as it takes them
            return [trace.info.trace_id for trace in found]

        good, bad = traces["good"], traces["bad"]
        assert ids() == [bad, good] and ids(order_by=["timestamp ASC"]) == [good, bad]
        assert ids("status = 'OK'") == ids("trace.status != 'ERROR'") == [good]
        assert ids("name = 'answer' AND tags.user = 'ada'") == ids("metadata.session = '7'") == [bad, good]
        assert ids("execution_time_ms >= 0 AND timestamp_ms > 0") == [bad, good] and ids("tags.user LIKE 'b%'") == []
        first = tracking.search_traces(locations=[experiment], max_results=1)
        assert [trace.info.trace_id for trace in first] == [bad] and first[0].data.spans, "spans come with the page"
        second = tracking.search_traces(locations=[experiment], max_results=1, page_token=first.token)
        assert [trace.info.trace_id for trace in second] == [good]

    def test_are_of_the_run_that_they_were_made_in(self, tracking: MlflowClient, traces: dict[str, str], experiment: str) -> None:
        with mlflow.start_run() as run, mlflow.start_span("within"):
            pass
        (found,) = tracking.search_traces(locations=[experiment], run_id=run.info.run_id)
        assert found.data.spans[0].name == "within"
        tracking.link_traces_to_run([traces["good"]], run.info.run_id)
        assert len(tracking.search_traces(locations=[experiment], run_id=run.info.run_id)) == 2

    def test_are_tagged_and_deleted(self, tracking: MlflowClient, traces: dict[str, str], experiment: str) -> None:
        tracking.set_trace_tag(traces["good"], "kept", "1")
        tracking.delete_trace_tag(traces["good"], "user")
        tags = tracking.get_trace(traces["good"]).info.tags
        assert tags["kept"] == "1" and "user" not in tags
        assert tracking.delete_traces(experiment, trace_ids=[traces["good"]]) == 1
        with pytest.raises(MlflowException) as refused:
            tracking.get_trace(traces["good"])
        assert refused.value.error_code == "RESOURCE_DOES_NOT_EXIST"
        assert tracking.delete_traces(experiment, max_timestamp_millis=2_000_000_000_000) == 1


class TestAssessments:
    def test_are_given_changed_and_deleted(self, tracking: MlflowClient, traces: dict[str, str], experiment: str) -> None:
        trace = traces["good"]
        given = mlflow.log_feedback(trace_id=trace, name="right", value=True, source=PERSON, rationale="it is")
        mlflow.log_expectation(trace_id=trace, name="expected", value="WHY?", source=PERSON)
        said = {each.name: each for each in tracking.get_trace(trace).info.assessments}
        assert (said["right"].feedback.value, said["right"].rationale, said["right"].source.source_id) == (True, "it is", "ada")
        assert said["expected"].expectation.value == "WHY?"
        changed = mlflow.update_assessment(
            trace_id=trace, assessment_id=given.assessment_id, assessment=Feedback(name="right", value=False)
        )
        assert changed.feedback.value is False
        assert mlflow.get_assessment(trace_id=trace, assessment_id=given.assessment_id).feedback.value is False
        found = tracking.search_traces(locations=[experiment], filter_string="feedback.right = 'false'", include_spans=False)
        assert [each.info.trace_id for each in found] == [trace]
        mlflow.delete_assessment(trace_id=trace, assessment_id=given.assessment_id)
        with pytest.raises(MlflowException) as refused:
            mlflow.get_assessment(trace_id=trace, assessment_id=given.assessment_id)
        assert refused.value.error_code == "RESOURCE_DOES_NOT_EXIST"

    def test_may_override_another(self, tracking: MlflowClient, traces: dict[str, str]) -> None:
        first = mlflow.log_feedback(trace_id=traces["good"], name="right", value=True, source=PERSON)
        mlflow.override_feedback(trace_id=traces["good"], assessment_id=first.assessment_id, value=False, source=PERSON)
        said = tracking.get_trace(traces["good"]).info.assessments
        assert [(each.feedback.value, each.valid) for each in said] == [(True, False), (False, True)]
