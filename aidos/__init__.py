"""AI-DOS from Python: ``aidos.Client`` and ``aidos.AsyncClient``. What is not used is not loaded."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aidos.client import AsyncClient, Client
    from aidos.config import job, preempted
    from aidos.errors import AidosError
    from aidos.streaming.consumed import Consumed
    from aidos.streaming.dataset import dataset
    from aidos.tracking.run import run
    from aidos.tracking.syncing import sync_runs
    from aidos.tracking.trial import trial
    from aidos.transfers.checkpoints import Checkpointer, load_checkpoint, save_checkpoint
    from aidos.transfers.directories import pull, push

__version__ = "0.1.0"
__all__ = [
    "AidosError",
    "AsyncClient",
    "Checkpointer",
    "Client",
    "Consumed",
    "__version__",
    "dataset",
    "job",
    "load_checkpoint",
    "preempted",
    "pull",
    "push",
    "run",
    "save_checkpoint",
    "sync_runs",
    "trial",
]

_HOMES = {
    "Client": "aidos.client",
    "AsyncClient": "aidos.client",
    "AidosError": "aidos.errors",
    "Checkpointer": "aidos.transfers.checkpoints",
    "load_checkpoint": "aidos.transfers.checkpoints",
    "save_checkpoint": "aidos.transfers.checkpoints",
    "job": "aidos.config",
    "preempted": "aidos.config",
    "Consumed": "aidos.streaming.consumed",
    "dataset": "aidos.streaming.dataset",
    "pull": "aidos.transfers.directories",
    "push": "aidos.transfers.directories",
    "run": "aidos.tracking.run",
    "sync_runs": "aidos.tracking.syncing",
    "trial": "aidos.tracking.trial",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'aidos' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
