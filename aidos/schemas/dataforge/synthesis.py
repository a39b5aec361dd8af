"""How synthetic data is asked for: a table that is like another, images that are variations, texts from templates."""

from __future__ import annotations

from datetime import date
from enum import StrEnum
from string import Formatter
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from aidos.schemas.common import Asked
from aidos.schemas.dataforge.versions import FilePath

MOST_ROWS = 100_000_000
Column = Annotated[str, StringConstraints(min_length=1, max_length=500, pattern=r"^[^\x00]*$")]
Marker = Annotated[Column | None, Field(description="Column that is true in every row, so that none is taken for a real one; null: none.")]
Value = str | int | float | bool | None
Bound = Annotated[float | str, Field(description="A number, or a date as ISO 8601 text.")]


class TableFormat(StrEnum):
    PARQUET = "parquet"
    CSV = "csv"
    JSONL = "jsonl"


class ColumnKind(StrEnum):
    """What a column is to the generator."""

    NUMBER = "number"
    INTEGER = "integer"
    DATE = "date"
    CATEGORY = "category"
    KEY = "key"
    CODE = "code"
    SKIP = "skip"


class SyntheticColumn(Asked):
    """What is known of a column; what is absent is seen from the data, never so under privacy."""

    kind: ColumnKind | None = Field(
        None, description="`key` is unique and new; `code` keeps the shape of texts, none of their letters; `skip` leaves it out."
    )
    min: Bound | None = Field(None, description="No value is below; values of the source that are count as missing.")
    max: Bound | None = Field(None, description="No value is above.")
    values: list[Value] | None = Field(None, min_length=1, max_length=1000, description="The categories.")
    nullable: bool = Field(True, description="Whether values may be missing.")


class AtMost(Asked):
    """In every row `low` is at most `high`."""

    low: Column
    high: Column


class Between(Asked):
    """A closed interval."""

    min: Bound
    max: Bound


class Condition(Asked):
    """So many rows in which columns have these values, or lie in these intervals; null is a missing value."""

    rows: int = Field(ge=1, le=MOST_ROWS)
    where: dict[Column, Value | Between] = Field(min_length=1, max_length=20)


class Privacy(Asked):
    """Differential privacy of rows; two tables are neighbours when one row differs. Bounds and categories come from `columns` alone."""

    epsilon: float = Field(gt=0, le=100)
    delta: float = Field(
        0.0, ge=0, lt=0.1, description="0: pure ε by Laplace noise; above: Gaussian noise, which is less over many columns."
    )
    bins: int = Field(32, ge=2, le=1000, description="Bins of a number's or a date's histogram.")


class TableGenerator(Asked):
    """A table that keeps marginals, correlations, categories, dates and missing values, by a Gaussian copula."""

    make: Literal["table"]
    files: FilePath | None = Field(None, description="Only files that match this: a path, or a pattern with * and ?.")
    rows: int | None = Field(None, ge=1, le=MOST_ROWS, description="How many; absent: as many as there are.")
    conditions: list[Condition] = Field([], max_length=100, description="Instead of `rows`: how many of which kind.")
    columns: dict[Column, SyntheticColumn] = Field({}, max_length=1000)
    at_most: list[AtMost] = Field([], max_length=50)
    marginals: Literal["empirical", "kernel"] = "empirical"
    fit_rows: int = Field(50_000, ge=100, le=500_000, description="Rows of a uniform sample that the copula is fitted to.")
    target: Column | None = Field(None, description="Column that a model predicts, trained on synthetic and tested on real rows.")
    by: Column | None = Field(
        None, description="Category for each of whose values a copula of its own is fitted; made rows are nearer to real ones."
    )
    write: TableFormat = TableFormat.PARQUET
    marker: Marker = "synthetic"
    privacy: Privacy | None = None

    @model_validator(mode="after")
    def _check_known(self) -> TableGenerator:
        """Under privacy nothing is seen from the data that the request does not say."""
        for name, column in self.columns.items() if self.privacy else ():
            if column.kind in {None, ColumnKind.CODE}:
                raise ValueError(f"under privacy column '{name}' needs a kind, and none that is seen from the data")
            if column.kind is ColumnKind.CATEGORY and not column.values:
                raise ValueError(f"under privacy category '{name}' needs its values")
            if column.kind in {ColumnKind.NUMBER, ColumnKind.INTEGER, ColumnKind.DATE} and (column.min is None or column.max is None):
                raise ValueError(f"under privacy column '{name}' needs min and max")
        if self.privacy and self.by:
            raise ValueError("under privacy rows are not told apart 'by' a column: how many have which value would be published")
        if self.marker in self.columns:
            raise ValueError(f"'{self.marker}' is the column that marks rows: give 'marker' another name, or null")
        if self.privacy and not self.columns:
            raise ValueError("under privacy 'columns' says all that is known; a column that is not there is left out")
        return self


