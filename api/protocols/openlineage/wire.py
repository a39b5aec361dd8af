"""Shapes of OpenLineage: what is taken of an event that comes in, and how facets and datasets are written.

https://openlineage.io/spec/2-0-2/OpenLineage.json
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from typing import Annotated, Any, Self, TypeVar
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StringConstraints, model_validator

from api.health import VERSION

PRODUCER = f"urn:aidos:{VERSION}"
EVENT_SCHEMA = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"
MODEL_PREFIX = "models/"
_FACETS = "https://openlineage.io/spec/facets"
Text = Annotated[str, StringConstraints(min_length=1, max_length=4000, pattern=r"^[^\x00]*$")]
_VERSION = re.compile(r"[\x20-\x7e]{1,200}")
_DATE_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]")


class EventType(enum.StrEnum):
    """A transition of a run."""

    START = "START"
    RUNNING = "RUNNING"
    COMPLETE = "COMPLETE"
    ABORT = "ABORT"
    FAIL = "FAIL"
    OTHER = "OTHER"


def _given(value: Any) -> Any:
    if value is None:
        raise ValueError("must be left out rather than be null")
    return value


def _with_time(value: Any) -> Any:
    if not isinstance(value, str) or not _DATE_TIME.match(value):
        raise ValueError("must be a date and time as RFC 3339 has them, such as 2026-11-01T00:00:00Z")
    return value


T = TypeVar("T")
Given = Annotated[T | None, BeforeValidator(_given)]
"""May be left out; null is no value of it."""


class Incoming(BaseModel):
    """Base of what comes in: fields that are not known here are somebody's, and are passed over."""

    model_config = ConfigDict(extra="ignore")


class BaseFacet(Incoming):
    """What every facet has, also one that nobody here knows."""

    producer: Text = Field(alias="_producer")
    schema_url: Text = Field(alias="_schemaURL")
    deleted: Given[StrictBool] = Field(None, alias="_deleted")


class Facets(BaseModel):
    """Facets by name."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, BaseFacet]


class VersionFacet(BaseFacet):
    """https://openlineage.io/spec/facets/1-0-1/DatasetVersionDatasetFacet.json"""

    version: str = Field(alias="datasetVersion")


class DatasetFacets(Facets):
    version: Given[VersionFacet] = None


class DatasetNamed(Incoming):
    namespace: Text
    name: Text
    facets: DatasetFacets = Field(default_factory=DatasetFacets)
    input_facets: Facets = Field(default_factory=Facets, alias="inputFacets")
    output_facets: Facets = Field(default_factory=Facets, alias="outputFacets")

    @property
    def version(self) -> str:
        """Of the facet ``version``; empty where there is none that could be one of ours."""
        text = self.facets.version.version if self.facets.version else ""
        return text if _VERSION.fullmatch(text) else ""


class JobNamed(Incoming):
    namespace: Text
    name: Text
    facets: Facets = Field(default_factory=Facets)


class ParentRun(Incoming):
    id: UUID = Field(alias="runId")


class ParentFacet(BaseFacet):
    """https://openlineage.io/spec/facets/1-0-1/ParentRunFacet.json"""

    run: ParentRun
    job: JobNamed


class RunFacets(Facets):
    parent: Given[ParentFacet] = None


class RunNamed(ParentRun):
    facets: RunFacets = Field(default_factory=RunFacets)


class EventPosted(Incoming):
    """An event of any of the three kinds: of a run, of a job (no ``run``), or of a dataset (neither)."""

    at: Annotated[AwareDatetime, BeforeValidator(_with_time)] = Field(alias="eventTime")
    producer: Text
    schema_url: Text = Field(alias="schemaURL")
    type: EventType = Field(EventType.OTHER, alias="eventType")
    run: Given[RunNamed] = None
    job: Given[JobNamed] = None
    dataset: Given[DatasetNamed] = None
    inputs: list[DatasetNamed] = Field(default_factory=list, max_length=1000)
    outputs: list[DatasetNamed] = Field(default_factory=list, max_length=1000)

    @model_validator(mode="after")
    def _is_of_one_kind(self) -> Self:
        if self.job is None and (self.run is not None or self.dataset is None):
            raise ValueError("must be of a run (`run` and `job`), of a job (`job`) or of a dataset (`dataset`)")
        return self


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
