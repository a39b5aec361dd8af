"""A labelling project over empty files, and annotators, each a caller of their own."""

from __future__ import annotations

import dataclasses
import hashlib
import io
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from PIL import Image

from actors.securityvault.models import Principal, PrincipalKind, Role, Scope
from aidos.schemas.dataforge.labelling import TaskState
from cluster.db import Connection, Database
from cluster.objects import Objects
from data_pipelines.dataforge import service as dataforge
from data_pipelines.dataforge.labelling import service
from data_pipelines.dataforge.labelling.models import Asked, Labelling, LabellingSpec, Slot, Task
from data_pipelines.dataforge.models import CommitSpec, File, Pack, StoredBlob

KIND = {"questions": [{"name": "kind", "kind": "classification", "labels": ["cat", "dog", "owl"]}]}
CAT, DOG, OWL = {"kind": "cat"}, {"kind": "dog"}, {"kind": "owl"}


def picture(width: int, height: int, grey: int = 0) -> bytes:
    """A PNG."""
    out = io.BytesIO()
    Image.new("L", (width, height), grey).save(out, "PNG")
    return out.getvalue()


@dataclass
class Setting:
    """Verbs of the labelling project ``pets``, each in a transaction of its own."""

    database: Database
    objects: Objects
    owner: Scope

    def transaction(self) -> AbstractAsyncContextManager[Connection]:
        return self.database.tenant(org_id=self.owner.org_id, project_id=self.owner.project_id)

    def annotator(self, name: str) -> Scope:
        principal = Principal(PrincipalKind.USER, uuid4(), name, self.owner.org_id, roles={self.owner.project: Role.ANNOTATOR})
        return Scope(principal, self.owner.org_id, self.owner.project_id, "default", Role.ANNOTATOR)

    async def make(self, items: int = 3, *, schema: dict[str, Any] = KIND, **options: Any) -> Labelling:
        """The project over as many images, empty ones."""
        return await self.make_over({f"{at:04}.png": b"" for at in range(items)}, schema=schema, **options)

    async def make_over(self, contents: dict[str, bytes], *, schema: dict[str, Any] = KIND, **options: Any) -> Labelling:
        """The project over these files, all in one pack."""
        async with self.transaction() as conn:
            await dataforge.create_dataset(conn, self.owner, "images")
        files, entries, offset = [], [], 0
        data = b"".join(contents.values())
        pack = await self.objects.put_blob(self.owner.project, data)
        for path, content in contents.items():
            sha256 = hashlib.sha256(content).hexdigest()
            files.append(File(path, sha256, len(content)))
            entries.append(StoredBlob(sha256, len(content), pack, offset))
            offset += len(content)
        packs = [Pack(pack, len(data), tuple(entry for entry in entries if entry.size_bytes))] if data else []
        await dataforge.complete_uploads(self.transaction, self.transaction, self.owner, self.objects, "images", [], packs)
        async with self.transaction() as conn:
            await dataforge.create_commit(conn, self.owner, "images", CommitSpec("main", "", None, tuple(files)))
        spec = LabellingSpec("pets", "images", "main", schema, **options)
        return await service.create_labelling(self.transaction, self.transaction, self.owner, self.objects, spec)

    async def call(self, verb: Callable[..., Any], who: Scope, *arguments: Any, **options: Any) -> Any:
        async with self.transaction() as conn:
            return await verb(conn, who, *arguments, **options)

    async def next(self, who: Scope) -> Asked:
        asked: Asked = await self.call(service.next_task, who, self.objects, "pets")
        return asked

    async def submit(self, who: Scope, task: UUID, value: dict[str, Any]) -> Slot:
        slot: Slot = await self.call(service.submit, who, "pets", task, value)
        return slot

    async def answer(self, who: Scope, value: dict[str, Any]) -> UUID:
        """Take the next task and answer it."""
        asked = await self.next(who)
        await self.submit(who, asked.id, value)
        return asked.id

    async def task(self, id: UUID) -> Task:
        task, _ = await self.call(service.get_task, self.owner, "pets", id)
        return dataclasses.replace(task)

    async def tasks(self, state: TaskState | None = None) -> list[Task]:
        found: list[Task] = await self.call(service.list_tasks, self.owner, "pets", state, 0, 100_000)
        return found

    async def end_leases(self) -> None:
        """As if nobody had given a sign of life for the length of a lease."""
        async with self.transaction() as conn:
            await conn.execute("UPDATE dataforge.label_slots SET leased_until = leased_until - interval '1 day' WHERE state = 'leased'")
