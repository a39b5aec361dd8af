"""Traces to replay: CSV, JSON lines, and the Standard Workload Format of the Parallel Workloads Archive."""

from __future__ import annotations

import csv
import gzip
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

from tune.trainos.errors import ClusterInvalid, TraceInvalid
from tune.trainos.models import Resources
from tune.trainos.queue.models import NOTHING, Gang, Node, Quota, Workload

EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
"""Second 0 of a trace."""


@dataclass(frozen=True, slots=True)
class Traced:
    """A workload, and what only its run shows: how long it computes, and how often it saves (None: never)."""

    workload: Workload
    project: str
    run_s: float
    checkpoint_s: float | None = None


def project_of(name: str) -> UUID:
    """The id that a trace's project is given."""
    return uuid5(NAMESPACE_OID, f"project/{name}")


def read_trace(path: Path) -> list[Traced]:
    """The workloads of a ``.csv``, ``.jsonl`` or ``.swf`` file, packed by gzip or not, by submission.

    A row of the first two: ``id``, ``project``, ``user``, ``submit_s``, ``run_s``, ``limit_s``, ``priority``, ``checkpoint_s``, ``workers``,
    and ``cpu``, ``gpu``, ``memory_gib`` after ``driver_`` and ``worker_``. What is absent or empty is 0, and without a bound. Raises:
    TraceInvalid.
    """
    traced: dict[UUID, Traced] = {}
    number, kind = 0, path.name.lower().removesuffix(".gz").rpartition(".")[2]
    try:
        with gzip.open(path, "rt") if path.suffix.lower() == ".gz" else path.open() as file:
            lines = enumerate(csv.DictReader(file), 2) if kind == "csv" else enumerate(file, 1)
            for number, line in lines:  # noqa: B007 — an error names it
                row = line if isinstance(line, dict) else _swf_row(line) if kind == "swf" else _json_row(line)
                if row is None:
                    continue
                one = _traced(row)
                if one.workload.id in traced:
                    raise ValueError(f"{one.workload.name} is there twice")
                traced[one.workload.id] = one
    except KeyError as error:
        raise TraceInvalid(line=number, reason=f"{error.args[0]} is missing") from error
    except json.JSONDecodeError as error:
        raise TraceInvalid(line=number, reason=f"it is not JSON ({error.msg})") from error
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError, csv.Error) as error:
        raise TraceInvalid(line=number + 1, reason="it is no text") from error
    except (AttributeError, TypeError, ValueError, OverflowError) as error:
        raise TraceInvalid(line=number, reason=str(error)) from error
    return sorted(traced.values(), key=lambda each: (each.workload.queued_at, each.workload.id))


def _json_row(line: str) -> Mapping[str, Any] | None:
    return json.loads(line) if line.strip() else None


def _swf_row(line: str) -> Mapping[str, Any] | None:
    """https://www.cs.huji.ac.il/labs/parallel/workload/swf.html: 18 fields, -1 where unknown; memory in KiB a processor."""
    fields = line.split(";")[0].split()
    if not fields:
        return None
    if len(fields) < 13:
        raise ValueError(f"it has {len(fields)} of 18 fields")
    id, submit_s, _, run_s, allocated, _, _, requested, limit_s, memory_kib, _, user, group = fields[:13]
    processors = requested if float(requested) > 0 else allocated
    if float(processors) <= 0 or float(run_s) < 0:  # cancelled before its start: what it would have asked for is not known
        return None
    known = {"limit_s": float(limit_s), "worker_memory_gib": float(memory_kib) / 2**20}
    row = {"id": id, "submit_s": submit_s, "run_s": run_s, "workers": processors, "worker_cpu": 1, "user": user, "project": group}
    return row | {key: value for key, value in known.items() if value > 0}


def _traced(row: Mapping[str, Any]) -> Traced:
    project, name = str(row.get("project") or "default"), str(row["id"])
    gang = Gang(_resources(row, "driver"), _resources(row, "worker"), int(_number(row, "workers") or 0))
    limit_s, checkpoint_s = _number(row, "limit_s"), _number(row, "checkpoint_s")
    workload = Workload(
        uuid5(NAMESPACE_OID, f"workload/{name}"),
        name,
        project_of(project),
        str(row.get("user") or ""),
        gang,
        EPOCH + timedelta(seconds=_number(row, "submit_s", required=True)),
        int(_number(row, "priority") or 0),
        limit_s or None,
    )
    return Traced(workload, project, _number(row, "run_s", required=True), checkpoint_s or None)


def _resources(row: Mapping[str, Any], of: str) -> Resources:
    return Resources(*(_number(row, f"{of}_{what}") or 0.0 for what in ("cpu", "gpu", "memory_gib")))


def _number(row: Mapping[str, Any], key: str, required: bool = False) -> float:
    given = row[key] if required else row.get(key) or 0.0
    number = float(given)
    if not (math.isfinite(number) and (number >= 0 or key == "priority")):
        raise ValueError(f"{key} is {given}")
    return number


def read_nodes(text: str) -> list[Node]:
    """``10x32:8:256,4x16``: ten nodes of 32 CPUs, 8 GPUs and 256 GiB, and four of 16 CPUs. Raises: ClusterInvalid."""
    nodes: list[Node] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)x([\d.]+(?::[\d.]+){0,2})\s*", part)
        if match is None:
            raise ClusterInvalid(given=part)
        has = Resources(*(float(amount) for amount in match[2].split(":")))
        nodes += [Node(f"node-{len(nodes) + i + 1:04}", has, has) for i in range(int(match[1]))]
    return nodes


def read_quotas(data: Mapping[str, Mapping[str, Any]]) -> dict[UUID, Quota]:
    """By name of project: ``{"vision": {"nominal": {"gpu": 8}, "limit": {"gpu": 16}, "user_limit": {}, "weight": 2}}``.

    What ``nominal`` leaves out is not owned, what the limits leave out is not bounded.
    """
    return {
        project_of(project): Quota(
            Resources(**given.get("nominal", {})) if given.get("nominal") else NOTHING,
            Resources(**{"cpu": math.inf, "gpu": math.inf, "memory_gib": math.inf, **given.get("limit", {})}),
            Resources(**{"cpu": math.inf, "gpu": math.inf, "memory_gib": math.inf, **given.get("user_limit", {})}),
            float(given.get("weight", 1.0)),
        )
        for project, given in data.items()
    }
