"""JSON types are held to what the document says, which pydantic alone does not.

It would take ``false`` for the number 0, ``"1"`` for 1 and 0 for the year 1970. Its strict mode is not for this: on Python values it
refuses the strings of UUIDs, moments and enumerations too, and 1.0 for an integer, which JSON Schema allows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel
from pydantic_core import core_schema

_NAMES = {bool: "a truth value", int: "a number", float: "a number", str: "a string"}


def _refuse(*others: type) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if type(value) in others:
            raise ValueError(f"must not be {_NAMES[type(value)]}")
        return value

    return check


_CHECKS = {
    "int": _refuse(bool, str),
    "float": _refuse(bool, str),
    "bool": _refuse(int, float, str),
    "datetime": _refuse(bool, int, float),
}
"""By pydantic's kind of field: refuses the types that pydantic would convert."""


def refuse_other_types(node: Any, model: type[BaseModel]) -> None:
    """Put a check before every number, truth value and moment in the core schema of ``model``, in place and once.

    Other models inside it are left as they are.
    """
    if isinstance(node, list | tuple):
        for each in node:
            refuse_other_types(each, model)
    elif isinstance(node, dict):
        kind = node.get("type")
        checked = kind == "function-before" and node["function"]["function"] in _CHECKS.values()
        if checked or (kind == "model" and node["cls"] is not model):
            return
        if kind in _CHECKS:
            plain: Any = dict(node)
            node.clear()
            node.update(core_schema.no_info_before_validator_function(_CHECKS[kind], plain))
            return
        for key in node.keys() - {"default", "expected", "metadata", "serialization"}:
            refuse_other_types(node[key], model)
