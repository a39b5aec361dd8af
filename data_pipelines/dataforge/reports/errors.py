"""What reports refuse."""

from __future__ import annotations

from aidos.errors import Forbidden, NotFound


class ReportNotFound(NotFound):
    title = "Report not found"
    detail = "There is no report {report} in this project. 'aidos report list DATASET' shows those of a dataset."


class ReportOfAnotherJob(Forbidden):
    title = "Another job's report"
    detail = "Only the job of report {report} may write its progress and its result. 'aidos report create' begins such a job."
