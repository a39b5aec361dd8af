"""Wire shapes of studies: search spaces, what is asked of a search, and its trials."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from aidos.schemas.common import Asked, Name, Wire
from aidos.schemas.modelhub import MetricValue
from aidos.schemas.trainos import Argument, Reference, Sha256

MAX_CHOICES, MAX_PARAMETERS, MAX_GRID, MAX_MEASURED = 1000, 200, 100_000, 1000
ParameterName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,99}$")]
MetricName = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{1,250}$")]
ChoiceText = Annotated[str, StringConstraints(max_length=500, pattern=r"^[^\x00]*$")]
Finite = Annotated[float, Field(allow_inf_nan=False, ge=-1e300, le=1e300)]
Whole = Annotated[int, Field(ge=-(2**53), le=2**53)]
Bar = Annotated[int, Field(ge=1, le=10**9)]


def _plain(value: Any) -> Any:
    if not isinstance(value, str | int | float | bool):
        raise ValueError("must be text, a number or a truth value")
    return value


# Each keeps its JSON type: 1, 1.0, true and "1" are four choices. (A union of types would be asked for one member's type by Asked.)
Choice = Annotated[Any, BeforeValidator(_plain), Field(json_schema_extra={"type": ["string", "number", "boolean"]})]
Params = dict[ParameterName, Choice]


def _check_choice(value: Any) -> Any:
    if isinstance(value, str) and (len(value) > 500 or "\x00" in value):
        raise ValueError("a text has at most 500 characters, and no NUL")
    if isinstance(value, int | float) and not abs(value) <= 1e300:
        raise ValueError("a number must be finite")
    return value


Condition = dict[ParameterName, Annotated[list[Choice], Field(min_length=1, max_length=MAX_CHOICES)]]
When = Annotated[
    Condition | None, Field(description="Only where each of these parameters has one of these values, e.g. `{'optimizer': ['sgd']}`.")
]


class FloatParameter(Asked):
    """A number in an interval; ``log``: as likely in each decade; ``step``: only ``low + k · step``."""

    kind: Literal["float"]
    low: Finite
    high: Finite
    log: bool = False
    step: Annotated[Finite, Field(gt=0)] | None = None
    when: When = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_interval(self)
        return self


class IntParameter(Asked):
    """A whole number from ``low`` to ``high``, both included."""

    kind: Literal["int"]
    low: Whole
    high: Whole
    log: bool = False
    step: Annotated[Whole, Field(ge=1)] = 1
    when: When = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_interval(self)
        return self


class CategoricalParameter(Asked):
    """One of the choices, without an order."""

    kind: Literal["categorical"]
    choices: list[Choice] = Field(min_length=1, max_length=MAX_CHOICES)
    when: When = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        for choice in self.choices:
            _check_choice(choice)
        if len({(type(choice), choice) for choice in self.choices}) < len(self.choices):
            raise ValueError("the choices must differ from each other")
        return self


def _check_interval(parameter: FloatParameter | IntParameter) -> None:
    if parameter.low > parameter.high:
        raise ValueError(f"low must not be above high, got {parameter.low} and {parameter.high}")
    if parameter.log and parameter.low <= 0:
        raise ValueError(f"with log, low must be above 0, got {parameter.low}")
    if parameter.log and parameter.step not in (None, 1):
        raise ValueError("log and step exclude each other")


Parameter = Annotated[FloatParameter | IntParameter | CategoricalParameter, Field(discriminator="kind")]
Space = dict[ParameterName, Parameter]


def check_space(space: Mapping[str, Parameter]) -> None:
    """Conditions name parameters of the space, values that these can have, and go round in no circle. Raises: ValueError."""
    for name, parameter in space.items():
        for other, values in (parameter.when or {}).items():
            if other not in space:
                raise ValueError(f"'{name}' depends on '{other}', which is not in the space")
            for value in values:
                if not contains(space[other], value):
                    raise ValueError(f"'{name}' depends on '{other}' being {value!r}, which it can never be")
    sort_space(space)


def sort_space(space: Mapping[str, Parameter]) -> list[str]:
    """Names in an order in which each comes behind those that it depends on. Raises: ValueError for a circle."""
    ordered: list[str] = []
    while len(ordered) < len(space):
        ready = [name for name, parameter in space.items() if name not in ordered and set(parameter.when or ()) <= set(ordered)]
        if not ready:
            raise ValueError(f"the conditions of {', '.join(sorted(set(space) - set(ordered)))} go round in a circle")
        ordered += ready
    return ordered


def contains(parameter: Parameter, value: Any) -> bool:
    """Whether the parameter can have the value."""
    if isinstance(parameter, CategoricalParameter):
        return any(choice == value and type(choice) is type(value) for choice in parameter.choices)
    if isinstance(value, bool) or not isinstance(value, int | float) or not parameter.low <= value <= parameter.high:
        return False
    if isinstance(parameter, IntParameter):
        return value == int(value) and (parameter.log or (int(value) - parameter.low) % parameter.step == 0)
    steps = (value - parameter.low) / parameter.step if parameter.step else 0.0
    return math.isclose(steps, round(steps), abs_tol=1e-6)


def is_active(parameter: Parameter, params: Mapping[str, Any]) -> bool:
    """Whether the parameter's condition holds among the values chosen so far."""
    return all(
        other in params and any(params[other] == value and type(params[other]) is type(value) for value in values)
        for other, values in (parameter.when or {}).items()
    )


