"""What recording of reads refuses."""

from __future__ import annotations

from aidos.errors import Conflict, InvalidPayload, NotFound


class ReadSourceNotFound(NotFound):
    title = "Source not found"
    detail = "There is no source {source} in this project. Describe it first: PUT /v1/dataforge/reads/sources/{source}."


class ReadSourceDiffers(Conflict):
    title = "Source is described otherwise"
    detail = (
        "Source {source} is known with {size} ordinals by {unit}. A source is named by its content: describe another under another name."
    )


class ReadsOutside(InvalidPayload):
    title = "Not ordinals of the source"
    detail = "The range {first} to {last} does not lie within the source's {size} ordinals, or is empty."
