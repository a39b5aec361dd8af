"""``aidos model show``, ``approve``, ``reject``, ``check``, ``except`` and ``set-alias``: what is said of a version, and what then names it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from aidos.cli.generated import parse_pairs
from aidos.cli.session import Session, session
from aidos.errors import InvalidRequest

if TYPE_CHECKING:
    from aidos.schemas.governance import ExceptionRead, VersionStandingRead
    from aidos.schemas.modelhub import VersionRead

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}
Model = Annotated[str, typer.Argument(metavar="MODEL", help="Name of the model.", show_default=False)]
Version = Annotated[str, typer.Argument(metavar="VERSION", help="Its number, an alias, or latest.", show_default=False)]
Reason = Annotated[str, typer.Option(help="Why; it is kept with the version and in the audit log.", show_default=False)]


def add_verbs(group: typer.Typer) -> None:
    """Add the verbs to ``aidos model``."""
    group.command("show", help="A model, or MODEL@VERSION: what it is, what was said of it, and what it lacks for which alias.")(show)
    group.command("request-approval", help="Ask the others to approve of a version; what was said before counts no more.")(request_approval)
    group.command("approve", help="Approve of a version that somebody else registered.")(approve)
    group.command("reject", help="Reject a version.")(reject)
    group.command("check", help="Say what a check found of a version; the last word counts.")(check)
    group.command("except", help="Sign an exception: answer for something that the scan of a version found, for a time.")(except_)
    group.command("set-alias", help="Point an alias at a version, or back at the one it named before.")(set_alias)


def show(
    reference: Annotated[str, typer.Argument(metavar="MODEL[@VERSION]", help="digits, digits@3, digits@champion.", show_default=False)],
) -> None:
    from aidos.cli.output import to_json

    current = session()
    models = current.client.models
    model, at, version = reference.partition("@")
    if not at:
        current.show(models.get(model))
        return
    found = models.version(model, version)
    standing, exceptions = models.status(model, str(found.version)), list(models.exceptions(model, str(found.version)))
    if current.as_json:
        current.show(
            {"version": found.model_dump(mode="json"), "status": standing.model_dump(mode="json"), "exceptions": to_json(exceptions)}
        )
        return
    _show_version(current, found, standing, exceptions)


def _show_version(current: Session, version: VersionRead, standing: VersionStandingRead, exceptions: list[ExceptionRead]) -> None:
    from aidos.cli.output import show_table

    shown = version.model_dump(mode="json", exclude={"files", "signature", "findings", "requirements", "card", "id", "run_id"})
    current.show({**shown, "run_id": version.run_id, "approval": standing.approval.value})
    values = [{"of": side, **value} for side in ("inputs", "outputs") for value in (version.signature or {}).get(side, ())]
    tables: tuple[tuple[str, list[dict[str, Any]]], ...] = (
        ("Signature", values),
        ("Requirements", [{"requirement": line} for line in version.requirements]),
        ("Files", [file.model_dump(mode="json") for file in version.files]),
        ("Findings", [finding.model_dump(mode="json") for finding in version.findings]),
        ("Exceptions", [signed.model_dump(mode="json", exclude={"id", "kid"}) for signed in exceptions]),
        ("Reviews", [review.model_dump(mode="json", exclude={"id"}) for review in standing.reviews]),
        ("Checks", [check.model_dump(mode="json", exclude={"url"}) for check in standing.checks]),
        ("Protected aliases", [{"alias": alias, "lacks": "; ".join(lacks) or "nothing"} for alias, lacks in standing.obstacles.items()]),
    )
    for title, rows in tables:
        if rows:
            current.out.print(f"\n{title}", style="bold")
            show_table(current, rows)
    if version.card:
        current.out.print("\nCard", style="bold")
        current.show(version.card)


def request_approval(model: Model, version: Version, reason: Reason) -> None:
    current = session()
    current.show(current.client.models.request_review(model, version, reason=reason))


def approve(model: Model, version: Version, reason: Reason) -> None:
    current = session()
    current.show(current.client.models.review(model, version, verdict="approve", reason=reason))


def reject(model: Model, version: Version, reason: Reason) -> None:
    current = session()
    current.show(current.client.models.review(model, version, verdict="reject", reason=reason))


def check(
    model: Model,
    version: Version,
    name: Annotated[str, typer.Option(help="Name of the check.", show_default=False)],
    passed: Annotated[bool, typer.Option("--passed/--failed", help="What it found.", show_default=False)],
    metric: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="What it measured; again for more.")] = None,
    run: Annotated[str | None, typer.Option(metavar="RUN", help="The run that measured.")] = None,
    summary: Annotated[str, typer.Option(help="What is to be said of it.")] = "",
    url: Annotated[str | None, typer.Option(help="Where more is said.")] = None,
) -> None:
    current = session()
    measured = {key: _number(key, value) for key, value in (parse_pairs(metric or []) or {}).items()}
    said = {"state": "passed" if passed else "failed", "summary": summary, "url": url, "metrics": measured, "run_id": run}
    current.show(current.client.models.set_check(model, version, name, **said))


def except_(
    model: Model,
    version: Version,
    finding: Annotated[str, typer.Option(help="Kind of the finding, as `aidos model show` names it.", show_default=False)],
    reason: Reason,
    path: Annotated[str, typer.Option(help="Where; wherever it is found, where none is named.")] = "",
    expires: Annotated[str, typer.Option(metavar="TIME", help="How long it holds: 12h, 30d.")] = "30d",
) -> None:
    lasts_s = _seconds(expires)
    current = session()
    current.show(current.client.models.sign_exception(model, version, finding=finding, path=path, reason=reason, expires_in_s=lasts_s))


def _seconds(text: str) -> int:
    amount, unit = text[:-1], text[-1:]
    if not (amount.isascii() and amount.isdigit()) or unit not in _UNITS_S:
        raise InvalidRequest(reason=f"A time such as 12h or 30d is needed, got {text!r}.")
    return int(amount) * _UNITS_S[unit]


def _number(key: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InvalidRequest(reason=f"A number is needed for metric '{key}', got {text!r}.") from None


def set_alias(
    model: Model,
    alias: Annotated[str, typer.Argument(metavar="ALIAS", help="Name of the alias.", show_default=False)],
    version: Annotated[str | None, typer.Option(help="Number of the version, or another alias.")] = None,
    previous: Annotated[bool, typer.Option("--previous", help="The version that the alias named before its last move.")] = False,
    expected_version: Annotated[int | None, typer.Option(help="Only where the alias names this version now; 0: none.")] = None,
) -> None:
    if (version is None) is not previous:
        raise InvalidRequest(reason="Say either --version or --previous.")
    current = session()
    if previous:
        current.show(current.client.models.roll_back_alias(model, alias))
    else:
        current.show(current.client.models.set_alias(model, alias, version=version, expected_version=expected_version))
