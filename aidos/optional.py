"""Libraries that the client does without: loaded when something needs them, and asked for by name where they are not there."""

from __future__ import annotations

import importlib
from typing import Any

from aidos.errors import InvalidRequest


class LibraryMissing(InvalidRequest):
    title = "A library is not installed"
    detail = "{purpose} needs {library}, which is not installed here: pip install {library}"


def find(name: str) -> Any:
    """The module of that name; None where its library is not installed."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        return None


def load(name: str, purpose: str) -> Any:
    """The module of that name. Raises: LibraryMissing."""
    library = name.split(".")[0]
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != library:
            raise
        raise LibraryMissing(purpose=purpose, library=library) from error
