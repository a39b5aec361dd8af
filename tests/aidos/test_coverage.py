"""The gateway's routes, the client's operations and the commands are the same set, parameter by parameter."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import pytest
import typer
from pydantic import BaseModel
from typer.core import TyperGroup

from aidos import resources
from aidos.cli.generated import verb
from aidos.cli.root import HANDWRITTEN_NOUNS, HANDWRITTEN_ROOTS
from aidos.cli.root import app as command
from aidos.http.operation import Operation, Resource
from aidos.http.sessions import SESSIONS
from aidos.http.wire import template
from api.app import build_app, build_edge
from cluster.settings import Settings
from tests.architecture.source import ROOT

# Routes of other protocols, whose clients are not ours.
FOREIGN: tuple[str, ...] = ("/api/2.0/",)
LISTED = {"limit", "cursor"}


@cache
def document() -> dict[str, Any]:
    settings = Settings(database_url="postgresql://nobody@127.0.0.1:9/none", s3_endpoint="http://127.0.0.1:9")  # type: ignore[arg-type]  # pydantic reads them
    return build_app(build_edge(settings)).openapi()


@cache
def routes() -> dict[tuple[str, str], dict[str, Any]]:
    """The OpenAPI operations by method and path."""
    return {
        (method.upper(), path): operation
        for path, operations in document()["paths"].items()
        for method, operation in operations.items()
        if not path.startswith(FOREIGN)
    }


@cache
def operations() -> dict[tuple[str, str], tuple[type[Resource], str, Operation[Any]]]:
    """The declared operations by method and path."""
    return {
        (each.method, template(each.path)): (resource, name, each)
        for resource in resources.every()
        for name, each in resource.operations.items()
    }


@cache
def commands() -> dict[str, list[str]]:
    """The verbs of every noun, as the command offers them."""
    root = typer.main.get_group(command)
    context = typer.Context(root)
    groups = {name: root.get_command(context, name) for name in root.list_commands(context)}
    return {name: group.list_commands(context) for name, group in groups.items() if isinstance(group, TyperGroup)}


def names(operation: dict[str, Any], place: str) -> set[str]:
    return {parameter["name"] for parameter in operation.get("parameters", []) if parameter["in"] == place}


def schema_name(schema: dict[str, Any]) -> str:
    # Two modules' models of one name are told apart by their path in the document: aidos__schemas__trainos__CheckpointRead.
    return str(schema.get("$ref", "")).rsplit("/", 1)[-1].rsplit("__", 1)[-1]


def body_name(operation: dict[str, Any]) -> str:
    content = operation.get("requestBody", {}).get("content", {})
    return schema_name(content.get("application/json", {}).get("schema", {}))


def answer(operation: dict[str, Any]) -> dict[str, Any]:
    """Media types of the answer when it went well."""
    return next((each.get("content", {}) for status, each in operation["responses"].items() if status.startswith("2")), {})


@pytest.mark.plain
class TestOperations:
    def test_are_exactly_the_routes(self) -> None:
        assert sorted(set(routes()) - set(operations())) == [], "routes that no client reaches"
        assert sorted(set(operations()) - set(routes())) == [], "operations without a route"

    def test_are_declared_once(self) -> None:
        declared = [(each.method, template(each.path)) for resource in resources.every() for each in resource.operations.values()]
        assert len(declared) == len(set(declared))

    def test_take_what_the_route_takes(self) -> None:
        wrong = []
        for place, (_, _, declared) in operations().items():
            route = routes().get(place)
            if route is None:
                continue
            query = {name.rstrip("_") for name in declared.query} | (LISTED if declared.paged else set())
            if query != names(route, "query"):
                wrong.append(f"{place}: query {sorted(query)}, the route takes {sorted(names(route, 'query'))}")
            if set(declared.path_parameters) != names(route, "path"):
                wrong.append(f"{place}: path {declared.path_parameters}, the route takes {sorted(names(route, 'path'))}")
            body = declared.body.__name__ if isinstance(declared.body, type) and issubclass(declared.body, BaseModel) else ""
            if body != body_name(route):
                wrong.append(f"{place}: body {body}, the route takes {body_name(route)}")
        assert not wrong, "\n".join(wrong)

    def test_give_what_the_route_gives(self) -> None:
        wrong = []
        for place, (_, _, declared) in operations().items():
            content = answer(routes().get(place, {"responses": {}}))
            if declared.stream and "application/json" in content:
                wrong.append(f"{place}: a stream, and the route answers {sorted(content)}")
            given = schema_name(content.get("application/json", {}).get("schema", {}))
            returns = declared.returns
            expected = returns.__name__ if isinstance(returns, type) and issubclass(returns, BaseModel) else ""
            expected = f"PageOf_{expected}_" if declared.paged else expected
            if not declared.stream and given != expected:
                wrong.append(f"{place}: returns {expected}, the route gives {given}")
        assert not wrong, "\n".join(wrong)

    def test_each_says_what_it_does(self) -> None:
        assert [place for place, (_, _, declared) in operations().items() if not declared.help.endswith(".")] == []

    def test_the_sign_in_uses_declared_routes(self) -> None:
        assert {("POST", SESSIONS), ("POST", f"{SESSIONS}/refresh"), ("POST", f"{SESSIONS}/end")} <= set(operations())


@pytest.mark.plain
class TestCommands:
    def test_by_hand_are_all_joined(self) -> None:
        by_hand = {path.stem for path in (ROOT / "aidos/cli").glob("*.py") if "\ndef register(" in path.read_text()}
        assert by_hand == {*HANDWRITTEN_NOUNS, *HANDWRITTEN_ROOTS}

    def test_reach_every_operation(self) -> None:
        missing = [
            f"{resource.noun} {verb(name)}"
            for resource, name, _ in operations().values()
            if verb(name) not in commands().get(resource.noun, [])
        ]
        assert not missing

    @pytest.mark.parametrize("noun", [entry.noun for entry in resources.CATALOGUE])
    def test_explain_themselves(self, noun: str) -> None:
        root = typer.main.get_group(command)
        context = typer.Context(root)
        group = root.get_command(context, noun)
        assert isinstance(group, TyperGroup)
        for name in commands()[noun]:
            built = group.get_command(context, name)
            assert built is not None and built.help, f"{noun} {name} has no help"
            flags = [flag for parameter in built.params for flag in (*parameter.opts, *parameter.secondary_opts)]
            assert "--json" in flags and len(flags) == len(set(flags)), f"{noun} {name}: {flags}"


@pytest.mark.plain
class TestPages:
    def test_the_command_page_names_every_verb(self) -> None:
        page = (ROOT / "docs/cli.md").read_text().splitlines()
        missing = [
            line for noun, verbs in commands().items() if (line := f"| `{noun}` | {' '.join(f'`{name}`' for name in verbs)} |") not in page
        ]
        assert not missing, "docs/cli.md lacks\n" + "\n".join(missing)

    def test_the_sdk_page_names_every_variable(self) -> None:
        read = set(re.findall(r'"(AIDOS_[A-Z_]+)"', (ROOT / "aidos/config.py").read_text()))
        pages = (ROOT / "docs/sdk.md").read_text() + (ROOT / "docs/cli.md").read_text()
        assert read and not {name for name in read if f"`{name}" not in pages}