Range = Annotated[list[float], Field(min_length=2, max_length=2, description="Least and most; drawn evenly between.")]


class Step(Asked):
    """Base of what can be done to an image. ``p``: how often it is."""

    p: float = Field(1.0, gt=0, le=1)


class Flip(Step):
    """Mirror it."""

    op: Literal["flip"]
    axis: Literal["horizontal", "vertical"] = "horizontal"


class Rotate(Step):
    """Turn it around its middle, counter-clockwise; what was outside is black."""

    op: Literal["rotate"]
    degrees: Range = [-15.0, 15.0]


class Crop(Step):
    """Take a part with so much of the area, at any place, and enlarge it to the old size."""

    op: Literal["crop"]
    area: Range = [0.7, 1.0]


class Affine(Step):
    """Scale, shear in degrees, and shift by shares of the width and height, around the middle."""

    op: Literal["affine"]
    scale: Range = [0.9, 1.1]
    shear: Range = [-10.0, 10.0]
    shift: Range = [-0.1, 0.1]


class Colour(Step):
    """Factors of brightness, contrast and saturation; 1 changes nothing."""

    op: Literal["colour"]
    brightness: Range = [0.8, 1.2]
    contrast: Range = [0.8, 1.2]
    saturation: Range = [0.8, 1.2]


class Blur(Step):
    """Gaussian blur; the radius in pixels."""

    op: Literal["blur"]
    radius: Range = [0.5, 1.5]


class Noise(Step):
    """Gaussian noise; its standard deviation in steps of 255."""

    op: Literal["noise"]
    spread: Range = [2.0, 12.0]


class Cutout(Step):
    """Grey rectangles, each with so much of the area (DeVries and Taylor, 2017)."""

    op: Literal["cutout"]
    area: Range = [0.02, 0.1]
    holes: int = Field(1, ge=1, le=20)


class Mixup(Step):
    """Blend it with another image, so much of that one; labels mix alike (Zhang et al., 2018)."""

    op: Literal["mixup"]
    share: Range = [0.1, 0.4]


class OneOf(Step):
    """One of several nodes, by their weights."""

    op: Literal["one_of"]
    nodes: list[Node] = Field(min_length=1, max_length=20)
    weights: list[float] | None = Field(None, description="As many as nodes; absent: all alike.")

    @model_validator(mode="after")
    def _check_weights(self) -> OneOf:
        if self.weights is not None and (len(self.weights) != len(self.nodes) or min(self.weights) < 0 or sum(self.weights) <= 0):
            raise ValueError("weights must be as many as nodes, none below 0 and one above")
        return self


class Sequence(Step):
    """All of several nodes, one after the other."""

    op: Literal["sequence"]
    nodes: list[Node] = Field(min_length=1, max_length=20)


Node = Annotated[Flip | Rotate | Crop | Affine | Colour | Blur | Noise | Cutout | Mixup | OneOf | Sequence, Field(discriminator="op")]


class ImageGenerator(Asked):
    """Variations of images by a graph of augmentations; labels, boxes and polygons follow the geometry."""

    make: Literal["images"]
    files: FilePath | None = Field(None, description="Only images that match this: a path, or a pattern with * and ?.")
    copies: int = Field(1, ge=1, le=1000, description="Variations of each image.")
    graph: list[Node] = Field(min_length=1, max_length=50)
    boxes: FilePath | None = Field(None, description="File of the commit with boxes and polygons, as COCO.")
    least_visible: float = Field(0.25, ge=0, le=1, description="A shape of which less is left in the picture is dropped.")


class ListSlot(Asked):
    """One of some values."""

    kind: Literal["list"]
    values: list[str] = Field(min_length=1, max_length=10_000)
    weights: list[float] | None = Field(None, description="As many as values; absent: all alike.")

    @model_validator(mode="after")
    def _check_weights(self) -> ListSlot:
        if self.weights is not None and (len(self.weights) != len(self.values) or min(self.weights) < 0 or sum(self.weights) <= 0):
            raise ValueError("weights must be as many as values, none below 0 and one above")
        return self


