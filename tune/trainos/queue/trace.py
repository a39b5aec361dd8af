"""Traces to replay: CSV, JSON lines, and the Standard Workload Format of the Parallel Workloads Archive; and the quotas to replay them with."""

from __future__ import annotations

import csv
import gzip
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TextIO
from uuid import NAMESPACE_OID, UUID, uuid5

import yaml
from pydantic import TypeAdapter, ValidationError

from aidos.schemas.queue import QuotaBody, TraceRow
from tune.trainos.errors import ClusterInvalid, QuotasInvalid, TraceInvalid
from tune.trainos.models import Resources
from tune.trainos.queue.models import UNLIMITED, Gang, Node, Quota, Workload

EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
"""Second 0 of a trace."""
_QUOTAS: TypeAdapter[dict[str, QuotaBody]] = TypeAdapter(dict[str, QuotaBody])


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

    The fields of the first two are those of ``TraceRow``; what is absent or empty has its default. Raises: TraceInvalid.
    """
    traced: dict[UUID, Traced] = {}
    number = 0
    try:
        with gzip.open(path, "rt") if path.suffix.lower() == ".gz" else path.open() as file:
            kind = path.name.lower().removesuffix(".gz").rpartition(".")[2]
            for number, line in _lines(file, kind):  # noqa: B007 — an error names it
                row = line if isinstance(line, dict) else _swf_row(line) if kind == "swf" else _json_row(line)
                if row is None:
                    continue
                one = to_traced(TraceRow.model_validate({key: value for key, value in row.items() if value not in ("", None)}))
                if one.workload.id in traced:
                    raise ValueError(f"{one.workload.name} is there twice")
                traced[one.workload.id] = one
    except ValidationError as error:
        raise TraceInvalid(file=path.name, line=number, reason=_sentence(error)) from error
    except json.JSONDecodeError as error:
        raise TraceInvalid(file=path.name, line=number, reason=f"it is not JSON ({error.msg})") from error
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError, csv.Error) as error:
        raise TraceInvalid(file=path.name, line=number + 1, reason="it is no text") from error
    except ValueError as error:
        raise TraceInvalid(file=path.name, line=number, reason=str(error)) from error
    return sorted(traced.values(), key=lambda each: (each.workload.queued_at, each.workload.id))


def _lines(file: TextIO, kind: str) -> Iterator[tuple[int, str | dict[str, Any]]]:
    if kind != "csv":
        yield from enumerate(file, 1)
        return
    reader = csv.DictReader(file, restkey="one more than the first line names")
    yield from ((reader.line_num, row) for row in reader)


def _json_row(line: str) -> dict[str, Any] | None:
    row = json.loads(line) if line.strip() else None
    if row is not None and not isinstance(row, dict):
        raise ValueError("it is no object")
    return row


def _swf_row(line: str) -> dict[str, Any] | None:
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


def _sentence(error: ValidationError) -> str:
    """What is wrong with the first field that is wrong."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"])
    if first["type"] == "missing":
        return f"{field} is missing"
    if first["type"] == "extra_forbidden":
        return f"there is no field {field}"
    return f"{field}: {first['msg']}, got {first['input']!r}" if field else f"{first['msg']}, got {first['input']!r}"


def to_traced(row: TraceRow) -> Traced:
    """A row as the simulation takes it."""
    driver = Resources(row.driver_cpu, row.driver_gpu, row.driver_memory_gib)
    worker = Resources(row.worker_cpu, row.worker_gpu, row.worker_memory_gib)
    workload = Workload(
        uuid5(NAMESPACE_OID, f"workload/{row.id}"),
        row.id,
        project_of(row.project),
        row.user,
        Gang(driver, worker, row.workers),
        EPOCH + timedelta(seconds=row.submit_s),
        row.priority,
        row.limit_s or None,
    )
    return Traced(workload, row.project, row.run_s, row.checkpoint_s or None)


def read_nodes(text: str) -> list[Node]:
    """``10x32:8:256,4x16``: ten nodes of 32 CPUs, 8 GPUs and 256 GiB, and four of 16 CPUs. Raises: ClusterInvalid."""
    nodes: list[Node] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*([1-9]\d{0,5})x((?:\d+\.?\d*)(?::\d+\.?\d*){0,2})\s*", part)
        if match is None:
            raise ClusterInvalid(given=part)
        has = Resources(*(float(amount) for amount in match[2].split(":")))
        nodes += [Node(f"node-{len(nodes) + i + 1:04}", has, has) for i in range(int(match[1]))]
    return nodes


def read_quotas(path: Path) -> dict[UUID, Quota]:
    """By name of project, as YAML or JSON: ``vision: {nominal: {gpu: 8}, limit: {gpu: 16}, user_limit: {gpu: 4}, weight: 2}``.

    What ``nominal`` leaves out is not owned, what the limits leave out is not bounded. Raises: QuotasInvalid.
    """
    try:
        text = path.read_text()
        tree, found = yaml.compose(text, yaml.SafeLoader), yaml.safe_load(text)
        quotas = _QUOTAS.validate_python(found or {})
    except ValidationError as error:
        raise QuotasInvalid(file=path.name, line=_line_of(tree, error.errors()[0]["loc"]), reason=_sentence(error)) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        line = error.problem_mark.line + 1 if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark else 1
        raise QuotasInvalid(file=path.name, line=line, reason=f"it is no YAML ({' '.join(str(error).split())})") from error
    return {project_of(project): to_quota(body) for project, body in quotas.items()}


def _line_of(tree: yaml.Node | None, place: Sequence[str | int]) -> int:
    """The line of the innermost key that is there."""
    line = 0
    for part in place:
        entries = tree.value if isinstance(tree, yaml.MappingNode) else []
        found = next(((key, value) for key, value in entries if key.value == part), None)
        if found is None:
            break
        line, tree = found[0].start_mark.line, found[1]
    return line + 1


def to_quota(body: QuotaBody) -> Quota:
    """What was asked for, as the policy takes it."""
    limit, user_limit = (replace(UNLIMITED, **part.model_dump(exclude_none=True)) for part in (body.limit, body.user_limit))
    return Quota(Resources(**body.nominal.model_dump(exclude_none=True)), limit, user_limit, body.weight)
