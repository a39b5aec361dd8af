"""Synthetic files on their way into a commit that says what it is: uploaded by whoever made them, committed once by the driver."""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aidos.client import Client
from aidos.errors import Conflict, NotFound
from aidos.schemas.dataforge.versions import CommitRead, FileAdd
from aidos.transfers.local_files import LocalFile
from aidos.transfers.uploading import Uploader

_FILES_AT_ONCE = 5000
_SPEC_BYTES = 8192


@dataclass(frozen=True)
class Output:
    """The branch that gets the commit of one report; it holds synthetic data, or nothing yet."""

    dataset: str
    branch: str
    report_id: str

    def prepare(self, client: Client) -> CommitRead | None:
        """Make the dataset; the commit of an earlier attempt of this very report, or None. Raises: ValueError where real data would go."""
        head = self._head(client)
        if head is None:
            with contextlib.suppress(Conflict):  # it is there
                client.datasets.create(self.dataset)
            return None
        if head.metadata.get("synthetic") is not True:
            raise ValueError(f"{self.dataset}@{self.branch} holds data that is not synthetic: name another branch, or another dataset")
        return head if head.metadata.get("report") == self.report_id else None

    def upload(self, files: Mapping[str, bytes]) -> list[FileAdd]:
        """Upload files from a worker, under the job's own token."""
        found, local = [], {}
        with Client() as client, tempfile.TemporaryDirectory() as folder:
            for number, (path, data) in enumerate(files.items()):
                source = Path(folder) / str(number)
                source.write_bytes(data)
                sha256 = hashlib.sha256(data).hexdigest()
                found.append(FileAdd(path=path, sha256=sha256, size_bytes=len(data)))
                if data:
                    local[sha256] = LocalFile(path, str(source), len(data), 0, 0)
            Uploader(client, self.dataset, lambda size_bytes: None).upload(local)
        return found

    def commit(self, client: Client, files: Sequence[FileAdd], message: str, metadata: Mapping[str, Any]) -> CommitRead:
        """The commit that holds these files and no others."""
        ordered = sorted(files, key=lambda file: file.path)
        tree = None
        for at in range(0, len(ordered), _FILES_AT_ONCE):
            tree = client.datasets.tree(self.dataset, base=tree, add=ordered[at : at + _FILES_AT_ONCE]).sha256
        head = self._head(client)
        if head is not None and head.tree == tree:
            return head  # the same rows: another report of the same seed made them
        parent = head.id if head else None
        said = {"synthetic": True, "report": self.report_id, **metadata}
        return client.datasets.commit(self.dataset, branch=self.branch, message=message, parent=parent, tree=tree, metadata=said)

    def _head(self, client: Client) -> CommitRead | None:
        try:
            return client.datasets.show(self.dataset, self.branch)
        except NotFound:
            return None


def describe_generator(spec: Mapping[str, Any]) -> dict[str, Any]:
    """What was asked for, whole where a commit's metadata has room for it; else its kind and its SHA-256."""
    asked = {name: value for name, value in spec.items() if value not in (None, [], {})}
    text = json.dumps(asked, sort_keys=True)
    if len(text.encode()) <= _SPEC_BYTES:
        return asked
    return {"make": spec["make"], "sha256": hashlib.sha256(text.encode()).hexdigest()}
