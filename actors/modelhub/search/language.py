"""The query language over runs: text in, a condition out, or an error that says at which character and what was expected.

``metrics.acc > 0.9 and data.commit = "digits@v3" and (params.lr < 0.01 or not tags.`kind of run` = "baseline")``:

    query      := all {"or" all}
    all        := each {"and" each}
    each       := "not" each | "(" query ")" | comparison
    comparison := field ("=" | "!=" | "<" | "<=" | ">" | ">=") value
                | field ["not"] ("like" | "ilike") text
                | field ["not"] "in" "(" value {"," value} ")"
                | field "is" ["not"] "null"
    field      := attribute | entity "." key       the key is plain, or anything between backticks
    value      := number | text                    text stands in single or double quotes, a doubled quote is one

Words are read in any case. A comparison holds where one of what it names does; ``not`` holds wherever its part does not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, NoReturn

from actors.modelhub.search.errors import InvalidQuery
from actors.modelhub.search.models import Combination, Comparison, Condition, Entity

LONGEST_QUERY = 4000
MOST_COMPARISONS = 100
DEEPEST = 30
TEXTS = frozenset({"id", "name", "experiment", "state", "created_by", "job_id", "git.commit", "git.branch", "git.dirty"})
NUMBERS = frozenset({"duration_s", "cost_usd"})
MOMENTS = frozenset({"started_at", "ended_at"})
DATA = frozenset({"dataset", "commit"})
_ENTITIES = {
    **dict.fromkeys(("metric", "metrics"), Entity.METRIC),
    **dict.fromkeys(("param", "params"), Entity.PARAM),
    **dict.fromkeys(("tag", "tags"), Entity.TAG),
    "data": Entity.DATA,
}
_TOKEN = re.compile(
    r"""\s*(?:
      (?P<text>'(?:[^']|'')*'|"(?:[^"]|"")*")
    | (?P<number>[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
    | (?P<sign>!=|<>|==|>=|<=|=|>|<)
    | (?P<name>[A-Za-z_]\w*(?:\.(?:`[^`]+`|[^\s=!<>(),'"`]+))?)
    | (?P<mark>[(),])
    )""",
    re.X,
)
_WORDS = frozenset({"AND", "OR", "NOT", "IN", "IS", "NULL", "LIKE", "ILIKE"})
_SIGNS = {"==": "=", "<>": "!="}


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    at: int

    @property
    def word(self) -> str:
        upper = self.text.upper()
        return upper if self.kind == "name" and upper in _WORDS else ""


def parse_query(text: str) -> Condition:
    """What must hold of a run. Raises: InvalidQuery."""
    return _Parser(text).query()


def comparisons(condition: Condition) -> Iterator[Comparison]:
    """All that a condition compares."""
    if isinstance(condition, Comparison):
        yield condition
    else:
        for part in condition.parts:
            yield from comparisons(part)


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        if len(text) > LONGEST_QUERY:
            self._refuse(LONGEST_QUERY, f"a query of at most {LONGEST_QUERY} characters", f"{len(text)}")
        self.tokens = [*self._read(), _Token("end", "the end", len(text) + 1)]
        self.next = self.compared = self.depth = 0

    def query(self) -> Condition:
        found = self._any()
        self._expect(self._take().kind == "end", "and, or, or the end of the query")
        return found

    def _any(self) -> Condition:
        self.depth += 1
        self._expect(self.depth <= DEEPEST, f"parentheses and nots at most {DEEPEST} deep", self._peek())
        found = self._joined("OR", lambda: self._joined("AND", self._each))
        self.depth -= 1
        return found

    def _joined(self, word: Literal["AND", "OR"], part: Callable[[], Condition]) -> Condition:
        parts = [part()]
        while self._peek().word == word:
            self._take()
            parts.append(part())
        return Combination(word, tuple(parts)) if len(parts) > 1 else parts[0]

    def _each(self) -> Condition:
        if self._peek().word == "NOT":
            self._take()
            self.depth += 1
            self._expect(self.depth <= DEEPEST, f"parentheses and nots at most {DEEPEST} deep", self._peek())
            negated = Combination("NOT", (self._each(),))
            self.depth -= 1
            return negated
        if self._peek().text != "(":
            return self._comparison()
        self._take()
        found = self._any()
        self._expect(self._take().text == ")", "and, or, or )")
        return found

    def _comparison(self) -> Comparison:
        self.compared += 1
        self._expect(self.compared <= MOST_COMPARISONS, f"at most {MOST_COMPARISONS} comparisons", self._peek())
        entity, key = self._field()
        operator = self._operator()
        if operator.endswith("NULL"):
            return Comparison(entity, key, operator, None)
        if operator.endswith("IN"):
            return Comparison(entity, key, operator, tuple(self._list(entity, key)))
        return Comparison(entity, key, operator, self._value(entity, key, operator))

    def _field(self) -> tuple[Entity, str]:
        token = self._take()
        self._expect(token.kind == "name" and not token.word, "a field such as metrics.acc or state")
        if token.text.lower() in TEXTS | NUMBERS | MOMENTS:
            return Entity.ATTRIBUTE, token.text.lower()
        prefix, _, key = token.text.partition(".")
        entity, key = _ENTITIES.get(prefix.lower()), key.strip("`")
        fields = ", ".join(sorted(TEXTS | NUMBERS | MOMENTS))
        self._expect(entity is not None and key != "", f"metrics.…, params.…, tags.…, data.dataset, data.commit, or one of {fields}")
        self._expect(entity is not Entity.DATA or key in DATA, "data.dataset or data.commit")
        assert entity is not None
        return entity, key

    def _operator(self) -> str:
        token = self._take()
        if token.kind == "sign":
            return _SIGNS.get(token.text, token.text)
        words = [token.word]
        if token.word == "NOT":
            words.append(self._take().word)
        elif token.word == "IS":
            words += ["NOT"] if self._peek().word == "NOT" and self._take() else []
            words.append(self._take().word)
        operator = " ".join(words)
        known = {"LIKE", "ILIKE", "IN", "NOT LIKE", "NOT ILIKE", "NOT IN", "IS NULL", "IS NOT NULL"}
        self._expect(operator in known, "=, !=, <, <=, >, >=, like, ilike, in, or is null")
        return operator

    def _list(self, entity: Entity, key: str) -> Iterator[Any]:
        self._expect(self._take().text == "(", "( and a list of values")
        while True:
            yield self._value(entity, key, "IN")
            mark = self._take()
            if mark.text == ")" and mark.kind == "mark":
                return
            self._expect(mark.text == "," and mark.kind == "mark", ", or )")

    def _value(self, entity: Entity, key: str, operator: str) -> Any:
        token = self._take()
        if operator.endswith("LIKE"):
            self._expect(token.kind == "text", "text in quotes")
            self._expect(entity is not Entity.METRIC and key not in NUMBERS | MOMENTS, "a field that holds text before like")
            return _unquoted(token)
        if entity is Entity.METRIC or (entity is Entity.ATTRIBUTE and key in NUMBERS):
            self._expect(token.kind == "number", f"a number to compare {key} with")
            return float(token.text)
        if entity is Entity.ATTRIBUTE and key in MOMENTS:
            return self._moment(token)
        if entity in (Entity.PARAM, Entity.TAG) and token.kind == "number" and operator != "IN":
            return float(token.text)
        self._expect(token.kind == "text", f"text in quotes to compare {key} with")
        return _unquoted(token)

    def _moment(self, token: _Token) -> datetime:
        try:
            found = datetime.fromisoformat(_unquoted(token))
            return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
        except (ValueError, OverflowError):
            self._refuse(token.at, 'a moment in quotes such as "2026-11-01" or "2026-11-01T08:30:00Z"', token.text)

    def _read(self) -> Iterator[_Token]:
        at, end = 0, len(self.text.rstrip())
        while at < end:
            match = _TOKEN.match(self.text, at)
            if match is None or match.lastgroup is None:
                at += len(self.text[at:]) - len(self.text[at:].lstrip())
                self._refuse(at + 1, "a field, a number, text in closed quotes or an operator", self.text[at])
            yield _Token(match.lastgroup, match[match.lastgroup], match.start(match.lastgroup) + 1)
            at = match.end()

    def _peek(self) -> _Token:
        return self.tokens[self.next]

    def _take(self) -> _Token:
        token = self.tokens[self.next]
        self.next = min(self.next + 1, len(self.tokens) - 1)
        self.last = token
        return token

    def _expect(self, holds: bool, expected: str, token: _Token | None = None) -> None:
        """``token``: the one that is in the way, where it is not the last that was taken."""
        if not holds:
            found = token or self.last
            self._refuse(found.at, expected, found.text)

    def _refuse(self, at: int, expected: str, found: str) -> NoReturn:
        raise InvalidQuery(at=at, expected=expected, found=found[:100], query=self.text[:500])


def _unquoted(token: _Token) -> str:
    quote = token.text[0]
    return token.text[1:-1].replace(quote * 2, quote) if token.kind == "text" else token.text
