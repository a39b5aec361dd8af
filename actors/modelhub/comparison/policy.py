"""What runs have alike and what differs between them; which of their metrics are worth a curve."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from actors.modelhub.comparison.models import SECTIONS, Facts
from actors.modelhub.models import Run

MOST_POINTS = 40_000
"""Points of all curves of one comparison together."""
_CODE = {
    "commit": ("aidos.git_commit", "mlflow.source.git.commit"),
    "branch": ("aidos.git_branch", "mlflow.source.git.branch"),
    "changes": ("aidos.diff_sha256",),
    "dirty": ("aidos.git_dirty", "mlflow.source.git.dirty"),
    "program": ("aidos.program", "mlflow.source.name"),
    "command": ("aidos.command",),
}
_ENVIRONMENT = {"python": ("aidos.python",), "platform": ("aidos.platform",), "host": ("aidos.host",), "gpus": ("aidos.gpus",)}
_PACKAGES = "aidos.packages"
_DRAWN = 6
_QUIET = "system/"


def describe(run: Run, inputs: Mapping[str, str]) -> Facts:
    """What is known of a run by section; ``inputs``: commit by dataset. A package is an entry of the environment."""
    packages = (each.partition("==") for each in run.tags.get(_PACKAGES, "").split())
    return {
        "params": run.params,
        "metrics": {key: latest.value for key, latest in run.metrics.items()},
        "code": _tagged(run, _CODE),
        "data": inputs,
        "environment": _tagged(run, _ENVIRONMENT) | {name: version for name, _, version in packages if version},
    }


def _tagged(run: Run, wanted: Mapping[str, Sequence[str]]) -> dict[str, str]:
    found = {name: next((run.tags[key] for key in keys if key in run.tags), "") for name, keys in wanted.items()}
    return {name: value for name, value in found.items() if value}


def split(facts: Sequence[Facts]) -> tuple[Facts, tuple[Facts, ...]]:
    """What all have alike, and the rest of each. Of one run nothing is alike: there is nothing to compare it with."""
    alike = {section: _alike([each[section] for each in facts]) if len(facts) > 1 else {} for section in SECTIONS}
    rest = ({s: {key: value for key, value in each[s].items() if key not in alike[s]} for s in SECTIONS} for each in facts)
    return alike, tuple(rest)


def _alike(sides: Sequence[Mapping[str, object]]) -> dict[str, object]:
    first, *others = sides
    # By repr: NaN is like NaN here, and -0.0 is not like 0.0.
    return {key: value for key, value in first.items() if all(key in side and repr(side[key]) == repr(value) for side in others)}


def choose_metrics(runs: Sequence[Run]) -> list[str]:
    """The metrics that most of the runs measured more than once; what the machine measured of itself is not among them."""
    series = Counter(key for run in runs for key, latest in run.metrics.items() if latest.step > 0 and not key.startswith(_QUIET))
    return [key for key, _ in sorted(series.items(), key=lambda found: (-found[1], found[0]))[:_DRAWN]]


def choose_buckets(curves: int, points: int) -> int:
    """Parts of each curve, each with at most two points: ``points`` in all, fewer where there are many curves."""
    return max(1, min(points, MOST_POINTS // max(1, curves)) // 2)
