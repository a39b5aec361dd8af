"""``aidos dataset synthesize``: a synthetic dataset from a commit, and the report of how alike they are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from aidos.cli import report
from aidos.cli.session import session
from aidos.errors import InvalidRequest


def synthesize(
    source: Annotated[str, typer.Argument(metavar="NAME[@REF]", help="The dataset, and a branch, tag or commit (main).")],
    out: Annotated[str, typer.Option(help="The dataset that gets the commit; made if it is not there.")],
    branch: Annotated[str, typer.Option(help="Its branch: a new one, or one that holds synthetic data.")] = "main",
    generator: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What to make, as JSON or YAML; absent: a table like the source's.")
    ] = None,
    rows: Annotated[int | None, typer.Option(min=1, help="Rows of a table; absent: as many as there are.")] = None,
    target: Annotated[str | None, typer.Option(help="Column that a model learns to predict, for the report.")] = None,
    by: Annotated[str | None, typer.Option(help="Category for each of whose values the table is modelled apart.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed, the same data.")] = 0,
    workers: Annotated[int, typer.Option(help="Workers that share the work.")] = 2,
    wait: report.Wait = False,
) -> None:
    from aidos.transfers.directories import split_source

    name, ref = split_source(source)
    spec = read_generator(generator) if generator else {"make": "table"}
    spec |= {key: value for key, value in (("rows", rows), ("target", target), ("by", by)) if value is not None}
    current = session()
    params = {"out": out, "branch": branch, "seed": seed, "generator": spec}
    made = current.client.reports.create(name, kind="synthesize", ref=ref, params=params, workers=workers)
    if wait:
        report.leave(current, report.follow(current, made))
    else:
        current.show(made)


def read_generator(path: Path) -> dict[str, Any]:
    """A generator's file. Raises: InvalidRequest."""
    import yaml

    try:
        found = yaml.safe_load(path.read_bytes())
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidRequest(reason=f"The generator {path} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(found, dict):
        raise InvalidRequest(reason=f"The generator {path} must be an object with 'make' and what that takes.")
    return found
