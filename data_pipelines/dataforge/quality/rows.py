"""Rows that are equal, within a split and across splits, from a bounded sample of all rows. Pure numpy.

The sample is chosen by the row's own hash: the rows with the smallest half a million hashes, each with all its copies. So it is the
whole up to half a million different rows, and beyond that an unbiased one, since a row's copies are in it together or not at all.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np

from data_pipelines.dataforge.quality.sketches import HASHES, sorted_unique

KEPT = 500_000
SHOWN = 20
_NOWHERE = np.iinfo(np.int64).max
_ROW_BITS = 40


@dataclass
class Seen:
    """Of one split: how often each sampled row was seen, and where first."""

    counts: np.ndarray
    places: np.ndarray


@dataclass
class RowSample:
    """Rows by hash. ``paths`` names the files that places point into."""

    paths: list[str] = field(default_factory=list)
    hashes: np.ndarray = field(default_factory=lambda: np.empty(0, np.uint64))
    splits: dict[str, Seen] = field(default_factory=dict)
    rows: int = 0
    kept: int = KEPT

    def add(self, path: str, first_row: int, hashes: np.ndarray, split: np.ndarray | str) -> None:
        """A batch of a file, from row ``first_row`` (0 is the first); ``split`` is one name or one for each row."""
        if not self.paths or self.paths[-1] != path:
            self.paths.append(path)
        places = (np.int64(len(self.paths) - 1) << _ROW_BITS) + np.arange(first_row, first_row + hashes.size)
        names = [split] if isinstance(split, str) else [str(name) for name in np.unique(split)]
        for name in names:
            chosen = slice(None) if isinstance(split, str) else split == name
            found, where = hashes[chosen], places[chosen]
            order = np.argsort(found, kind="stable")
            begins = np.flatnonzero(np.concatenate([[True], found[order][1:] != found[order][:-1]]))
            seen = Seen(np.diff(begins, append=found.size), where[order[begins]])
            part = RowSample(hashes=found[order[begins]], splits={name: seen}, rows=found.size)
            self._join(part)

    def merge(self, other: RowSample) -> None:
        """Take in another part; its files are others."""
        shift = np.int64(len(self.paths)) << _ROW_BITS
        for seen in other.splits.values():
            seen.places = np.where(seen.places == _NOWHERE, _NOWHERE, seen.places + shift)
        self.paths += other.paths
        self._join(other)

    def _join(self, other: RowSample) -> None:
        if self.full:
            inside = other.hashes <= self.hashes[-1]
            other.hashes = other.hashes[inside]
            other.splits = {name: Seen(seen.counts[inside], seen.places[inside]) for name, seen in other.splits.items()}
        self.rows += other.rows
        hashes = sorted_unique(np.concatenate([self.hashes, other.hashes]))[: self.kept]
        for name in {*self.splits, *other.splits}:
            total = Seen(np.zeros(hashes.size, np.int64), np.full(hashes.size, _NOWHERE))
            for part in (self, other):
                if name in part.splits:
                    _gather(total, hashes, part.hashes, part.splits[name])
            self.splits[name] = total
        self.hashes = hashes

    @property
    def full(self) -> bool:
        return self.hashes.size == self.kept

    @property
    def scale(self) -> float:
        """How many different rows one of the sample stands for."""
        return 1.0 if not self.full else ((self.kept - 1) / (float(self.hashes[-1]) / HASHES)) / self.kept

    def duplicates(self) -> dict[str, Any]:
        """Rows that were there before, with places of the most repeated."""
        counts = sum((seen.counts for seen in self.splits.values()), np.zeros(self.hashes.size, np.int64))
        first = np.minimum.reduce([seen.places for seen in self.splits.values()]) if self.splits else np.empty(0, np.int64)
        most = [at for at in np.argsort(-counts, kind="stable")[:SHOWN] if counts[at] > 1]
        return {
            "rows": round(float(np.maximum(counts - 1, 0).sum()) * self.scale),
            "exact": not self.full,
            "examples": [{"first": self.place(first[at]), "copies": int(counts[at])} for at in most],
        }

    def leakage(self) -> list[dict[str, Any]]:
        """For each two splits the rows of the second that the first has too."""
        found = []
        for one, two in combinations(sorted(self.splits, key=lambda name: (name != "train", name)), 2):
            a, b = self.splits[one], self.splits[two]
            both = np.flatnonzero((a.counts > 0) & (b.counts > 0))
            if both.size:
                rows, total = float(b.counts[both].sum()), float(b.counts.sum())
                examples = [{one: self.place(a.places[at]), two: self.place(b.places[at])} for at in both[:SHOWN]]
                found.append(
                    {
                        "splits": [one, two],
                        "rows": round(rows * self.scale),
                        "share": rows / total,
                        "exact": not self.full,
                        "examples": examples,
                    }
                )
        return found

    def place(self, place: np.int64) -> str:
        """``path:row``, rows counted from 1."""
        return f"{self.paths[int(place) >> _ROW_BITS]}:{(int(place) & ((1 << _ROW_BITS) - 1)) + 1}"


def _gather(total: Seen, hashes: np.ndarray, part: np.ndarray, seen: Seen) -> None:
    where = np.searchsorted(hashes, part)
    inside = where < hashes.size
    inside[inside] = hashes[where[inside]] == part[inside]
    total.counts[where[inside]] += seen.counts[inside]
    total.places[where[inside]] = np.minimum(total.places[where[inside]], seen.places[inside])
