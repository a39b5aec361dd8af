"""Statistics of texts, and which of them are nearly equal: MinHash with locality-sensitive hashing. No Ray."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from datasketch import MinHash, MinHashLSH

from data_pipelines.dataforge.files.kinds import split_of
from data_pipelines.dataforge.quality.columns import Numbers
from data_pipelines.dataforge.quality.pii import Findings

PERMUTATIONS = 64
SIMILAR = 0.8
COMPARED = 50_000
SHOWN = 50
SHORTEST = 20
_SCHEME: Literal["affine32"] = "affine32"
_WORDS = re.compile(r"\w+")
_CHARS = 200_000


@dataclass
class TextProfile:
    """Texts so far: files, or values of a column; ``signatures`` by where each text is."""

    characters: Numbers = field(default_factory=Numbers)
    words: Numbers = field(default_factory=Numbers)
    lines: Numbers = field(default_factory=Numbers)
    letters: Numbers = field(default_factory=Numbers)
    signatures: dict[str, np.ndarray] = field(default_factory=dict)
    personal: Findings = field(default_factory=Findings)

    def add(self, place: str, text: str) -> None:
        words = _WORDS.findall(text[:_CHARS])
        for numbers, value in (
            (self.characters, len(text)),
            (self.words, len(words)),
            (self.lines, text.count("\n") + 1),
            (self.letters, sum(map(str.isalpha, text[:_CHARS])) / max(1, len(text[:_CHARS]))),
        ):
            numbers.add(np.array([float(value)]))
        self.personal.add_text(text)
        self.sign(place, text)

    def sign(self, place: str, text: str) -> None:
        """Remember what the text looks like; very short ones are alike by chance."""
        if len(text) >= SHORTEST and len(self.signatures) < COMPARED:
            self.signatures[place] = signature(text)

    def merge(self, other: TextProfile) -> None:
        for name in ("characters", "words", "lines", "letters", "personal"):
            getattr(self, name).merge(getattr(other, name))
        for place, signed in other.signatures.items():
            if len(self.signatures) < COMPARED:
                self.signatures[place] = signed

    def to_json(self) -> dict[str, Any]:
        found = {name: getattr(self, name).to_json() for name in ("characters", "words", "lines", "letters")}
        return {"count": self.characters.moments.count, **found, "personal_data": self.personal.to_json(), "alike": self.alike()}

    def alike(self) -> dict[str, Any]:
        pairs = list(find_alike(self.signatures))
        leaked = [pair for pair in pairs if len({split_of(path) for path in pair[:2]} - {None}) > 1]
        return {
            "pairs": len(pairs),
            "across_splits": len(leaked),
            "examples": [{"one": one, "two": two, "similarity": similarity} for one, two, similarity in [*leaked, *pairs][:SHOWN]],
            "compared": len(self.signatures),
        }


def signature(text: str) -> np.ndarray:
    """MinHash (Broder, 1997) of the text's shingles: three words each, or five characters where there are few words."""
    words = _WORDS.findall(text[:_CHARS].lower())
    joined = " ".join(words)
    shingles = (
        {" ".join(words[at : at + 3]) for at in range(len(words) - 2)}
        if len(words) >= 20
        else {joined[at : at + 5] for at in range(max(1, len(joined) - 4))}
    )
    made = MinHash(num_perm=PERMUTATIONS, hashfunc=zlib.crc32, scheme=_SCHEME)
    made.update_batch([shingle.encode() for shingle in shingles])
    return made.hashvalues


def find_alike(signatures: dict[str, np.ndarray]) -> Iterator[tuple[str, str, float]]:
    """Pairs of places whose texts share about four fifths of their shingles, with the estimated Jaccard similarity."""
    index = MinHashLSH(threshold=SIMILAR, num_perm=PERMUTATIONS)
    for place in sorted(signatures):
        signed = MinHash(num_perm=PERMUTATIONS, hashvalues=signatures[place], scheme=_SCHEME)
        for other in sorted(index.query(signed)):
            similarity = float(np.mean(signatures[other] == signatures[place]))
            if similarity >= SIMILAR:
                yield other, place, similarity
        index.insert(place, signed)
