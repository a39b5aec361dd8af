"""Datasets, as the client sees them. ``aidos.push``, ``aidos.pull`` and ``aidos dataset push|pull`` build on these."""

from __future__ import annotations

from typing import Any

from aidos.http.operation import operation
from aidos.resources.dataforge.imports import Imports
from aidos.schemas.dataforge.versions import (
    BlobState,
    ChangeRead,
    CommitCreate,
    CommitRead,
    CompletedRead,
    DatasetCreate,
    DatasetRead,
    DownloadsCreate,
    DownloadsRead,
    FileRead,
    PartsRead,
    RefRead,
    RefSet,
    TreeCreate,
    TreeRead,
    UploadsComplete,
    UploadsCreate,
    UploadsRead,
)

_ALL = "/v1/dataforge/datasets"
_ONE = f"{_ALL}/{{dataset}}"
_REF: dict[str, Any] = {"ref": (str, "main")}


class Datasets(Imports):
    """Versioned folders of files: commits, branches and tags over content-addressed storage."""

    noun = "dataset"

    create = operation("POST", _ALL, body=DatasetCreate, returns=DatasetRead, positional=("name",), help="Create a dataset.")
    list = operation("GET", _ALL, returns=DatasetRead, paged=True, help="The project's datasets, newest first.")
    get = operation("GET", _ONE, returns=DatasetRead, help="One dataset.")
    delete = operation("DELETE", _ONE, help="Delete a dataset with its commits and refs.")
    log = operation("GET", f"{_ONE}/commits", returns=CommitRead, paged=True, query=_REF, help="Commits of a ref, newest first.")
    commit = operation("POST", f"{_ONE}/commits", body=CommitCreate, returns=CommitRead, help="Commit files that are uploaded already.")
    show = operation("GET", f"{_ONE}/commits/{{ref}}", returns=CommitRead, help="The commit behind a branch, a tag or a commit id.")
    tree = operation("POST", f"{_ONE}/trees", body=TreeCreate, returns=TreeRead, help="Store a manifest ahead of a large commit.")
    refs = operation("GET", f"{_ONE}/refs", returns=RefRead, paged=True, help="Branches and tags.")
    set_ref = operation("PUT", f"{_ONE}/refs/{{ref}}", body=RefSet, returns=RefRead, help="Make a branch or tag, or move a branch.")
    delete_ref = operation("DELETE", f"{_ONE}/refs/{{ref}}", help="Delete a branch or tag; its commits stay.")
    files = operation(
        "GET", f"{_ONE}/files", returns=FileRead, paged=True, query={**_REF, "prefix": (str, "")}, help="Files of a commit by path."
    )
    diff = operation(
        "GET",
        f"{_ONE}/diff",
        returns=ChangeRead,
        paged=True,
        query={"base": (str, ...), "head": (str, ...)},
        help="Files that differ between two refs.",
    )
    uploads = operation(
        "POST", f"{_ONE}/uploads", body=UploadsCreate, returns=UploadsRead, help="Which contents are still to be uploaded, and where to."
    )
    upload_parts = operation(
        "POST", f"{_ONE}/uploads/parts", body=BlobState, returns=PartsRead, help="Where the parts of a large content go."
    )
    complete_uploads = operation(
        "POST", f"{_ONE}/uploads/complete", body=UploadsComplete, returns=CompletedRead, help="Have uploaded contents checked and known."
    )
    downloads = operation("POST", f"{_ONE}/downloads", body=DownloadsCreate, returns=DownloadsRead, help="Presigned URLs of files.")
