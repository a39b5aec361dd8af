"""What imports in place refuse."""

from __future__ import annotations

from aidos.errors import Conflict, NotFound


class ImportNotFound(NotFound):
    title = "Import not found"
    detail = "Dataset '{dataset}' has no import {id}. 'aidos dataset imports {dataset}' lists those there were."


class NothingToImport(Conflict):
    title = "Nothing to import"
    detail = "There is no object under '{source}' that can be a file ({skipped} were passed over). Look for a mistake in the name."


class ImportEnded(Conflict):
    title = "The import has ended"
    detail = "Import {id} has {state} already, so it cannot be canceled. 'aidos dataset reset' sets the branch back to what it was."
