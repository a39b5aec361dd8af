"""Texts from templates: values for their slots, the places where these stand, and what language models answer. No Ray."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from string import Formatter
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
from sklearn.feature_extraction.text import HashingVectorizer

from aidos.schemas.dataforge.synthesis import (
    ColumnSlot,
    ListSlot,
    ModelSlot,
    PatternSlot,
    RangeSlot,
    Slot,
    TableGenerator,
    TextGenerator,
)
from data_pipelines.dataforge.synthesis.comparing import compare_distances, compare_tables, score_learning
from data_pipelines.dataforge.synthesis.patterns import compile_pattern
from data_pipelines.dataforge.synthesis.tables import look

_AT_ONCE = 8
_TIMEOUT_S = 120.0
_FEATURES = 256

Pools = Mapping[str, Sequence[str]]
"""Values of the commit's columns, each as often as it is there."""


def check_slots(spec: TextGenerator, pools: Pools) -> None:
    """Raises: PatternInvalid, ValueError for a column that no table has or that is empty."""
    for slot in spec.slots.values():
        if isinstance(slot, PatternSlot):
            compile_pattern(slot.pattern)
        if isinstance(slot, ColumnSlot) and not pools.get(slot.column):
            raise ValueError(f"no table of the commit has values in a column '{slot.column}'")


def columns_of(spec: TextGenerator) -> list[str]:
    """The columns of the commit that are needed."""
    named = [slot.column for slot in spec.slots.values() if isinstance(slot, ColumnSlot)]
    return [*dict.fromkeys([*named, *(name for name in (spec.like, spec.like_label) if name)])]


def make_texts(spec: TextGenerator, pools: Pools, rows: int, random: np.random.Generator) -> pa.Table:
    """Rows of ``text``, ``template`` (from 0), ``label`` where templates have any, ``spans`` of the slots' values, and the values."""
    weights = np.array([template.weight for template in spec.templates])
    chosen = random.choice(len(weights), size=rows, p=weights / weights.sum())
    values: dict[str, list[str]] = {}
    for name, slot in spec.slots.items():
        values[name] = _answers(slot, values, rows, random) if isinstance(slot, ModelSlot) else _draw(slot, pools, rows, random)
    rendered = [render(spec.templates[at].text, {name: values[name][row] for name in values}) for row, at in enumerate(chosen)]
    columns: dict[str, Any] = {"text": [text for text, _ in rendered], "template": chosen.tolist()}
    if any(template.label is not None for template in spec.templates):
        columns["label"] = pa.array([spec.templates[at].label for at in chosen], pa.string())
    return pa.table({**columns, "spans": [spans for _, spans in rendered], **values})


def render(template: str, values: Mapping[str, str]) -> tuple[str, list[dict[str, Any]]]:
    """The text, and where each slot's value stands in it, in Unicode characters, ``end`` exclusive."""
    text, spans = "", []
    for literal, name, _, _ in Formatter().parse(template):
        text += literal
        if name is not None:
            spans.append({"slot": name, "start": len(text), "end": len(text) + len(values[name])})
            text += values[name]
    return text, spans


def _draw(slot: Slot, pools: Pools, rows: int, random: np.random.Generator) -> list[str]:
    if isinstance(slot, ListSlot):
        weights = np.array(slot.weights) / sum(slot.weights) if slot.weights else None
        return [slot.values[at] for at in random.choice(len(slot.values), size=rows, p=weights)]
    if isinstance(slot, ColumnSlot):
        pool = pools[slot.column]
        return [pool[at] for at in random.integers(len(pool), size=rows)]
    if isinstance(slot, PatternSlot):
        draw = compile_pattern(slot.pattern)
        return [draw(random) for _ in range(rows)]
    assert isinstance(slot, RangeSlot)
    if isinstance(slot.min, str) and isinstance(slot.max, str):
        days = random.integers(date.fromisoformat(slot.min).toordinal(), date.fromisoformat(slot.max).toordinal() + 1, size=rows)
        return [date.fromordinal(int(day)).isoformat() for day in days]
    scale = 10**slot.decimals
    numbers = random.integers(np.ceil(float(slot.min) * scale), np.floor(float(slot.max) * scale) + 1, size=rows)
    return [f"{number / scale:.{slot.decimals}f}" for number in numbers]