class RangeSlot(Asked):
    """A number, or a date between two ISO 8601 texts."""

    kind: Literal["range"]
    min: Bound
    max: Bound
    decimals: int = Field(0, ge=0, le=9)

    @model_validator(mode="after")
    def _check_ends(self) -> RangeSlot:
        if isinstance(self.min, str) != isinstance(self.max, str):
            raise ValueError("min and max must both be numbers or both be dates")
        low, high = (date.fromisoformat(end).toordinal() if isinstance(end, str) else end for end in (self.min, self.max))
        if low > high:
            raise ValueError("min must be at most max")
        return self


class PatternSlot(Asked):
    """A text that a simple regular expression matches: signs, classes, groups with |, and counts up to 100."""

    kind: Literal["pattern"]
    pattern: Annotated[str, StringConstraints(min_length=1, max_length=1000)]


class ColumnSlot(Asked):
    """A value that a column of the commit's tables has, as often as there."""

    kind: Literal["column"]
    column: Column


class ModelSlot(Asked):
    """What a language model answers to a prompt, over OpenAI's chat completions. The prompt may name slots that stand before it."""

    kind: Literal["model"]
    prompt: Annotated[str, StringConstraints(min_length=1, max_length=20_000)]
    url: Annotated[str, StringConstraints(pattern=r"^https?://[^\s]{1,1000}$")] | None = Field(
        None, description="Address of the API up to and with /v1."
    )
    model: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    temperature: float = Field(0.8, ge=0, le=2)
    max_tokens: int = Field(256, ge=1, le=32_768)

    @model_validator(mode="after")
    def _check_deployed(self) -> ModelSlot:
        if self.url is None:
            raise ValueError("no language model is deployed here: name one by 'url', as http://host:port/v1")
        return self


Slot = Annotated[ListSlot | RangeSlot | PatternSlot | ColumnSlot | ModelSlot, Field(discriminator="kind")]
SlotName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$")]


class Template(Asked):
    """A text with slots in braces; {{ and }} are braces themselves."""

    text: Annotated[str, StringConstraints(min_length=1, max_length=100_000)]
    label: str | None = Field(None, max_length=500, description="What the text is an example of.")
    weight: float = Field(1.0, gt=0)


class TextGenerator(Asked):
    """Texts from templates, with their slots' values, the places where these stand, and labels."""

    make: Literal["text"]
    rows: int = Field(ge=1, le=10_000_000)
    templates: list[Template] = Field(min_length=1, max_length=1000)
    slots: dict[SlotName, Slot] = Field({}, max_length=100)
    like: Column | None = Field(None, description="Column of real texts that the made ones are compared with.")
    like_label: Column | None = Field(None, description="Column with the labels of those texts, for what a model learns.")
    files: FilePath | None = Field(None, description="Only tables that match this are read: a path, or a pattern with * and ?.")
    write: TableFormat = TableFormat.JSONL
    marker: Marker = "synthetic"

    @model_validator(mode="after")
    def _check_slots(self) -> TextGenerator:
        texts = [template.text for template in self.templates]
        known = set(self.slots)
        for text in texts:
            if unknown := set(slots_of(text)) - known:
                raise ValueError(f"the templates name {', '.join(sorted(unknown))}, which 'slots' does not have")
        before: set[str] = set()
        for name, slot in self.slots.items():
            if isinstance(slot, ModelSlot) and (later := set(slots_of(slot.prompt)) - before):
                raise ValueError(f"the prompt of '{name}' names {', '.join(sorted(later))}, which do not stand before it")
            before.add(name)
        if reserved := known & {"text", "label", "template", "spans", self.marker}:
            raise ValueError(f"a slot cannot be named {', '.join(sorted(reserved))}: the table has columns of that name")
        return self


def slots_of(text: str) -> list[str]:
    """The names in braces. Raises: ValueError for braces that do not match, and for more than a name in them."""
    found = []
    for _, name, form, conversion in Formatter().parse(text):
        if name is None:
            continue
        if not name.isidentifier() or form or conversion:
            raise ValueError(f"'{{{name}}}' is no slot: braces hold a name and nothing else; {{{{ and }}}} are braces themselves")
        found.append(name)
    return found


Generator = Annotated[TableGenerator | ImageGenerator | TextGenerator, Field(discriminator="make")]
"""What is made, by ``make``."""
