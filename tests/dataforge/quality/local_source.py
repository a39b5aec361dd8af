"""A source of reports over a folder of this machine, in this process: what the pipelines compute, without Ray and a platform."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from aidos.errors import NotFound
from aidos.schemas.dataforge.versions import FileRead


@dataclass(frozen=True)
class LocalTree:
    """A folder in the place of a commit."""

    dataset: str
    commit_id: str

    def open(self, path: str) -> Any:
        return (Path(self.commit_id) / path).open("rb")

    def read(self, path: str) -> bytes:
        return (Path(self.commit_id) / path).read_bytes()


@dataclass
class LocalSource:
    """``tree`` is a folder, and so are the other datasets by name."""

    folder: Path
    others: dict[str, Path] = field(default_factory=dict)
    at: datetime = datetime(2026, 1, 31, tzinfo=UTC)

    @property
    def tree(self) -> LocalTree:
        return LocalTree("local", str(self.folder))

    @property
    def client(self) -> Any:
        return SimpleNamespace(datasets=SimpleNamespace(show=self._show))

    def _show(self, dataset: str, ref: str) -> Any:
        if dataset != "local" and dataset not in self.others:
            raise NotFound(noun="dataset", name=dataset)
        return SimpleNamespace(id=str(self.others.get(dataset, self.folder)), created_at=self.at)

    def files(self, tree: Any = None) -> list[FileRead]:
        root = Path((tree or self.tree).commit_id)
        found = sorted(path for path in root.rglob("*") if path.is_file())
        return [
            FileRead(path=str(path.relative_to(root)), sha256=hashlib.sha256(path.read_bytes()).hexdigest(), size_bytes=path.stat().st_size)
            for path in found
        ]

    def each(self, stage: str, units: Sequence[Any], work: Callable[[Any], Any]) -> Iterator[Any]:
        yield from map(work, units)

    def share(self, value: Any) -> Callable[[], Any]:
        return lambda: value
