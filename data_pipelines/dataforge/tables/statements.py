"""Which SQL is answered: one SELECT over the tables that were named. DuckDB's own parser says what it is.

DuckDB is locked besides (no file but those that were given, no extension, no setting), so this is the first of two walls, and the one
that can say what is wrong.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from typing import Any

import duckdb

FUNCTIONS = frozenset({"unnest", "range", "generate_series"})
"""Table functions that make rows out of values."""
_INTERNAL = frozenset({"current_setting", "getvariable", "nextval", "currval"})


class Refused(Exception):
    """The text is no statement that is answered; the message says why."""


def check_select(connection: duckdb.DuckDBPyConnection, sql: str, tables: Collection[str]) -> None:
    """Raises: Refused unless ``sql`` is one SELECT over ``tables``."""
    (text,) = connection.execute("SELECT json_serialize_sql(?)", [sql]).fetchone() or ("",)
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        raise Refused("The query is nested too deeply.") from None
    if parsed.get("error"):
        if parsed.get("error_type") == "parser":
            raise Refused(f"The query is not SQL: {parsed.get('error_message')}.")
        raise Refused("Only SELECT is answered: nothing can be written, attached, installed or set here.")
    if len(parsed["statements"]) != 1:
        raise Refused(f"One statement is answered at a time, not {len(parsed['statements'])}.")
    named = {name.lower() for name in tables}
    nodes = list(_nodes(parsed))
    defined = {str(entry["key"]).lower() for node in nodes for entry in node.get("cte_map", {}).get("map", ())}
    for node in nodes:
        _check(node, named, defined)


def _check(node: dict[str, Any], tables: set[str], defined: set[str]) -> None:
    kind = node.get("type")
    if kind == "BASE_TABLE":
        path = node["qualified_name"]["path"]
        if len(path) != 1 or path[0].lower() not in tables | defined:
            known = ", ".join(sorted(tables))
            raise Refused(f"There is no table '{'.'.join(path)}' here: the query may read {known}. Name files as tables in 'files'.")
    elif kind == "TABLE_FUNCTION" and (name := str(node["function"].get("function_name")).lower()) not in FUNCTIONS:
        raise Refused(f"The function '{name}' cannot stand in FROM here; files are named as tables in 'files'.")
    elif kind == "FUNCTION" and str(node.get("function_name")).lower() in _INTERNAL:
        raise Refused(f"The function '{node['function_name']}' is not answered here.")


def _nodes(root: Any) -> Iterator[dict[str, Any]]:
    """Every object in it; without recursion, since the depth is the caller's choice."""
    stack = [root]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            yield node
            stack.extend(node.values())
        elif isinstance(node, list):
            stack.extend(node)
