"""Reports, as the client sees them. ``aidos report create --wait`` and ``show`` build on these."""

from __future__ import annotations

from aidos.http.operation import Resource, operation
from aidos.schemas.dataforge.reports import ProgressSet, ReportCreate, ReportRead, ResultSet

_OF = "/v1/dataforge/datasets/{dataset}/reports"
_ONE = "/v1/dataforge/reports/{report}"


class Reports(Resource):
    """What pipelines find out about a commit: profile, drift, expectations, label errors."""

    noun = "report"

    create = operation("POST", _OF, body=ReportCreate, returns=ReportRead, help="Ask something of a commit; asked again, the same report.")
    list = operation("GET", _OF, returns=ReportRead, paged=True, query={"ref": str, "kind": str}, help="A dataset's reports, newest first.")
    get = operation("GET", _ONE, returns=ReportRead, query={"wait": str}, help="One report; --wait 30s answers once it has ended.")
    progress = operation("PUT", f"{_ONE}/progress", body=ProgressSet, returns=ReportRead, help="Say how far the report's own job is.")
    finish = operation("PUT", f"{_ONE}/result", body=ResultSet, returns=ReportRead, help="Keep what the report's own job found.")
