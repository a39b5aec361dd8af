"""Points as columns, the form in which they come by the thousand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt

from actors.modelhub.models import Point

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class Columns:
    """Points: four columns of one length. ``times_us`` are microseconds since 1970."""

    keys: Sequence[str]
    steps: Sequence[int]
    times_us: Sequence[int]
    values: Sequence[float]

    @classmethod
    def of(cls, points: Sequence[Point]) -> Columns:
        times_us = [(point.at - EPOCH) // _MICROSECOND for point in points]
        return cls([point.key for point in points], [point.step for point in points], times_us, [point.value for point in points])


@dataclass(frozen=True)
class Rows:
    """Points of one series as arrays of one length; ``times_us`` are microseconds since 1970."""

    steps: npt.NDArray[np.int64]
    times_us: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]
