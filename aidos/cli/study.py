"""``aidos study create``, ``show``, ``best`` and ``plot``: spaces as words, code packed, what was found drawn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aidos import optional
from aidos.cli import study_picture, study_view
from aidos.cli.job import upload_code
from aidos.cli.output import show_table
from aidos.cli.session import session
from aidos.errors import InvalidRequest

if TYPE_CHECKING:
    from aidos.schemas.studies import TrialRead

StudyArgument = Annotated[str, typer.Argument(metavar="STUDY", help="Name or id of the study.", show_default=False)]


def register(group: typer.Typer) -> None:
    """Add the verbs to ``aidos study``."""
    group.command("create", help="Pack a directory and search good parameters of a command of it: … -- python train.py --lr {lr}")(create)
    group.command("show", help="How far a study is, and its best trials.")(show)
    group.command("best", help="The best trial; of several objectives the Pareto front.")(best)
    group.command("plot", help="History, slices, contours, Pareto front and importance, as one page of HTML, as a picture or as data.")(
        plot
    )
    group.command("wait", help="Wait until a study no longer runs; exit 1 unless it finished.")(wait)


def create(
    command: Annotated[list[str], typer.Argument(help="A trial's command, behind --; {lr} in it is the value of lr.", show_default=False)],
    name: Annotated[str, typer.Option(help="What the study is called; also the experiment of its runs.")],
    objective: Annotated[list[str], typer.Option(metavar="[DIRECTION:]METRIC", help="minimize:loss or maximize:acc; again for more.")],
    param: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUES", help="1e-5..0.1:log, 1..8, 0..1:step=0.1 or adam|sgd; again for more.")
    ] = None,
    space: Annotated[Path | None, typer.Option(metavar="FILE", help="The space as YAML or JSON; --param adds to it.")] = None,
    constraint: Annotated[list[str] | None, typer.Option(metavar="METRIC<=NUMBER", help="A bound, <= or >=; again for more.")] = None,
    sampler: Annotated[str, typer.Option(help="tpe, cmaes, random, grid or pbt.")] = "tpe",
    population: Annotated[int, typer.Option(help="pbt: members that are trained side by side.")] = 8,
    seed: Annotated[int | None, typer.Option(help="Seed of the sampler.")] = None,
    pruner: Annotated[str, typer.Option(help="none, asha or median.")] = "none",
    min_steps: Annotated[int, typer.Option(help="Steps before which the pruner ends no trial.")] = 1,
    trials: Annotated[int, typer.Option(help="Budget: trials.")] = 100,
    time_s: Annotated[int | None, typer.Option(help="Budget: seconds that the search runs.")] = None,
    usd: Annotated[float | None, typer.Option(help="Budget: dollars.")] = None,
    failures: Annotated[int, typer.Option(help="Budget: trials that may fail.")] = 10,
    parallelism: Annotated[int, typer.Option(help="Trials at a time.")] = 1,
    cpus_per_trial: Annotated[float, typer.Option(help="CPUs of each trial.")] = 1.0,
    gpus_per_trial: Annotated[float, typer.Option(help="GPUs of each trial.")] = 0.0,
    memory_gib_per_trial: Annotated[float, typer.Option(help="Memory of each trial in GiB.")] = 0.0,
    dataset: Annotated[list[str] | None, typer.Option(help="A dataset that trials read, as NAME@REF; again for more.")] = None,
    directory: Annotated[Path, typer.Option(help="What is packed; .gitignore and .aidosignore leave files out.")] = Path(),
) -> None:
    current = session()
    searched = (read_space(space) if space else {}) | dict(parse_parameter(each) for each in param or [])
    asked = {
        "command": command,
        "space": searched,
        "objectives": [parse_objective(each) for each in objective],
        "constraints": [parse_constraint(each) for each in constraint or []],
        "pruner": {"kind": pruner, "min_steps": min_steps},
        "budget": {"trials": trials, "time_s": time_s, "usd": usd, "failures": failures},
    }
    resources = {"cpus_per_trial": cpus_per_trial, "gpus_per_trial": gpus_per_trial, "memory_gib_per_trial": memory_gib_per_trial}
    code = upload_code(current.client, directory)
    study = current.client.studies.create(
        name,
        **asked,
        **resources,
        sampler=sampler,
        seed=seed,
        population=population,
        parallelism=parallelism,
        datasets=dataset or [],
        code_sha256=code,
    )
    current.show(study)


def read_space(path: Path) -> dict[str, Any]:
    """A space from a YAML or JSON file. Raises: InvalidRequest."""
    import yaml

    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidRequest(reason=f"{path} is no YAML: {error}") from error
    if not isinstance(found, dict):
        raise InvalidRequest(
            reason=f"{path} must be a mapping from parameters to their values, such as lr: {{kind: float, low: 0, high: 1}}."
        )
    return found


def parse_parameter(text: str) -> tuple[str, dict[str, Any]]:
    """``lr=1e-5..0.1:log`` as name and parameter; whole numbers give an int, ``a|b`` a choice. Raises: InvalidRequest."""
    name, equals, values = text.partition("=")
    try:
        if not equals or not values:
            raise ValueError
        if ".." not in values:
            return name, {"kind": "categorical", "choices": [_parse_choice(each) for each in values.split("|")]}
        interval, *options = values.split(":")
        low, high = (_parse_choice(each) for each in interval.split(".."))
        if isinstance(low, str) or isinstance(high, str):
            raise ValueError
        whole = isinstance(low, int) and isinstance(high, int)
        found: dict[str, Any] = {"kind": "int" if whole else "float", "low": low, "high": high}
        for option in options:
            key, _, value = option.partition("=")
            found |= {"log": True} if option == "log" else {"step": _parse_step(key, value)}
        if whole and isinstance(found.get("step"), float):
            found["kind"] = "float"
    except ValueError as error:
        raise InvalidRequest(
            reason=f"--param takes NAME=LOW..HIGH, with :log or :step=NUMBER behind it, or NAME=A|B|C; got {text!r}."
        ) from error
    return name, found


def _parse_step(key: str, value: str) -> int | float:
    step = _parse_choice(value)
    if key != "step" or not isinstance(step, int | float):
        raise ValueError
    return step


def _parse_choice(text: str) -> Any:
    words = {"true": True, "false": False}
    if text in words:
        return words[text]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def parse_objective(text: str) -> dict[str, str]:
    """``maximize:acc``; without a direction it is minimized."""
    direction, colon, metric = text.partition(":")
    return {"metric": metric, "direction": direction} if colon and direction in {"minimize", "maximize"} else {"metric": text}


def parse_constraint(text: str) -> dict[str, Any]:
    """``latency_ms<=50`` or ``acc>=0.9``. Raises: InvalidRequest."""
    for sign, name in (("<=", "at_most"), (">=", "at_least")):
        metric, found, number = text.partition(sign)
        if found and isinstance(bound := _parse_choice(number), int | float):
            return {"metric": metric, name: bound}
    raise InvalidRequest(reason=f"--constraint takes METRIC<=NUMBER or METRIC>=NUMBER, got {text!r}.")


def show(study: StudyArgument) -> None:
    current = session()
    read, found = current.client.studies.get(study), list(current.client.studies.best(study))
    if current.as_json:
        current.show({"study": read.model_dump(mode="json"), "best": [trial.model_dump(mode="json") for trial in found]})
        return
    counts = ", ".join(f"{count} {state}" for state, count in sorted(read.trials.items())) or "none yet"
    shown = {"name": read.name, "state": read.state, "reason": read.reason, "trials": counts, "sampler": read.sampler.value}
    current.show(shown | {"spent": read.spent, "job_id": read.job_id, "created_at": read.created_at})
    _show_trials(current, found)


def best(study: StudyArgument) -> None:
    current = session()
    _show_trials(current, list(current.client.studies.best(study)))


def _show_trials(current: Any, trials: list[TrialRead]) -> None:
    if current.as_json:
        current.show([trial.model_dump(mode="json") for trial in trials])
    elif trials:
        show_table(current, [{"trial": each.number, **each.values, **each.params, "run": str(each.run_id)} for each in trials])
    else:
        current.note("no trial is complete yet")


def plot(
    study: StudyArgument,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Where the page goes; STUDY.html where nothing is named.")] = None,
    png: Annotated[Path | None, typer.Option(metavar="FILE", help="Where the picture goes.")] = None,
) -> None:
    current = session()
    read, trials = current.client.studies.get(study), list(current.client.studies.trials(study))
    importance = {each.metric: current.client.studies.importance(study, metric=each.metric).shares for each in read.objectives}
    data = study_view.build_data(read, trials, importance, [trial.number for trial in current.client.studies.best(study)])
    if current.as_json:
        current.show(data)
        return
    if png is not None:
        optional.load("PIL", "A picture")
        charts = [(heading, chart) for heading, drawn in study_view.build_charts(read, data) for chart in drawn]
        study_picture.write_png(png, study_view.title_of(read), charts)
        current.note(f"{png} shows {len(trials)} trials.")
    if html is not None or png is None:
        target = html or Path(f"{read.name}.html")
        target.write_text(study_view.to_html(read, data), encoding="utf-8")
        current.note(f"{target} shows {len(trials)} trials.")


def wait(study: StudyArgument) -> None:
    current = session()
    read = current.client.studies.get(study)
    while read.state == "RUNNING":
        read = current.client.studies.get(str(read.id), wait="30s")
    current.show(read)
    if read.state != "FINISHED":
        raise typer.Exit(1)
