"""``python -m tune.trainos.recipes FILE.yaml``: the command of a job that ``aidos job train`` submits."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from aidos.errors import AidosError
from aidos.recipes import read_recipe

HOMES = {
    "sklearn": "estimator",
    "xgboost": "boosting",
    "lightgbm": "boosting",
    "torch": "network",
    "lightning": "lightning_module",
    "lora": "lora",
}


def main(path: str) -> None:
    """Train what the file says. Raises: RecipeInvalid, and what the training raises."""
    recipe = read_recipe(Path(path))
    importlib.import_module(f"tune.trainos.recipes.{HOMES[recipe.recipe]}").train(recipe)


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except AidosError as error:
        sys.exit(f"aidos: {error}")
