"""``aidos job submit --recipe FILE.yaml``: a training that is configured, as the job that it becomes."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from aidos.errors import InvalidRequest


class Submission(NamedTuple):
    """What is submitted: a command in a directory, over datasets."""

    name: str
    command: list[str]
    datasets: list[str]
    directory: Path


@contextmanager
def submission(
    name: str | None, command: list[str] | None, datasets: list[str] | None, directory: Path | None, recipe: Path | None
) -> Iterator[Submission]:
    """What was asked for, or what the recipe makes of it; its directory lasts as long as the block. Raises: RecipeInvalid, InvalidRequest."""
    if bool(command) == bool(recipe):
        raise InvalidRequest(reason="A job is a command behind -- or a --recipe, and one of them.")
    if recipe is not None:
        with _configured(recipe, directory) as found:
            yield found._replace(name=name or found.name, datasets=[*found.datasets, *(datasets or [])])
    elif name is None:
        raise InvalidRequest(reason="A job needs a name: --name NAME.")
    else:
        yield Submission(name, command or [], datasets or [], directory or Path())


@contextmanager
def _configured(recipe: Path, directory: Path | None) -> Iterator[Submission]:
    """The directory of the recipe goes along where the recipe names code in it."""
    from aidos.recipes import read_recipe

    found = read_recipe(recipe)
    with tempfile.TemporaryDirectory() as alone:
        folder = directory or (recipe.parent if hasattr(found, "module") else Path(shutil.copy(recipe, alone)).parent)
        if not (folder / recipe.name).is_file():
            raise InvalidRequest(reason=f"{recipe.name} is not in {folder}, and --directory is what is packed: put it there.")
        yield Submission(found.model, ["python", "-m", "tune.trainos.recipes", recipe.name], found.references, folder)
