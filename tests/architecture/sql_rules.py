"""Rule 6: what ``queries.sql`` says and what ``store.py`` offers are the same list, and a module stays in its own schema."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tests.architecture.source import Source, Violation

BLOCK = re.compile(r"^--\s+([a-z_][a-z0-9_]*)\s+--\s*$", re.M)
COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/", re.S)
STRING = re.compile(r"'(?:[^']|'')*'")
QUALIFIED = re.compile(r'(?<![\w.])"?([a-z_]+)"?\."?([a-z_]\w*)"?(\s*\()?')
# The substrate's functions that each module's migrations call: row policies are made in one way.
SHARED_FUNCTIONS = re.compile(r"cluster\.(wall\w*|current_\w+)\s*\($")
SCHEMAS = {
    "securityvault", "dataforge", "modelhub", "studies", "trainos", "deployengine", "evalkit", "promptstudio", "automl",
    "costoptimizer", "edgesync", "collabspace", "marketplace", "cluster",
}  # fmt: skip


def blocks(sql: str) -> dict[str, int]:
    """Names of the blocks of a ``queries.sql`` and the lines they start at."""
    return {match.group(1): sql.count("\n", 0, match.start()) + 1 for match in BLOCK.finditer(sql)}


def blocks_match_functions(queries: Source, store: Source) -> Iterator[Violation]:
    """Both ways: a block without a function, a public function without a block."""
    named = blocks(queries.text)
    public = {
        node.name: node.lineno
        for node in store.tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_")
    }
    for name, line in named.items():
        if name not in public:
            yield Violation(queries.path, line, f"block {name} has no function of that name in {store.path}")
    for name, line in public.items():
        if name not in named:
            yield Violation(store.path, line, f"{name}() has no block of that name in {queries.path}")


def foreign_schemas(sql: Source) -> Iterator[Violation]:
    """A module's SQL (queries and migrations) names only its own schema; aliases are not schemas."""
    own = sql.module or "cluster"
    text = STRING.sub(_blank, COMMENT.sub(_blank, sql.text))
    for match in QUALIFIED.finditer(text):
        schema = match.group(1)
        if schema in SCHEMAS and schema != own and not SHARED_FUNCTIONS.match(match.group(0)):
            yield Violation(
                sql.path, text.count("\n", 0, match.start()) + 1, f"{match.group(0).rstrip(' (')}: only schema {own} is this module's"
            )


def _blank(match: re.Match[str]) -> str:
    return "\n" * match.group(0).count("\n")
