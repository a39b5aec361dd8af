"""DataForge at size: push, change and pull of many small files beside DVC and bare S3, and commits of a very large dataset.

``python -m benchmarks.dataforge [--quick] [--only transfers|manifests] [--rounds 2]``, on a PostgreSQL and SeaweedFS of its own. How the transfers
are compared is told in ``benchmarks/transfers.py``. The peer of a large dataset is the same work on one of a thousand files.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Any
from uuid import UUID

import structlog

from actors.securityvault.authenticator import Authenticator
from actors.securityvault.models import Scope
from aidos.client import Client
from aidos.schemas.dataforge.versions import FileAdd
from benchmarks.harness import Figure, parse_arguments, report
from benchmarks.storage import make_key, own_storage
from benchmarks.transfers import measure_transfers, serve_apart
from cluster.db import Database
from cluster.settings import Settings
from data_pipelines.dataforge import service, store
from data_pipelines.dataforge.models import CommitSpec, File, RefKind, RefSpec, StoredBlob, TreeSpec

FILE_BYTES = 10_000
CHANGED = 100
SMALL = "the same at 1,000 files"
ROUNDS = 11
COMMIT_RATIO = 2.0
LONGEST_MS = {"branch": 100.0, "diff": 1000.0, "find_content": 500.0}
"""What a verb may take on the large dataset."""


def main() -> int:
    """Measure and report; 1 when a bar is missed."""
    arguments = parse_arguments(__doc__.splitlines()[0], only="", rounds=2)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    figures: list[Figure] = []
    with own_storage("dataforge") as (settings, directory):
        if arguments.only != "manifests":
            count, rounds = (1000, 1) if arguments.quick else (10_000, arguments.rounds)
            figures += measure_transfers(settings, directory, count, rounds, held=not arguments.quick)
        if arguments.only != "transfers":
            key = make_key(settings)
            with serve_apart(settings) as url, Client(url, key) as client:
                figures += asyncio.run(measure_manifests(settings, client, 20_000 if arguments.quick else 1_000_000))
    return report(figures)


async def measure_manifests(settings: Settings, client: Client, large: int) -> list[Figure]:
    """Milliseconds of the verbs on a dataset of ``large`` files, beside one of 1,000: of their transactions, and of a commit by the client."""
    async with Database(settings) as db:
        vault = Authenticator(db, settings)
        scope = await vault.scope(await vault.resolve(str(client.config.api_key)), None)
        small, big = Bench(db, scope, client, "small", 1000), Bench(db, scope, client, "large", large)
        await small.build()
        await big.build()
        gc.freeze()  # as the gateway does
        figures = []
        for name in Bench.VERBS:
            ms, peer_ms = await _in_turns(name, big, small)
            bar = COMMIT_RATIO if name == "commit_by_client" else None
            figures.append(Figure(f"dataforge.{name}_of_{large}", ms, "ms", SMALL, peer_ms, bar=bar, lower_is_better=True))
            if name in LONGEST_MS:
                figures.append(Figure(f"dataforge.{name}_of_{large}_ms", ms, "ms", bar=LONGEST_MS[name], lower_is_better=True))
    return figures


async def _in_turns(verb: str, *benches: Bench) -> list[float]:
    """The median milliseconds of each, measured in turns."""
    times: list[list[float]] = [[] for _ in benches]
    for _ in range(ROUNDS):
        for bench, taken in zip(benches, times, strict=True):
            taken.append(await bench.time_ms(verb))
    return [statistics.median(taken) for taken in times]


class Bench:
    """One dataset."""

    VERBS = ("commit", "commit_by_client", "diff", "branch", "page", "find_content")

    def __init__(self, db: Database, scope: Scope, client: Client, name: str, count: int) -> None:
        self._db, self._scope, self._client, self._name, self._count, self._round = db, scope, client, name, count, 0
        self._heads: list[UUID] = []

    def _file(self, number: int, version: int = 0) -> File:
        content = sha256(f"{self._name} {number} {version}".encode()).hexdigest()
        return File(f"images/{number // 1000:04}/{number:07}.png", content, FILE_BYTES)

    async def build(self) -> None:
        """The dataset, in pieces, as the client makes it."""
        await self._in_transaction(lambda conn: service.create_dataset(conn, self._scope, self._name))
        tree: str | None = None
        for first in range(0, self._count, 5000):
            files = tuple(self._file(number) for number in range(first, min(self._count, first + 5000)))
            await self._know(files)
            spec = TreeSpec(tree, files)
            made = await self._in_transaction(lambda conn, spec=spec: service.create_tree(conn, self._scope, self._name, spec))
            tree = made.sha256
        await self._commit(CommitSpec("main", "", None, tree=tree))

    async def time_ms(self, verb: str) -> float:
        """One go; what it needs is made ready before."""
        work = await getattr(self, f"_{verb}_work")()
        began = time.perf_counter()
        await work
        return (time.perf_counter() - began) * 1000

    async def _commit_work(self) -> Awaitable[Any]:
        return self._commit(CommitSpec("main", "", self._heads[-1], await self._change()))

    async def _commit_by_client_work(self) -> Awaitable[Any]:
        files = [FileAdd(path=file.path, sha256=file.sha256, size_bytes=file.size_bytes) for file in await self._change()]

        async def work() -> None:
            asked = {"branch": "main", "message": "", "parent": self._heads[-1], "tree": None, "add": files, "remove": []}
            self._heads.append((await asyncio.to_thread(self._client.datasets.commit, self._name, **asked)).id)

        return work()

    async def _change(self) -> tuple[File, ...]:
        """New contents of files here and there, uploaded."""
        self._round += 1
        files = tuple(self._file(number, self._round) for number in random.sample(range(self._count), CHANGED))
        await self._know(files)
        return files

    async def _diff_work(self) -> Awaitable[Any]:
        base, head = str(self._heads[-2]), str(self._heads[-1])
        return self._in_transaction(lambda conn: service.compare_commits(conn, self._scope, self._name, base, head))

    async def _branch_work(self) -> Awaitable[Any]:
        self._round += 1
        spec = RefSpec(RefKind.BRANCH, "main")
        return self._in_transaction(lambda conn: service.set_ref(conn, self._scope, self._name, f"branch-{self._round}", spec))

    async def _page_work(self) -> Awaitable[Any]:
        after = self._file(self._count // 3).path
        return self._in_transaction(lambda conn: service.list_files(conn, self._scope, self._heads[-1], after, 500))

    async def _find_content_work(self) -> Awaitable[Any]:
        content = self._file(self._count // 3).sha256
        return self._in_transaction(lambda conn: service.find_commits_with_blob(conn, self._scope, content))

    async def _commit(self, spec: CommitSpec) -> None:
        self._heads.append((await self._in_transaction(lambda conn: service.create_commit(conn, self._scope, self._name, spec))).id)

    async def _know(self, files: tuple[File, ...]) -> None:
        blobs = [StoredBlob(file.sha256, file.size_bytes) for file in files]
        await self._in_transaction(lambda conn: store.record_blobs(conn, self._scope.project, blobs))

    async def _in_transaction(self, work: Callable[[Any], Awaitable[Any]]) -> Any:
        async with self._db.tenant(org_id=self._scope.org_id, project_id=self._scope.project_id) as conn:
            return await work(conn)


if __name__ == "__main__":
    sys.exit(main())
