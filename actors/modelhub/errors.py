"""What ModelHub refuses."""

from __future__ import annotations

from aidos.errors import Conflict, InvalidPayload, NotFound


class ExperimentNotFound(NotFound):
    title = "Experiment not found"
    detail = "There is no experiment '{name}' in this project. 'aidos experiment list' shows those there are."


class RunNotFound(NotFound):
    title = "Run not found"
    detail = "There is no run '{run_id}' in this project. 'aidos run list' shows those there are."


class ModelNotFound(NotFound):
    title = "Model not found"
    detail = "There is no model '{name}' in this project. 'aidos model list' shows those there are."


class VersionNotFound(NotFound):
    title = "Model version not found"
    detail = "Model '{model}' has no version or alias '{version}'. 'aidos model versions {model}' shows those there are."


class AliasNotFound(NotFound):
    title = "Alias not found"
    detail = "Model '{model}' has no alias '{alias}'."


class ArtifactNotFound(NotFound):
    title = "Artifact not found"
    detail = "Run '{run_id}' has no stored artifact '{path}'. Upload it and complete the upload first."


class NodeNotFound(NotFound):
    title = "Not in the lineage"
    detail = "The lineage of this project knows no {kind} '{name}'."


class ExperimentExists(Conflict):
    title = "Experiment exists"
    detail = "There is already an experiment '{name}' in this project."


class ModelExists(Conflict):
    title = "Model exists"
    detail = "There is already a model '{name}' in this project."


class RunIdTaken(Conflict):
    title = "Id of another run"
    detail = "'{run_id}' cannot be the id of this run: another one has it, or one that was deleted. Let the platform choose, or make a UUID of version 7."


class WrongRunState(Conflict):
    title = "Run cannot change to this state"
    detail = "Run '{run_id}' is {state} and cannot become {wanted}."


class RunEnded(Conflict):
    title = "Run has ended"
    detail = "Run '{run_id}' is {state}: nothing more can be logged to it."


class ParamChanged(Conflict):
    title = "Parameter was set before"
    detail = "Parameter '{key}' of run '{run_id}' is '{stored}' and cannot become '{wanted}': use a tag for what changes."


class ArtifactExists(Conflict):
    title = "Artifact exists"
    detail = "Run '{run_id}' already has an artifact '{path}' with other bytes. Choose another path."


class UploadIncomplete(Conflict):
    title = "Upload is not complete"
    detail = "'{path}' should have {expected_bytes} bytes and the object store has {actual_bytes}. Upload it again."


class VersionNotReady(Conflict):
    title = "Model version is not ready"
    detail = "{reference} is {state}{because}. Only a READY version can be used."


class VersionInUse(Conflict):
    title = "Model version is in use"
    detail = "{reference} has the alias '{alias}'. Move or delete the alias first."


class InvalidModelFiles(InvalidPayload):
    title = "Not the files of such a model"
    detail = "{reason}"


class TooManyParams(InvalidPayload):
    title = "Too many parameters"
    detail = "A run has at most {limit} parameters and {limit} tags."
