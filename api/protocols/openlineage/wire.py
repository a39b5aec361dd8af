"""Shapes of OpenLineage: what is taken of an event that comes in, and how facets and datasets are written.

https://github.com/OpenLineage/OpenLineage/blob/main/spec/OpenLineage.md
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from api.health import VERSION

PRODUCER = f"urn:aidos:{VERSION}"
EVENT_SCHEMA = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"
MODEL_PREFIX = "models/"
_FACETS = "https://openlineage.io/spec/facets"
Text = Annotated[str, StringConstraints(min_length=1, max_length=4000, pattern=r"^[^\x00]*$")]
Facets = dict[str, Any]
_VERSION = re.compile(r"[\x20-\x7e]{1,200}")


class EventType(enum.StrEnum):
    """A transition of a run."""

    START = "START"
    RUNNING = "RUNNING"
    COMPLETE = "COMPLETE"
    ABORT = "ABORT"
    FAIL = "FAIL"
    OTHER = "OTHER"


class Incoming(BaseModel):
    """Base of what comes in: facets and fields that are not known here are somebody's, and are passed over."""

    model_config = ConfigDict(extra="ignore")


class DatasetNamed(Incoming):
    namespace: Text
    name: Text
    facets: Facets = Field(default_factory=dict)

    @property
    def version(self) -> str:
        """Of the facet ``version``; empty where there is none that could be one of ours."""
        facet = self.facets.get("version")
        text = str(facet.get("datasetVersion", "")) if isinstance(facet, Mapping) else ""
        return text if _VERSION.fullmatch(text) else ""


class JobNamed(Incoming):
    namespace: Text
    name: Text


class RunNamed(Incoming):
    id: UUID = Field(alias="runId")
    facets: Facets = Field(default_factory=dict)


class ParentNamed(Incoming):
    run: RunNamed
    job: JobNamed


class EventPosted(Incoming):
    """An event of any of the three kinds: of a run, of a job (no ``run``), or of a dataset (neither)."""

    at: datetime = Field(alias="eventTime")
    producer: Text
    schema_url: Text = Field(alias="schemaURL")
    type: EventType = Field(EventType.OTHER, alias="eventType")
    run: RunNamed | None = None
    job: JobNamed | None = None
    dataset: DatasetNamed | None = None
    inputs: list[DatasetNamed] = Field(default_factory=list, max_length=1000)
    outputs: list[DatasetNamed] = Field(default_factory=list, max_length=1000)


def facet(name: str, version: str, **fields: Any) -> dict[str, Any]:
    """A facet of the specification, e.g. ``facet("ParentRunFacet", "1-0-1", run=…)``."""
    return {"_producer": PRODUCER, "_schemaURL": f"{_FACETS}/{version}/{name}.json#/$defs/{name}", **fields}


def to_dataset(namespace: str, name: str, version: str, **facets: Any) -> dict[str, Any]:
    """A dataset in one of its versions."""
    known = {"version": facet("DatasetVersionDatasetFacet", "1-0-1", datasetVersion=version)} if version else {}
    return {"namespace": namespace, "name": name, "facets": {**known, **facets}}


def to_schema(fields: Mapping[str, str]) -> dict[str, Any]:
    """The facet ``schema`` of columns or tensors, by name with their types."""
    return facet("SchemaDatasetFacet", "1-1-1", fields=[{"name": name, "type": type} for name, type in fields.items()])
