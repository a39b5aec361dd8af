"""Label schemas and labels drawn at random, in canonical form."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from aidos.schemas.dataforge.label_schema import LabelSchema
from aidos.schemas.dataforge.versions import path_problem
from data_pipelines.dataforge.labelling.labels import check_value
from data_pipelines.dataforge.labelling.models import Item, Record

SHAPES = ("boxes", "polygons")
KINDS = ("classification", "multilabel", *SHAPES, "spans", "preference", "text")

label_text = st.text(min_size=1, max_size=12).filter(lambda text: text.isprintable() and text == text.strip())
written = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)
paths = st.lists(st.text(min_size=1, max_size=10), min_size=1, max_size=3).map("/".join).filter(lambda path: path_problem(path) is None)
sizes = st.tuples(st.integers(1, 20_000), st.integers(1, 20_000))


@st.composite
def schemas(draw: st.DrawFn, kinds: tuple[str, ...] = KINDS, most: int = 3) -> LabelSchema:
    questions = []
    for number, kind in enumerate(draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=most))):
        question: dict[str, Any] = {"name": f"q{number}", "kind": kind, "required": draw(st.booleans())}
        if kind not in ("preference", "text"):
            question["labels"] = draw(st.lists(label_text, min_size=1, max_size=4, unique=True))
        if kind == "preference":
            question["ties"] = True
        questions.append(question)
    return LabelSchema.model_validate({"questions": questions})


def pixels(most: int) -> st.SearchStrategy[float]:
    return st.floats(0, most, allow_nan=False)


@st.composite
def shape(draw: st.DrawFn, kind: str, labels: list[str], size: tuple[int, int]) -> dict[str, Any]:
    label = draw(st.sampled_from(labels))
    if kind == "polygons":
        point = st.tuples(pixels(size[0]), pixels(size[1]))
        return {"label": label, "points": draw(st.lists(point, min_size=3, max_size=6))}
    x, y = draw(pixels(size[0])), draw(pixels(size[1]))
    width, height = (draw(st.floats(0.001, most)) for most in size)
    return {"label": label, "x": x, "y": y, "width": min(width, size[0] - x + 0.5), "height": min(height, size[1] - y + 0.5)}


@st.composite
def answer(draw: st.DrawFn, question: Any, size: tuple[int, int]) -> Any:
    match question.kind:
        case "classification":
            return draw(st.sampled_from(question.labels))
        case "multilabel":
            return draw(st.lists(st.sampled_from(question.labels), unique=True))
        case "preference":
            return draw(st.sampled_from(["first", "second", "tie"]))
        case "text":
            return draw(written) + "x"
        case "spans":
            start = st.integers(0, 10_000)
            span = st.builds(
                lambda label, a, n: {"label": label, "start": a, "end": a + n}, st.sampled_from(question.labels), start, st.integers(1, 99)
            )
            return draw(st.lists(span, max_size=4))
        case kind:
            return draw(st.lists(shape(kind, question.labels, size), max_size=4))


@st.composite
def labelled(
    draw: st.DrawFn, kinds: tuple[str, ...] = KINDS, *, most: int = 3, rows: bool = True, annotators: bool = True, sized: bool = False
) -> tuple[LabelSchema, list[Record]]:
    """A schema and records of it: several items, each labelled by one or more."""
    schema = draw(schemas(kinds, most))
    records = []
    for path in draw(st.lists(paths, min_size=1, max_size=4, unique=True)):
        size = draw(sizes)
        row = draw(st.none() | st.integers(0, 10**6)) if rows else None
        for annotator in draw(st.lists(written, min_size=1, max_size=3, unique=True)) if annotators else [""]:
            raw = {question.name: draw(answer(question, size)) for question in schema.questions if question.required or draw(st.booleans())}
            value = check_value(schema, raw, Item(path, row, size=size))
            shown = size if sized or draw(st.booleans()) else None
            records.append(Record(path, value, row, shown, annotator))
    return schema, records
