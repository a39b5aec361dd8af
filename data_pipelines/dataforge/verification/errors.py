"""What verifications refuse."""

from __future__ import annotations

from aidos.errors import Conflict, NotFound


class VerificationNotFound(NotFound):
    title = "Verification not found"
    detail = "Dataset '{dataset}' has no verification {id}. 'aidos dataset verifications {dataset}' lists those there were."


class VerificationEnded(Conflict):
    title = "The verification has ended"
    detail = "Verification {id} has {state} already, so it cannot be canceled."
