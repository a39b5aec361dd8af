"""MLflow's messages of evaluation datasets and scorers; records travel as JSON in a text.

https://github.com/mlflow/mlflow/blob/master/mlflow/protos/datasets.proto and ``service.proto`` beside it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, StringConstraints

from actors.modelhub.evaluation.models import EvaluationDataset, EvaluationRecord, Scorer
from actors.modelhub.models import Experiment
from api.protocols.mlflow.wire import Sent, experiment_id, ms


def _to_tags(text: Any) -> Any:
    """Tags are a JSON object in a text."""
    try:
        tags = json.loads(text or "{}")
    except (ValueError, TypeError, RecursionError):
        raise ValueError("tags are a JSON object in a text") from None
    return tags


Tags = Annotated[dict[str, Any], BeforeValidator(_to_tags)]


class DatasetCreate(Sent):
    name: Annotated[str, StringConstraints(min_length=1, max_length=255)]
    experiment_ids: Annotated[list[str], Field(max_length=1000)] = []
    tags: Tags = {}


class DatasetsSearch(Sent):
    experiment_ids: Annotated[list[str], Field(max_length=1000)] = []
    filter_string: str = ""
    max_results: Annotated[int, Field(ge=1, le=50_000)] = 1000
    order_by: list[str] = []
    page_token: str = ""


class DatasetTags(Sent):
    tags: Tags


class DatasetExperiments(Sent):
    experiment_ids: Annotated[list[str], Field(max_length=1000)]


class RecordsPut(Sent):
    records: str


class RecordsNamed(Sent):
    dataset_record_ids: Annotated[list[str], Field(max_length=10_000)]


class ScorerRegister(Sent):
    experiment_id: str
    name: Annotated[str, StringConstraints(min_length=1, max_length=255)]
    serialized_scorer: str


class ScorerNamed(Sent):
    experiment_id: str
    name: str
    version: int | None = None


def to_texts(tags: Mapping[str, Any]) -> dict[str, str]:
    """Values as MLflow keeps them; None is no value."""
    return {key: str(value) for key, value in tags.items() if value is not None}


def dataset(stored: EvaluationDataset, experiments: Sequence[Experiment]) -> dict[str, Any]:
    """``experiments``: at least those of the dataset."""
    names = {each.id: experiment_id(each.id, each.name) for each in experiments}
    updated = ms(stored.updated_at)
    shown = {
        "dataset_id": f"d-{stored.id.hex}",
        "name": stored.name,
        "tags": json.dumps(dict(stored.tags)),
        "schema": None if stored.schema is None else json.dumps(stored.schema),
        "profile": json.dumps({"num_records": stored.records}) if stored.records else None,
        "digest": hashlib.sha256(f"{stored.id}:{updated}".encode()).hexdigest()[:8],
        "created_time": ms(stored.created_at),
        "last_update_time": updated,
        "created_by": stored.created_by,
        "last_updated_by": stored.updated_by,
        "experiment_ids": [names[id] for id in stored.experiment_ids if id in names],
    }
    return {name: value for name, value in shown.items() if value is not None}


def record(stored: EvaluationRecord, dataset_id: str) -> dict[str, Any]:
    source = stored.body.get("source") or {}
    data = source.get("source_data") or {}
    given = {"dataset_id": dataset_id, "dataset_record_id": f"dr-{stored.id.hex}"}
    times = {"created_time": ms(stored.created_at), "last_update_time": ms(stored.updated_at)}
    origin = {"source_type": source.get("source_type"), "source_id": data.get("trace_id") or data.get("source_id")}
    return {**stored.body, **given, **times, **{name: value for name, value in origin.items() if value}}


def scorer(stored: Scorer) -> dict[str, Any]:
    return {
        "scorer_name": stored.name,
        "scorer_version": stored.version,
        "serialized_scorer": stored.serialized,
        "creation_time": ms(stored.created_at),
        "scorer_id": str(stored.scorer_id),
    }
