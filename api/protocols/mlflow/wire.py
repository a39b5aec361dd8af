"""MLflow's messages: what its clients send, and what they are answered with.

Fields and limits: https://github.com/mlflow/mlflow/blob/master/mlflow/protos/service.proto and ``utils/validation.py`` beside it. Unknown
fields are left out, as protobuf's JSON does; times are milliseconds since 1970; JSON has no NaN, so doubles may be texts.
"""

from __future__ import annotations

import functools
import math
import operator
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, TypeVar
from uuid import UUID

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import AfterValidator, AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError
from pydantic_core import from_json, to_json

from actors.modelhub.logged.service import Link
from actors.modelhub.models import DatasetInput, Experiment, Point, Run, RunState
from actors.modelhub.search.models import Lifecycle
from actors.modelhub.series.models import Columns
from actors.modelhub.tracking.service import DEFAULT, RUN_NAME, USER

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LONGEST_PARAM, LONGEST_TAG = 6000, 8000
LATEST_MS = 253_000_000_000_000
UNKNOWN = (USER, "unknown")
"""A client that knows no user says so of the run, and not as a tag."""
_point = operator.itemgetter("key", "step", "timestamp", "value")
_NAME = re.compile(r"[/\w.\- :]*")
_Row = Mapping[str, Any]


def ms(moment: datetime | None) -> int | None:
    """Milliseconds since 1970."""
    return None if moment is None else (moment - EPOCH) // timedelta(milliseconds=1)


def moment(milliseconds: int) -> datetime:
    return EPOCH + timedelta(milliseconds=milliseconds)


def double(value: float) -> float | str:
    """As protobuf's JSON writes it."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


class Answer(JSONResponse):
    """Written in Rust: a page of a thousand runs is 1.5 MB."""

    def render(self, content: Any) -> bytes:
        return to_json(content)


def answer(**members: Any) -> JSONResponse:
    """Members that are None are left out."""
    return Answer({name: value for name, value in members.items() if value is not None})


def pairs(values: Mapping[str, str]) -> list[dict[str, str]]:
    """As MLflow sends maps."""
    return [{"key": key, "value": value} for key, value in values.items()]


@functools.lru_cache(maxsize=10_000)
def _check_key(key: str) -> str:
    if len(key) > 250:
        raise ValueError("the name exceeds the maximum length of 250 characters")
    if not _NAME.fullmatch(key):
        raise ValueError(
            "Names may only contain alphanumerics, underscores (_), dashes (-), periods (.), spaces ( ), colon(:) and slashes (/)"
        )
    if posixpath.normpath(key) != key or key == "." or key.startswith(("..", "/")):
        raise ValueError("Names may be treated as files in certain cases, and must not resolve to other names")
    return key


def _not_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("Please specify value as a valid double (64-bit floating point)")
    return value


Key = Annotated[str, AfterValidator(_check_key)]
"""Name of a metric, param or tag."""
Double = Annotated[float, BeforeValidator(_not_boolean)]
Milliseconds = Annotated[int, Field(ge=0, le=LATEST_MS), BeforeValidator(_not_boolean)]
Step = Annotated[int, Field(ge=-(2**63), lt=2**63), BeforeValidator(_not_boolean)]
ParamValue = Annotated[str, AfterValidator(lambda value: value[:LONGEST_PARAM])]
TagValue = Annotated[str, AfterValidator(lambda value: value[:LONGEST_TAG])]
"""Longer ones are cut, as MLflow's server does."""
ExperimentName = Annotated[str, StringConstraints(min_length=1, max_length=500)]
RunId = Annotated[str, Field(validation_alias=AliasChoices("run_id", "run_uuid"))]


class Sent(BaseModel):
    """Base of what clients send."""

    model_config = ConfigDict(extra="ignore")


class Tag(Sent):
    key: Key
    value: TagValue = ""


class Param(Sent):
    key: Key
    value: ParamValue = ""


