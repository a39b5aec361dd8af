"""What SecurityVault refuses."""

from __future__ import annotations

from aidos.errors import NotFound


class ProjectNotFound(NotFound):
    title = "Project not found"
    detail = "There is no project '{name}' that you are a member of. 'aidos project list' shows yours."
