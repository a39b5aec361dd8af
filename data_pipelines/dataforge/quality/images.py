"""Statistics of images, and which of them look alike. Bytes in, JSON out; no Ray."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import imagehash
import numpy as np

from data_pipelines.dataforge.files.images import open_image
from data_pipelines.dataforge.files.kinds import split_of
from data_pipelines.dataforge.quality.columns import Numbers

NEAR_BITS = 4
COMPARED = 200_000
SHOWN = 50
_BANDS = 8


@dataclass
class ImageProfile:
    """Images so far; their perceptual hashes for those that look alike."""

    modes: Counter[str] = field(default_factory=Counter)
    formats: Counter[str] = field(default_factory=Counter)
    widths: Numbers = field(default_factory=Numbers)
    heights: Numbers = field(default_factory=Numbers)
    brightness: Numbers = field(default_factory=Numbers)
    contrast: Numbers = field(default_factory=Numbers)
    hashes: dict[str, int] = field(default_factory=dict)

    def add(self, path: str, data: bytes) -> None:
        """Raises: BadFile."""
        image, format = open_image(data)
        grey = np.asarray(image.convert("L"), dtype=np.float64)
        self.modes[image.mode] += 1
        self.formats[format] += 1
        self.widths.add(np.array([float(image.width)]))
        self.heights.add(np.array([float(image.height)]))
        self.brightness.add(np.array([grey.mean() / 255]))
        self.contrast.add(np.array([grey.std() / 255]))
        if grey.std() > 1:  # of one colour all images look alike
            self.hashes[path] = int(str(imagehash.phash(image.convert("L"))), 16)

    def merge(self, other: ImageProfile) -> None:
        for name in ("modes", "formats", "hashes"):
            getattr(self, name).update(getattr(other, name))
        for name in ("widths", "heights", "brightness", "contrast"):
            getattr(self, name).merge(getattr(other, name))

    def to_json(self) -> dict[str, Any]:
        pairs = list(find_alike(self.hashes))
        leaked = [pair for pair in pairs if len({split_of(path) for path in pair} - {None}) > 1]
        return {
            "count": sum(self.modes.values()),
            "modes": dict(self.modes),
            "formats": dict(self.formats),
            **{name: getattr(self, name).to_json() for name in ("widths", "heights", "brightness", "contrast")},
            "alike": {"pairs": len(pairs), "across_splits": len(leaked), "examples": [*leaked, *pairs][:SHOWN], "compared": min(len(self.hashes), COMPARED)},
        }  # fmt: skip


def find_alike(hashes: dict[str, int]) -> Iterator[tuple[str, str]]:
    """Pairs of paths whose 64-bit perceptual hashes differ in at most four bits.

    Of eight bands of eight bits at least four are then equal, so pairs are looked for among those that share a band, and each
    pair is told once: in the first band that it shares.
    """
    paths = sorted(hashes)[:COMPARED]
    codes = np.array([hashes[path] for path in paths], dtype=np.uint64)
    bands = [(codes >> np.uint64(8 * band)) & np.uint64(255) for band in range(_BANDS)]
    for band, keys in enumerate(bands):
        order = np.argsort(keys, kind="stable")
        for group in np.split(order, np.flatnonzero(np.diff(keys[order])) + 1):
            for at, one in enumerate(group[:-1]):
                others = group[at + 1 :]
                near = others[np.bitwise_count(codes[others] ^ codes[one]) <= NEAR_BITS]
                for other in near:
                    if not any(bands[earlier][one] == bands[earlier][other] for earlier in range(band)):
                        yield paths[min(one, other)], paths[max(one, other)]
