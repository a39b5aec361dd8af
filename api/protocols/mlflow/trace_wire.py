"""MLflow's messages of traces and assessments; durations and times are as protobuf's JSON writes them.

https://github.com/mlflow/mlflow/blob/master/mlflow/protos/service.proto and ``assessments.proto`` beside it.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints

from actors.modelhub.traces.models import Assessment, Trace, TraceSpec
from api.protocols.mlflow.wire import Milliseconds, RunNamed, Searched, Sent, experiment_id, ms
from api.protocols.mlflow.wire import Tag as RunTag

_SECONDS = re.compile(r"(\d{1,12})(?:\.(\d{1,9}))?s")
TraceId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][\w-]{0,99}$")]


def _to_ms(value: Any) -> Any:
    """Of ``1.500s``."""
    match = _SECONDS.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("a duration is written as 1.500s")
    return int(match[1]) * 1000 + int((match[2] or "0").ljust(3, "0")[:3])


def _check_moment(moment: datetime) -> datetime:
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if not 1970 <= moment.year < 9000:
        raise ValueError("must be between the years 1970 and 9000")
    return moment


class InExperiment(Sent):
    experiment_id: str


class Location(Sent):
    mlflow_experiment: InExperiment


class TraceInfo(Sent):
    trace_id: TraceId
    trace_location: Location
    request_time: Annotated[datetime, AfterValidator(_check_moment)]
    execution_duration: Annotated[int, BeforeValidator(_to_ms)] | None = None
    state: Literal["STATE_UNSPECIFIED", "OK", "ERROR", "IN_PROGRESS"] = "STATE_UNSPECIFIED"
    client_request_id: str | None = None
    request_preview: str | None = None
    response_preview: str | None = None
    trace_metadata: dict[str, str] = {}
    tags: dict[str, str] = {}

    @property
    def spec(self) -> TraceSpec:
        return TraceSpec(
            self.trace_id,
            self.request_time,
            self.state,
            self.execution_duration,
            self.client_request_id,
            self.request_preview,
            self.response_preview,
            self.trace_metadata,
            self.tags,
        )


class Sending(Sent):
    trace_info: TraceInfo


class TraceStart(Sent):
    trace: Sending


class TracesSearch(Searched):
    locations: Annotated[list[Location], Field(min_length=1, max_length=1000)]
    max_results: Annotated[int, Field(ge=1, le=500)] = 100


class TraceInfosGet(Sent):
    trace_ids: Annotated[list[str], Field(max_length=500)]


class TraceTag(RunTag):
    pass


class TraceTagNamed(Sent):
    key: str


class TracesDelete(InExperiment):
    max_timestamp_millis: Milliseconds | None = None
    max_traces: Annotated[int, Field(ge=1)] | None = None
    request_ids: Annotated[list[str], Field(max_length=1000)] = []


class TracesLink(RunNamed):
    trace_ids: Annotated[list[str], Field(max_length=100)]


class AssessmentSent(Sent):
    assessment: dict[str, Any]

    @property
    def body(self) -> dict[str, Any]:
        """What the client says; ids and times are given here."""
        given = {"assessment_id", "trace_id", "create_time", "last_update_time"}
        return {name: value for name, value in self.assessment.items() if name not in given}


def trace_info(stored: Trace) -> dict[str, Any]:
    location = {"experiment_id": experiment_id(stored.experiment_id, stored.experiment)}
    shown = {
        "trace_id": stored.trace_id,
        "client_request_id": stored.client_request_id,
        "trace_location": {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": location},
        "request_preview": stored.request_preview,
        "response_preview": stored.response_preview,
        "request_time": _moment(stored.requested_at),
        "execution_duration": None if stored.duration_ms is None else f"{stored.duration_ms // 1000}.{stored.duration_ms % 1000:03d}s",
        "state": stored.state,
        "trace_metadata": dict(stored.metadata),
        "tags": {**stored.tags, "mlflow.artifactLocation": f"mlflow-artifacts:/traces/{stored.id.hex}/artifacts"},
        "assessments": [assessment(each, stored.trace_id) for each in stored.assessments],
    }
    return {name: value for name, value in shown.items() if value is not None}


def assessment(stored: Assessment, trace_id: str) -> dict[str, Any]:
    given = {"assessment_id": f"a-{stored.id.hex}", "trace_id": trace_id}
    times = {"create_time": _moment(stored.created_at), "last_update_time": _moment(stored.updated_at)}
    return {**stored.body, **given, **times}


def _moment(moment: datetime) -> str:
    milliseconds = ms(moment) or 0
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%S}.{milliseconds % 1000:03d}Z"
