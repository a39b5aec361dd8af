"""Labels that come from files and go into files: import, export, and commits of labels like of any data."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import uuid
from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

from actors.securityvault.models import Scope
from aidos.schemas.dataforge.label_exchange import ImportRead, LabelsAs, LabelsCommit
from aidos.schemas.dataforge.label_schema import LabelSchema
from aidos.schemas.dataforge.labelling import TaskState
from aidos.schemas.dataforge.versions import path_problem
from cluster.db import Connection
from cluster.objects import Objects, blob_key
from data_pipelines.dataforge import service as dataforge
from data_pipelines.dataforge.errors import RefNotFound
from data_pipelines.dataforge.labelling import policy, rows, store
from data_pipelines.dataforge.labelling.errors import FormatCannotHold, ItemUnknown, LabelFileInvalid, LabelInvalid
from data_pipelines.dataforge.labelling.formats.catalogue import FORMATS
from data_pipelines.dataforge.labelling.formats.common import Paths
from data_pipelines.dataforge.labelling.labels import check_value, draws_on_images, to_schema, with_told_size
from data_pipelines.dataforge.labelling.models import Exported, Labelling, Record, Size, Source, Task, Value
from data_pipelines.dataforge.labelling.projects import get_labelling, get_open_labelling, publish
from data_pipelines.dataforge.labelling.queue import decided
from data_pipelines.dataforge.models import Blob, Commit, CommitSpec, File, Pack, RefKind, RefSpec, StoredBlob
from data_pipelines.dataforge.uploads import Transact

_PACK_BYTES = 16 * 2**20
_MOST_FILES = 10_000
Matched = list[tuple[Task, Record]]


async def export(transaction: Transact, scope: Scope, objects: Objects, name: str, format: str, *, annotations: bool) -> Exported:
    """Write the decided labels, or everyone's answers too, as files of a format; presigned URLs of them.

    Raises: LabellingNotFound, FormatCannotHold, Unavailable.
    """
    async with transaction() as conn:
        labelling = await get_labelling(conn, scope, name)
        records = await _list_records(conn, scope, labelling, annotations=annotations)
    files = await asyncio.to_thread(FORMATS[format].write, to_schema(labelling.questions), records)
    return await _upload(transaction, scope, objects, labelling, files, len(records))


async def _list_records(conn: Connection, scope: Scope, labelling: Labelling, *, annotations: bool) -> list[Record]:
    tasks = await store.list_tasks(conn, scope.project, labelling.id)
    submissions: dict[UUID, list[tuple[str, Value]]] = {}
    for each in await store.list_submissions(conn, scope.project, labelling.id) if annotations else ():
        submissions.setdefault(each.task_id, []).append((each.annotator, each.value))
    found = []
    for task in tasks:
        given = sorted(submissions.get(task.id, []), key=lambda pair: pair[0])
        if task.state is TaskState.DONE and task.label is not None:
            given.insert(0, ("", task.label))
        found += [Record(task.item.path, value, task.item.row, task.item.size, annotator, task.item.data) for annotator, value in given]
    return found


async def _upload(
    transaction: Transact, scope: Scope, objects: Objects, labelling: Labelling, files: Mapping[str, bytes], records: int
) -> Exported:
    """Store the files content-addressed, small ones in packs, so that a commit can name them."""
    if len(files) > _MOST_FILES:
        raise FormatCannotHold(format="One commit", what=f"{len(files)} label files; {_MOST_FILES} is the most")
    placed: dict[str, StoredBlob] = {}
    packs: list[Pack] = []
    blobs: list[Blob] = []
    for names in _groups(files):
        data = b"".join(files[name] for name in names)
        sha256 = await objects.put_blob(scope.project, data) if data else hashlib.sha256(data).hexdigest()
        offset, entries = 0, []
        for name in names:
            entry = StoredBlob(hashlib.sha256(files[name]).hexdigest(), len(files[name]), sha256, offset)
            placed[name] = entry
            entries.append(entry)
            offset += entry.size_bytes
        entries = [entry for entry in entries if entry.size_bytes]
        if len(entries) == 1 and entries[0].sha256 == sha256:
            blobs.append(Blob(sha256, len(data)))
        elif entries:
            packs.append(Pack(sha256, len(data), tuple(entries)))
    await dataforge.complete_uploads(transaction, transaction, scope, objects, labelling.dataset, blobs, packs)
    urls = {each.pack_sha256: objects.presign_get(blob_key(scope.project, each.pack_sha256 or "")) for each in placed.values()}
    return Exported(records, placed, {name: urls[each.pack_sha256] for name, each in placed.items() if each.size_bytes})


def _groups(files: Mapping[str, bytes]) -> Iterable[list[str]]:
    """Names of files that share an object: up to a pack's size, a larger one alone."""
    group: list[str] = []
    size_bytes = 0
    for name, data in files.items():
        if group and size_bytes + len(data) > _PACK_BYTES:
            yield group
            group, size_bytes = [], 0
        group.append(name)
        size_bytes += len(data)
    if group:
        yield group


