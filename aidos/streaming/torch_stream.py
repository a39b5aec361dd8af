"""A commit as torch reads it: shuffled alike everywhere, shared out among ranks and workers, taken up again exactly.

Loaded by ``Dataset.to_torch`` alone, since the class needs torch to be one of its own.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aidos import optional
from aidos.errors import InvalidRequest
from aidos.streaming.ahead import ahead
from aidos.streaming.chunks import Chunk, Sample, batched
from aidos.streaming.progress import VERSION, Progress, StateOfAnother, merge
from aidos.streaming.recording import Recorder
from aidos.streaming.source import Source

if TYPE_CHECKING:
    torch: Any
    data: Any
    IterableDataset: Any = object
else:
    torch = optional.load("torch", "to_torch")
    data = optional.load("torch.utils.data", "to_torch")
    IterableDataset = data.IterableDataset

Item = tuple[int, list[int], Any]
"""A reader, the ordinals that it read, and what came of them: a sample or a batch."""


class _Part(IterableDataset):
    """What the readers of one rank read; in a worker process one of them, else all that are asked for, one."""

    def __init__(self, stream: TorchStream, progress: Progress, first: int) -> None:
        self._stream, self._progress, self._first = stream, progress, first

    def __iter__(self) -> Iterator[Item]:
        info = data.get_worker_info()
        workers = info.num_workers if info is not None else 1
        # The worker whose turn it was when the state was taken goes first.
        reader = self._stream.rank * workers + (self._first + (info.id if info is not None else 0)) % workers
        return self._stream.items(self._progress, reader)


class TorchStream(IterableDataset):
    """Samples of an epoch, or batches of them; iterate again for the next epoch.

    ``state_dict`` tells what has been given out so far, whatever worker processes have read ahead.
    """

    def __init__(
        self,
        source: Source,
        *,
        seed: int | None,
        window: int,
        batch_size: int | None,
        workers: int,
        rank: int | None,
        world_size: int | None,
        transform: Callable[[Sample], Any] | None,
        collate: Callable[[list[Any]], Any] | None,
        recorder: Recorder | None,
    ) -> None:
        found = _find_place()
        self.rank, self.world_size = (rank if rank is not None else found[0]), (world_size or found[1])
        if not 0 <= self.rank < self.world_size or workers < 0 or (batch_size is not None and batch_size < 1) or window < 1:
            raise InvalidRequest(
                reason="A stream needs 0 <= rank < world_size, workers >= 0, batch_size >= 1 and window >= 1; "
                f"got rank={self.rank}, world_size={self.world_size}, workers={workers}, batch_size={batch_size}, window={window}."
            )
        self.source, self.epoch = source, 0
        self._seed, self._window, self._batch_size, self._workers = seed, window, batch_size, workers
        self._transform, self._collate, self.recorder = transform, collate, recorder
        self._progress: Progress | None = None
        self._turn = 0

    @property
    def size(self) -> int:
        """Samples of a whole epoch, over all ranks."""
        return self.source.size

    def set_epoch(self, epoch: int) -> None:
        """Begin at this epoch next; each has an order of its own. The epoch that a state is in the middle of goes on."""
        if epoch != self.epoch:
            self.epoch, self._progress, self._turn = epoch, None, 0

    def __iter__(self) -> Iterator[Any]:
        progress, info = self._begun(), data.get_worker_info()
        if info is not None:  # in a worker of somebody's own DataLoader
            yield from self._given(self.items(progress, self._own_readers()[info.id]))
            return
        if self._workers == 0:
            yield from self._given(self.items(progress, self.rank))
        else:
            loader = data.DataLoader(_Part(self, progress, self._turn), batch_size=None, num_workers=self._workers)
            yield from self._given(iter(loader))
        self.set_epoch(self.epoch + 1)
        if self.recorder:
            self.recorder.hurry()

    def _own_readers(self) -> range:
        """Readers of this rank: its worker processes, or itself."""
        info = data.get_worker_info()
        workers = info.num_workers if info is not None else max(1, self._workers)
        return range(self.rank * workers, (self.rank + 1) * workers)

    def _begun(self) -> Progress:
        """The epoch's progress, cut for the readers that there are now. Raises: StateIncomplete."""
        own = self._own_readers()
        readers = self.world_size * len(own)
        progress = self._progress or Progress.begin(self.epoch, self.size, readers)
        if progress.readers != readers:
            progress, self._turn = progress.split(readers), 0
        progress.only(own)
        self._progress = progress
        return progress

    def _given(self, items: Iterator[Item]) -> Iterator[Any]:
        for reader, ordinals, value in items:
            assert self._progress is not None
            self._progress.advance(reader, len(ordinals))
            self._turn = (reader + 1) % (self._progress.readers // self.world_size)
            if self.recorder:
                self.recorder.add(ordinals)
            yield value

    def items(self, progress: Progress, reader: int) -> Iterator[Item]:
        """What a reader has still to read, in order; the next chunk is fetched while one is used."""
        order = self.source.order(self._seed, progress.epoch, self._window)
        parts = (part.ordinals for start, end in progress.rest(reader) for part in order.parts(start, end))
        chunks = ahead((portion for part in parts for portion in self.source.portions(part)), self.source.fetch)
        if self._batch_size is not None:
            yield from ((reader, batch.ordinals, self._collated(batch)) for batch in batched(chunks, self._batch_size))
            return
        for chunk in chunks:
            for ordinal, sample in zip(chunk.ordinals, chunk.samples(), strict=True):
                yield reader, [ordinal], self._transform(sample) if self._transform else sample

    def _collated(self, batch: Chunk) -> Any:
        columns = batch.columns() if self._transform is None and self._collate is None else None
        if columns is not None:
            return {name: values if isinstance(values, list) else torch.from_numpy(values.copy()) for name, values in columns.items()}
        samples = [self._transform(sample) if self._transform else sample for sample in batch.samples()]
        return (self._collate or data.default_collate)(samples)

    def state_dict(self) -> dict[str, Any]:
        """Where this rank is, as JSON keeps it. Save it with the checkpoint, one for each rank."""
        if self.recorder:
            self.recorder.hurry()
        state = self._begun().only(self._own_readers()).to_state()
        return {"version": VERSION, **self._identity(), **state, "turns": {str(self.rank): self._turn}}

    def load_state_dict(self, states: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> None:
        """Go on where the states were taken: this rank's own, or those of all ranks, which any number of ranks and workers goes on from.

        Raises: StateOfAnother, StatesDiffer, StateIncomplete.
        """
        given = [states] if isinstance(states, Mapping) else list(states)
        for state in given:
            theirs = {name: state.get(name) for name in self._identity()}
            if state.get("version") != VERSION or theirs != self._identity():
                raise StateOfAnother(theirs=theirs, ours=self._identity())
        self._progress = merge([Progress.from_state(state) for state in given])
        self.epoch = self._progress.epoch
        turns = {rank: turn for state in given for rank, turn in state["turns"].items()}
        self._turn = int(turns.get(str(self.rank), 0))
        self._begun()

    def _identity(self) -> dict[str, Any]:
        return {"source": self.source.fingerprint, "seed": self._seed, "window": self._window}


def _find_place() -> tuple[int, int]:
    """Rank and world size of ``torch.distributed`` where the program has joined one: Ray Train's workers have."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()
