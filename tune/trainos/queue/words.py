"""The sentences of a decision: short, and true."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from tune.trainos.models import Resources
from tune.trainos.queue.models import Workload
from tune.trainos.queue.packing import EPSILON, Shape, Space, Vector, vector, workers_that_fit

_UNITS = ("CPU", "GPU", "GiB memory")
_ORDER = (1, 0, 2)  # a GPU is what one waits for


def told(amount: float, unit: int) -> str:
    return f"{amount:.10g} {_UNITS[unit]}"


def amounts(resources: Resources) -> str:
    """``4 GPU``, or ``(4 GPU, 1 CPU)``."""
    parts = [told(vector(resources)[i], i) for i in _ORDER if vector(resources)[i] > 0]
    return parts[0] if len(parts) == 1 else f"({', '.join(parts)})"


def lacking(shape: Shape, space: Space) -> str:
    """What ``shape`` needs and ``space`` has too little of; empty where it fits.

    ``4 GPU, 3``, or where it is enough in sum but not on the nodes: ``4 GPU on one node, 3``.
    """
    if short := _short(shape.total, space.free):
        return " and ".join(short)
    if space.pack(shape) is not None:
        return ""
    cpu, gpu, memory = space.nodes.max(axis=0, initial=0).tolist()
    for bundle in (shape.gang.worker, shape.gang.driver):
        if short := _short(vector(bundle), (cpu, gpu, memory)):
            return " and ".join(short).replace(",", " on one node,", 1)
    if shape.workers == 0:
        return f"{amounts(shape.gang.driver)} on one node, 0"
    whole = f"{shape.workers} × {amounts(shape.gang.worker)}" + (f" and {amounts(shape.gang.driver)}" if shape.driver.any() else "")
    return f"room for {whole}, {int(min(shape.workers, workers_that_fit(space.nodes, shape).sum()))} of them"


def _short(wanted: Vector, have: Vector) -> list[str]:
    return [f"{told(wanted[i], i)}, {max(0.0, have[i]):.10g}" for i in _ORDER if wanted[i] > max(0.0, have[i]) + EPSILON]


def asked_for(bundles: Sequence[Resources]) -> str:
    """``asked the autoscaler for 2 × 4 GPU``."""
    counts = Counter(amounts(bundle) for bundle in bundles)
    return "asked the autoscaler for " + " and ".join(f"{count} × {what}" for what, count in counts.items())


def name_for(project_id: UUID, workload: Workload) -> str:
    """A project learns the names of its own jobs only."""
    return workload.name if workload.project_id == project_id else "another project's job"


def names_for(project_id: UUID, workloads: Sequence[Workload]) -> str:
    """``a``, ``a and b``, ``a and 3 more``."""
    first, *others = sorted(workloads, key=lambda workload: (workload.project_id != project_id, workload.queued_at, workload.id))
    if len(others) == 1 and others[0].project_id == project_id:
        return f"{first.name} and {others[0].name}"
    return name_for(project_id, first) + (f" and {len(others)} more" if others else "")


def frees(project_id: UUID, ending: Sequence[Workload], shape: Shape, space: Space, at: datetime, now: datetime) -> str:
    """``job a frees 2 at about 14:10 UTC``: what the lack waits for."""
    free = space.free
    unit = next((i for i in _ORDER if shape.total[i] > free[i] + EPSILON), next(i for i in _ORDER if shape.total[i] > 0))
    freed = sum(vector(workload.gang.resources)[unit] for workload in ending)
    job = "job " if any(workload.project_id == project_id for workload in ending) else ""
    verb = "frees" if len(ending) == 1 else "free"
    return f"{job}{names_for(project_id, ending)} {verb} {told(freed, unit)} at {_about(at, now)}"


def _about(at: datetime, now: datetime) -> str:
    at = at.astimezone(UTC) + timedelta(seconds=30)  # to the nearest minute
    return f"about {at:%H:%M} UTC" if at.date() == now.astimezone(UTC).date() else f"about {at:%d %b %H:%M} UTC"
