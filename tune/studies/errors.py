"""What studies refuse."""

from __future__ import annotations

from aidos.errors import AidosError, Conflict, Forbidden, InvalidPayload, NotFound


class StudyNotFound(NotFound):
    title = "Study not found"
    detail = "There is no study '{name}' here. 'aidos study list' shows the project's studies."


class StudyExists(Conflict):
    title = "Study exists"
    detail = "There is a study '{name}' already. Choose another name, or delete it with 'aidos study delete {name}'."


class StudyNotRunning(Conflict):
    title = "Study does not run"
    detail = "Study '{name}' is {state}. 'aidos study resume {name}' lets it go on."


class StudyRuns(Conflict):
    title = "Study runs"
    detail = "Study '{name}' runs: stop it with 'aidos study stop {name}' first."


class BudgetSpent(Conflict):
    title = "Budget is spent"
    detail = "No trial of study '{name}' begins: {reason}. Give it a larger budget with 'aidos study update {name} --budget …'."


class SpaceChanged(Conflict):
    title = "Space has changed"
    detail = "The space of study '{name}' is at version {version}, not at {chosen_from}: choose the parameters again."


class SpaceInvalid(InvalidPayload):
    title = "Space is wrong"
    detail = "The space cannot be searched: {reason}."


class ParametersOutside(InvalidPayload):
    title = "Parameters are outside of the space"
    detail = "Parameter '{parameter}' of the trial is wrong: {reason}."


class StudyOfAnotherJob(Forbidden):
    title = "Another job's study"
    detail = "Only the job of study '{name}' may write its trials. 'aidos study create' begins such a job."


class TrialNotFound(NotFound):
    title = "Trial not found"
    detail = "Study '{name}' has no trial {number}. 'aidos study trials {name}' shows those it has."


class TrialNotRunning(Conflict):
    title = "Trial does not run"
    detail = "Trial {number} of study '{name}' is {state} in its attempt {attempt}: attempt {actual} can no longer write to it."


class MetricNotSearched(InvalidPayload):
    title = "Metric is no objective"
    detail = "'{metric}' is no objective of study '{name}'; those are {objectives}."


class SearchBroke(AidosError):
    title = "Search broke off"
    detail = "Ray Tune ended the search of study '{name}' before it was over; the job's log says why. The platform begins it again, or 'aidos study resume {name}' does."
