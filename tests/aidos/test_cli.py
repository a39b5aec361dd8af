"""The command: arguments in, one document or table out, errors as one sentence and an exit code."""

from __future__ import annotations

import importlib
import json
import os
import re
import resource
import shlex
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import typer
from starlette.responses import JSONResponse, Response
from typer.testing import CliRunner, Result

from aidos import resources
from aidos.cli.generated import kind_of, parse_pairs
from aidos.cli.output import bytes_text, cell, fitting_columns, show, show_table
from aidos.cli.root import RootGroup, app, root, verbs_of
from aidos.cli.session import Session
from aidos.client import Client
from aidos.errors import InvalidRequest
from tests.aidos.counterpart import Counterpart, events, problem
from tests.aidos.nouns import WidgetCreate, Widgets

SCRIPT = [sys.executable, "-c", "from aidos.cli import main; main()"]


@pytest.fixture
def trial() -> typer.Typer:
    """The command with one noun of no module."""
    group = typer.Typer(cls=verbs_of(Widgets, {}), rich_markup_mode=None)
    group.callback()(lambda: None)
    trial = typer.Typer(cls=RootGroup, rich_markup_mode=None, pretty_exceptions_enable=False)
    trial.callback()(root)
    trial.add_typer(group, name="widget")
    return trial


@pytest.fixture
def aidos(trial: typer.Typer, counterpart: Counterpart, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("AIDOS_URL", counterpart.url)
    monkeypatch.setenv("AIDOS_API_KEY", "the-key")
    monkeypatch.setenv("AIDOS_RETRY_BUDGET_S", "0.2")

    def run(*args: str, input: str | None = None, of: typer.Typer = trial) -> Result:
        return CliRunner().invoke(of, list(args), input=input)

    return run


class TestArguments:
    def test_become_the_body_that_the_route_takes(self, aidos: Any, counterpart: Counterpart) -> None:
        words = "widget create digits --kind square --replicas 3 --tags a --tags b --labels x=1 --labels y=a=b --part"
        result = aidos(*words.split(), '{"size": 2}', "--password", "opensesame")
        assert result.exit_code == 0, result.output
        assert counterpart.seen[0].body == {
            "name": "digits",
            "kind": "square",
            "replicas": 3,
            "tags": ["a", "b"],
            "labels": {"x": "1", "y": "a=b"},
            "part": {"size": 2},
            "password": "opensesame",
        }

    def test_leave_the_defaults_to_the_model(self, aidos: Any, counterpart: Counterpart) -> None:
        aidos("widget", "create", "digits")
        assert counterpart.seen[0].body == WidgetCreate(name="digits").model_dump()
        aidos("widget", "update", "digits", "--note", "x", "--if-match", '"7"')
        assert counterpart.seen[1].body == {"note": "x"} and counterpart.seen[1].headers["if-match"] == '"7"'

    def test_read_files_and_standard_input(self, aidos: Any, counterpart: Counterpart, tmp_path: Path) -> None:
        (tmp_path / "part.json").write_text('{"size": 9}')
        (tmp_path / "raw").write_bytes(b"\x00\xff")
        assert aidos("widget", "create", "a", "--part", f"@{tmp_path / 'part.json'}").exit_code == 0
        assert aidos("widget", "create", "b", "--part", "@-", input='{"size": 8}').exit_code == 0
        assert aidos("widget", "send", "c", "--file", str(tmp_path / "raw")).exit_code == 0
        assert [counterpart.seen[0].body["part"], counterpart.seen[1].body["part"], counterpart.seen[2].body] == [
            {"size": 9},
            {"size": 8},
            b"\x00\xff",
        ]

    def test_become_the_query(self, aidos: Any, counterpart: Counterpart) -> None:
        counterpart.plan(JSONResponse({"items": []}))
        assert aidos("widget", "list", "--state", "ON", "--no-deep", "--limit", "7").exit_code == 0
        assert counterpart.seen[0].query == {"state": "ON", "deep": "false", "limit": "7"}

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["widget", "create"], "Missing argument 'NAME'"),
            (["widget", "create", "a", "--kind", "oval"], "oval"),
            (["widget", "create", "a", "--replicas", "many"], "--replicas"),
            (["widget", "create", "a", "--replicas", "0"], "replicas: Input should be greater than or equal to 1"),
            (["widget", "create", "a b"], "name: "),
            (["widget", "create", "a", "--part", "{"], "must be JSON"),
            (["widget", "create", "a", "--part", '{"colour": 1}'], "part.size: Field required; part.colour: "),
            (["widget", "create", "a", "--labels", "x"], "KEY=VALUE"),
            (["widget", "get", ".."], "must not be"),
            (["widget", "search"], "--q"),
            (["widget", "fly"], "fly"),
        ],
    )
    def test_wrong_ones_are_usage_errors_and_send_nothing(self, aidos: Any, counterpart: Counterpart, words: list[str], said: str) -> None:
        result = aidos(*words)
        assert result.exit_code == 2 and said in result.stderr and "Traceback" not in result.output
        assert counterpart.seen == []

    def test_global_options_stand_in_front_or_behind(self, aidos: Any, counterpart: Counterpart) -> None:
        for words in (["--project", "vision", "--json", "widget", "get", "a"], ["widget", "get", "a", "--project", "vision", "--json"]):
            result = aidos(*words)
            assert json.loads(result.stdout) == {"name": "digits", "id": None}
        assert {seen.headers["x-aidos-project"] for seen in counterpart.seen} == {"vision"}

    def test_an_option_of_one_call_does_not_stay_for_the_next(self, aidos: Any) -> None:
        assert aidos("widget", "get", "a", "--json").stdout.startswith("{")
        assert not aidos("widget", "get", "a").stdout.startswith("{")


