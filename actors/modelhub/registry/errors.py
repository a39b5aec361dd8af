"""What the registry refuses of clients of MLflow's protocol."""

from __future__ import annotations

from aidos.errors import InvalidPayload


class InvalidSource(InvalidPayload):
    title = "Invalid model source"
    detail = (
        "Invalid model version source: '{source}': {reason}. It must be models:/<model id>, models:/<name>/<version>, runs:/<run id>/<path> or the "
        "mlflow-artifacts: address of a run's or a logged model's files in this project."
    )


class InvalidModelName(InvalidPayload):
    title = "Invalid model name"
    detail = "Registered model name cannot be empty, longer than 255 characters, or contain '/', ':' or control characters. Got '{name}'."


class InvalidAlias(InvalidPayload):
    title = "Invalid alias"
    detail = (
        "Invalid alias name: '{alias}'. It has letters, digits, '_' and '-', at most 255 of them, and is not 'latest', a number, or 'v' "
        "before a number."
    )


class AliasUnknown(InvalidPayload):
    title = "Alias unknown"
    detail = "Registered model alias {alias} not found."


class InvalidStage(InvalidPayload):
    title = "Invalid stage"
    detail = "Invalid Model Version stage: {stage}. Value must be one of None, Staging, Production, Archived."
