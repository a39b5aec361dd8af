"""``aidos.dataset("digits@main")``: one commit of a dataset, for scripts and for training."""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from aidos.client import Client
from aidos.config import cache_directory, job
from aidos.schemas.dataforge.versions import CommitRead, FileRead
from aidos.streaming.chunks import Sample
from aidos.streaming.consumed import Consumed
from aidos.streaming.ray_stream import Share, build_dataset
from aidos.streaming.recording import Recorder
from aidos.streaming.source import Source, open_source
from aidos.transfers import directories
from aidos.transfers.filesystem import AidosFileSystem
from aidos.transfers.listing import pinned_ref, read_listing

if TYPE_CHECKING:
    from aidos.streaming.torch_stream import TorchStream

_WINDOW = 10_000


class Dataset:
    """The files of ``commit``; a branch that moves afterwards changes nothing here."""

    def __init__(self, name: str, commit: CommitRead, client: Client) -> None:
        self.name, self.commit, self._client = name, commit, client
        # By settings and not by the client, so that it travels to other processes; this one has its client already.
        self._settings = (client.config.url, client.config.api_key, client.config.project)
        self._filesystem = AidosFileSystem(*self._settings, skip_instance_cache=True).using(client)

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

    def to_torch(
        self,
        pattern: str = "*",
        *,
        rows: bool | None = None,
        columns: Sequence[str] | None = None,
        shuffle: bool = True,
        seed: int = 0,
        window: int = _WINDOW,
        batch_size: int | None = None,
        workers: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        transform: Callable[[Sample], Any] | None = None,
        collate: Callable[[list[Any]], Any] | None = None,
        run: Any = None,
    ) -> TorchStream:
        """Samples or batches for training, in an order that ``seed`` and epoch decide, shared among ranks and worker processes.

        Tables (Parquet, CSV, JSON Lines) give their rows as dicts with ``_id``, shuffled within windows of at least ``window`` rows;
        other files give ``_id`` (the path) and ``data``. ``transform`` is applied to each in the worker, ``collate`` (torch's own) to
        the ``batch_size`` samples of a batch. Rank and world size are those of ``torch.distributed`` where they are not given. What is
        read is recorded for ``run`` (a run, or its id), in a job for the job's own run.

        Raises: NothingToRead, FilesMixed, RowsUnreadable, LibraryMissing, InvalidRequest.
        """
        source = self._open_source(pattern, rows, columns)
        return importlib.import_module("aidos.streaming.torch_stream").TorchStream(
            source, seed=seed if shuffle else None, window=window, batch_size=batch_size, workers=workers, rank=rank,
            world_size=world_size, transform=transform, collate=collate, recorder=self._recorder(source, run),
        )  # fmt: skip

    def to_ray(
        self,
        pattern: str = "*",
        *,
        rows: bool | None = None,
        columns: Sequence[str] | None = None,
        shuffle: bool = True,
        seed: int = 0,
        epoch: int = 0,
        epochs: int = 1,
        window: int = _WINDOW,
        share: Share | None = None,
        skip: int = 0,
        consumed: Consumed | None = None,
        run: Any = None,
        **task_options: Any,
    ) -> Any:
        """A Ray dataset of the rows or files, as ``to_torch`` has them, with the columns ``_id`` and ``_ordinal``.

        ``epochs`` follow each other from ``epoch`` on, each in an order of its own. With ``share`` a reader's part of each batch, and
        ``skip`` leaves out the first batches: so that a training goes on at a step, with any number of workers.
        With ``consumed`` only what it has not seen; tell it each batch after use, and that is recorded for ``run`` too.
        ``task_options`` are those of Ray Data's tasks, such as ``num_cpus``.
        Raises: as ``to_torch``; StateOfAnother.
        """
        source = self._open_source(pattern, rows, columns)
        if consumed is not None:
            consumed.bind(source.fingerprint, self._recorder(source, run))
        orders = [source.order(seed if shuffle else None, number, window) for number in range(epoch, epoch + epochs)]
        return build_dataset(source, orders, consumed.ranges if consumed else [], share, skip, task_options)

    def count(self, pattern: str = "*", *, rows: bool | None = None) -> int:
        """How many samples ``to_torch`` and ``to_ray`` have. Raises: as ``to_torch``."""
        return self._open_source(pattern, rows, None).size

    def _open_source(self, pattern: str, rows: bool | None, columns: Sequence[str] | None) -> Source:
        return open_source(self._filesystem, self.name, str(self.commit.id), self.files(), pattern=pattern, rows=rows, columns=columns)

    def _recorder(self, source: Source, run: Any) -> Recorder | None:
        run_id = getattr(run, "id", run) or job().run_id
        return Recorder(functools.partial(Client, *self._settings), run_id, source) if run_id else None

    def __repr__(self) -> str:
        return f"<Dataset {self.name}@{self.commit.id}: {self.commit.files} files, {self.commit.size_bytes} bytes>"


def dataset(source: str, *, client: Client | None = None) -> Dataset:
    """The commit behind ``NAME[@REF]``; in a job, the commit that the reference meant when it was submitted. Raises: NotFound."""
    name, ref = directories.split_source(source)
    opened = client or Client()
    return Dataset(name, opened.datasets.show(name, pinned_ref(name, ref)), opened)