class TestOutput:
    def test_a_list_is_a_table_or_one_json_array(self, aidos: Any, counterpart: Counterpart) -> None:
        items = {"items": [{"name": "a"}, {"name": "b\x1b[31m"}]}
        counterpart.plan(JSONResponse(items), JSONResponse(items))
        table = aidos("widget", "list").stdout
        assert [line.split() for line in table.splitlines()] == [["NAME"], ["a"], ["b\ufffd[31m"]]
        assert [item["name"] for item in json.loads(aidos("widget", "list", "--json").stdout)] == ["a", "b\x1b[31m"]

    def test_a_stream_is_printed_as_it_comes(self, aidos: Any, counterpart: Counterpart) -> None:
        stream = 'data: {"text": "one"}\n\ndata: {"text": "two\\n"}\n\nevent: end\ndata: {}\n\n'
        counterpart.plan(events(stream), events(stream))
        assert aidos("widget", "logs", "a").stdout == "one\ntwo\n"
        lines = aidos("widget", "logs", "a", "--json").stdout.splitlines()
        assert [json.loads(line)["text"] for line in lines] == ["one", "two\n"]

    def test_bytes_come_unchanged(self, aidos: Any, counterpart: Counterpart) -> None:
        counterpart.plan(Response(b"\x00\xff"))
        assert aidos("widget", "fetch", "a").stdout_bytes == b"\x00\xff"

    def test_nothing_is_null_for_programs(self, aidos: Any, counterpart: Counterpart) -> None:
        counterpart.plan(Response(status_code=204), Response(status_code=204))
        assert json.loads(aidos("widget", "delete", "a", "--json").stdout) is None
        assert aidos("widget", "delete", "a").stdout == ""

    def test_lists_in_a_record_are_tables_of_their_own(self, aidos: Any, counterpart: Counterpart) -> None:
        lease = {"name": "reconciler", "holder": "vm:1", "epoch": 3, "expires_at": "2026-11-21T23:17:40.493594Z"}
        counterpart.plan(JSONResponse({"version": "0.1.0", "parts": [], "leases": [lease], "consumers": []}))
        lines = aidos("platform", "status", of=app).stdout.splitlines()
        assert lines[0].split() == ["version", "0.1.0"] and "LEASES" in lines
        assert re.search(r"reconciler +vm:1 +3 +2026-11-2\d \d\d:\d\d:40$", lines[-1].rstrip())

    def test_a_record_in_a_record_is_read_line_by_line(self, capsys: pytest.CaptureFixture[str]) -> None:
        show(Session(), {"outcome": "merged", "commit": {"id": "c-1", "org_id": "o", "author": "ada", "size_bytes": 1536, "metadata": {}}})
        lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
        assert [(name, value.strip()) for name, value in lines] == [
            ("outcome", "merged"), ("commit.id", "c-1"), ("commit.author", "ada"), ("commit.size_bytes", "1.5 kB"),
        ]  # fmt: skip

    def test_a_users_table_keeps_its_own_names_and_numbers(self, capsys: pytest.CaptureFixture[str]) -> None:
        show_table(Session(), [{"seen_at": "today", "paid_bytes": 1536}], verbatim=True)
        heading, row = capsys.readouterr().out.splitlines()
        assert heading.split() == ["seen_at", "paid_bytes"] and row.split() == ["today", "1536"]

    def test_columns_fit_and_the_name_stays(self) -> None:
        rows = [{"id": "0" * 36, "name": "digits", "description": "x" * 60, "state": "READY", "org_id": "1", "spec": {"a": 1}}]
        assert fitting_columns(rows, 20) == ["name", "state"]
        assert fitting_columns(rows, 400) == ["name", "state", "description", "id", "spec"]

    @pytest.mark.parametrize(
        ("name", "value", "text"),
        [
            ("size_bytes", 1536, "1.5 kB"),
            ("x", True, "yes"),
            ("micro_usd", 1_234_500, "$1.2345"),
            ("x", None, ""),
            ("x", 0.1 + 0.2, "0.3"),
            ("x", ["a", "b"], "a, b"),
            ("x", {"a": 1}, '{"a": 1}'),
        ],
    )
    def test_cells_are_short(self, name: str, value: Any, text: str) -> None:
        assert cell(name, value) == text

    def test_sizes(self) -> None:
        assert [bytes_text(count) for count in (0, 999, 1000, 123_456_789, 2e15)] == ["0 B", "999 B", "1.0 kB", "123 MB", "2000.0 TB"]


