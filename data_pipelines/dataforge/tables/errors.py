"""What the viewer refuses."""

from __future__ import annotations

from aidos.errors import Conflict, InvalidPayload, Unavailable


class NoTable(InvalidPayload):
    title = "The file is no table that can be shown"
    detail = "'{path}' is not read as a table: its name must end in one of {endings}. Download it instead."


class FileTooLarge(InvalidPayload):
    title = "The file is too large to be shown"
    detail = (
        "'{path}' has {size_bytes} bytes of {format}, and at most {limit_bytes} of a file are read for an answer. "
        "Ask for fewer columns or rows of a Parquet file; commit others as Parquet, or download it."
    )


class FileUnreadable(InvalidPayload):
    title = "The file is not what its name says"
    detail = "'{path}' cannot be read as {format}: {reason}"


class FileChanged(Conflict):
    title = "The bytes of a file are not those that were committed"
    detail = "'{path}' was committed with SHA-256 {sha256}, and {reason}. Restore the object, or commit the file again."


class QueryRefused(InvalidPayload):
    title = "Only one SELECT over the named files"
    detail = "{reason}"


class QueryFailed(InvalidPayload):
    title = "The query cannot be answered"
    detail = "{reason}"


class TooMuchWork(InvalidPayload):
    title = "The question takes too much"
    detail = "The answer takes more than {limit_s} s or {memory_bytes} bytes of memory. Ask for fewer columns or rows, or run it as a job."


class ViewerBusy(Unavailable):
    title = "The viewer is busy"
    detail = "All viewers of this gateway are at work, and {waiting} questions wait already. Try again in {retry_after_s} s."


class ViewerAway(Unavailable):
    title = "The viewer is being started again"
    detail = "The process that reads files ended. Try again in {retry_after_s} s; the gateway's log says why."