class Metric(Sent):
    key: Key
    value: Double
    timestamp: Milliseconds
    step: Step = 0
    model_id: str | None = None
    dataset_name: str | None = None
    dataset_digest: str | None = None

    @property
    def point(self) -> Point:
        return Point(self.key, self.value, self.step, moment(self.timestamp))


class ExperimentCreate(Sent):
    """``artifact_location`` has no effect: bytes lie where the platform keeps them."""

    name: ExperimentName
    artifact_location: str = ""
    tags: list[Tag] = []


class ExperimentNamed(Sent):
    experiment_id: str


class ExperimentUpdate(ExperimentNamed):
    new_name: ExperimentName


class ExperimentTag(ExperimentNamed):
    key: Key
    value: Annotated[str, StringConstraints(max_length=20_000)]


class ExperimentTagNamed(ExperimentNamed):
    key: str


class Searched(Sent):
    """What every search has."""

    filter: str = ""
    order_by: list[str] = []
    page_token: str = ""


class ExperimentsSearch(Searched):
    max_results: Annotated[int, Field(ge=1, le=50_000)] = 1000
    view_type: Lifecycle = Lifecycle.ACTIVE


class RunsSearch(Searched):
    experiment_ids: list[str] = []
    max_results: Annotated[int, Field(ge=1, le=50_000)] = 1000
    run_view_type: Lifecycle = Lifecycle.ACTIVE


class RunCreate(Sent):
    experiment_id: str = "0"
    user_id: str = ""
    run_name: str = ""
    start_time: Milliseconds | None = None
    tags: list[Tag] = []


class RunNamed(Sent):
    run_id: RunId


class RunUpdate(RunNamed):
    status: str = ""
    end_time: Milliseconds | None = None
    run_name: str = ""


class RunTag(RunNamed):
    key: Key
    value: TagValue


class RunTagNamed(RunNamed):
    key: str


class RunParam(RunNamed):
    key: Key
    value: ParamValue


class RunMetric(RunNamed, Metric):
    pass


class Batch(RunNamed):
    metrics: list[Metric] = []
    params: list[Param] = []
    tags: list[Tag] = []


M = TypeVar("M", bound=BaseModel)


