"""``aidos endpoint predict`` and ``aidos endpoint wait``: what no single route does."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from aidos.cli.session import session

Name = Annotated[str, typer.Argument(metavar="ENDPOINT", help="Name of the endpoint.", show_default=False)]
SETTLED = frozenset({"READY", "FAILED", "DELETED"})


def register(group: typer.Typer) -> None:
    """Add the verbs to ``aidos endpoint``."""
    group.command("predict", help="Ask the model: a request of the Open Inference Protocol v2, or just nested lists.")(predict)
    group.command("wait", help="Wait until an endpoint is READY; exit 1 when it FAILED or was DELETED.")(wait)


def predict(
    endpoint: Name,
    data: Annotated[str, typer.Argument(metavar="DATA", help="JSON; @PATH reads a file, - standard input.", show_default=False)] = "-",
) -> None:
    from aidos.cli.generated import parse_json
    from aidos.cli.output import show_table
    from aidos.prediction import predict as ask

    current = session()
    text = sys.stdin.read() if data == "-" else data
    answer = ask(current.client, endpoint, parse_json("DATA", text))
    if current.as_json:
        current.show(answer)
        return
    current.note(f"{answer.get('model_name')}@{answer.get('model_version')}")
    show_table(current, [_summary(output) for output in answer.get("outputs", [])])


def wait(endpoint: Name) -> None:
    current = session()
    found = current.client.endpoints.get(endpoint)
    while found.state not in SETTLED:
        current.note(f"{found.state}{f': {found.reason}' if found.reason else ''}")
        found = current.client.endpoints.get(endpoint, wait="30s")
    current.show(found)
    if found.state != "READY":
        raise typer.Exit(1)


def _summary(output: dict[str, Any]) -> dict[str, Any]:
    data, shape = list(output.get("data") or []), list(output.get("shape") or [])
    row: dict[str, Any] = {"output": output.get("name"), "datatype": output.get("datatype"), "shape": "×".join(map(str, shape))}
    if len(shape) == 2 and shape[1] > 1 and all(isinstance(value, int | float) for value in data):
        rows = [data[start : start + shape[1]] for start in range(0, len(data), shape[1])]
        row["largest_at"] = _short([each.index(max(each)) for each in rows])
    row["data"] = _short(data)
    return row


def _short(values: list[Any], most: int = 10) -> str:
    text = ", ".join(f"{value:.4g}" if isinstance(value, float) else str(value) for value in values[:most])
    return text + (f" … ({len(values)} in all)" if len(values) > most else "")