class TestFailure:
    @pytest.mark.parametrize(
        ("status", "code"), [(500, 1), (400, 2), (422, 2), (404, 3), (401, 4), (403, 4), (409, 5), (412, 5), (413, 6), (429, 6), (503, 7)]
    )
    def test_has_an_exit_code_that_means_something(self, aidos: Any, counterpart: Counterpart, status: int, code: int) -> None:
        counterpart.plan(*[problem(status, "urn:aidos:some:thing")] * 20)
        result = aidos("widget", "get", "a")
        assert (result.exit_code, result.stdout) == (code, "")
        assert result.stderr.startswith("Error: It did not work. (request req-1)") and "Traceback" not in result.stderr

    def test_is_json_for_programs(self, aidos: Any, counterpart: Counterpart) -> None:
        counterpart.plan(problem(404, "urn:aidos:modelhub:run-not-found", run="r1"))
        error = json.loads(aidos("widget", "get", "a", "--json").stderr)["error"]
        assert (error["run"], error["exit_code"], error["request_id"]) == ("r1", 3, "req-1") and "It did not work" in error["detail"]

    def test_nobody_there_is_unavailable_and_says_what_to_do(self, aidos: Any) -> None:
        result = aidos("--url", "http://127.0.0.1:9", "widget", "get", "a")
        assert result.exit_code == 7 and "does not answer" in result.stderr and "aidos up" in result.stderr

    def test_a_wrong_address_is_a_usage_error(self, aidos: Any) -> None:
        result = aidos("widget", "get", "a", "--url", "localhost:8000")
        assert result.exit_code == 2 and "http://" in result.stderr

    def test_a_missing_file_is_said(self, aidos: Any) -> None:
        result = aidos("widget", "send", "a", "--file", "/nowhere/at/all")
        assert result.exit_code == 1 and result.stderr == "Error: No such file or directory: /nowhere/at/all.\n"

    def test_a_command_of_the_platform_that_is_not_installed_says_how(self, aidos: Any) -> None:
        client_only = typer.Typer(cls=RootGroup, pretty_exceptions_enable=False)
        client_only.callback()(root)

        @client_only.command()
        def up() -> None:
            importlib.import_module("no_such_package")

        result = aidos("up", of=client_only)
        assert result.exit_code == 1 and "no_such_package" in result.stderr and "aidos[server]" in result.stderr

    def test_a_fault_of_ours_shows_no_traceback(self, aidos: Any, counterpart: Counterpart, monkeypatch: pytest.MonkeyPatch) -> None:
        broken = typer.Typer(cls=RootGroup, pretty_exceptions_enable=False)
        broken.callback()(root)

        @broken.command()
        def divide() -> None:
            print(1 / 0)

        result = aidos("divide", of=broken)
        assert result.exit_code == 1 and "ZeroDivisionError" in result.stderr and "Traceback" not in result.stderr


