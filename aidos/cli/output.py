"""How a value looks: tables and records for people, JSON for programs."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from rich.console import Console

# What could move the cursor or recolour the terminal; a name in a table must not.
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_LAST = ("id", "updated_at")
_FIRST = ("name", "version", "ref", "path", "key", "state")
_NEVER = ("org_id", "project_id")
_LINE_FIELDS = ("text", "line", "message", "data")


class Screen(Protocol):
    """Where output goes: what a session gives of itself."""

    as_json: bool

    @property
    def out(self) -> Console: ...

    def note(self, text: str) -> None: ...


def show(screen: Screen, value: Any) -> None:
    """Print it on standard output, whole."""
    if screen.as_json:
        _write(json.dumps(to_json(value), indent=2, ensure_ascii=False))
    elif isinstance(value, bytes):
        sys.stdout.buffer.write(value)
    elif isinstance(value, str):
        _write(value)
    elif value is None:
        screen.note("Done.")
    elif (record := _fields(value)) is not None:
        _show_record(screen, record)
    elif isinstance(value, Iterable):
        show_table(screen, list(value))
    else:
        _write(cell("", value))


def show_line(screen: Screen, value: Any) -> None:
    """Print one of a stream, at once."""
    if screen.as_json:
        _write(json.dumps(to_json(value), ensure_ascii=False))
    elif isinstance(value, str):
        _write(value.removesuffix("\n"))
    else:
        record = _fields(value) or {}
        text = next((record[name] for name in _LINE_FIELDS if isinstance(record.get(name), str)), None)
        _write(text.removesuffix("\n") if text is not None else json.dumps(to_json(value), ensure_ascii=False))
    sys.stdout.flush()


def to_json(value: Any) -> Any:
    """A value as JSON takes it."""
    from pydantic import BaseModel
    from pydantic_core import to_jsonable_python

    if isinstance(value, BaseModel | Mapping | str | int | float | bool | None):
        return to_jsonable_python(value, by_alias=True)
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return [to_json(each) for each in value] if isinstance(value, Iterable) else to_jsonable_python(value)


def show_table(screen: Screen, items: list[Any], columns: tuple[str, ...] | None = None, *, verbatim: bool = False) -> None:
    """Rows under the fields that fit; ``--json`` has them all. ``verbatim``: names and values are a user's, and mean nothing here."""
    from rich.table import Table
    from rich.text import Text

    rows = [record if (record := _fields(item)) is not None else {"value": item} for item in items]
    if not rows:
        screen.note("None.")
        return
    wanted = list(columns) if columns else fitting_columns(rows, screen.out.width)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_edge=False)
    for name in wanted:
        heading = Text(CONTROL.sub("\ufffd", name)) if verbatim else title(name)
        table.add_column(heading, no_wrap=not screen.out.is_terminal, overflow="fold", justify="right" if _numeric(rows, name) else "left")
    for row in rows:
        table.add_row(*(Text(cell("" if verbatim else name, row.get(name))) for name in wanted))
    screen.out.print(table)


def fitting_columns(rows: Sequence[Mapping[str, Any]], width: int) -> list[str]:
    """Fields to show side by side: what names a row first, its id when nothing names it, the rest while there is room."""
    names = [name for name in rows[0] if name not in _NEVER and any(row.get(name) not in (None, "", [], {}) for row in rows)]
    nested = [name for name in names if any(_is_nested(row.get(name)) for row in rows)]
    first = [name for name in _FIRST if name in names]
    if "id" in names and "name" not in names and "path" not in names:
        first.insert(0, "id")
    middle = [name for name in names if name not in (*first, *nested, *_LAST)]
    ordered = first + middle + [name for name in _LAST if name in names and name not in first] + nested
    shown: list[str] = []
    for name in ordered or list(rows[0])[:1]:
        needed = max([len(title(name)), *(len(cell(name, row.get(name))) for row in rows)]) + 2
        if shown and needed > width:
            continue
        width -= needed
        shown.append(name)
    return shown


def _is_nested(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and any(isinstance(each, dict) for each in value))


def cell(name: str, value: Any) -> str:
    """A value as short text without control characters."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, int) and name.endswith("_bytes"):
        return bytes_text(value)
    if isinstance(value, int) and name.endswith("micro_usd"):
        return f"${value / 1e6:,.4f}"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, list | tuple) and all(isinstance(each, str | int | float) for each in value):
        value = ", ".join(map(str, value))
    elif isinstance(value, list | tuple | dict):
        value = json.dumps(to_json(value), ensure_ascii=False)
    return CONTROL.sub("\ufffd", str(value))


def bytes_text(count: float) -> str:
    """``1536`` is ``1.5 kB``; decimal, as disks are sold."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def title(name: str) -> str:
    for unit in ("_bytes", "_at", "_micro_usd"):
        name = name.removesuffix(unit)
    return name.replace("micro_usd", "cost").replace("_", " ").upper()


def _show_record(screen: Screen, record: Mapping[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    lists = {
        name: value for name, value in record.items() if isinstance(value, list) and value and all(isinstance(each, dict) for each in value)
    }
    for name, value in record.items():
        if name not in _NEVER and name not in lists:
            for place, part in _parts(name, value):
                table.add_row(Text(place), Text(cell(place, part)))
    screen.out.print(table)
    for name, value in lists.items():
        screen.out.print(f"\n{title(name)}", style="bold")
        show_table(screen, value)


def _parts(name: str, value: Any) -> list[tuple[str, Any]]:
    """A record in a record line by line, without what says nothing."""
    if not isinstance(value, dict) or not value:
        return [(name, value)]
    return [(f"{name}.{inner}", part) for inner, part in value.items() if inner not in _NEVER and part not in (None, "", [], {})]


def _fields(value: Any) -> dict[str, Any] | None:
    from pydantic import BaseModel

    if isinstance(value, BaseModel):
        return {name: _whole(getattr(value, name)) for name in type(value).model_fields}
    return dict(value) if isinstance(value, Mapping) else None


def _whole(value: Any) -> Any:
    """Nested models as mappings, so that a cell or a table can hold them."""
    if isinstance(value, list | tuple):
        return [_whole(each) for each in value]
    return value if (fields := _fields(value)) is None else fields


def _numeric(rows: Sequence[Mapping[str, Any]], name: str) -> bool:
    return all(isinstance(row.get(name), int | float | None) and not isinstance(row.get(name), bool) for row in rows)


def _write(text: str) -> None:
    sys.stdout.write(text + "\n")