def steps_of(parameter: Parameter) -> list[Any] | None:
    """All values, in order; None where there are infinitely many, or more than a grid may have."""
    if isinstance(parameter, CategoricalParameter):
        return list(parameter.choices)
    step = parameter.step
    if step is None:
        return [parameter.low] if parameter.low == parameter.high else None
    count = math.floor((parameter.high - parameter.low) / step + 1e-9) + 1
    return [min(parameter.high, parameter.low + index * step) for index in range(count)] if count <= MAX_GRID else None


class Sampler(StrEnum):
    """How the next trial is chosen."""

    TPE = "tpe"
    CMAES = "cmaes"
    RANDOM = "random"
    GRID = "grid"
    PBT = "pbt"


class PrunerKind(StrEnum):
    """When a trial is ended before its time."""

    NONE = "none"
    ASHA = "asha"
    MEDIAN = "median"


class Pruner(Asked):
    """``asha``: of those that reached step ``min_steps · reduction^k``, the best of ``reduction`` go on. ``median``: who is worse than
    half of the trials that ended, at the same step, ends."""

    kind: PrunerKind = PrunerKind.NONE
    min_steps: Bar = Field(1, description="Steps before which no trial is ended.")
    reduction: int = Field(3, ge=2, le=100, description="asha: one of so many goes on.")
    startup_trials: int = Field(5, ge=1, le=100_000, description="median: trials that must have ended before.")


class Objective(Asked):
    """A reported metric that is to become small or large."""

    metric: MetricName
    direction: Literal["minimize", "maximize"] = "minimize"


class Constraint(Asked):
    """A bound on another reported metric; a trial beyond it is never the best."""

    metric: MetricName
    at_most: Finite | None = None
    at_least: Finite | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.at_most is None) == (self.at_least is None):
            raise ValueError("give either at_most or at_least")
        return self


class Budget(Asked):
    """What the search may use up. What is reached first ends it: no trial begins after, those that run go on to their end."""

    trials: int = Field(100, ge=1, le=100_000)
    time_s: int | None = Field(None, ge=1, le=31_536_000, description="Seconds that the search runs, pauses left out.")
    usd: float | None = Field(None, gt=0, le=1e9, allow_inf_nan=False, description="Dollars by the organisation's price book.")
    failures: int = Field(10, ge=1, le=100_000, description="Trials that may fail.")


class StudyCreate(Asked):
    """A search that is to begin."""

    name: Name
    command: list[Argument] = Field(min_length=1, max_length=500, description="A trial's program; `{lr}` in it becomes the value of `lr`.")
    space: Space = Field(min_length=1, max_length=MAX_PARAMETERS)
    objectives: list[Objective] = Field(min_length=1, max_length=10)
    constraints: list[Constraint] = Field([], max_length=50)
    sampler: Sampler = Sampler.TPE
    seed: int | None = Field(None, ge=0, lt=2**32)
    population: int = Field(8, ge=2, le=1000, description="pbt: members that are trained side by side.")
    pruner: Pruner = Pruner()
    budget: Budget = Budget()
    parallelism: int = Field(1, ge=1, le=1000, description="Trials at a time; the job waits until all of them have room.")
    code_sha256: Sha256 | None = Field(None, description="The uploaded package that the command runs in.")
    datasets: list[Reference] = Field([], max_length=50)
    cpus_per_trial: float = Field(1.0, ge=0, le=10_000)
    gpus_per_trial: float = Field(0.0, ge=0, le=10_000)
    memory_gib_per_trial: float = Field(0.0, ge=0, le=100_000)

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_search(self.space, self)
        return self


def check_search(space: Mapping[str, Parameter], asked: Any) -> None:
    """That the space is whole, and that sampler and pruner can do what is asked. Raises: ValueError."""
    check_space(space)
    metrics = [objective.metric for objective in asked.objectives]
    if len(set(metrics)) < len(metrics):
        raise ValueError("two objectives have the same metric")
    if asked.pruner.kind is not PrunerKind.NONE and len(metrics) > 1:
        raise ValueError(f"the pruner '{asked.pruner.kind}' needs a single objective")
    if asked.sampler is Sampler.CMAES:
        _check_cmaes(space, asked)
    if asked.sampler is Sampler.GRID:
        _check_grid(space)
    if asked.sampler is Sampler.PBT and (len(metrics) > 1 or asked.pruner.kind is not PrunerKind.NONE):
        raise ValueError("the sampler 'pbt' takes a single objective and no pruner: the worst members give way by themselves")