def _answers(slot: ModelSlot, values: Mapping[str, Sequence[str]], rows: int, random: np.random.Generator) -> list[str]:
    prompts = [render(slot.prompt, {name: values[name][row] for name in values})[0] for row in range(rows)]
    seeds = random.integers(2**31, size=rows).tolist()
    with httpx.Client(timeout=_TIMEOUT_S) as http, ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(lambda each: complete(http, slot, *each), zip(prompts, seeds, strict=True)))


def complete(http: httpx.Client, slot: ModelSlot, prompt: str, seed: int) -> str:
    """The answer to one prompt (OpenAI's chat completions). Raises: ConnectionError for what may pass, ValueError for what does not."""
    body = {
        "model": slot.model,
        "messages": [{"role": "user", "content": prompt}],
        "temperature": slot.temperature,
        "max_tokens": slot.max_tokens,
        "seed": seed,
    }
    place = f"{str(slot.url).rstrip('/')}/chat/completions"
    try:
        answer = http.post(place, json=body)
    except httpx.HTTPError as error:
        raise ConnectionError(f"the language model at {place} cannot be reached: {error}") from error
    if answer.status_code in {408, 429} or answer.status_code >= 500:
        raise ConnectionError(f"the language model at {place} answers {answer.status_code}")
    if answer.status_code != 200:
        raise ValueError(f"the language model at {place} answers {answer.status_code}")
    try:
        return str(answer.json()["choices"][0]["message"]["content"] or "")
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise ValueError(f"{place} does not answer as OpenAI's chat completions do") from error


def compare_texts(spec: TextGenerator, made: pa.Table, real: pa.Table) -> dict[str, Any]:
    """Made texts among themselves and, where real ones are named, beside those: lengths, what a model learns, how near they are."""
    texts = made["text"].to_pylist()
    found: dict[str, Any] = {"rows": {"synthetic": len(texts), "distinct": len(set(texts))}, "columns": []}
    if spec.like is None:
        return found
    rows = [row for row in real.to_pylist() if row.get(spec.like) is not None]
    held, seen = rows[: len(rows) // 4], rows[len(rows) // 4 :]
    parts = {name: [str(row[spec.like]) for row in part] for name, part in (("held", held), ("seen", seen))} | {"made": texts}
    figures = {name: _figures(part) for name, part in parts.items()}
    if min(map(len, parts.values())) < 2:
        return found
    columns, _, _ = look(figures["seen"], TableGenerator(make="table"))
    vectors = {name: _vectors(part) for name, part in parts.items()}
    found |= {"columns": compare_tables(columns, figures["seen"], figures["held"], figures["made"], None)["columns"]}
    known = set(parts["seen"])
    copies = {f"copies_{said}": sum(text in known for text in parts[name]) / len(parts[name]) for name, said in _SAID.items()}
    found["nearest"] = compare_distances(vectors["seen"], vectors["held"], vectors["made"]) | copies
    found["rows"] |= {"seen": len(seen), "held_out": len(held)}
    if spec.like_label and "label" in made.column_names:
        labels = {"held": [row.get(spec.like_label) for row in held], "seen": [row.get(spec.like_label) for row in seen]}
        labels["made"] = made["label"].to_pylist()
        names = sorted({str(label) for label in labels["seen"] if label is not None})
        codes = {
            name: np.array([names.index(str(label)) if str(label) in names else np.nan for label in each]) for name, each in labels.items()
        }
        learn = {"real": (vectors["seen"], codes["seen"]), "synthetic": (vectors["made"], codes["made"])}
        found["learning"] = {"target": spec.like_label, **score_learning(learn, (vectors["held"], codes["held"]), classes=True)}
    return found


_SAID = {"made": "synthetic", "held": "held_out"}


def _figures(texts: Sequence[str]) -> pa.Table:
    words = [len(text.split()) for text in texts]
    return pa.table({"characters": [len(text) for text in texts], "words": words})


def _vectors(texts: Sequence[str]) -> np.ndarray:
    """[texts, 256] hashed counts of two and three characters, of length 1."""
    hashing = HashingVectorizer(analyzer="char_wb", ngram_range=(2, 3), n_features=_FEATURES, alternate_sign=False)
    return np.asarray(hashing.transform(texts).toarray())


def as_cells(table: pa.Table) -> pa.Table:
    """The table as CSV can hold it: spans as JSON."""
    at = table.schema.get_field_index("spans")
    return table.set_column(at, "spans", pa.array([json.dumps(spans) for spans in table["spans"].to_pylist()]))
