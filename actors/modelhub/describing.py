"""What the files of a version say of it: MLflow's ``MLmodel``, ``requirements.txt``, ``input_example.json``, and ``README.md`` as a model card.

Fields of MLmodel: https://mlflow.org/docs/latest/ml/model/ · front matter of cards: https://huggingface.co/docs/hub/model-cards
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

MOST_BYTES = 1_000_000
EXAMPLE_BYTES = 64_000
MOST_REQUIREMENTS = 500
MOST_VALUES = 1000
_FRONT_MATTER = re.compile(r"\A---\r?\n(.*?)\r?\n---\r?\n", re.S)


def describe(files: Mapping[str, Path]) -> dict[str, Any]:
    """``signature``, ``input_example``, ``requirements``, ``card`` and ``licence``, as far as the files tell; what cannot be read tells nothing."""
    mlmodel = _yaml(_text(files.get("MLmodel")))
    saved = mlmodel.get("saved_input_example_info")
    example = str(saved.get("artifact_path")) if isinstance(saved, dict) else "input_example.json"
    card = _text(files.get("README.md"))
    front = _FRONT_MATTER.match(card)
    licence = _yaml(front[1]).get("license", "") if front else ""
    return {
        "signature": _signature(mlmodel.get("signature")),
        "input_example": _json(_text(files.get(example), EXAMPLE_BYTES)),
        "requirements": _requirements(_text(files.get("requirements.txt"))),
        "card": card,
        "licence": licence[:100] if isinstance(licence, str) else "",
    }


def _text(path: Path | None, most_bytes: int = MOST_BYTES) -> str:
    """Nothing of a file that is too large, no text, or holds what PostgreSQL does not keep."""
    if path is None or path.stat().st_size > most_bytes:
        return ""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""
    return "" if "\x00" in text else text


def _yaml(text: str) -> dict[str, Any]:
    try:
        found = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _json(text: str) -> Any:
    """None where it is no JSON as PostgreSQL keeps it: without NaN, NUL and halves of characters."""
    try:
        found = json.loads(text, parse_constant=_refuse)
        return None if "\\u0000" in json.dumps(found) or not json.dumps(found, ensure_ascii=False).encode() else found
    except (ValueError, RecursionError):
        return None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _requirements(text: str) -> list[str]:
    lines = (line.strip() for line in text.splitlines())
    return [line[:500] for line in lines if line and not line.startswith("#")][:MOST_REQUIREMENTS]


def _signature(found: Any) -> dict[str, Any] | None:
    """MLflow's, whose sides are JSON in strings: columns, or tensors in which -1 is a free dimension."""
    if not isinstance(found, dict):
        return None
    sides = {side: _json(found[side]) if isinstance(found.get(side), str) else None for side in ("inputs", "outputs")}
    values = {
        side: [_value(each) for each in given if isinstance(each, dict)] if isinstance(given, list) else [] for side, given in sides.items()
    }
    return values if 0 < sum(map(len, values.values())) <= MOST_VALUES else None


def _value(given: Mapping[str, Any]) -> dict[str, Any]:
    tensor = given.get("tensor-spec")
    if isinstance(tensor, dict) and isinstance(tensor.get("shape"), list):
        shape = [None if size == -1 else size for size in tensor["shape"] if isinstance(size, int)]
        return {"name": str(given.get("name") or ""), "dtype": str(tensor.get("dtype")), "shape": shape}
    return {"name": str(given.get("name") or ""), "dtype": str(given.get("type")), "shape": [None]}