def _check_cmaes(space: Mapping[str, Parameter], asked: Any) -> None:
    if len(asked.objectives) > 1 or asked.constraints:
        raise ValueError("the sampler 'cmaes' takes a single objective and no constraints: use 'tpe'")
    if odd := [name for name, each in space.items() if isinstance(each, CategoricalParameter) or each.when]:
        raise ValueError(f"the sampler 'cmaes' takes only unconditional numbers, and '{odd[0]}' is none: use 'tpe'")


def _check_grid(space: Mapping[str, Parameter]) -> None:
    points = 1
    for name, parameter in space.items():
        values = steps_of(parameter)
        if values is None:
            raise ValueError(f"the sampler 'grid' needs a step for '{name}', with at most {MAX_GRID} values")
        points *= len(values)
        if points > MAX_GRID:
            raise ValueError(f"the grid has more than {MAX_GRID} points")


class StudyUpdate(Asked):
    """What changes; for a search that runs, from its next trial on."""

    space: Annotated[Space, Field(min_length=1, max_length=MAX_PARAMETERS)] | None = None
    budget: Budget | None = None


class StudyFinish(Asked):
    """Sent by the study's own job."""

    reason: Annotated[str, StringConstraints(max_length=1000, pattern=r"^[^\x00]*$")] = ""


class TrialBegin(Asked):
    """Sent by the study's own job: a new trial, or one with ``number`` that was interrupted or whose worker was lost."""

    space_version: int = Field(ge=1, le=2**31 - 1, description="The space that the parameters were chosen from.")
    params: Params = Field({}, max_length=MAX_PARAMETERS)
    number: int | None = Field(None, ge=0, le=2**31 - 1)
    lost: int | None = Field(None, ge=1, le=2**31 - 1, description="The attempt whose worker was lost, of a trial that still runs.")
    member: int | None = Field(None, ge=0, le=2**31 - 1, description="pbt: the member of the population that is trained.")
    parent: int | None = Field(None, ge=0, le=2**31 - 1, description="pbt: the trial whose checkpoint it begins from.")


class Measured(Asked):
    """What a trial measured at a step."""

    step: int = Field(ge=0, le=10**12)
    values: dict[MetricName, MetricValue] = Field(min_length=1, max_length=100)


class TrialReport(Asked):
    """What a trial measured since it last said so; of one step measured twice the later counts."""

    attempt: int = Field(ge=1, le=2**31 - 1)
    measured: list[Measured] = Field(min_length=1, max_length=MAX_MEASURED)


class ReportRead(Wire):
    """Whether the trial is to end now."""

    stop: bool


class TrialFinish(Asked):
    """How a trial's program ended."""

    attempt: int = Field(ge=1, le=2**31 - 1)
    exit_code: int = Field(ge=-(2**31), le=2**31 - 1)
    last_line: Annotated[str, StringConstraints(max_length=1000, pattern=r"^[^\x00]*$")] = ""
    measured: list[Measured] = Field(default=[], max_length=MAX_MEASURED, description="What it measured since it last said so.")


class TrialRead(Wire):
    """A trial."""

    number: int
    state: str = Field(description="RUNNING, WAITING (interrupted, begins again), COMPLETE, PRUNED or FAILED.")
    params: dict[str, Any]
    values: dict[str, float] = Field(description="Each metric at its last step, once the trial has ended.")
    step: int | None = Field(description="The last step.")
    feasible: bool | None = Field(description="Whether it keeps all constraints; null without values.")
    reason: str
    attempt: int
    run_id: UUID
    member: int | None = Field(None, description="pbt: the member of the population that it trained.")
    parent: int | None = Field(None, description="pbt: the trial whose checkpoint it began from.")
    started_at: datetime
    finished_at: datetime | None


class SpentRead(Wire):
    """What of the budget is used up."""

    trials: int
    failures: int
    time_s: float
    usd: float | None = Field(None, description="Only where one study is shown.")


class StudyRead(Wire):
    """A study."""

    id: UUID
    name: str
    state: str = Field(description="RUNNING, STOPPED, FINISHED or FAILED.")
    reason: str
    command: list[str]
    space: Space
    space_version: int
    objectives: list[Objective]
    constraints: list[Constraint]
    sampler: Sampler
    seed: int | None
    population: int = 8
    pruner: Pruner
    budget: Budget
    spent: SpentRead
    parallelism: int
    cpus_per_trial: float
    gpus_per_trial: float
    memory_gib_per_trial: float
    trials: dict[str, int] = Field(description="How many trials are in each state.")
    job_id: UUID | None
    created_by: str
    created_at: datetime
    updated_at: datetime


class ImportanceRead(Wire):
    """How much of an objective's variance each parameter explains, by functional ANOVA; the shares sum to 1."""

    metric: str
    trials: int = Field(description="Of how many trials; too few or equal ones give no shares.")
    shares: dict[str, float]
