"""What logged models refuse."""

from __future__ import annotations

from aidos.errors import NotFound


class LoggedModelNotFound(NotFound):
    title = "Logged model not found"
    detail = "Logged model with ID '{model_id}' not found."
