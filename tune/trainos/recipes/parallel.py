"""Several workers with one module: DDP (Li et al. 2020, arXiv:2006.15704) or FSDP (Zhao et al. 2023, arXiv:2304.11277)."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.nn.parallel import DistributedDataParallel


def parallel(module: nn.Module, strategy: str, device: torch.device) -> nn.Module:
    """The module whose gradients are averaged over the workers; over gloo on CPUs and NCCL on GPUs. One worker keeps it as it is."""
    if not distributed.is_initialized() or distributed.get_world_size() == 1:
        return module
    if strategy == "ddp":
        return DistributedDataParallel(module, device_ids=[device] if device.type == "cuda" else None)
    mesh = init_device_mesh(device.type, (distributed.get_world_size(),))
    for child in module.children():
        for part in child if isinstance(child, nn.ModuleList) else [child]:
            if any(True for _ in part.parameters()):
                fully_shard(part, mesh=mesh)
    return fully_shard(module, mesh=mesh)


def unsynchronised(module: nn.Module, quiet: bool) -> AbstractContextManager[None]:
    """While ``quiet`` gradients are only added up, and not yet averaged over the workers."""
    if isinstance(module, FSDPModule):
        module.set_requires_gradient_sync(not quiet)
    elif quiet and isinstance(module, DistributedDataParallel):
        return module.no_sync()
    return nullcontext()


def mean_over_workers(sums: dict[str, float], count: int) -> dict[str, float]:
    """Sums and counts of all workers as means."""
    totals = torch.tensor([*sums.values(), count], dtype=torch.float64)
    if distributed.is_initialized():
        on_device = totals.to("cuda" if distributed.get_backend() == "nccl" else "cpu")
        distributed.all_reduce(on_device)
        totals = on_device.cpu()
    return {name: (total / totals[-1]).item() for name, total in zip(sums, totals, strict=False)}


def in_any_worker(found: bool) -> bool:
    """Whether one of the workers found it: the same in all of them."""
    return mean_over_workers({"found": float(found)}, 1)["found"] > 0
