"""What a recipe names of the code beside it."""

from __future__ import annotations

import importlib
from typing import Any

from aidos.errors import InvalidRequest


def find(attribute: str) -> Any:
    """What ``MODULE:NAME`` means. Raises: InvalidRequest."""
    module, _, name = attribute.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        if error.name != module.split(".")[0] and error.name != module:
            raise
        raise InvalidRequest(
            reason=f"There is no {module.replace('.', '/')}.py beside the recipe, of which '{attribute}' is to be taken."
        ) from None
    except AttributeError:
        raise InvalidRequest(reason=f"{module} has no '{name}', which the recipe names.") from None


def make(attribute: str, arguments: dict[str, Any]) -> Any:
    """What is made by calling it. Raises: InvalidRequest where it does not take the arguments."""
    maker = find(attribute)
    try:
        return maker(**arguments)
    except TypeError as error:
        raise InvalidRequest(reason=f"'{attribute}' cannot be made with arguments {arguments}: {error}.") from error


def transform(attribute: str | None, keep: str) -> Any:
    """A function from a sample to a sample, that finds the user's function where it runs; ``keep`` is a column that stays."""

    def apply(sample: dict[str, Any]) -> dict[str, Any]:
        return sample if attribute is None else {**find(attribute)(sample), keep: sample[keep]}

    return apply
