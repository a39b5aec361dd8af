"""What comparisons and views refuse."""

from __future__ import annotations

from aidos.errors import NotFound


class ViewNotFound(NotFound):
    title = "View not found"
    detail = "There is no view '{name}' in this project. 'aidos view list' shows those there are."