async def commit_labels(transaction: Transact, change: Transact, scope: Scope, objects: Objects, name: str, spec: LabelsCommit) -> Commit:
    """Commit the labels into a folder of the dataset, in place of what the folder held. A new branch begins at the labelled commit.

    Raises: LabellingNotFound, FormatCannotHold, RefMoved, NothingToCommit, PathsCollide, Unavailable.
    """
    exported = await export(transaction, scope, objects, name, spec.format, annotations=spec.annotations)
    async with change() as conn:
        labelling = await get_labelling(conn, scope, name)
        head = await _head_of(conn, scope, labelling, spec.branch)
        folder = (spec.folder or f"labels/{name}").strip("/")
        files = tuple(File(f"{folder}/{path}", blob.sha256, blob.size_bytes) for path, blob in exported.files.items())
        for file in files:
            if reason := path_problem(file.path):
                raise FormatCannotHold(format="A dataset", what=f"the path '{file.path[:200]}': {reason}")
        there = {file.path for file in await dataforge.list_files(conn, scope, head.id, limit=None, prefix=f"{folder}/")}
        metadata = {"labels": str(labelling.id), "labelling": name, "format": spec.format, "records": exported.records}
        message = spec.message or f"Labels of {name}: {exported.records}"
        removed = tuple(sorted(there - {file.path for file in files}))
        made = CommitSpec(spec.branch, message, head.id, files, removed, metadata=metadata)
        commit = await dataforge.create_commit(conn, scope, labelling.dataset, made)
        await publish(conn, scope, labelling, "committed", {"commit_id": str(commit.id), "records": exported.records})
        return commit


async def _head_of(conn: Connection, scope: Scope, labelling: Labelling, branch: str) -> Commit:
    try:
        return await dataforge.get_commit(conn, scope, labelling.dataset, branch)
    except RefNotFound:
        await dataforge.set_ref(conn, scope, labelling.dataset, branch, RefSpec(RefKind.BRANCH, str(labelling.commit_id)))
        return await dataforge.get_commit(conn, scope, labelling.dataset, branch)


async def import_labels(
    transaction: Transact, change: Transact, scope: Scope, objects: Objects, name: str, format: str, files: Mapping[str, bytes],
    committed: tuple[str, str] | None, as_: LabelsAs,
) -> ImportRead:  # fmt: skip
    """Take in labels from ``files``, or from those under ``committed`` (ref, prefix) of the dataset. All of them, or none.

    Raises: LabellingNotFound, LabellingClosed, LabelFileInvalid, FormatCannotHold, ItemUnknown, LabelInvalid, RefNotFound, Unavailable.
    """
    async with transaction() as conn:
        labelling = await get_open_labelling(conn, scope, name)
        tasks = await store.list_tasks(conn, scope.project, labelling.id)
    if committed is not None:
        files = {**files, **await _fetch_committed(transaction, scope, objects, labelling, *committed)}
    schema = to_schema(labelling.questions)
    matched = await asyncio.to_thread(_read, labelling, schema, format, files, tasks)
    async with change() as conn:
        await _apply(conn, scope, labelling, schema, matched, as_)
        await publish(conn, scope, labelling, "imported", {"records": len(matched), "as": as_.value, "format": format})
    return ImportRead(records=len(matched), tasks=len({task.id for task, _ in matched}))


async def _fetch_committed(
    transaction: Transact, scope: Scope, objects: Objects, labelling: Labelling, ref: str, prefix: str
) -> dict[str, bytes]:
    async with transaction() as conn:
        commit = await dataforge.get_commit(conn, scope, labelling.dataset, ref)
        listed = await dataforge.list_files(conn, scope, commit.id, limit=_MOST_FILES + 1, prefix=prefix)
        if len(listed) > _MOST_FILES or sum(file.size_bytes for file in listed) > rows.LARGEST_FILE_BYTES:
            raise LabelFileInvalid(file=prefix, reason=f"there are over {_MOST_FILES} files or {rows.LARGEST_FILE_BYTES} bytes under it")
        paths = [file.path for file in listed]
        downloads = await dataforge.create_downloads(conn, scope, objects, labelling.dataset, str(commit.id), paths)
    limit = asyncio.Semaphore(16)

    async def fetch(at: int) -> bytes:
        async with limit:
            return await rows.fetch(dataclasses.replace(downloads, files=downloads.files[at : at + 1]))

    contents = await asyncio.gather(*(fetch(at) for at in range(len(paths))))
    folder = prefix if prefix.endswith("/") else prefix.rpartition("/")[0] + "/" * ("/" in prefix)
    return {path.removeprefix(folder): data for path, data in zip(paths, contents, strict=True)}


