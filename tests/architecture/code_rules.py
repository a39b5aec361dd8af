"""STYLE.md's table as functions from a source file to its violations; the numbers are the table's."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from fnmatch import fnmatch

from tests.architecture.source import PLATFORM, Source, Violation, body_lines, dotted, import_names

# Rule 2. Imports inside a function that have a reason: (path pattern, first part of the imported name) -> why.
IMPORTS_IN_FUNCTIONS = {
    ("aidos/cli/*.py", "*"): "the command answers --help and completion before it loads what one verb needs",
    ("cluster/commands.py", "*"): "the operator's verbs start before, and without, Ray and PostgreSQL",
    ("*", "ray"): "a second to import; the process that needs no Ray must not pay it",
    ("*", "torch"): "two seconds and 300 MB; only the process that computes loads it",
}
HEAVY_IMPORT_FILES = (
    "*/train_loop.py",
    "*/actor.py",
    "*/app.py",
    "*/pipeline.py",
    "*/reconciler.py",
    "cluster/*.py",
)

# Rule 8. Who may look at the environment.
ENVIRONMENT_READERS = {
    "cluster/settings.py": "the platform's settings",
    "aidos/config.py": "the client's settings",
    "cluster/launch.py": "becomes the program that it starts",
    "tune/studies/fork_server.py": "becomes the program that it forks",
    "tune/trainos/job_environment.py": "a job's processes: what they find, and what they must not",
}

ROUTE_DECORATORS = {"get", "post", "put", "patch", "delete", "head", "options", "websocket", "api_route"}
PICKLE_MODULES = {"pickle", "cloudpickle", "joblib", "dill", "marshal", "shelve", "jsonpickle", "_pickle"}
UNSAFE_LOADS = {
    "torch.load",
    "torch.jit.load",
    "torch.export.load",
    "yaml.unsafe_load",
    "yaml.full_load",
    "ray.cloudpickle",
    "pandas.read_pickle",
}
VAGUE_NAME = re.compile(r"(Manager|Helpers?|Utils?)($|[A-Z_0-9])")
VAGUE_FILE = re.compile(r"(^|_)(utils?|helpers?|manager|misc)\.py$")
SQL = re.compile(
    r"\s*(select\s.+\sfrom\s+\w+\.\w|insert\s+into\s+\w+\.\w|update\s+\w+\.\w+\s|delete\s+from\s|create\s+(table|schema|index)\s)",
    re.I | re.S,
)


def imports_inside_functions(source: Source) -> Iterator[Violation]:
    """Rule 2: a cycle is broken by moving code, not by importing late."""
    seen: set[int] = set()
    for function in source.functions:
        for node in ast.walk(function):
            if id(node) in seen:
                continue
            seen.add(id(node))
            for name in import_names(node):
                if not _late_import_allowed(source.path, name):
                    yield source.at(node, f"imports {name} inside {function.name}(): import at the top, or move the code")


def _late_import_allowed(path: str, name: str) -> bool:
    first = name.split(".")[0]
    for pattern, what in IMPORTS_IN_FUNCTIONS:
        if what == "*" and fnmatch(path, pattern):
            return True
        if what == first and any(fnmatch(path, heavy) for heavy in HEAVY_IMPORT_FILES):
            return True
    return False


def ray_remote_places(source: Source) -> Iterator[Violation]:
    """Rule 3: actor classes are plain; ``ray.remote`` stands in ``get_or_create_<noun>()``."""
    allowed: set[int] = set()
    for function in source.functions:
        if function.name.startswith("get_or_create_"):
            allowed |= {id(node) for statement in function.body for node in ast.walk(statement)}
    for node in source.nodes:
        if "ray.remote" in import_names(node):
            yield source.at(node, "imports remote from ray: write ray.remote(Class) in get_or_create_<noun>()")
        elif isinstance(node, ast.Attribute) and dotted(node) == "ray.remote" and id(node) not in allowed:
            yield source.at(node, "ray.remote outside get_or_create_<noun>()")


def serve_declarations(source: Source) -> Iterator[Violation]:
    """Rule 3: Serve deployments are declared in two kinds of file."""
    if source.path == "api/gateway.py" or fnmatch(source.path, "serve_apps/*/app.py"):
        return
    for node in source.nodes:
        declared = isinstance(node, ast.Attribute) and dotted(node) in {"serve.deployment", "serve.ingress", "ray.serve.deployment"}
        imported = any(name in {"ray.serve.deployment", "ray.serve.ingress"} for name in import_names(node))
        if declared or imported:
            yield source.at(node, "declares a Serve deployment: that belongs into serve_apps/<module>/app.py or api/gateway.py")


def transaction_ends(source: Source) -> Iterator[Violation]:
    """Rule 7: the transaction opens at the edge; nobody else commits. Migrations run before there is an edge."""
    if source.path in {"cluster/db.py", "cluster/migrate.py"}:
        return
    for node in source.nodes:
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in {"commit", "rollback"}
            and not node.args
        ):
            yield source.at(node, f".{node.func.attr}() outside cluster/db.py")
        # Database.transaction(project=…) is the edge's own verb; only psycopg's bare one is reserved.
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "transaction"
            and dotted(node.func.value).rsplit(".", 1)[-1] in {"conn", "connection", "cursor"}
        ):
            yield source.at(node, "opens a transaction on a connection that was passed in: that is the edge's to do")


def environment_reads(source: Source) -> Iterator[Violation]:
    """Rule 8: the environment is read once, into frozen settings."""
    if source.path in ENVIRONMENT_READERS:
        return
    for node in source.nodes:
        if isinstance(node, ast.Attribute) and dotted(node) in {"os.environ", "os.getenv", "os.environb", "os.putenv"}:
            yield source.at(node, f"{dotted(node)}: add a field to cluster/settings.py (or aidos/config.py) and pass it")
        elif any(name in {"os.environ", "os.getenv"} for name in import_names(node)):
            yield source.at(node, "imports the environment from os")


def handler_lengths(source: Source) -> Iterator[Violation]:
    """Rule 9: a handler parses, calls one service, returns."""
    if not source.path.startswith(("api/routers/", "api/protocols/")):
        return
    for function in source.functions:
        if any(_is_route(decorator) for decorator in function.decorator_list) and body_lines(function) > 10:
            yield source.at(function, f"handler {function.name}() has {body_lines(function)} lines; 10 is the limit")


def _is_route(decorator: ast.expr) -> bool:
    return isinstance(decorator, ast.Call) and isinstance(decorator.func, ast.Attribute) and decorator.func.attr in ROUTE_DECORATORS


def lengths(source: Source) -> Iterator[Violation]:
    """Rule 10: 600 lines a module, 60 a function body."""
    lines = source.text.count("\n") + 1
    if lines > 600:
        yield Violation(source.path, 1, f"{lines} lines; 600 is the hard stop")
    for function in source.functions:
        if body_lines(function) > 60:
            yield source.at(function, f"{function.name}() has {body_lines(function)} lines; 60 is the hard stop")


def vague_names(source: Source) -> Iterator[Violation]:
    """Names: never Manager, Helper, Utils."""
    if VAGUE_FILE.search(source.name):
        yield Violation(source.path, 1, "a file is named by what it holds")
    for node in source.nodes:
        if isinstance(node, ast.ClassDef) and VAGUE_NAME.search(node.name):
            yield source.at(node, f"class {node.name}: name it by what it does")


def unsafe_deserialisation(source: Source) -> Iterator[Violation]:
    """SECURITY.md I6: no generic loader in platform code."""
    for node in source.nodes:
        for name in import_names(node):
            if name.split(".")[0] in PICKLE_MODULES or name in UNSAFE_LOADS:
                yield source.at(node, f"imports {name}: safetensors, ONNX and JSON are the only formats that are loaded")
        if isinstance(node, ast.Attribute) and dotted(node) in UNSAFE_LOADS:
            yield source.at(node, f"{dotted(node)} can run code from the file")
        if isinstance(node, ast.Call):
            yield from _unsafe_call(source, node)


def _unsafe_call(source: Source, call: ast.Call) -> Iterator[Violation]:
    name = dotted(call.func)
    if any(
        word.arg == "allow_pickle" and not (isinstance(word.value, ast.Constant) and word.value.value is False) for word in call.keywords
    ):
        yield source.at(call, f"{name}(allow_pickle=…) can run code from the file")
    if name == "yaml.load":
        loader = next((word.value for word in call.keywords if word.arg == "Loader"), call.args[1] if len(call.args) > 1 else None)
        if loader is None or not dotted(loader).endswith("SafeLoader"):
            yield source.at(call, "yaml.load without SafeLoader")


def sql_outside_stores(source: Source) -> Iterator[Violation]:
    """``store.py`` and ``queries.sql`` hold the only SQL; the substrate has its own, and the client a SQLite file of what it pushed."""
    if source.name == "store.py" or source.package in {"cluster", "aidos"}:
        return
    for node in source.nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and SQL.match(node.value):
            yield source.at(node, "SQL outside a store")


def foreign_store_imports(source: Source) -> Iterator[Violation]:
    """Rule 6: a store is imported by its own folder only: a module, or a part of one."""
    for node in source.nodes:
        for name in import_names(node):
            parts = name.split(".")
            if (
                len(parts) > 2
                and parts[0] in PLATFORM
                and "store" in parts[2:5]
                and "/".join(parts[: parts.index("store")]) != source.folder
            ):
                yield source.at(node, f"imports {name}: call {'.'.join(parts[: parts.index('store')])}.service")


def test_crutches(source: Source) -> Iterator[Violation]:
    """Tests: no sleeps that wait for luck, no mocks."""
    for node in source.nodes:
        for name in import_names(node):
            if name.startswith("unittest.mock") or name in {"unittest.mock", "mock", "time.sleep"}:
                yield source.at(node, f"imports {name}: write a fake in tests/support, wait with tests.support.waiting")
        if not isinstance(node, ast.Call):
            continue
        name = dotted(node.func)
        if name == "time.sleep" or name.endswith(("MagicMock", "mock.patch")):
            yield source.at(node, f"{name}(): wait on a condition with a deadline, or write a fake")
        if name in {"asyncio.sleep", "anyio.sleep"} and not _is_short(node):
            yield source.at(node, f"{name}() of a second or more")


def _is_short(call: ast.Call) -> bool:
    argument = call.args[0] if call.args else None
    return not isinstance(argument, ast.Constant) or (isinstance(argument.value, int | float) and argument.value < 1)
