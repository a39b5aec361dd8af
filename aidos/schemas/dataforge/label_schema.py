"""Label schemas: the questions that annotators answer, and the forms of their answers.

Coordinates are pixels of the image from its upper left corner, kept to a ten-thousandth, so that formats which count in
shares of the image give them back unchanged. Spans count Unicode characters.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints, field_validator, model_validator

from aidos.schemas.common import Asked, Name, Text

RESERVED = frozenset({"path", "row", "width", "height", "annotator", "data"})
"""Names that exported tables need for themselves."""
TIE = "tie"


def _printable(text: str) -> str:
    if not text.isprintable() or text != text.strip():
        raise ValueError("must be printable and must not begin or end with a space")
    return text


def _encodable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("must be UTF-8") from error
    return text


Label = Annotated[str, StringConstraints(min_length=1, max_length=100), AfterValidator(_printable)]
Labels = Annotated[list[Label], Field(min_length=1, max_length=1000)]
Column = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]
Pixels = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False), AfterValidator(lambda value: round(value, 4) + 0.0)]
Length = Annotated[float, Field(ge=1e-4, le=1e6, allow_inf_nan=False), AfterValidator(lambda value: round(value, 4))]
Position = Annotated[int, Field(ge=0, le=10**8)]
Written = Annotated[str, StringConstraints(max_length=100_000, pattern=r"^[^\x00]*$"), AfterValidator(_encodable)]


class _Question(Asked):
    name: Name
    title: Text = ""
    required: bool = Field(True, description="Whether a submission must answer it.")


class _Labelled(_Question):
    labels: Labels

    @field_validator("labels")
    @classmethod
    def _distinct(cls, labels: list[str]) -> list[str]:
        if len(set(labels)) != len(labels):
            raise ValueError("labels must differ")
        return labels


class Classification(_Labelled):
    """One of the labels: `"cat"`."""

    kind: Literal["classification"] = "classification"
    ordered: bool = Field(False, description="Whether the labels are a scale: agreement then counts how far apart two are.")


class MultiLabel(_Labelled):
    """Any of the labels: `["cat", "indoors"]`."""

    kind: Literal["multilabel"] = "multilabel"


class Boxes(_Labelled):
    """Rectangles: `[{"label": "cat", "x": 10, "y": 20, "width": 30, "height": 40}]`."""

    kind: Literal["boxes"] = "boxes"


class Polygons(_Labelled):
    """Outlines: `[{"label": "cat", "points": [[0, 0], [9, 0], [9, 9]]}]`."""

    kind: Literal["polygons"] = "polygons"


class Spans(_Labelled):
    """Pieces of a text: `[{"label": "name", "start": 0, "end": 3}]`."""

    kind: Literal["spans"] = "spans"
    column: Column | None = Field(None, description="Column of the row that holds the text; absent: the file is the text.")


class Preference(_Question):
    """The better of two: `"first"`, `"second"`, or `"tie"` where ties are allowed."""

    kind: Literal["preference"] = "preference"
    first: Column = Field("first", description="Column of the row that holds the one.")
    second: Column = Field("second", description="Column of the row that holds the other.")
    ties: bool = False


class FreeText(_Question):
    """Text of one's own: `"A cat on a mat."`."""

    kind: Literal["text"] = "text"
    max_characters: int = Field(10_000, ge=1, le=100_000)


Question = Annotated[Classification | MultiLabel | Boxes | Polygons | Spans | Preference | FreeText, Field(discriminator="kind")]


class LabelSchema(Asked):
    """What is asked about each item."""

    questions: list[Question] = Field(min_length=1, max_length=50)

    @model_validator(mode="after")
    def _names(self) -> LabelSchema:
        names = [question.name for question in self.questions]
        if len(set(names)) != len(names):
            raise ValueError("the names of the questions must differ")
        if taken := RESERVED.intersection(names):
            raise ValueError(f"a question cannot be called {', '.join(sorted(taken))}")
        return self


class Box(Asked):
    """A rectangle."""

    label: Label
    x: Pixels
    y: Pixels
    width: Length
    height: Length


class Polygon(Asked):
    """An outline."""

    label: Label
    points: list[tuple[Pixels, Pixels]] = Field(min_length=3, max_length=10_000)


class Span(Asked):
    """A piece of a text, `end` exclusive."""

    label: Label
    start: Position
    end: Position

    @model_validator(mode="after")
    def _forward(self) -> Span:
        if self.end <= self.start:
            raise ValueError("end must be after start")
        return self


Answers = Annotated[dict[str, Any], Field(max_length=50)]
"""What was answered, by the question's name."""
