"""Reading the file that configures a training: the command does it before it submits, and the job when it begins."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from aidos.errors import InvalidPayload
from aidos.schemas.recipes import AnyRecipe, Boosting, Lightning, Lora, Recipe, Sklearn, Torch

_KINDS: tuple[type[Recipe], ...] = (Sklearn, Boosting, Torch, Lightning, Lora)
_RECIPE: TypeAdapter[AnyRecipe] = TypeAdapter(AnyRecipe)


class RecipeInvalid(InvalidPayload):
    title = "Recipe is wrong"
    detail = "{file}: {reason} docs/trainos-recipes.md lists what each recipe may say."


def read_recipe(path: Path) -> AnyRecipe:
    """The recipe in a YAML file. Raises: RecipeInvalid, which names each field that is wrong and what to do."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeInvalid(file=str(path), reason=f"the file cannot be read: {error.strerror}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeInvalid(file=str(path), reason=f"this is no YAML: {' '.join(str(error).split())}.") from None
    return check_recipe(found, str(path))


def check_recipe(found: Any, file: str) -> AnyRecipe:
    """What was read as a recipe. Raises: RecipeInvalid."""
    if not isinstance(found, dict):
        raise RecipeInvalid(file=file, reason="a recipe is fields with values, such as 'recipe: xgboost'.")
    try:
        return _RECIPE.validate_python(found)
    except ValidationError as error:
        kind = _kind_of(found)
        raise RecipeInvalid(file=file, reason=" ".join(_sentence(each, kind) for each in error.errors())) from None


def _kind_of(found: dict[Any, Any]) -> type[BaseModel] | None:
    name = found.get("recipe")
    return next((kind for kind in _KINDS if name in kind.model_fields["recipe"].annotation.__args__), None)  # type: ignore[union-attr]  # a Literal


def _sentence(error: ErrorDetails, kind: type[BaseModel] | None) -> str:
    place = [str(part) for part in error["loc"][1:]]
    field = ".".join(place) or "recipe"
    got = error.get("input")
    if error["type"] == "extra_forbidden":
        known = list(kind.model_fields) if kind else []
        near = difflib.get_close_matches(field, known, n=1)
        return f"there is no field '{field}'{f': did you mean {near[0]!r}?' if near else ': delete it.'}"
    if error["type"] == "missing":
        return f"'{field}' is missing: {_about(kind, field)}"
    if error["type"].startswith("union_tag"):
        names = [name for each in _KINDS for name in each.model_fields["recipe"].annotation.__args__]  # type: ignore[union-attr]  # a Literal
        return f"'recipe' must be one of {', '.join(names)}."
    hint = " YAML reads that as text: write 3.0e-4 for 3e-4." if isinstance(got, str) and _is_number(got) else ""
    return (
        f"'{field}': {error['msg'].removeprefix('Value error, ')}, got {got!r}.{hint}"
        if place
        else f"{error['msg'].removeprefix('Value error, ')}."
    )


def _about(kind: type[BaseModel] | None, field: str) -> str:
    about = kind.model_fields[field].description if kind and field in kind.model_fields else None
    return f"{(about or 'set it').rstrip('.')}."


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
