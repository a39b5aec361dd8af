"""Decisions of ModelHub: facts in, a value or an error out."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from uuid import UUID

from actors.modelhub.errors import InvalidModelFiles, RunEnded, TooManyParams, WrongRunState
from actors.modelhub.models import RUN_TRANSITIONS, Flavour, RunState

MAX_PARAMS = 1000
MAX_INSPECTIONS = 5
"""How often an inspection that breaks is tried before the version is rejected for it."""

FLAVOUR_SUFFIX = {Flavour.ONNX: ".onnx", Flavour.SAFETENSORS: ".safetensors"}
TEXT_SUFFIXES = (".json", ".txt", ".md", ".yaml", ".yml", ".csv", "MLmodel")
_LARGEST_VERSION = 2**31 - 1


def check_transition(run_id: UUID, state: RunState, wanted: RunState) -> None:
    """Raises: WrongRunState. To become what it is already is no change."""
    if wanted != state and wanted not in RUN_TRANSITIONS[state]:
        raise WrongRunState(run_id=run_id, state=state, wanted=wanted)


def check_running(run_id: UUID, state: RunState) -> None:
    """Raises: RunEnded unless the run still takes params, metrics and artifacts."""
    if state is not RunState.RUNNING:
        raise RunEnded(run_id=run_id, state=state)


def check_counts(params: int, tags: int) -> None:
    """How many a run has. Raises: TooManyParams."""
    if max(params, tags) > MAX_PARAMS:
        raise TooManyParams(limit=MAX_PARAMS)


def parse_version(text: str) -> tuple[int | None, str | None]:
    """``"3"`` is version 3, anything else an alias. A number that no version can have is an alias that nothing has."""
    if text.isascii() and text.isdigit() and int(text) <= _LARGEST_VERSION:
        return int(text), None
    return None, text


def version_paths(artifacts: Sequence[str]) -> dict[str, str]:
    """Path in the version by artifact path: what all of them share as their folder is left away."""
    folder = posixpath.commonpath([posixpath.dirname(path) for path in artifacts])
    return {path: posixpath.relpath(path, folder) if folder else path for path in artifacts}


def choose_flavour(paths: Sequence[str]) -> Flavour:
    """The flavour that these files can be loaded as without running code; ``mlflow`` where there is none, or a file that could be code."""
    for flavour, suffix in FLAVOUR_SUFFIX.items():
        if any(path.endswith(suffix) for path in paths) and all(path.endswith((suffix, *TEXT_SUFFIXES)) for path in paths):
            return flavour
    return Flavour.MLFLOW


def check_model_files(flavour: Flavour, paths: Sequence[str]) -> None:
    """Raises: InvalidModelFiles unless there is a model file of the flavour. What lies beside it is scanned."""
    suffix = FLAVOUR_SUFFIX.get(flavour)
    if suffix is None:
        raise InvalidModelFiles(reason=f"A version of flavour {flavour} is registered by MLflow's own client.")
    if not any(path.endswith(suffix) for path in paths):
        raise InvalidModelFiles(reason=f"A model of flavour {flavour} needs a file that ends in {suffix}; got {', '.join(paths[:5])}.")
