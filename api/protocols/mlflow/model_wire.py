"""MLflow's messages of logged models, registered models and their versions.

Fields and limits: https://github.com/mlflow/mlflow/blob/master/mlflow/protos/model_registry.proto and ``service.proto`` beside it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from actors.modelhub.logged.models import LoggedModel, LoggedModelState, ModelMetric
from actors.modelhub.models import Model, ModelVersion, VersionState
from actors.modelhub.registry.service import ELSEWHERE
from api.protocols.mlflow.wire import Param, Sent, Tag, experiment_id, metric, model_id, ms, pairs


class LoggedModelCreate(Sent):
    experiment_id: str
    name: Annotated[str, StringConstraints(max_length=500, pattern=r"""^[^/:.%"']*$""")] = ""
    model_type: str = ""
    source_run_id: str = ""
    params: list[Param] = []
    tags: list[Tag] = []


class LoggedModelFinish(Sent):
    status: Literal["LOGGED_MODEL_READY", "LOGGED_MODEL_UPLOAD_FAILED"]


class LoggedModelTags(Sent):
    tags: list[Tag] = []


class LoggedModelParams(Sent):
    params: list[Param] = []


class DatasetNamed(Sent):
    dataset_name: str
    dataset_digest: str = ""


class Ordered(Sent):
    field_name: str
    ascending: bool = True
    dataset_name: str = ""
    dataset_digest: str = ""


class LoggedModelsSearch(Sent):
    experiment_ids: Annotated[list[str], Field(min_length=1)]
    filter: str = ""
    datasets: list[DatasetNamed] = []
    max_results: Annotated[int, Field(ge=1, le=1000)] = 50
    order_by: list[Ordered] = []
    page_token: str = ""


class RegistryTag(Sent):
    key: Annotated[str, StringConstraints(min_length=1, max_length=250)]
    value: Annotated[str, StringConstraints(max_length=100_000)] = ""


class ModelCreate(Sent):
    name: str
    tags: list[RegistryTag] = []
    description: str = ""


class ModelName(Sent):
    name: str


class ModelRename(ModelName):
    new_name: str


class ModelUpdate(ModelName):
    description: str = ""


class ModelTag(RegistryTag, ModelName):
    pass


class ModelTagNamed(ModelName):
    key: str


class ModelAliasNamed(ModelName):
    alias: str


class ModelAlias(ModelAliasNamed):
    version: str


class LatestVersions(ModelName):
    stages: list[str] = []


class VersionCreate(ModelName):
    source: str
    run_id: str = ""
    tags: list[RegistryTag] = []
    run_link: str = ""
    description: str = ""
    model_id: str = ""


class VersionNamed(ModelName):
    version: str


class VersionUpdate(VersionNamed):
    description: str = ""


class VersionStage(VersionNamed):
    stage: str
    archive_existing_versions: bool = False


class VersionTag(RegistryTag, VersionNamed):
    pass


class VersionTagNamed(VersionNamed):
    key: str


_LOGGED = {
    LoggedModelState.PENDING: "LOGGED_MODEL_PENDING",
    LoggedModelState.READY: "LOGGED_MODEL_READY",
    LoggedModelState.UPLOAD_FAILED: "LOGGED_MODEL_UPLOAD_FAILED",
}
_REGISTERED = {
    VersionState.PENDING: "PENDING_REGISTRATION",
    VersionState.READY: "READY",
    VersionState.QUARANTINED: "READY",
    VersionState.REJECTED: "FAILED_REGISTRATION",
}
"""A quarantined version can be had and loaded by its owner, which is what READY means to the client; the platform will not serve it."""


def model_metric(stored: ModelMetric, model: str) -> dict[str, Any]:
    more = {"dataset_name": stored.dataset_name, "dataset_digest": stored.dataset_digest, "run_id": stored.run_id.hex, "model_id": model}
    return metric(stored.point, **{name: value for name, value in more.items() if value})


def logged_model(stored: LoggedModel) -> dict[str, Any]:
    shown = model_id(stored.id)
    info = {
        "model_id": shown,
        "experiment_id": experiment_id(stored.experiment_id, stored.experiment),
        "name": stored.name,
        "creation_timestamp_ms": ms(stored.created_at),
        "last_updated_timestamp_ms": ms(stored.updated_at),
        "artifact_uri": f"mlflow-artifacts:/models/{shown}/artifacts",
        "status": _LOGGED[stored.state],
        "model_type": stored.model_type,
        "tags": pairs(stored.tags),
    }
    if stored.run_id:
        info["source_run_id"] = stored.run_id.hex
    return {"info": info, "data": {"params": pairs(stored.params), "metrics": [model_metric(each, shown) for each in stored.metrics]}}


def registered_model(stored: Model, latest: Iterable[ModelVersion] = ()) -> dict[str, Any]:
    return {
        "name": stored.name,
        "creation_timestamp": ms(stored.created_at),
        "last_updated_timestamp": ms(stored.updated_at or stored.created_at),
        "user_id": stored.created_by,
        "description": stored.description,
        "latest_versions": [model_version(version) for version in latest if version.model_id == stored.id],
        "tags": pairs(stored.tags),
        "aliases": [{"alias": alias, "version": str(version)} for alias, version in stored.aliases.items()],
    }


def model_version(stored: ModelVersion) -> dict[str, Any]:
    shown = {
        "name": stored.model,
        "version": str(stored.version),
        "creation_timestamp": ms(stored.created_at),
        "last_updated_timestamp": ms(stored.updated_at or stored.created_at),
        "user_id": stored.created_by,
        "current_stage": stored.stage,
        "description": stored.description,
        "source": stored.origin.source or version_uri(stored),
        "status": _REGISTERED[stored.state],
        "status_message": stored.reason,
        "run_link": stored.origin.run_link,
        "tags": pairs(stored.tags),
        "aliases": list(stored.aliases),
    }
    if stored.run_id:
        shown["run_id"] = stored.run_id.hex
    if stored.origin.logged_model_id:
        shown["model_id"] = model_id(stored.origin.logged_model_id)
    return shown


def version_uri(stored: ModelVersion) -> str:
    """Where the inspected copy of its files is; those that lie in another store stay there."""
    if any(finding.kind == ELSEWHERE.kind for finding in stored.findings):
        return stored.origin.source
    return f"mlflow-artifacts:/versions/{stored.id.hex}/artifacts"
