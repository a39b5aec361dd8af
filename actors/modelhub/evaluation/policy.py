"""Records as MLflow's own store keeps them: one for each input, later ones are merged into it.

https://github.com/mlflow/mlflow/blob/master/mlflow/store/tracking/sqlalchemy_store.py, ``upsert_dataset_records``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from actors.modelhub.evaluation.errors import EvaluationRecordsInvalid
from actors.modelhub.evaluation.models import Body

USER = "mlflow.user"
_OBJECTS = ("expectations", "tags", "source")
_TYPES: Mapping[type, str] = {
    type(None): "null", bool: "boolean", int: "integer", float: "float", str: "string", list: "array", dict: "object",
}  # fmt: skip


def read_records(text: str) -> list[dict[str, Any]]:
    """Raises: EvaluationRecordsInvalid."""
    try:
        records = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise EvaluationRecordsInvalid(reason=f"no JSON: {error}") from None
    if not isinstance(records, list):
        raise EvaluationRecordsInvalid(reason="no list")
    for number, record in enumerate(records):
        if not isinstance(record, dict) or not isinstance(record.get("inputs", {}), dict):
            raise EvaluationRecordsInvalid(reason=f"record {number} is no object with an object 'inputs'")
        for name in _OBJECTS:
            if not isinstance(record.get(name) or {}, dict):
                raise EvaluationRecordsInvalid(reason=f"'{name}' of record {number} is no object")
    return records


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def digest(record: Body) -> str:
    """Of the inputs."""
    return hashlib.sha256(json.dumps(record.get("inputs", {}), sort_keys=True).encode()).hexdigest()


def merge_record(old: Body | None, sent: Body) -> Body:
    """What is known of one input afterwards: the newest outputs, all expectations and tags, the first source."""
    tags = {**((old or {}).get("tags") or {}), **(sent.get("tags") or {})}
    user = (sent.get("tags") or {}).get(USER)
    expectations = {**((old or {}).get("expectations") or {}), **(sent.get("expectations") or {})}
    merged = {"source": sent.get("source"), "created_by": user, **(old or {}), "inputs": sent.get("inputs", {}), "tags": tags}
    if "outputs" in sent:
        merged["outputs"] = sent["outputs"]
    if expectations:
        merged["expectations"] = expectations
    if user:
        merged["last_updated_by"] = user
    return {name: value for name, value in merged.items() if value is not None or name == "outputs"}


def extend_schema(schema: Mapping[str, Any] | None, records: Sequence[Body]) -> dict[str, Any]:
    """With the types of fields that are new."""
    known = {"inputs": {}, "outputs": {}, "expectations": {}, "version": "1.0", **(schema or {})}
    for part in ("inputs", "outputs", "expectations"):
        for record in records:
            fields = record.get(part)
            if isinstance(fields, dict) and isinstance(known[part], dict):
                known[part] = {**{name: _TYPES[type(value)] for name, value in fields.items()}, **known[part]}
            elif fields is not None and not known[part]:
                known[part] = _TYPES[type(fields)]
    return known
