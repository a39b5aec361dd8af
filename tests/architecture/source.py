"""The project's own files as values, so that a rule can be run on a planted example as well as on the tree."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PLATFORM = ("aidos", "api", "actors", "cluster", "dashboards", "data_pipelines", "serve_apps", "tune")
TIERS = ("actors", "data_pipelines", "serve_apps", "tune")
SKIPPED_FOLDERS = {".venv", ".git", "node_modules", "dist", "build", "__pycache__"}


@dataclass(frozen=True)
class Violation:
    """One broken rule at one place; ``str()`` is what a failing test prints."""

    path: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}"


@dataclass(frozen=True)
class Source:
    """A file by its path from the project's root."""

    path: str
    text: str

    @functools.cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)

    @functools.cached_property
    def nodes(self) -> tuple[ast.AST, ...]:
        """Every node of ``tree``: one walk for all rules."""
        return tuple(ast.walk(self.tree))

    @functools.cached_property
    def functions(self) -> tuple[ast.FunctionDef | ast.AsyncFunctionDef, ...]:
        return tuple(node for node in self.nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))

    @property
    def package(self) -> str:
        """First folder of the path."""
        return self.path.split("/", 1)[0]

    @property
    def folder(self) -> str:
        return self.path.rsplit("/", 1)[0] if "/" in self.path else ""

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[-1]

    @property
    def module(self) -> str | None:
        """The module that the file belongs to (``modelhub``), or None for the substrate, the gateway and the client."""
        parts = self.path.split("/")
        return parts[1] if parts[0] in TIERS and len(parts) > 2 else None

    def at(self, node: ast.AST, message: str) -> Violation:
        return Violation(self.path, getattr(node, "lineno", 1), message)


def load(*folders: str, suffix: str = ".py") -> list[Source]:
    """All files with ``suffix`` under ``folders`` (or anywhere), by path."""
    roots = [ROOT / folder for folder in folders] if folders else [ROOT]
    found = [path for root in roots if root.is_dir() for path in _walk(root) if path.name.endswith(suffix)]
    return [Source(str(path.relative_to(ROOT)), path.read_text(encoding="utf-8", errors="replace")) for path in sorted(found)]


def _walk(folder: Path) -> Iterator[Path]:
    for entry in folder.iterdir():
        if entry.is_dir():
            if entry.name not in SKIPPED_FOLDERS and not entry.name.endswith(".egg-info"):
                yield from _walk(entry)
        elif entry.is_file():
            yield entry


@functools.cache
def platform() -> tuple[Source, ...]:
    return tuple(load(*PLATFORM))


def dotted(node: ast.AST) -> str:
    """``a.b.c`` of an attribute chain, or an empty string for anything else."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return ""
    return ".".join(reversed([*parts, node.id]))


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of the body without its docstring."""
    body = function.body
    if isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant) and isinstance(body[0].value.value, str):
        body = body[1:]
    return (body[-1].end_lineno or body[-1].lineno) - body[0].lineno + 1 if body else 0


def import_names(node: ast.AST) -> list[str]:
    """Dotted names that an import statement brings in: ``from a.b import c`` gives ``a.b.c``."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [f"{node.module or ''}.{alias.name}" for alias in node.names]
    return []
