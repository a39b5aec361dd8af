"""What DeployEngine refuses."""

from __future__ import annotations

from aidos.errors import Conflict, InvalidPayload, NotFound


class EndpointNotFound(NotFound):
    title = "Endpoint not found"
    detail = "There is no endpoint '{name}' in this project. 'aidos endpoint list' shows those that are."


class EndpointExists(Conflict):
    title = "Endpoint exists"
    detail = "There is an endpoint '{name}' already. Update it, or delete it first."


class ModelNotServable(Conflict):
    title = "Model version cannot be served"
    detail = "{model}@{version} cannot be served: {reason}."


class EndpointBeingDeleted(Conflict):
    title = "Endpoint is being deleted"
    detail = "Endpoint '{name}' is being deleted. Create it again once it is gone."


class InvalidTensor(InvalidPayload):
    title = "Invalid inference request"
    detail = "{reason}"


class ModelDamaged(Conflict):
    title = "Model file is damaged"
    detail = "File '{path}' has SHA-256 {actual}, the registry says {expected}: it was not loaded."
