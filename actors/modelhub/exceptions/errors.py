"""What is refused of exceptions for unsafe files."""

from __future__ import annotations

from aidos.errors import Conflict, NotFound


class ExceptionNotFound(NotFound):
    title = "Exception not found"
    detail = "{reference} has no exception '{id}'. 'aidos model exceptions' lists those there are."


class NothingToExcept(Conflict):
    title = "There is no such finding"
    detail = "The scan of {reference} found no '{finding}'{where}. It found: {found}."
