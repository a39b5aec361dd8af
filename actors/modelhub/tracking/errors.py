"""What tracking over a foreign protocol refuses."""

from __future__ import annotations

from aidos.errors import Conflict, InvalidPayload, NotFound


class DeletedExperimentExists(Conflict):
    title = "A deleted experiment has the name"
    detail = "Experiment '{name}' already exists in deleted state. Restore it, or choose another name."


class ExperimentDeleted(InvalidPayload):
    title = "Experiment is deleted"
    detail = "The experiment {experiment_id} must be in the 'active' state. Current state is deleted. Restore it, or choose another."


class RunDeleted(InvalidPayload):
    title = "Run is deleted"
    detail = "The run {run_id} must be in the 'active' state. Current state is deleted. Restore it, or log to another."


class TagNotFound(NotFound):
    title = "Tag not found"
    detail = "No tag with name: {key} in {owner}."


class BatchTooLarge(InvalidPayload):
    title = "Batch is too large"
    detail = "A batch logging request can contain at most {limit} {what}. Got {count} {what}. Please split up {what} across multiple requests and try again."


class DuplicateParams(InvalidPayload):
    title = "Params stand twice in a batch"
    detail = "Duplicate parameter keys have been submitted: {keys}. Please ensure the request contains only one param value per param key."


class InvalidParameterValue(InvalidPayload):
    title = "Invalid parameter value"
    detail = "Invalid value for parameter '{parameter}' supplied: {reason}"
