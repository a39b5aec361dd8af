"""Texts that name things (numbers of customers, addresses, UUIDs): their shape is kept, their letters and digits are drawn anew."""

from __future__ import annotations

import uuid
from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

_ALPHABETS = {"A": "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "a": "abcdefghijklmnopqrstuvwxyz", "0": "0123456789"}
_MOST_SHAPES = 1000
_COMMON = 10
_MULTIPLIER = 2_654_435_761  # a prime, so that it has no factor in common with any capacity; near the golden ratio of 2³² (Knuth)


@dataclass(frozen=True)
class Shape:
    """What stands at each place: the signs it is drawn from; a single one stays."""

    places: tuple[str, ...]

    @property
    def capacity(self) -> int:
        capacity = 1
        for signs in self.places:
            capacity *= len(signs)
        return capacity

    def text(self, number: int) -> str:
        """The text of a number below the capacity; different numbers, different texts."""
        found = []
        for signs in reversed(self.places):
            number, at = divmod(number, len(signs))
            found.append(signs[at])
        return "".join(reversed(found))


@dataclass(frozen=True)
class Shapes:
    """Shapes with their shares; ``uuids`` where all texts are UUIDs."""

    shapes: tuple[Shape, ...]
    shares: tuple[float, ...]
    uuids: bool = False

    def draw(self, rows: int, random: np.random.Generator) -> list[str]:
        """Texts of these shapes."""
        if self.uuids:
            return [str(uuid.UUID(bytes=random.bytes(16), version=4)) for _ in range(rows)]
        if not self.shapes:
            return [""] * rows
        chosen = random.choice(len(self.shapes), size=rows, p=self.shares)
        return ["".join(signs[random.integers(len(signs))] for signs in self.shapes[at].places) for at in chosen]

    def keys(self, first: int, rows: int, random: np.random.Generator) -> list[str]:
        """Texts for the rows from number ``first`` on, no two alike in the whole table."""
        if self.uuids:
            return self.draw(rows, random)
        shape = max(self.shapes, key=lambda each: each.capacity, default=Shape(()))
        capacity = shape.capacity
        found = []
        for number in range(first, first + rows):
            turn, place = divmod(number, capacity)
            found.append(shape.text(place * _MULTIPLIER % capacity) + (f"-{turn}" if turn else ""))
        return found


def fit_shapes(texts: pa.Array | pa.ChunkedArray) -> Shapes:
    """The shapes of texts. A sign that all texts of a common shape share stays; of rare shapes only punctuation does."""
    groups: dict[str, list[str]] = defaultdict(list)
    for text in texts.to_pylist():
        if text is not None:
            groups["".join(map(_class_of, text))].append(text)
    if len(groups) and all(_is_uuid(text) for group in groups.values() for text in group):
        return Shapes((), (), uuids=True)
    counts = Counter({shape: len(group) for shape, group in groups.items()}).most_common(_MOST_SHAPES)
    total = sum(count for _, count in counts)
    return Shapes(tuple(_shape(shape, groups[shape]) for shape, _ in counts), tuple(count / total for _, count in counts))


def _shape(classes: str, texts: list[str]) -> Shape:
    common = len(texts) >= _COMMON
    fixed = [common and len({text[at] for text in texts}) == 1 for at in range(len(classes))]
    return Shape(tuple(texts[0][at] if fixed[at] else _ALPHABETS.get(sign, sign) for at, sign in enumerate(classes)))


def _class_of(sign: str) -> str:
    if sign.isdigit():
        return "0"
    if sign.isalpha():
        return "A" if sign.isupper() else "a"
    return sign


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False
