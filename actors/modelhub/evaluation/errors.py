"""What evaluation datasets and scorers refuse."""

from __future__ import annotations

from aidos.errors import InvalidPayload, NotFound


class EvaluationDatasetNotFound(NotFound):
    title = "Evaluation dataset not found"
    detail = "Evaluation dataset with ID '{dataset_id}' not found."


class EvaluationRecordsInvalid(InvalidPayload):
    title = "Records cannot be read"
    detail = "The records are not what they must be: {reason}. They are a JSON list of objects, each with an object 'inputs'."


class ScorerNotFound(NotFound):
    title = "Scorer not found"
    detail = "Scorer with name '{name}'{version} not found for experiment {experiment_id}."
