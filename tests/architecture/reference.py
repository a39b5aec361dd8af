"""Pages that are made from the code: ``docs/settings.md`` and ``docs/errors.md``. ``make docs`` writes them, a test compares."""

from __future__ import annotations

import ast
import importlib

from aidos.errors import AidosError, registered
from cluster.settings import Settings
from tests.architecture.source import ROOT, Source, dotted, platform


def settings_page() -> str:
    rows = []
    for name, field in Settings.model_fields.items():
        variable = str(field.validation_alias or f"AIDOS_{name.upper()}")
        default = "" if field.default_factory else str(field.default)
        if name == "home":
            default = "~/.aidos"
        rows.append(f"| `{variable}` | {_cell(default)} | {field.description or ''} |")
    return _page(
        "Settings",
        "Read once, when a process starts, from the environment; what the environment does not say comes from the secret files under "
        "`AIDOS_HOME`. Units stand in the names.",
        "| variable | default | meaning |\n|---|---|---|",
        rows,
    )


def _cell(default: str) -> str:
    return f"`{default}`" if default and default != "**********" else ""


def errors_page() -> str:
    rows = [f"| {cls.status} | `{urn}` | {cls.title} | {cls.detail} |" for urn, cls in sorted(declared_errors().items(), key=_order)]
    return _page(
        "Errors",
        "Every error is an RFC 9457 problem (`application/problem+json`); the names in braces travel as extension members.",
        "| status | type | title | detail |\n|---|---|---|---|",
        rows,
    )


def _order(item: tuple[str, type[AidosError]]) -> tuple[int, str]:
    return item[1].status, item[0]


def declared_errors() -> dict[str, type[AidosError]]:
    """All errors of the platform: imports each file that declares one, so that it does not matter what ran before."""
    modules = {source.path.removesuffix(".py").replace("/", ".") for source in platform() if _declares_errors(source)}
    for module in modules:
        importlib.import_module(module)
    # Sorted: test processes must collect the same tests in the same order.
    return {urn: cls for urn, cls in sorted(registered().items()) if cls.__module__ in modules}


def _declares_errors(source: Source) -> bool:
    bases = {dotted(base).rsplit(".", 1)[-1] for node in source.tree.body if isinstance(node, ast.ClassDef) for base in node.bases}
    return source.name == "errors.py" or bool(bases & {"AidosError", *(kind.__name__ for kind in AidosError.__subclasses__())})


def _page(title: str, text: str, header: str, rows: list[str]) -> str:
    return f"# {title}\n\n{text}\n\nThis page is made from the code by `make docs`.\n\n{header}\n" + "\n".join(rows) + "\n"


PAGES = {"docs/settings.md": settings_page, "docs/errors.md": errors_page}

if __name__ == "__main__":
    for path, page in PAGES.items():
        (ROOT / path).write_text(page())