class TestKinds:
    def test_follow_the_type(self) -> None:
        assert kind_of(int | None).annotation is int and kind_of(bool).annotation is bool
        assert kind_of(list[str]).annotation == kind_of(dict[str, str]).annotation == list[str]
        assert kind_of(list[int]).annotation == kind_of(tuple[int, int]).annotation == list[int]
        assert kind_of(int | str).parse("7") == 7 and kind_of(int | str).parse("x") == "x"

    def test_pairs(self) -> None:
        assert parse_pairs(["a=1", '{"b": 2}']) == {"a": "1", "b": 2}
        with pytest.raises(InvalidRequest):
            parse_pairs(["=1"])


class TestCatalogue:
    def test_names_every_noun_and_nothing_else(self) -> None:
        declared = {(each.noun, each.plural, each.__module__.removeprefix("aidos.resources.")) for each in resources.every()}
        assert {entry[:3] for entry in resources.CATALOGUE} == declared

    def test_is_what_the_client_declares_for_type_checkers(self) -> None:
        annotated = {name for name in Client.__annotations__ if name != "transport"}
        assert annotated == {entry.plural for entry in resources.CATALOGUE}

    def test_says_what_the_resource_says(self) -> None:
        for entry in resources.CATALOGUE:
            found = resources.find(noun=entry.noun)
            assert found is not None and entry.help == (found.__doc__ or "").strip().split("\n")[0]


