"""How answers are typed: a prompt for each kind of question, and what was typed as a value."""

from __future__ import annotations

import json
from typing import Any

_KEYS = 9
_FORMS = {
    "boxes": "LABEL x y width height; …",
    "polygons": "LABEL x1 y1 x2 y2 x3 y3 …; …",
    "spans": "LABEL start end; …",
    "text": "a line",
}


def choices(question: dict[str, Any]) -> list[str]:
    """The labels of a question, or the sides of a preference."""
    if question["kind"] == "preference":
        return ["first", "second", *(["tie"] if question["ties"] else [])]
    return list(question.get("labels") or ())


def is_one_key(question: dict[str, Any]) -> bool:
    """Whether one key answers it."""
    return question["kind"] in ("classification", "preference") and len(choices(question)) <= _KEYS


def prompt(question: dict[str, Any], suggested: Any) -> str:
    """What is asked, with the numbers of the labels, and what Enter takes."""
    listed = "  ".join(f"{at} {label}" for at, label in enumerate(choices(question), 1))
    form = "numbers with spaces between; - for none" if question["kind"] == "multilabel" else _FORMS.get(question["kind"], "")
    form += "; - for none" if question["kind"] in ("boxes", "polygons", "spans") else ""
    default = "" if suggested is None else f" [Enter: {json.dumps(suggested, ensure_ascii=False)[:80]}]"
    parts = [part for part in (listed, f"({form})" if form else "") if part]
    return f"{question['title'] or question['name']}: {'  '.join(parts)}{default} > "


def parse(question: dict[str, Any], text: str) -> Any:
    """The answer that was typed. Raises: ValueError, saying what is needed."""
    kind, text = question["kind"], text.strip()
    if kind == "text":
        return text
    if kind in ("classification", "preference"):
        return _choice(question, text)
    if text == "-":
        return []
    if kind == "multilabel":
        return [_choice(question, each) for each in text.replace(",", " ").split()]
    return [_shape(question, each.split()) for each in text.split(";") if each.strip()]


def _choice(question: dict[str, Any], text: str) -> str:
    known = choices(question)
    if text.isdecimal() and 1 <= int(text) <= len(known):
        return known[int(text) - 1]
    fitting = [label for label in known if label.lower().startswith(text.lower())]
    if text in known:
        return text
    if len(fitting) == 1:
        return fitting[0]
    raise ValueError(f"'{text}' is none of {', '.join(f'{at} {label}' for at, label in enumerate(known, 1))}.")


def _shape(question: dict[str, Any], words: list[str]) -> dict[str, Any]:
    label = _choice(question, words[0])
    try:
        numbers = [float(word) for word in words[1:]]
    except ValueError as error:
        raise ValueError(f"Numbers are needed after '{label}': {_FORMS[question['kind']]}.") from error
    if question["kind"] == "boxes" and len(numbers) == 4:
        return {"label": label, **dict(zip(("x", "y", "width", "height"), numbers, strict=True))}
    if question["kind"] == "polygons" and len(numbers) >= 6 and len(numbers) % 2 == 0:
        return {"label": label, "points": [list(point) for point in zip(numbers[::2], numbers[1::2], strict=True)]}
    if question["kind"] == "spans" and len(numbers) == 2:
        return {"label": label, "start": int(numbers[0]), "end": int(numbers[1])}
    raise ValueError(f"'{label}' takes other numbers: {_FORMS[question['kind']]}.")