def _read(labelling: Labelling, schema: LabelSchema, format: str, files: Mapping[str, bytes], tasks: Sequence[Task]) -> Matched:
    """The records of the files with their tasks, each checked against the schema."""
    known: dict[str, Size | None] = {task.item.path: task.item.size for task in tasks}
    by_item = {(task.item.path, task.item.row): task for task in tasks}
    paths = Paths(known, labelling.name)
    matched: dict[tuple[UUID, str], tuple[Task, Record]] = {}
    for record in FORMATS[format].read(schema, files, known):
        path = paths.find(record.path)
        task = by_item.get((path, record.row))
        if task is None:
            raise ItemUnknown(path=path if record.row is None else f"{path}#{record.row}", name=labelling.name)
        item = with_told_size(schema, task.item, record.size)
        if record.size not in (None, item.size) and draws_on_images(schema):
            raise LabelFileInvalid(file=path, reason=_other_size(record.size, item.size))
        try:
            value = check_value(schema, record.value, item)
        except LabelInvalid as error:
            raise LabelInvalid(**{**error.fields, "reason": f"{error.fields['reason']}, in the label of '{record.path}'"}) from None
        matched[task.id, record.annotator] = task, dataclasses.replace(record, path=path, value=value, size=item.size)
    return list(matched.values())


def _other_size(told: Size, real: Size | None) -> str:
    looked = f"it has {real[0]} by {real[1]}" if real else "it is no image that can be read"
    return f"the labels are for an image of {told[0]} by {told[1]} pixels, and {looked}"


async def _apply(conn: Connection, scope: Scope, labelling: Labelling, schema: LabelSchema, matched: Matched, as_: LabelsAs) -> None:
    sizes = {task.id: record.size for task, record in matched if record.size is not None and task.item.size is None}
    await store.set_sizes(conn, scope.project, sizes)
    if as_ is LabelsAs.PRELABELS:
        predictions = {task.id: {"value": record.value, "model": "import"} for task, record in matched}
        ordered = policy.priorities(list(predictions.values()), labelling.order, seed=labelling.id.int)
        await store.set_predictions(conn, scope.project, predictions, ordered)
        return
    answers = [(task, record) for task, record in matched if record.annotator and as_ is LabelsAs.LABELS]
    await _import_answers(conn, scope, labelling, answers)
    gold = as_ is LabelsAs.GOLD
    labels = {task.id: record.value for task, record in matched if not record.annotator or gold}
    for task, _ in await store.lock_tasks(conn, scope.project, labelling.id, set(labels)):
        there = (task.state, task.source, task.label) == (TaskState.DONE, Source.IMPORTED, labels[task.id])
        if there and (not gold or task.gold == task.label):
            del labels[task.id]
    await store.decide_tasks(conn, scope.project, labels, scope.principal.name, gold=gold)


async def _import_answers(conn: Connection, scope: Scope, labelling: Labelling, answers: Matched) -> None:
    """Answers of annotators by name, who need not be known here; tasks that have enough of them are decided.

    An answer that is there already is none, so that a file that is imported again leaves no second version.
    """
    known = {
        name: await store.enter_annotator(conn, scope.project, labelling.id, uuid.uuid5(labelling.id, name), name)
        for name in sorted({record.annotator for _, record in answers})
    }
    locked = [task.id for task, _ in await store.lock_tasks(conn, scope.project, labelling.id, {task.id for task, _ in answers})]
    submissions = await store.list_submissions(conn, scope.project, labelling.id, locked)
    there = {(each.task_id, each.annotator): each.value for each in submissions}
    told = [(task.id, known[record.annotator], record.value) for task, record in answers]
    given = {(task, who.annotator_id): value for task, who, value in told if there.get((task, who.annotator)) != value}
    await store.import_annotations(conn, scope.project, labelling.id, given)
    changed = sorted({task for task, _ in given})
    submissions = await store.list_submissions(conn, scope.project, labelling.id, changed)
    for task, held in await store.lock_tasks(conn, scope.project, labelling.id, changed):
        own = [each for each in submissions if each.task_id == task.id]
        counted = dataclasses.replace(task, taken=held, submitted=len(own))
        await store.save_task(
            conn, scope.project, counted if task.source in (Source.REVIEW, Source.IMPORTED) else decided(labelling, counted, own)
        )
