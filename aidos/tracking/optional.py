"""Libraries that a run does without where they are not installed: those of the extra ``metrics``."""

from __future__ import annotations

import importlib
from typing import Any


def find(name: str) -> Any:
    """The module of that name; None where its library is not installed."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        return None
