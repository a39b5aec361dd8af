"""What runs have in common and what not: parameters, metrics, code, data and environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from aidos.transfers.concurrent import each

if TYPE_CHECKING:
    from aidos.client import Client
    from aidos.schemas.modelhub import RunRead

_THREADS = 8
_SHOWN = 12
"""Characters of a commit or hash: enough to tell them apart."""
_CODE = {"commit": "git_commit", "changes": "diff_sha256", "branch": "git_branch", "program": "program", "command": "command"}
_ENVIRONMENT = ("python", "platform", "host", "gpus")

Facts = dict[str, str]


def read(client: Client, ids: Sequence[str]) -> list[tuple[RunRead, Facts]]:
    """The runs with their facts, in the order asked for."""
    return each(lambda run_id: _read(client, run_id), ids, _THREADS)


def _read(client: Client, run_id: str) -> tuple[RunRead, Facts]:
    run = client.runs.get(run_id)
    edges = client.lineage.get("run", str(run.id), direction="up", depth=1, files=0).edges
    inputs = {edge.source.label.split("@")[0]: edge.source.id for edge in edges if edge.relation == "input"}
    return run, facts(run, inputs)


def facts(run: RunRead, inputs: Mapping[str, str]) -> Facts:
    """``kind name`` and value; ``inputs``: commit by dataset. How the machine did is no difference between runs, so it is not among them."""
    known = {key.removeprefix("aidos."): value for key, value in run.tags.items() if key.startswith("aidos.")}
    known.setdefault("git_commit", run.tags.get("mlflow.source.git.commit", ""))
    packages = dict(word.split("==", 1) for word in known.get("packages", "").split() if "==" in word)
    metrics = {key: latest for key, latest in run.metrics.items() if not key.startswith("system/")}
    return {
        "state": run.state.value,
        **{f"param {key}": value for key, value in sorted(run.params.items())},
        **{f"metric {key}": f"{latest.value:.6g}" for key, latest in sorted(metrics.items())},
        **{f"code {name}": _short(name, known[key]) for name, key in _CODE.items() if known.get(key)},
        **{f"data {dataset}": commit[-_SHOWN:] for dataset, commit in sorted(inputs.items())},
        **{f"environment {name}": known[name] for name in _ENVIRONMENT if known.get(name)},
        **{f"package {name}": version for name, version in sorted(packages.items())},
    }


def _short(name: str, value: str) -> str:
    return value[:_SHOWN] if name in {"commit", "changes"} else value


def rows(read: Sequence[tuple[RunRead, Facts]], *, everything: bool = False) -> list[Facts]:
    """A row a fact with the value of each run under its name, or its id where two are named alike; those that differ, or all."""
    called = [run.name for run, _ in read]
    heads = [run.name if called.count(run.name) == 1 else str(run.id) for run, _ in read]
    keys = dict.fromkeys(key for _, found in read for key in found)
    table = [{"what": key, **{head: found.get(key, "") for head, (_, found) in zip(heads, read, strict=True)}} for key in keys]
    return [row for row in table if everything or len({row[head] for head in heads}) > 1]
