"""Asks the processes of ``child`` on behalf of a gateway: files come from the cache, each question goes to a process of its own.

A few processes stand ready, each confined to an empty folder; a question's files are linked into the folder of one, which answers and ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections import Counter, deque
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID
from weakref import WeakValueDictionary

import urllib3

from aidos.errors import AidosError
from data_pipelines.dataforge.tables.cache import Cache, Part, fetch, fetch_part
from data_pipelines.dataforge.tables.errors import (
    FileTooLarge,
    FileUnreadable,
    QueryFailed,
    QueryRefused,
    TooMuchWork,
    ViewerAway,
    ViewerBusy,
)
from data_pipelines.dataforge.tables.models import CONVERSION_S, MEMORY_BYTES, TIME_S, Answer, Format, Located
from data_pipelines.dataforge.tables.policy import find_format

ROOT = Path(__file__).resolve().parents[3]
AT_ONCE = 4
"""Questions that are worked at: of all projects, and half of it of one."""
WAITING = 64
READY = 2
WHOLE_BYTES = 64 * 2**20
"""Parquet files up to here are always fetched whole, larger ones as far as they are read."""
_GRACE_S = 5
_READY_S = 60
_LINE_BYTES = 2**20


@dataclass(frozen=True)
class _Child:
    folder: Path
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


class Viewer:
    """One for a gateway process; it starts with the first question at the latest. ``folder`` is shared with the machine's other gateways."""

    def __init__(self, folder: Path, cache_bytes: int, time_s: float = TIME_S) -> None:
        self.time_s = time_s
        self.cache, self.open = Cache(folder / "files", cache_bytes), folder / "open"
        self.http = urllib3.PoolManager(
            maxsize=AT_ONCE, timeout=urllib3.Timeout(connect=5, read=30), retries=urllib3.Retry(total=4, backoff_factor=0.2)
        )
        self._starting = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._ready: deque[_Child] = deque()
        self._turns, self._waiting, self._made = asyncio.Semaphore(AT_ONCE), 0, 0
        self._projects: WeakValueDictionary[UUID, asyncio.Semaphore] = WeakValueDictionary()

    async def start(self) -> None:
        """Begin to load what a question needs, half a second to two of it: the first question would wait for that."""
        with contextlib.suppress(OSError):  # no reason for a gateway not to start: the first question meets it again
            await asyncio.to_thread(self._start)

    def close(self) -> None:
        """End the processes. Another question would start them again."""
        while self._ready:
            self._drop(self._ready.popleft())
        if self._control:
            self._control.close()
        if self._process:
            self._process.terminate()  # it may still be loading
            self._process.wait()
        self._control = self._process = None

    async def ask_table(self, files: Sequence[Located], question: Mapping[str, Any]) -> Answer:
        """Ask something of tables, each brought into Parquet. Raises: NoTable and as ``ask``."""
        formats = [find_format(file.path) for file in files]
        async with self._turn(files[0].project_id):
            in_parts = {at for at, (file, (format, _)) in enumerate(zip(files, formats, strict=True)) if self._comes_in_parts(file, format)}
            if not in_parts:
                return await self._ask(files, formats, question, in_parts)
            try:
                return await self._ask(files, formats, question, in_parts)
            except FileUnreadable as unreadable:  # only a whole file can be held against its SHA-256
                with contextlib.suppress(FileTooLarge):
                    return await self._ask(files, formats, question, frozenset())
                raise unreadable from None

    async def ask_thumbnail(self, file: Located, size: int) -> bytes:
        """A thumbnail, kept in the cache. Raises: as ``ask_table``."""
        async with self._turn(file.project_id):
            child = await self._take()
            with self._using(child):

                async def make(target: Path) -> None:
                    await self._provide(file, child.folder / "in" / "0", "an image")
                    answer = await self._converse(child, [file], ["an image"], {"kind": "thumbnail", "size": size})
                    await asyncio.to_thread(target.write_bytes, answer.body)

                shown = child.folder / "thumbnail"
                await self.cache.link(f"{_name(file)}.{size}.webp", shown, make, derived=True)
                return await asyncio.to_thread(shown.read_bytes)

    def _comes_in_parts(self, file: Located, format: Format) -> bool:
        """A large Parquet file does, until most of it is here: a whole one is read faster."""
        if format is not Format.PARQUET or file.size_bytes <= WHOLE_BYTES or self.cache.holds(_name(file)):
            return False
        return file.size_bytes > self.cache.limit_bytes // 2 or self.cache.measure(f"{_name(file)}.") <= file.size_bytes // 2

    async def _ask(
        self, files: Sequence[Located], formats: Sequence[tuple[Format, str]], question: Mapping[str, Any], in_parts: Collection[int]
    ) -> Answer:
        """With those of the files that are not ``in_parts`` brought whole."""
        child = await self._take()
        with self._using(child):
            for number, (file, (format, packing)) in enumerate(zip(files, formats, strict=True)):
                if number not in in_parts:
                    await self._provide_table(file, format, packing, child.folder / "in" / str(number))
            sizes = {number: files[number].size_bytes for number in in_parts}
            return await self._converse(child, files, [format.value for format, _ in formats], {**question, "in_parts": sizes})

    async def _provide_part(self, file: Located, part: Part, target: Path, format: str) -> None:
        start, end = part
        if not 0 <= start < end <= file.size_bytes:
            raise FileUnreadable(path=file.path, format=format, reason=f"it has no bytes {start} to {end}.")
        await self.cache.link(
            f"{_name(file)}.{start}-{end}", target, lambda path: asyncio.to_thread(fetch_part, self.http, file, part, path)
        )

    async def _provide(self, file: Located, target: Path, format: str) -> None:
        self._check_size(file, file.size_bytes, format)
        await self.cache.link(_name(file), target, lambda path: asyncio.to_thread(fetch, self.http, file, path))

    def _check_size(self, file: Located, read_bytes: int, format: str) -> None:
        """Raises: FileTooLarge where so much of a file is more than half the cache."""
        limit_bytes = self.cache.limit_bytes // 2
        if read_bytes > limit_bytes:
            raise FileTooLarge(path=file.path, size_bytes=file.size_bytes, limit_bytes=limit_bytes, format=format)

    async def _provide_table(self, file: Located, format: Format, packing: str, target: Path) -> None:
        if format is Format.PARQUET:
            await self._provide(file, target, format.value)
            return

        async def convert(path: Path) -> None:
            child = await self._take()
            with self._using(child):
                await self._provide(file, child.folder / "in" / "0", format.value)
                await self._converse(child, [file], [format.value], {"kind": "convert", "time_s": CONVERSION_S})
                (child.folder / "out" / "table").replace(path)

        await self.cache.link(f"{_name(file)}.{format.name.lower()}-{packing}.parquet", target, convert, derived=True)

    @contextlib.asynccontextmanager
    async def _turn(self, project_id: UUID) -> AsyncIterator[None]:
        """Wait for one of the places, which no project takes all of. Raises: ViewerBusy."""
        if self._waiting >= WAITING:
            raise ViewerBusy(waiting=self._waiting, retry_after_s=5)
        mine = self._projects.setdefault(project_id, asyncio.Semaphore(AT_ONCE // 2))
        self._waiting += 1
        try:
            await mine.acquire()
            try:
                await self._turns.acquire()
            except BaseException:
                mine.release()
                raise
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._turns.release()
            mine.release()

    async def _take(self) -> _Child:
        """A process that waits for its question; another is made ready in its place."""
        child = self._ready.popleft() if self._ready else await self._spawn()
        if not await _is_ready(child):
            self._drop(child)
            child = await self._spawn()
            if not await _is_ready(child):
                self._drop(child)
                raise ViewerAway(retry_after_s=5)
        while len(self._ready) < READY:
            self._ready.append(await self._spawn())
        return child

    async def _spawn(self) -> _Child:
        control = await asyncio.to_thread(self._start)
        self._made += 1
        folder = self.open / f"{os.getpid()}-{self._made}"
        for part in (folder / "in", folder / "out"):
            part.mkdir(parents=True, mode=0o700)
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                socket.send_fds(control, [str(folder).encode()], [theirs.fileno()])
            except OSError:
                ours.close()
                shutil.rmtree(folder, ignore_errors=True)
                self.close()
                return await self._spawn()
        reader, writer = await asyncio.open_connection(sock=ours, limit=_LINE_BYTES)
        return _Child(folder, reader, writer)

    def _start(self) -> socket.socket:
        with self._starting:
            if self._control is not None and self._process is not None and self._process.poll() is None:
                return self._control
            self.open.mkdir(parents=True, exist_ok=True, mode=0o700)
            _remove_abandoned(self.open)
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                self._process = subprocess.Popen(  # our own module
                    [sys.executable, "-m", f"{__package__}.child", str(theirs.fileno())],
                    cwd=ROOT,
                    env={
                        "PYTHONDONTWRITEBYTECODE": "1",
                        "OMP_NUM_THREADS": "1",
                        "OPENBLAS_NUM_THREADS": "1",
                        "ARROW_DEFAULT_MEMORY_POOL": "system",
                    },
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                )
            self._control = ours
            return ours

    @contextlib.contextmanager
    def _using(self, child: _Child):  # type: ignore[no-untyped-def]  # a context
        try:
            yield
        finally:
            self._drop(child)

    @staticmethod
    def _drop(child: _Child) -> None:
        child.writer.close()
        shutil.rmtree(child.folder, ignore_errors=True)

    async def _converse(self, child: _Child, files: Sequence[Located], formats: Sequence[str], question: Mapping[str, Any]) -> Answer:
        time_s = question.get("time_s", self.time_s)
        too_much, brought_bytes = TooMuchWork(limit_s=time_s, memory_bytes=MEMORY_BYTES), Counter[int]()
        try:
            async with asyncio.timeout(time_s + _GRACE_S) as limit:
                asked = {"in_parts": {}, **question, "time_s": time_s, "paths": [file.path for file in files]}
                child.writer.write(json.dumps(asked).encode() + b"\n")
                while "part" in (facts := json.loads(await child.reader.readline() or b"{}")):
                    with _untimed(limit):
                        number, start, end = facts["part"]
                        brought_bytes[number] += end - start
                        self._check_size(files[number], brought_bytes[number], formats[number])
                        target = child.folder / "in" / f"{number}-{start}-{end}"
                        await self._provide_part(files[number], (start, end), target, formats[number])
                        child.writer.write(b"\n")
                if "size_bytes" not in facts:
                    raise ViewerAway(retry_after_s=5) if self._process is None or self._process.poll() is not None else too_much
                answer = Answer(await child.reader.readexactly(facts["size_bytes"]), facts)
        except (TimeoutError, ConnectionError, asyncio.IncompleteReadError):
            raise too_much from None
        if error := facts.get("error"):
            number = facts.get("file", 0)
            raise _to_error(error, str(facts.get("reason", "")), files[number], formats[number]) or too_much
        return answer


async def _is_ready(child: _Child) -> bool:
    """Whether the process reads questions. It may have to load what it needs first, which is none of a question's time."""
    try:
        async with asyncio.timeout(_READY_S):
            return bool(await child.reader.readline()) and not child.reader.at_eof()
    except (TimeoutError, ConnectionError):
        return False


def _to_error(error: str, reason: str, file: Located, format: str) -> AidosError | None:
    match error:
        case "refused":
            return QueryRefused(reason=reason)
        case "failed":
            return QueryFailed(reason=reason)
        case "unreadable":
            return FileUnreadable(path=file.path, format=format, reason=reason)
    return None


@contextlib.contextmanager
def _untimed(limit: asyncio.Timeout) -> Iterator[None]:
    """Bytes that are on their way take none of a question's time."""
    loop, when = asyncio.get_running_loop(), limit.when()
    began = loop.time()
    limit.reschedule(None)
    yield
    limit.reschedule(None if when is None else when + loop.time() - began)


def _name(file: Located) -> str:
    return f"{file.project_id}-{file.sha256}"


def _remove_abandoned(folder: Path) -> None:
    """Folders of gateways that are gone."""
    for each in folder.iterdir():
        try:
            os.kill(int(each.name.split("-")[0]), 0)
        except ProcessLookupError:
            shutil.rmtree(each, ignore_errors=True)
        except (PermissionError, ValueError):
            continue