def read(model: type[M], body: bytes) -> M:
    """A body as a message. Raises: RequestValidationError."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise RequestValidationError([{**each, "loc": ("body", *each["loc"])} for each in error.errors(include_url=False)]) from None


def read_points(body: bytes) -> tuple[str, Columns] | None:
    """The run and its points, where the body of a ``Batch`` is as clients send points by the thousand: column by column, a tenth of the
    work. None for all else, what ``Batch`` refuses among it."""
    try:
        sent = from_json(body)
        if not sent.keys() <= {"run_id", "metrics", "params", "tags"} or sent.get("params") or sent.get("tags"):
            return None
        points = sent["metrics"]
        if {*map(len, points)} != {4}:
            return None
        keys, steps, times, values = map(list, zip(*map(_point, points), strict=True))
        known = {*map(type, steps), *map(type, times)} == {int} and {*map(type, values)} <= {int, float} and type(sent["run_id"]) is str
        if not known or min(steps) < -(2**63) or max(steps) >= 2**63 or min(times) < 0 or max(times) > LATEST_MS:
            return None
        for key in set(keys):
            _check_key(key)
        return sent["run_id"], Columns(keys, steps, [1000 * time for time in times], [*map(float, values)])
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
        return None


class Dataset(Sent):
    name: Annotated[str, StringConstraints(min_length=1, max_length=500)]
    digest: Annotated[str, StringConstraints(min_length=1, max_length=36)]
    source_type: str
    source: Annotated[str, StringConstraints(max_length=65_535)]
    schema_: Annotated[str | None, Field(alias="schema", max_length=1_048_575)] = None
    profile: Annotated[str | None, Field(max_length=16_777_215)] = None


class Dated(Sent):
    dataset: Dataset
    tags: list[Tag] = []

    @property
    def input(self) -> DatasetInput:
        data = self.dataset
        return DatasetInput(data.name, data.digest, data.source_type, data.source, data.schema_, data.profile, to_map(self.tags))


class ModelNamed(Sent):
    model_id: str
    step: int = 0


class Inputs(RunNamed):
    datasets: list[Dated] = []
    models: list[ModelNamed] = []


class DatasetsSearch(Sent):
    experiment_ids: Annotated[list[str], Field(min_length=1, max_length=20)]


def to_map(sent: Iterable[Tag | Param]) -> dict[str, str]:
    return {pair.key: pair.value for pair in sent}


def to_state(status: str) -> RunState | None:
    """SCHEDULED is RUNNING here. Raises: ValueError."""
    return RunState(status.replace("SCHEDULED", "RUNNING")) if status else None


def lifecycle_stage(deleted_at: datetime | None) -> str:
    return "active" if deleted_at is None else "deleted"


def experiment_id(id: UUID, name: str) -> str:
    return "0" if name == DEFAULT else id.hex


def experiment(stored: Experiment) -> dict[str, Any]:
    shown = experiment_id(stored.id, stored.name)
    return {
        "experiment_id": shown,
        "name": stored.name,
        "artifact_location": f"mlflow-artifacts:/experiments/{shown}",
        "lifecycle_stage": lifecycle_stage(stored.deleted_at),
        "last_update_time": ms(stored.updated_at or stored.created_at),
        "creation_time": ms(stored.created_at),
        "tags": pairs(stored.tags),
    }


def run_info(stored: Run) -> dict[str, Any]:
    info = {
        "run_id": stored.id.hex,
        "run_uuid": stored.id.hex,
        "run_name": stored.name,
        "experiment_id": experiment_id(stored.experiment_id, stored.experiment),
        "user_id": stored.tags.get(USER, stored.created_by),
        "status": stored.state,
        "start_time": ms(stored.started_at),
        "artifact_uri": f"mlflow-artifacts:/runs/{stored.id.hex}/artifacts",
        "lifecycle_stage": lifecycle_stage(stored.deleted_at),
    }
    return info if stored.ended_at is None else {**info, "end_time": ms(stored.ended_at)}


def run(stored: Run, datasets: Sequence[DatasetInput] = (), links: Sequence[Link] = ()) -> dict[str, Any]:
    metrics = [
        {"key": key, "value": double(latest.value), "timestamp": ms(latest.at), "step": latest.step}
        for key, latest in stored.metrics.items()
    ]
    tags = {key: value for key, value in stored.tags.items() if (key, value) != UNKNOWN}
    data = {"metrics": metrics, "params": pairs(stored.params), "tags": pairs({**tags, RUN_NAME: stored.name})}
    taken = [{"model_id": model_id(id)} for _, id, role, _ in links if role == "input"]
    made = [{"model_id": model_id(id), "step": step} for _, id, role, step in links if role == "output"]
    inputs = {"dataset_inputs": [dataset_input(dataset) for dataset in datasets], "model_inputs": taken}
    return {"info": run_info(stored), "data": data, "inputs": inputs, "outputs": {"model_outputs": made}}


def model_id(id: UUID) -> str:
    """A logged model's."""
    return f"m-{id.hex}"


def dataset_input(stored: DatasetInput) -> dict[str, Any]:
    dataset = {"name": stored.name, "digest": stored.digest, "source_type": stored.source_type, "source": stored.source}
    optional = {name: value for name, value in (("schema", stored.schema), ("profile", stored.profile)) if value is not None}
    return {"dataset": {**dataset, **optional}, "tags": pairs(stored.tags)}


def metric(point: Point, **more: Any) -> dict[str, Any]:
    return {"key": point.key, "value": double(point.value), "timestamp": ms(point.at), "step": point.step, **more}


class UploadCreate(Sent):
    path: Annotated[str, StringConstraints(min_length=1)]
    num_parts: Annotated[int, Field(ge=1, le=10_000)]


class UploadNamed(Sent):
    path: Annotated[str, StringConstraints(min_length=1)]
    upload_id: str


class RunOutputs(RunNamed):
    models: list[ModelNamed] = []


class ModelHistory(RunNamed):
    model_json: str
