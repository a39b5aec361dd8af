"""Views: questions about runs that a project keeps. ``client.runs.compare`` answers them."""

from __future__ import annotations

from aidos.http.operation import Resource, operation
from aidos.schemas.comparisons import ViewRead, ViewSet

_VIEWS = "/v1/modelhub/views"
_VIEW = f"{_VIEWS}/{{view}}"


class Views(Resource):
    """Questions about runs that the project keeps: which runs, columns and charts."""

    noun = "view"

    set = operation("PUT", _VIEW, body=ViewSet, returns=ViewRead, help="Keep a view under a name, in the place of one that there is.")
    list = operation("GET", _VIEWS, returns=ViewRead, paged=True, help="The project's views by name.")
    get = operation("GET", _VIEW, returns=ViewRead, help="One view.")
    delete = operation("DELETE", _VIEW, help="Delete a view; its runs stay.")
