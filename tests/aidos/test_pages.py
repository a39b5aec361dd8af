"""The pages of the documentation show only what is there: each command is one that ``aidos`` takes, each call one that the client has."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

import aidos
from aidos.cli.root import app
from aidos.client import Client
from tests.architecture.source import ROOT, dotted

pytestmark = pytest.mark.plain

PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
FILES = ("model.onnx", "card.md", "requirements.txt", "example.json", "digits/0.png")
"""What is asked to be there when a command is parsed."""
_SIGNS = set("|&;<>()")
_VARIABLE = re.compile(r"[A-Z_]+=")


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def commands(text: str) -> Iterator[list[str]]:
    """The words of each call of ``aidos`` behind a prompt, as a shell splits them."""
    for line in text.replace("\\\n", " ").splitlines():
        if line.startswith("$ "):
            lexer = shlex.shlex(line[2:], posix=True, punctuation_chars=True)
            lexer.whitespace_split, lexer.commenters = True, "#"
            words: list[str] = []
            for word in [*lexer, "|"]:
                if not set(word) <= _SIGNS:
                    words += [] if not words and _VARIABLE.match(word) else [word]
                else:
                    if words and Path(words[0]).name == "aidos":
                        yield words[1:]
                    words = []


def parse(words: list[str]) -> None:
    """As far as ``aidos`` comes before it does something. Raises: TyperException."""
    command, context = typer.main.get_command(app), None
    name: str | None = "aidos"
    while isinstance(command, TyperGroup):
        context = command.make_context(name, list(words), parent=context)
        name, found, words = command.resolve_command(context, [*context._protected_args, *context.args])
        assert found
        command = found
    command.make_context(name, list(words), parent=context)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
class TestPage:
    def test_shows_commands_that_are_taken(self, page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        for file in FILES:
            Path(file).parent.mkdir(exist_ok=True)
            Path(file).touch()
        for block in blocks(page, "console"):
            for words in commands(block):
                try:
                    parse(words)
                except TyperException as error:
                    pytest.fail(f"aidos {shlex.join(words)}: {error}")

    def test_shows_calls_that_the_client_has(self, page: Path) -> None:
        with Client("http://127.0.0.1:9", "aidos_none") as client:
            known = {"aidos": aidos, "client": client}
            for block in blocks(page, "python"):
                for node in ast.walk(ast.parse(block)):
                    if isinstance(node, ast.Attribute) and (path := dotted(node).split("."))[0] in known:
                        found = known[path[0]]
                        for depth, name in enumerate(path[1:], 2):
                            assert hasattr(found, name), ".".join(path[:depth])
                            found = getattr(found, name)


class TestParsing:
    @pytest.mark.parametrize("words", ["nothing", "run compare --nope", "study wait", "lineage x --depth abc", "study create --name"])
    def test_refuses_what_is_not_there(self, words: str) -> None:
        with pytest.raises(TyperException):
            parse(words.split())

    def test_finds_each_call_in_a_line(self) -> None:
        line = "$ AIDOS_URL=x aidos job list --json | jq '.[0] | .id' && .venv/bin/aidos run get \"$ID\"   # aidos up"
        assert list(commands(line)) == [["job", "list", "--json"], ["run", "get", "$ID"]]
