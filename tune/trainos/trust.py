"""What an untrusted job may ask for: one process tree in a sandbox, on CPUs. Pure."""

from __future__ import annotations

from dataclasses import replace

from tune.trainos.errors import SandboxUnfit
from tune.trainos.models import JobSpec, Trust

MEMORY_GIB = 2.0
"""Of a job that asks for none: what it holds is always bounded, and leased."""


def fit_sandbox(spec: JobSpec) -> JobSpec:
    """What is queued: of an untrusted job the command is its one worker, so its driver leases nothing. Raises: SandboxUnfit."""
    if spec.trust is not Trust.UNTRUSTED:
        return spec
    if spec.workers != 1:
        raise SandboxUnfit(job=spec.name, reason=f"has {spec.workers} workers, and a sandbox is one process tree: ask for 1")
    if spec.gpus_per_worker:
        raise SandboxUnfit(job=spec.name, reason="asks for GPUs, and a sandbox has none: ask for CPUs")
    if spec.requirements is not None:
        raise SandboxUnfit(
            job=spec.name, reason="asks for packages, which run code of their own where they are installed: put them into the directory"
        )
    return replace(spec, driver_cpus=0.0, memory_gib_per_worker=spec.memory_gib_per_worker or MEMORY_GIB)
