"""``aidos.dataset("digits@main")``: one commit of a dataset, for scripts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, Any

from aidos.client import Client
from aidos.config import cache_directory
from aidos.schemas.dataforge.versions import CommitRead, FileRead
from aidos.transfers import directories
from aidos.transfers.filesystem import AidosFileSystem
from aidos.transfers.listing import pinned_ref, read_listing


class Dataset:
    """The files of ``commit``; a branch that moves afterwards changes nothing here."""

    def __init__(self, name: str, commit: CommitRead, client: Client) -> None:
        self.name, self.commit, self._client = name, commit, client
        self._filesystem = AidosFileSystem(client=client, skip_instance_cache=True)

    def files(self, prefix: str = "") -> list[FileRead]:
        """Files by path, those whose paths begin with ``prefix``."""
        return [file for path, file in read_listing(self._client, self.name, self.commit.id).items() if path.startswith(prefix)]

    def open(self, path: str, mode: str = "rb", **options: Any) -> IO[Any]:
        """A file for reading, in bytes (``rb``) or text (``r``). Raises: FileNotFoundError."""
        return self._filesystem.open(self.url(path), mode, **options)

    def read_bytes(self, path: str) -> bytes:
        """Raises: FileNotFoundError."""
        return self._filesystem.cat_file(self.url(path))

    def url(self, path: str = "") -> str:
        """``aidos://name@commit/path``, for pandas, pyarrow and whatever else reads fsspec URLs."""
        return f"aidos://{self.name}@{self.commit.id}/{path}"

    def to_local(self, directory: str | os.PathLike[str] | None = None) -> Path:
        """All files in ``directory`` (or in the client's cache), checked; what is there already stays."""
        target = Path(directory) if directory is not None else cache_directory() / "datasets" / str(self.commit.id)
        directories.pull(f"{self.name}@{self.commit.id}", target, client=self._client)
        return target

    def __repr__(self) -> str:
        return f"<Dataset {self.name}@{self.commit.id}: {self.commit.files} files, {self.commit.size_bytes} bytes>"


def dataset(source: str, *, client: Client | None = None) -> Dataset:
    """The commit behind ``NAME[@REF]``; in a job, the commit that the reference meant when it was submitted. Raises: NotFound."""
    name, ref = directories.split_source(source)
    opened = client or Client()
    return Dataset(name, opened.datasets.show(name, pinned_ref(name, ref)), opened)
