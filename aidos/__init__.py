"""AI-DOS from Python: ``aidos.Client`` and ``aidos.AsyncClient``. What is not used is not loaded."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aidos.checkpoints import load_checkpoint, save_checkpoint
    from aidos.client import AsyncClient, Client
    from aidos.config import job
    from aidos.errors import AidosError
    from aidos.reading import dataset
    from aidos.tracking import run
    from aidos.transfer import pull, push

__version__ = "0.1.0"
__all__ = [
    "AidosError",
    "AsyncClient",
    "Client",
    "__version__",
    "dataset",
    "job",
    "load_checkpoint",
    "pull",
    "push",
    "run",
    "save_checkpoint",
]

_HOMES = {
    "Client": "aidos.client",
    "AsyncClient": "aidos.client",
    "AidosError": "aidos.errors",
    "load_checkpoint": "aidos.checkpoints",
    "save_checkpoint": "aidos.checkpoints",
    "job": "aidos.config",
    "dataset": "aidos.reading",
    "pull": "aidos.transfer",
    "push": "aidos.transfer",
    "run": "aidos.tracking",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'aidos' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
