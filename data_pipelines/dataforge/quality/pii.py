"""Personal data in text: found by pattern, confirmed by checksum where there is one, kept only masked. Pure.

Cards by Luhn (ISO/IEC 7812-1) and the issuers' prefixes, IBANs by ISO 7064 mod 97-10, US social security numbers by the ranges that
are given out. What has no checksum (e-mail, phone, IP) is a pattern's word, and no more.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

EXAMPLES = 3
_LONGEST = 10_000
"""Of a longer text the beginning is searched."""


def is_card(text: str) -> bool:
    digits = re.sub(r"[ -]", "", text)
    if not 13 <= len(digits) <= 19 or not re.match(r"4|5[1-5]|2[2-7]|3[47]|6011|65|62|35|30|36|38", digits):
        return False
    doubled = [int(digit) * (2 if place % 2 else 1) for place, digit in enumerate(reversed(digits))]
    return sum(number - 9 if number > 9 else number for number in doubled) % 10 == 0 and len(set(digits)) > 1


def is_iban(text: str) -> bool:
    compact = text.replace(" ", "").upper()
    if not 15 <= len(compact) <= 34:
        return False
    return int("".join(str(int(sign, 36)) for sign in compact[4:] + compact[:4])) % 97 == 1


def is_ssn(text: str) -> bool:
    area, group, serial = text.split("-")
    return area not in {"000", "666"} and area < "900" and group != "00" and serial != "0000"


def is_phone(text: str) -> bool:
    return 9 <= sum(sign.isdigit() for sign in text) <= 15


def is_ip(text: str) -> bool:
    """A public or private host's address: ``0.0.0.0``, loopback and version numbers of three parts are none."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return not (address.is_unspecified or address.is_loopback)


@dataclass(frozen=True)
class Pattern:
    """A kind of personal data: what it looks like, and whether it is one."""

    kind: str
    regex: re.Pattern[str]
    holds: Callable[[str], bool]


PATTERNS = (
    Pattern("email", re.compile(r"\b[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,24}\b"), lambda _: True),
    Pattern("card", re.compile(r"(?<![\d.-])\d(?:[ -]?\d){12,18}(?![\d.-])"), is_card),
    Pattern("iban", re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b"), is_iban),
    Pattern("us_ssn", re.compile(r"(?<![\d-])\d{3}-\d{2}-\d{4}(?![\d-])"), is_ssn),
    Pattern("ip", re.compile(r"(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}|(?:[0-9A-Fa-f]{1,4}:){7}[0-9A-Fa-f]{1,4})(?![\w.:])"), is_ip),
    Pattern("phone", re.compile(r"(?<![\w.+-])(?:\+\d{1,3}(?:[ .-]?\(?\d{1,4}\)?){2,6}|\(\d{3}\) ?\d{3}-\d{4}|\d{3}-\d{3}-\d{4})(?![\w-])"), is_phone),
)  # fmt: skip
# What every one of them has: only such texts are looked at one by one. RE2, so a hundred megabytes a second.
_CANDIDATE = r"[A-Za-z0-9]@[A-Za-z0-9]|\d{3}-\d{2,3}-\d{4}|\(\d{3}\) ?\d{3}|\+\d|\d(?:[ -]?\d){12}|\d{1,3}\.\d{1,3}\.\d{1,3}\.\d|[A-Z]{2}\d{2} ?[A-Z0-9]{4}|[0-9A-Fa-f]:[0-9A-Fa-f]{1,4}:"


def mask(kind: str, text: str) -> str:
    """Enough to know it again by who knows it, too little for anybody else."""
    if kind == "email":
        name, _, host = text.partition("@")
        return f"{name[0]}***@***.{host.rpartition('.')[2]}"
    return "*" * (len(text) - 2) + text[-2:]


def find(text: str) -> dict[str, str]:
    """The first finding of each kind in a text, masked."""
    found: dict[str, str] = {}
    for pattern in PATTERNS:
        for match in pattern.regex.finditer(text[:_LONGEST]):
            if pattern.holds(match.group()):
                found[pattern.kind] = mask(pattern.kind, match.group())
                break
    if "card" in found or "iban" in found:
        found.pop("phone", None)  # the digits of a card are not a phone number besides
    return found


@dataclass
class Findings:
    """How many texts held personal data of each kind, with a few masked examples."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, texts: pa.Array, counts: np.ndarray) -> None:
        """Search different texts (a string array without nulls), each of which is there ``counts`` times."""
        candidates = pc.match_substring_regex(texts, _CANDIDATE)
        for text, count in zip(texts.filter(candidates).to_pylist(), counts[candidates.to_numpy(zero_copy_only=False)], strict=True):
            self.add_text(text, int(count))

    def add_text(self, text: str, count: int = 1) -> None:
        for kind, masked in find(text).items():
            self.counts[kind] += count
            self._keep(kind, [masked])

    def merge(self, other: Findings) -> None:
        self.counts.update(other.counts)
        for kind, examples in other.examples.items():
            self._keep(kind, examples)

    def _keep(self, kind: str, examples: list[str]) -> None:
        held = self.examples.setdefault(kind, [])
        held += [example for example in examples if example not in held][: EXAMPLES - len(held)]

    def to_json(self) -> list[dict[str, object]]:
        return [{"kind": kind, "count": count, "examples": self.examples[kind]} for kind, count in sorted(self.counts.items())]
