"""The filter and order language of MLflow's searches: text in, comparisons out, or an error that says where.

``metrics.acc > 0.9 AND params."learning rate" = '0.1' AND tags.`mlflow.source.name` LIKE '%train%'``: comparisons joined by AND,
a key without an entity is an attribute, special characters in keys stand in quotes or backticks
(https://mlflow.org/docs/latest/ml/search/search-runs/).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from actors.modelhub.search.errors import InvalidFilter, InvalidOrder
from actors.modelhub.search.models import Comparison, Entity, OrderBy, Vocabulary

LONGEST_FILTER = 20_000
MOST_COMPARISONS = 100
_TOKEN = re.compile(
    r"""\s*(?:
      (?P<text>'(?:[^']|'')*')
    | (?P<quoted>"(?:[^"]|"")*"(?!\s*\.)|`[^`]*`(?!\s*\.))
    | (?P<number>[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
    | (?P<operator>!=|<>|>=|<=|=|>|<)
    | (?P<name>(?:`[^`]*`|"[^"]*"|[^\s=!<>(),'"`.]+)(?:\.(?:`[^`]*`|"[^"]*"|[^\s=!<>(),'"`]+))?)
    | (?P<mark>[(),;])
    )""",
    re.X,
)
_ENTITIES = {
    **dict.fromkeys(("attribute", "attributes", "attr", "run", "trace"), Entity.ATTRIBUTE),
    **dict.fromkeys(("metric", "metrics"), Entity.METRIC),
    **dict.fromkeys(("param", "params", "parameter", "parameters"), Entity.PARAM),
    **dict.fromkeys(("tag", "tags"), Entity.TAG),
    **dict.fromkeys(("dataset", "datasets"), Entity.DATASET),
    **dict.fromkeys(("alias", "aliases"), Entity.ALIAS),
    **dict.fromkeys(("metadata", "request_metadata"), Entity.METADATA),
    "feedback": Entity.FEEDBACK,
    "expectation": Entity.EXPECTATION,
}
_NUMERIC = frozenset({"=", "!=", ">", ">=", "<", "<="})
_TEXTUAL = frozenset({"=", "!=", "LIKE", "ILIKE", "IN", "NOT IN"})
_OPTIONAL = frozenset({"=", "!=", "LIKE", "ILIKE", "RLIKE", "IS NULL", "IS NOT NULL"})
_KEYED = frozenset({Entity.PARAM, Entity.TAG, Entity.METADATA, Entity.FEEDBACK, Entity.EXPECTATION})
_KEYWORDS = frozenset({"AND", "OR", "NOT", "IN", "IS", "NULL", "LIKE", "ILIKE", "RLIKE"})


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    at: int

    @property
    def word(self) -> str:
        """The keyword it may be."""
        return self.text.upper() if self.kind == "name" else ""


def parse_filter(text: str, vocabulary: Vocabulary) -> tuple[Comparison, ...]:
    """The comparisons that must all hold. Raises: InvalidFilter, which says at which character."""
    if not text.strip():
        return ()
    if len(text) > LONGEST_FILTER:
        raise InvalidFilter(at=LONGEST_FILTER, reason=f"a filter has at most {LONGEST_FILTER} characters", filter=text[:100] + "…")
    return tuple(_Parser(text, vocabulary).comparisons())


def parse_order(clauses: list[str] | tuple[str, ...], vocabulary: Vocabulary) -> tuple[OrderBy, ...]:
    """``metrics.acc DESC`` and the like, in their order. Raises: InvalidOrder."""
    return tuple(_parse_order(clause, vocabulary) for clause in clauses)


def _parse_order(clause: str, vocabulary: Vocabulary) -> OrderBy:
    try:
        tokens = list(_tokens(clause))
        directions = {"ASC": False, "DESC": True}
        if not 1 <= len(tokens) <= 2 or (len(tokens) == 2 and tokens[1].word not in directions):
            raise InvalidOrder(clause=clause, reason="expected one field, then nothing, ASC or DESC")
        entity, key = _identify(tokens[0], vocabulary, clause)
    except InvalidFilter as error:
        raise InvalidOrder(clause=clause, reason=error.fields["reason"]) from None
    if entity in (Entity.DATASET, Entity.ALIAS):
        raise InvalidOrder(clause=clause, reason=f"nothing can be ordered by {entity}")
    return OrderBy(entity, key, len(tokens) == 2 and directions[tokens[1].word])


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    while at < len(text.rstrip()):
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            at += len(text[at:]) - len(text[at:].lstrip())
            raise InvalidFilter(at=at + 1, reason="this is neither a name, a number, an operator nor a closed string", filter=text)
        yield _Token(match.lastgroup, match[match.lastgroup], match.start(match.lastgroup) + 1)
        at = match.end()


def _identify(token: _Token, vocabulary: Vocabulary, text: str) -> tuple[Entity, str]:
    """The entity and key that a name means. Raises: InvalidFilter."""
    if token.kind not in ("name", "quoted") or token.word in _KEYWORDS:
        raise InvalidFilter(at=token.at, reason=f"expected the name of a field, found {token.text}", filter=text)
    prefix, dot, key = _split(token.text)
    if not dot:
        prefix, key = "attribute", prefix
    entity = _ENTITIES.get(prefix)
    if entity is None or entity not in vocabulary.entities | {Entity.ATTRIBUTE}:
        known = ", ".join(sorted({Entity.ATTRIBUTE, *vocabulary.entities}))
        raise InvalidFilter(at=token.at, reason=f"Invalid entity type '{prefix}'. Valid values are {known}", filter=text)
    if entity is Entity.ATTRIBUTE:
        key = vocabulary.aliases.get(key, key)
        if key not in vocabulary.texts | vocabulary.numbers:
            known = ", ".join(sorted(vocabulary.texts | vocabulary.numbers))
            raise InvalidFilter(at=token.at, reason=f"Invalid attribute key '{key}' specified. Valid keys are {known}", filter=text)
    elif entity in vocabulary.nested and key not in vocabulary.nested[entity]:
        known = ", ".join(sorted(vocabulary.nested[entity]))
        raise InvalidFilter(at=token.at, reason=f"Invalid {entity} key '{key}' specified. Valid keys are {known}", filter=text)
    return entity, key


def _split(name: str) -> tuple[str, str, str]:
    """Entity, dot, key of a name, each without the quotes around it."""
    quote = name[0] if name[0] in "`\"'" else ""
    end = name.index(quote, 1) + 1 if quote else len(name.partition(".")[0])
    prefix, rest = name[:end], name[end:]
    return prefix.strip("`\"'"), rest[:1], rest[1:].strip("`\"'")


class _Parser:
    def __init__(self, text: str, vocabulary: Vocabulary) -> None:
        self.text, self.vocabulary = text, vocabulary
        self.rest = [*_tokens(text), _Token("end", "the end", len(text) + 1)]

    def comparisons(self) -> Iterator[Comparison]:
        for _ in range(MOST_COMPARISONS):
            yield self._comparison()
            joint = self._take()
            if joint.kind == "end":
                return
            if joint.word != "AND":
                raise self._refuse(joint, f"expected AND, found {joint.text}")
        raise self._refuse(self.rest[0], f"a filter has at most {MOST_COMPARISONS} comparisons")

    def _comparison(self) -> Comparison:
        name = self._take()
        entity, key = _identify(name, self.vocabulary, self.text)
        sign = self._take()
        operator = self._operator(sign)
        numeric = entity is Entity.METRIC or (entity is Entity.ATTRIBUTE and key in self.vocabulary.numbers)
        allowed = _NUMERIC if numeric else _OPTIONAL if entity in _KEYED else _TEXTUAL
        if operator not in allowed:
            raise self._refuse(sign, f"Invalid comparator '{operator}' for {entity} '{key}', not one of {', '.join(sorted(allowed))}")
        if operator.startswith("IS"):
            return Comparison(entity, key, operator, None)
        if operator.endswith("IN"):
            return Comparison(entity, key, operator, tuple(self._list()))
        return Comparison(entity, key, operator, self._number(entity, key) if numeric else self._quoted(entity))

    def _operator(self, sign: _Token) -> str:
        words = sign.word
        if words == "IS":
            words += " NOT" if self.rest[0].word == "NOT" and self._take() else ""
            if self._take().word != "NULL":
                raise self._refuse(sign, "expected IS NULL or IS NOT NULL")
            return f"{words} NULL"
        if words == "NOT" and self._take().word == "IN":
            return "NOT IN"
        if sign.kind == "operator" or words in {"LIKE", "ILIKE", "RLIKE", "IN"}:
            return words or sign.text.replace("<>", "!=")
        raise self._refuse(sign, f"expected a comparison such as = or LIKE, found {sign.text}")

    def _number(self, entity: Entity, key: str) -> float:
        token = self._take()
        if token.kind != "number":
            raise self._refuse(token, f"Expected numeric value type for {entity} '{key}'. Found {token.text}")
        return int(token.text) if re.fullmatch(r"[+-]?\d{1,18}", token.text) else float(token.text)

    def _quoted(self, entity: Entity) -> str:
        token = self._take()
        if token.kind not in ("text", "quoted") or token.text[0] == "`":
            raise self._refuse(token, f"Expected a quoted string value for {entity} (e.g. 'my-value'). Found {token.text}")
        quote = token.text[0]
        return token.text[1:-1].replace(quote * 2, quote)

    def _list(self) -> Iterator[str]:
        opening = self._take()
        if opening.text != "(":
            raise self._refuse(opening, f"expected a list such as ('a', 'b'), found {opening.text}")
        while True:
            yield self._quoted(Entity.ATTRIBUTE)
            mark = self._take()
            if mark.text == ")":
                return
            if mark.text != ",":
                raise self._refuse(mark, f"expected , or ) in a list, found {mark.text}")

    def _take(self) -> _Token:
        return self.rest.pop(0) if len(self.rest) > 1 else self.rest[0]

    def _refuse(self, token: _Token, reason: str) -> InvalidFilter:
        return InvalidFilter(at=token.at, reason=reason, filter=self.text)
