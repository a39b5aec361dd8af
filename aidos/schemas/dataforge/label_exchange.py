"""Wire schemas of labels in files: export, import and commits."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from aidos.schemas.common import Asked, Name, Text, Wire
from aidos.schemas.dataforge.versions import PATH_BYTES, FilePath, RefName

Prefix = Annotated[str, StringConstraints(max_length=PATH_BYTES, pattern=r"^[^\x00]*$")]


class LabelFormat(StrEnum):
    JSONL = "jsonl"
    CSV = "csv"
    COCO = "coco"
    YOLO = "yolo"
    VOC = "voc"
    LABELSTUDIO = "labelstudio"


class LabelsAs(StrEnum):
    """What imported labels become."""

    LABELS = "labels"
    PRELABELS = "prelabels"
    GOLD = "gold"


class LabelsExport(Asked):
    """In which form labels are wanted."""

    format: LabelFormat = LabelFormat.JSONL
    annotations: bool = Field(False, description="Everyone's answers too, not only what was decided.")


class LabelFileRead(Wire):
    """A file: `size_bytes` from `offset_bytes` of `url` (HTTP Range); an empty one has no URL."""

    path: str
    sha256: str
    size_bytes: int
    offset_bytes: int
    url: str | None


class ExportRead(Wire):
    """Files of labels."""

    records: int
    files: list[LabelFileRead]


class LabelFile(Asked):
    """A file of labels by its name in the format."""

    path: FilePath
    text: Annotated[str, StringConstraints(max_length=2_000_000)]


class LabelsImport(Asked):
    """Labels to take in: sent along, or committed to the dataset (`ref` and `prefix`) where they are many."""

    format: LabelFormat = LabelFormat.JSONL
    files: list[LabelFile] = Field([], max_length=1000)
    ref: RefName | None = None
    prefix: Prefix = ""
    become: LabelsAs = Field(LabelsAs.LABELS, description="Labels (and answers of named annotators), first answers, or gold questions.")


class ImportRead(Wire):
    """What was taken in."""

    records: int
    tasks: int


class LabelsCommit(Asked):
    """A commit of the labels."""

    branch: Name = "main"
    format: LabelFormat = LabelFormat.JSONL
    folder: Prefix = Field("", description="Where the files go, in place of what is there; absent: `labels/NAME`.")
    message: Text = ""
    annotations: bool = False
