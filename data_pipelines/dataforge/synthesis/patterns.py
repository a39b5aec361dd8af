"""Texts that match a simple regular expression: literals, ``.``, ``\\d \\w \\s``, classes, groups with ``|``, and ``? * + {m} {m,n}``."""

from __future__ import annotations

import string
from collections.abc import Callable

import numpy as np

_CLASSES = {"d": string.digits, "w": string.ascii_letters + string.digits + "_", "s": " "}
_ANY = string.ascii_letters + string.digits + " "
_UNBOUNDED = 8
_MOST = 100
_MOST_SIGNS = 10_000
_DEEPEST = 3

Draw = Callable[[np.random.Generator], str]


class PatternInvalid(ValueError):
    """The pattern has what is not drawn from, or is not well formed; the text says where."""


def compile_pattern(pattern: str) -> Draw:
    """What draws texts of the pattern, alternatives and counts evenly. Raises: PatternInvalid."""
    draw, at = _alternatives(pattern, 0, 0)
    if at < len(pattern):
        raise PatternInvalid(f"pattern {pattern!r}: ')' at {at} closes nothing")

    def bounded(random: np.random.Generator) -> str:
        text = draw(random)
        if len(text) > _MOST_SIGNS:
            raise PatternInvalid(f"pattern {pattern!r} gives texts of over {_MOST_SIGNS} signs")
        return text

    return bounded


def _alternatives(pattern: str, at: int, depth: int) -> tuple[Draw, int]:
    if depth > _DEEPEST:
        raise PatternInvalid(f"pattern {pattern!r}: over {_DEEPEST} groups within each other")
    branches: list[list[Draw]] = [[]]
    while at < len(pattern) and pattern[at] != ")":
        if pattern[at] == "|":
            branches.append([])
            at += 1
            continue
        draw, at = _item(pattern, at, depth)
        low, high, at = _count(pattern, at)
        branches[-1].append(draw if (low, high) == (1, 1) else _repeat(draw, low, high))

    def choose(random: np.random.Generator) -> str:
        branch = branches[int(random.integers(len(branches)))] if len(branches) > 1 else branches[0]
        return "".join(draw(random) for draw in branch)

    return choose, at


def _repeat(draw: Draw, low: int, high: int) -> Draw:
    def repeated(random: np.random.Generator) -> str:
        found = ""
        for _ in range(int(random.integers(low, high + 1))):
            if len(found := found + draw(random)) > _MOST_SIGNS:
                break
        return found

    return repeated


def _item(pattern: str, at: int, depth: int) -> tuple[Draw, int]:
    sign = pattern[at]
    if sign == "(":
        draw, end = _alternatives(pattern, at + (3 if pattern.startswith("(?:", at) else 1), depth + 1)
        if end >= len(pattern):
            raise PatternInvalid(f"pattern {pattern!r}: '(' at {at} is not closed")
        return draw, end + 1
    if sign == "[":
        signs, at = _class(pattern, at + 1)
    elif sign == "\\":
        signs, at = _escape(pattern, at)
    elif sign in "?*+{}^$]":
        raise PatternInvalid(f"pattern {pattern!r}: {sign!r} at {at} repeats or anchors nothing; write \\{sign} for the sign itself")
    else:
        signs, at = (_ANY if sign == "." else sign), at + 1
    return _one_of(signs), at


def _one_of(signs: str) -> Draw:
    return lambda random: signs if len(signs) == 1 else signs[int(random.integers(len(signs)))]


def _escape(pattern: str, at: int) -> tuple[str, int]:
    if at + 1 >= len(pattern):
        raise PatternInvalid(f"pattern {pattern!r} ends with a backslash")
    sign = pattern[at + 1]
    if sign.isalnum() and sign not in _CLASSES:
        raise PatternInvalid(f"pattern {pattern!r}: \\{sign} at {at} is not drawn from; there are \\d, \\w and \\s")
    return _CLASSES.get(sign, sign), at + 2


def _class(pattern: str, at: int) -> tuple[str, int]:
    start, signs = at, ""
    if pattern.startswith("^", at):
        raise PatternInvalid(f"pattern {pattern!r}: a class of all but some signs, at {at}, is not drawn from; name the signs")
    while at < len(pattern) and pattern[at] != "]":
        found, at = _escape(pattern, at) if pattern[at] == "\\" else (pattern[at], at + 1)
        if len(found) == 1 and pattern.startswith("-", at) and at + 1 < len(pattern) and pattern[at + 1] != "]":
            last, at = _escape(pattern, at + 1) if pattern[at + 1] == "\\" else (pattern[at + 1], at + 2)
            if len(last) != 1 or last < found or ord(last) - ord(found) > _MOST_SIGNS:
                raise PatternInvalid(f"pattern {pattern!r}: the range before {at} is empty or too long")
            found = "".join(map(chr, range(ord(found), ord(last) + 1)))
        signs += found
    if at >= len(pattern) or not signs:
        raise PatternInvalid(f"pattern {pattern!r}: the class at {start - 1} is empty or not closed")
    return "".join(dict.fromkeys(signs)), at + 1


def _count(pattern: str, at: int) -> tuple[int, int, int]:
    simple = {"?": (0, 1), "*": (0, _UNBOUNDED), "+": (1, _UNBOUNDED)}
    if at < len(pattern) and pattern[at] in simple:
        return (*simple[pattern[at]], at + 1)
    if at >= len(pattern) or pattern[at] != "{":
        return 1, 1, at
    end = pattern.find("}", at)
    low, comma, high = pattern[at + 1 : end].partition(",") if end > 0 else ("", "", "")
    if not low.isdecimal() or (high and not high.isdecimal()):
        raise PatternInvalid(f"pattern {pattern!r}: the count at {at} is none; write {{2}} or {{2,5}}")
    least = int(low)
    most = int(high) if high else least + _UNBOUNDED if comma else least
    if not least <= most <= _MOST:
        raise PatternInvalid(f"pattern {pattern!r}: the count at {at} must go up, to {_MOST} at most")
    return least, most, end + 1
