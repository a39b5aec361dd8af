"""What artifacts refuse."""

from __future__ import annotations

from aidos.errors import InvalidPayload, NotFound


class NoSuchArtifact(NotFound):
    title = "No such artifact"
    detail = "There is no artifact '{path}' here."


class InvalidArtifactPath(InvalidPayload):
    title = "Invalid artifact path"
    detail = (
        "Invalid path '{path}': it must be OWNER/ID/artifacts/PATH with '/' between its parts, without '.', '..', '\\' and control "
        "characters, and at most 500 characters long."
    )


class ReadOnlyArtifacts(InvalidPayload):
    title = "Artifacts cannot be written"
    detail = "The files of a registered version do not change: log a new model and register that."


class UploadNotFound(NotFound):
    title = "Upload not found"
    detail = "There is no upload '{upload_id}' of '{path}' under way. It was completed or aborted, or never begun."


class PartsMissing(InvalidPayload):
    title = "Parts are missing"
    detail = "The upload of '{path}' has {expected} parts and {actual} of them arrived. Upload the others, then complete it."