class TestScript:
    def run(self, *args: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*SCRIPT, *args], capture_output=True, text=True, timeout=60, env={**os.environ, **environment}, check=False)

    def test_version(self) -> None:
        assert self.run("--version").stdout == "aidos 0.1.0\n"

    def test_help_names_every_noun(self) -> None:
        text = self.run("--help").stdout
        assert all(f"  {entry.noun} " in text for entry in resources.CATALOGUE) and "Exit codes" in text

    def test_a_call_over_real_http(self, counterpart: Counterpart) -> None:
        counterpart.plan(JSONResponse({"name": "aidos", "version": "9.9.9", "api": "v1"}))
        result = self.run("platform", "version", "--json", AIDOS_URL=counterpart.url)
        assert (result.returncode, json.loads(result.stdout)["version"]) == (0, "9.9.9")

    def test_a_failure_over_real_http(self, counterpart: Counterpart) -> None:
        counterpart.plan(problem(401, "urn:aidos:errors:unauthenticated"))
        result = self.run("endpoint", "get", "digits", AIDOS_URL=counterpart.url)
        assert result.returncode == 4 and result.stderr.splitlines() == [
            "Error: It did not work. (request req-1)",
            "Run `aidos login`, or set AIDOS_API_KEY.",
        ]

    def test_completes_nouns_and_verbs(self) -> None:
        complete = {"_PYTHON_C_COMPLETE": "complete_bash", "_AIDOS_COMPLETE": "complete_bash"}
        assert "endpoint" in self.run(COMP_WORDS="aidos endp", COMP_CWORD="1", **complete).stdout
        assert {"create", "predict"} <= set(self.run(COMP_WORDS="aidos endpoint ", COMP_CWORD="2", **complete).stdout.split())

    def test_answers_before_one_looks_up(self) -> None:
        # Processor time, not the clock's: other work on the machine must not decide.
        assert min(self.seconds("import aidos") for _ in range(3)) < 0.15
        assert min(self.seconds("import sys; sys.argv = ['aidos', '--help']; from aidos.cli import main; main()") for _ in range(3)) < 0.4

    def seconds(self, code: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    def test_the_client_loads_nothing_heavy(self) -> None:
        code = "import sys, aidos, aidos.client, aidos.cli.root; aidos.Client().endpoints; print([n for n in ('ray', 'torch', 'fastapi', 'numpy') if n in sys.modules])"
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
        assert result.stdout == "[]\n"

    def test_a_call_by_a_program_loads_nothing_to_draw_with(self, counterpart: Counterpart) -> None:
        counterpart.plan(JSONResponse({"name": "aidos", "version": "9.9.9", "api": "v1"}))
        code = (
            "import atexit, sys; from aidos.cli import main; sys.argv = ['aidos', 'platform', 'version', '--json'];"
            "atexit.register(lambda: print([n for n in ('httpx', 'rich', 'pygments', 'asyncio') if n in sys.modules])); main()"
        )
        environment = {**os.environ, "AIDOS_URL": counterpart.url}
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True, env=environment)
        assert result.stdout.endswith("\n['httpx']\n")

    def test_a_noun_loads_what_it_speaks_of_and_no_other(self) -> None:
        code = (
            "import sys; from aidos import resources; resources.find(noun='dataset'); print([n for n in sys.modules if 'labelling' in n])"
        )
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
        assert result.stdout == "[]\n"

    def test_import_alone_loads_next_to_nothing(self) -> None:
        code = "import sys; before = set(sys.modules); import aidos; print(sorted({n.split('.')[0] for n in set(sys.modules) - before}))"
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
        assert not {"httpx", "pydantic", "typer", "rich", "anyio"} & set(json.loads(result.stdout.replace("'", '"')))

    def test_a_reader_who_leaves_is_no_error(self, counterpart: Counterpart) -> None:
        line = json.dumps({"seq": 1, "text": "x" * 1000})
        counterpart.plan(events(*[f"data: {line}\n\n"] * 2000, "event: end\ndata: {}\n\n"))
        command = " ".join(shlex.quote(word) for word in [*SCRIPT, "job", "stream", "train"]) + " | head -n 1"
        result = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command],
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "AIDOS_URL": counterpart.url},
            check=False,
        )
        assert "Traceback" not in result.stderr and result.stdout.count("\n") == 1

    def test_an_interrupt_ends_it_quietly(self, counterpart: Counterpart) -> None:
        held = threading.Event()
        counterpart.plan(events('data: {"seq": 1, "text": "begun"}\n\n', until=held))
        environment = {**os.environ, "AIDOS_URL": counterpart.url}
        with subprocess.Popen(
            [*SCRIPT, "job", "stream", "train"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        ) as running:
            assert running.stdout and running.stdout.readline() == "begun\n"
            running.send_signal(signal.SIGINT)
            _, said = running.communicate(timeout=20)
        held.set()
        assert running.returncode != 0 and "Traceback" not in said
