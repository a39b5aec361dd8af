"""What garbage collection refuses."""

from __future__ import annotations

from aidos.errors import Conflict, NotFound


class CollectionRunning(Conflict):
    title = "A collection is under way"
    detail = "Collection {id} of this project has not ended. Wait for it: 'aidos dataset collection {id} --wait 30s'."


class CollectionNotFound(NotFound):
    title = "Collection not found"
    detail = "There is no collection {id} in this project. 'aidos dataset collections' lists those there were."
