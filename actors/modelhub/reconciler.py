"""PENDING versions → READY or REJECTED: their bytes are hashed, inspected, and copied to where no client can write.

The copy is what is served: the URL that uploaded an artifact may still be valid, the copy's never was.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar
from uuid import UUID

from actors.modelhub import policy, store
from actors.modelhub.models import Finding, ModelFile, ModelVersion, VersionState
from aidos.errors import Unavailable
from cluster.db import Connection, Database
from cluster.events import Event, Topics, publish
from cluster.host import Host
from cluster.objects import Objects, prefix_key
from cluster.reconciler import Reconciler

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Inspection:
    """What was found: a ``reason`` against the version, or its signature, what could run code, and the keys of its copies by path."""

    reason: str = ""
    signature: Mapping[str, Any] | None = None
    keys: Mapping[str, str] = field(default_factory=dict)
    findings: Sequence[Finding] = ()
    described: Mapping[str, Any] = field(default_factory=dict)

    @property
    def state(self) -> VersionState:
        if self.findings:
            return VersionState.QUARANTINED
        return VersionState.REJECTED if self.reason else VersionState.READY


class VersionReconciler(Reconciler[ModelVersion]):
    """Inspects model versions."""

    name: ClassVar[str] = "modelhub.versions"
    table: ClassVar[tuple[str, str]] = ("modelhub", "versions")
    topics: ClassVar[Topics] = ("modelhub.version.",)
    concurrency: ClassVar[int] = 2
    lock_s: ClassVar[float] = 60.0

    def __init__(self, db: Database, objects: Objects) -> None:
        super().__init__(db)
        self.objects = objects

    async def claim(self, conn: Connection, token: UUID, lock_s: float, limit: int) -> Sequence[ModelVersion]:
        return await store.claim_version(conn, token, lock_s, limit)

    async def process(self, item: ModelVersion) -> Inspection:
        """Copies go to keys of the version, so that doing it twice writes the same bytes twice."""
        with tempfile.TemporaryDirectory(prefix="aidos-inspect-") as folder:
            local = {file.path: Path(folder) / str(number) for number, file in enumerate(item.files)}
            for file in item.files:
                if reason := await self._fetch(file, local[file.path]):
                    return Inspection(f"{file.path}: {reason}")
            answer = await inspect_apart(item.flavour, local)
            if "reason" in answer:
                return Inspection(answer["reason"])
            keys = {path: prefix_key(item.project_id, "models", item.id, f"{number:04d}") for number, path in enumerate(local)}
            for path, key in keys.items():
                await self.objects.upload(key, str(local[path]))
        findings = [Finding(**found) for found in answer["findings"]]
        reason = f"{findings[0].path}: {findings[0].detail}" if findings else ""
        return Inspection(reason, answer["signature"], keys, findings, answer)

    async def _fetch(self, file: ModelFile, local: Path) -> str:
        """Download one file; why it is not the file that was announced, or nothing."""
        if await self.objects.find(file.key) is None:
            return "its bytes are gone from the object store"
        await self.objects.download(file.key, str(local))
        sha256 = await asyncio.to_thread(_sha256, local)
        return "" if sha256 == file.sha256 or not file.sha256 else f"its bytes have SHA-256 {sha256}, announced was {file.sha256}"

    async def apply(self, conn: Connection, item: ModelVersion, token: UUID, outcome: Inspection) -> bool:
        applied = await store.apply_version(
            conn, item.id, token, outcome.state, outcome.reason, outcome.signature, outcome.keys, outcome.findings, outcome.described
        )
        if applied:
            data = {"model": item.model, "version": item.version, "reason": outcome.reason}
            event = f"modelhub.version.{outcome.state.lower()}"
            await publish(conn, Event(event, str(item.id), item.org_id, item.project_id, "platform:modelhub", data))
        return applied

    async def give_up(self, conn: Connection, item: ModelVersion, token: UUID, error: BaseException) -> bool:
        if isinstance(error, Unavailable) or item.attempts + 1 < policy.MAX_INSPECTIONS:
            return False
        return await self.apply(conn, item, token, Inspection(f"it could not be inspected: {str(error)[:300]}"))


async def inspect_versions(host: Host) -> None:
    """The loop of the actor ``modelhub``."""
    await VersionReconciler(host.db, host.objects).run(host.holder, host.wakeup)


async def inspect_apart(flavour: str, files: Mapping[str, Path]) -> dict[str, Any]:
    """``inspection.main`` in a process that has neither our secrets nor our memory."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "actors.modelhub.inspection",
        cwd=ROOT,
        env={"PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    request = json.dumps({"flavour": flavour, "files": {path: str(file) for path, file in files.items()}})
    try:
        output, errors = await process.communicate(request.encode())
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    if process.returncode:
        last = errors.decode(errors="replace").strip().rsplit("\n", 1)[-1]
        return {"reason": f"reading it ended the inspection with status {process.returncode} {last[:200]}".strip()}
    answer: dict[str, Any] = json.loads(output)
    return answer


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()
