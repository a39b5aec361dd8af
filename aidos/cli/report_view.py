"""A report as people look at it: tables with small histograms, on the terminal and as one page of HTML that needs nothing else.

Both are drawn from the same ``Table`` values. Kinds without a view of their own are shown as their JSON.
"""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aidos.cli.output import CONTROL, bytes_text

if TYPE_CHECKING:
    from aidos.cli.session import Session
    from aidos.schemas.dataforge.reports import ReportRead

_BLOCKS = " ▁▂▃▄▅▆▇█"
_SHOWN = 50


@dataclass(frozen=True)
class Histogram:
    """Counts side by side, from ``low`` to ``high``."""

    counts: tuple[float, ...]
    low: str = ""
    high: str = ""

    @property
    def shares(self) -> list[float]:
        most = max(self.counts, default=0) or 1
        return [count / most for count in self.counts]

    def __str__(self) -> str:
        bars = "".join(_BLOCKS[round(share * (len(_BLOCKS) - 1)) or (1 if share else 0)] for share in self.shares)
        return " ".join(part for part in (self.low, bars, self.high) if part)


@dataclass(frozen=True)
class Table:
    """Rows of text and histograms under a title; without rows there is nothing to say."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


def show(session: Session, report: ReportRead) -> None:
    """On the terminal; with ``--json`` the report itself."""
    if session.as_json or report.result is None:
        session.show(report)
        return
    from rich.table import Table as Grid
    from rich.text import Text

    session.out.print(headline(report), style="bold")
    for table in tables_of(report.kind, report.result):
        grid = Grid(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for name in table.columns:
            grid.add_column(name, overflow="fold")
        for row in table.rows:
            grid.add_row(*(Text(CONTROL.sub("\ufffd", to_text(value))) for value in row))
        session.out.print(f"\n{table.title}", style="bold")
        session.out.print(grid)


def headline(report: ReportRead) -> str:
    return f"{report.kind.replace('_', ' ')} of {report.dataset}@{report.commit_id}, {report.finished_at:%Y-%m-%d %H:%M} UTC"


def to_html(report: ReportRead) -> str:
    """One page, self-contained: no script, nothing loaded."""
    body = "".join(_table_html(table) for table in tables_of(report.kind, report.result or {}))
    title = html.escape(headline(report))
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style><h1>{title}</h1>{body}</html>\n'
    )


_STYLE = (
    "body{font:14px/1.4 system-ui,sans-serif;margin:2rem;color:#222;background:#fff}h1{font-size:1.3rem}h2{font-size:1.05rem;margin-top:2rem}"
    "table{border-collapse:collapse}th,td{text-align:left;padding:.2rem .8rem .2rem 0;border-bottom:1px solid #ddd;vertical-align:bottom}"
    "svg{fill:#3b6ea5}@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}th,td{border-color:#444}svg{fill:#7fb0e0}}"
)


def _table_html(table: Table) -> str:
    head = "".join(f"<th>{html.escape(name)}" for name in table.columns)
    rows = "".join("<tr>" + "".join(f"<td>{_cell_html(value)}" for value in row) for row in table.rows)
    return f"<h2>{html.escape(table.title)}</h2><table><tr>{head}{rows}</table>"


def _cell_html(value: Any) -> str:
    if not isinstance(value, Histogram):
        return html.escape(CONTROL.sub("\ufffd", to_text(value)))
    bars = "".join(
        f'<rect x="{6 * at}" y="{24 - 24 * share:.1f}" width="5" height="{24 * share:.1f}"/>' for at, share in enumerate(value.shares)
    )
    picture = f'<svg width="{6 * len(value.counts)}" height="24" role="img" aria-label="histogram">{bars}</svg>'
    return f"{html.escape(value.low)} {picture} {html.escape(value.high)}"


def to_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def tables_of(kind: str, result: Mapping[str, Any]) -> Iterator[Table]:
    """What there is to see of a result, part by part."""
    view = VIEWS.get(kind)
    tables = view(result) if view else iter([Table("Result", ("",), ((json.dumps(result, indent=2, ensure_ascii=False),),))])
    yield from (table for table in tables if table.rows)
    if quarantine := result.get("quarantine", {}).get("files"):
        yield Table("Set aside", ("FILE", "REASON"), tuple((each["path"], each["reason"]) for each in quarantine))


def _profile(result: Mapping[str, Any]) -> Iterator[Table]:
    files = result["files"]
    kinds = tuple((kind, each["count"], bytes_text(each["size_bytes"])) for kind, each in files["kinds"].items())
    yield Table(f"{files['count']:,} files, {bytes_text(files['size_bytes'])}", ("KIND", "FILES", "SIZE"), kinds)
    table, columns = result.get("table", {}), result.get("table", {}).get("columns", {})
    yield Table(
        f"{table.get('rows', 0):,} rows",
        ("COLUMN", "TYPE", "MISSING", "DISTINCT", "VALUES", "MEAN"),
        tuple(_column(name, column) for name, column in columns.items()),
    )
    yield Table(
        "Classes",
        ("SPLIT", "LABEL", "COUNT"),
        tuple((split, *each) for split, labels in result.get("labels", {}).items() for each in labels.items()),
    )
    for part, names in (("images", ("widths", "heights", "brightness", "contrast")), ("texts", ("characters", "words", "lines"))):
        if found := result.get(part):
            rows = tuple((name, _histogram(found[name]), found[name].get("mean")) for name in names)
            yield Table(f"{found['count']:,} {part}", ("", "DISTRIBUTION", "MEAN"), rows)
    yield Table("Personal data", ("WHERE", "KIND", "COUNT", "LIKE"), tuple(_personal(result)))
    yield Table("There twice, and in several splits", ("WHAT", "COUNT", "FIRST"), tuple(_copies(result)))


def _column(name: str, column: Mapping[str, Any]) -> tuple[Any, ...]:
    numbers, times = column.get("numbers"), column.get("times")
    if numbers:
        values: Any = _histogram(numbers)
    elif times:
        values = f"{times['min'][:16]} to {times['max'][:16]}"
    else:
        values = ", ".join(f"{each['value']} ({each['count']:,})" for each in column.get("top", [])[:3])
    missing = f"{column['nulls'] / column['rows']:.1%}" if column["nulls"] else ""
    distinct = f"{'' if column['distinct_exact'] else '≈ '}{column['distinct']:,}"
    return name, ", ".join(column["types"]), missing, distinct, values, (numbers or {}).get("mean")


def _histogram(numbers: Mapping[str, Any]) -> Histogram | str:
    if "histogram" not in numbers:
        return f"{numbers.get('min', 0):.4g} to {numbers.get('max', 0):.4g}" if numbers.get("count") else ""
    return Histogram(tuple(numbers["histogram"]["counts"]), f"{numbers['min']:.4g}", f"{numbers['max']:.4g}")


def _personal(result: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
    places = {name: column.get("personal_data", []) for name, column in result.get("table", {}).get("columns", {}).items()}
    places["texts"] = result.get("texts", {}).get("personal_data", [])
    for place, found in places.items():
        yield from ((place, each["kind"], each["count"], ", ".join(each["examples"])) for each in found)


def _copies(result: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
    for what, found in (
        ("equal files", result["equal_files"]["duplicates"]),
        ("equal files across splits", result["equal_files"]["leakage"]),
    ):
        if found["files"]:
            yield what, found["files"], " = ".join(found["groups"][0][:2])
    table = result.get("table", {})
    if table.get("duplicates", {}).get("rows"):
        yield "equal rows", table["duplicates"]["rows"], next((each["first"] for each in table["duplicates"]["examples"]), "")
    for leak in table.get("leakage", []):
        yield f"rows in {' and '.join(leak['splits'])}", leak["rows"], " = ".join(leak["examples"][0].values())
    for what, found in (("images", result.get("images")), ("texts", result.get("texts")), ("texts of the column", table)):
        alike = (found or {}).get("alike", {})
        if alike.get("pairs"):
            first = alike["examples"][0]
            yield (
                f"{what} that are nearly equal",
                alike["pairs"],
                " ≈ ".join(first if isinstance(first, list) else (first["one"], first["two"])),
            )


def _drift(result: Mapping[str, Any]) -> Iterator[Table]:
    tests = tuple(
        (each["column"], "drifted" if each["drifted"] else "", each["test"], each["statistic"], each["psi"], each["p_adjusted"])
        for each in result["tests"][:_SHOWN]
    )
    rows = result["rows"]
    title = f"{len(result['drifted'])} drifted: {', '.join(result['drifted']) or 'nothing'}; {rows['base']:,} rows before, {rows['head']:,} after"
    yield Table(title, ("COLUMN", "", "TEST", "STATISTIC", "PSI", "P (CORRECTED)"), tests)
    changed = [(name, "added") for name in result["added"]] + [(name, "removed") for name in result["removed"]]
    changed += [(name, f"{', '.join(each['base'])} → {', '.join(each['head'])}") for name, each in result["retyped"].items()]
    yield Table("Columns", ("COLUMN", "CHANGE"), tuple(changed))


def _expectations(result: Mapping[str, Any]) -> Iterator[Table]:
    checks = sorted(result["checks"], key=lambda check: bool(check["passed"]))
    rows = tuple(
        (
            "passed" if each["passed"] else "FAILED",
            each["check"],
            each["column"],
            each["files"],
            each["checked"],
            each["failed"],
            ", ".join(each["places"]),
        )
        for each in checks
    )
    columns = ("", "CHECK", "COLUMN", "FILES", "CHECKED", "BROKEN", "FIRST")
    yield Table(f"{'Passed' if result['passed'] else 'FAILED'}: {result['summary']}", columns, rows or (("FAILED",),))


def _label_errors(result: Mapping[str, Any]) -> Iterator[Table]:
    title = f"{result['issues']:,} of {result['examined']:,} labels are probably wrong; the model is right for {result['accuracy']:.1%}"
    rows = tuple((each["place"], each["label"], each["suggested"], each["score"]) for each in result["ranked"][:_SHOWN])
    yield Table(title, ("EXAMPLE", "LABEL", "SUGGESTED", "SCORE"), rows)
    confused = tuple((each["label"], each["suggested"], each["count"]) for each in result["confused"])
    yield Table("Confused", ("LABEL", "RATHER", "COUNT"), confused)


def _outliers(result: Mapping[str, Any]) -> Iterator[Table]:
    rows = tuple((each["place"], each["score"]) for each in result["ranked"][:_SHOWN])
    yield Table(f"{result['examined']:,} examples, the farthest first", ("EXAMPLE", "TIMES AS FAR"), rows)


def _synthesize(result: Mapping[str, Any]) -> Iterator[Table]:
    commit, counts = result["commit"], result["rows"]
    places = tuple((name.replace("_", " "), count) for name, count in counts.items())
    yield Table(f"{commit['dataset']}@{commit['branch']} is synthetic: commit {commit['id']}", ("", "COUNT"), places)
    columns = sorted(result["columns"], key=lambda each: -each["distance"])
    rows = tuple(
        (each["column"], each["kind"], each["test"], each["distance"], f"{each['nulls']['real']:.1%}", f"{each['nulls']['synthetic']:.1%}")
        for each in columns[:_SHOWN]
    )
    yield Table("Columns, the least alike first", ("COLUMN", "KIND", "DISTANCE BY", "0 IS ALIKE", "MISSING", "IN SYNTHETIC"), rows)
    if pairs := result.get("correlations", {}).get("pairs"):
        found = result["correlations"]
        shown = ((pairs, found["mean"], found["max"], " and ".join(found["worst"])),)
        yield Table("Correlations: how far apart", ("PAIRS", "MEAN", "MOST", "OF"), shown)
    if learning := result.get("learning"):
        measured = tuple((name.replace("_", " "), value) for name, value in learning.items() if name not in {"target", "measure"})
        yield Table(f"{learning['measure']} of predicting {learning['target']}, tested on real data", ("", ""), measured)
    yield Table("Nearest real record", ("", "5 %", "MEDIAN", "LEAST"), tuple(_nearest(result.get("nearest", {}))))
    yield Table("Copies of real records", ("", "SHARE"), tuple(_shares(result.get("nearest", {}))))
    if privacy := result.get("privacy"):
        parts = tuple((part["what"], part["epsilon"], part["noise_scale"]) for part in privacy["parts"])
        whole = ("together", privacy["epsilon"], f"δ = {privacy['delta']:.4g}")
        spent = (f"with {privacy['earlier_releases']} earlier", privacy["epsilon_of_all"], f"δ = {privacy['delta_of_all']:.4g}")
        yield Table(f"Privacy of {privacy['unit']}", (privacy["mechanism"], "EPSILON", "NOISE"), (*parts, whole, spent))
        yield Table("This report compares with real data and is not covered by epsilon: share the commit, not the report", ("",), (("",),))
    for title, name in (("Made", "made"), ("What was done, and how often", "steps")):
        yield Table(title, ("", "COUNT"), tuple((each.replace("_", " "), count) for each, count in result.get(name, {}).items()))
    yield Table("Left out", ("COLUMN", "REASON"), tuple(result.get("left_out", {}).items()))


def _nearest(found: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
    for name in ("synthetic", "held_out"):
        if each := found.get(name):
            yield name.replace("_", " "), each["p5"], each["median"], each["min"]


def _shares(found: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
    for name, said in (("copies_synthetic", "synthetic"), ("copies_held_out", "held out"), ("closer", "nearer than 95 % of held out")):
        if name in found:
            yield said, f"{found[name]:.2%}"


VIEWS: dict[str, Callable[[Mapping[str, Any]], Iterator[Table]]] = {
    "profile": _profile,
    "drift": _drift,
    "expectations": _expectations,
    "label_errors": _label_errors,
    "outliers": _outliers,
    "synthesize": _synthesize,
}
"""How each kind of report is looked at."""
