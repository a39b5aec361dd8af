"""Imports in place, as the client sees them: part of ``client.datasets``."""

from __future__ import annotations

from aidos.http.operation import operation
from aidos.resources.dataforge.storage import Storage
from aidos.schemas.dataforge.imports import FaultRead, ImportCreate, ImportRead, VerificationCreate, VerificationRead

_ALL = "/v1/dataforge/datasets/{dataset}/imports"
_ONE = f"{_ALL}/{{import_id}}"
_VERIFICATIONS = "/v1/dataforge/datasets/{dataset}/verifications"
_VERIFICATION = f"{_VERIFICATIONS}/{{verification}}"


class Imports(Storage):
    """Folders of buckets that become commits as they lie, and whether they are still what was imported."""

    import_ = operation(
        "POST", _ALL, body=ImportCreate, returns=ImportRead, positional=("source",), help="Make a branch equal to a folder of a bucket."
    )
    imports = operation("GET", _ALL, returns=ImportRead, paged=True, help="Imports into a dataset, newest first.")
    get_import = operation("GET", _ONE, returns=ImportRead, query={"wait": str}, help="One; --wait 30s answers once it has ended.")
    cancel_import = operation("POST", f"{_ONE}/cancel", returns=ImportRead, help="End an import before it has made its commit.")
    verify = operation(
        "POST",
        _VERIFICATIONS,
        body=VerificationCreate,
        returns=VerificationRead,
        help="Read all files in place of a commit and check them.",
    )
    verifications = operation("GET", _VERIFICATIONS, returns=VerificationRead, paged=True, help="Verifications of a dataset, newest first.")
    verification = operation(
        "GET", _VERIFICATION, returns=VerificationRead, query={"wait": str}, help="One; --wait 30s answers once it has ended."
    )
    faults = operation(
        "GET", f"{_VERIFICATION}/faults", returns=FaultRead, paged=True, help="Files that are not what was imported, by path."
    )
    cancel_verification = operation("POST", f"{_VERIFICATION}/cancel", returns=VerificationRead, help="End a verification.")
