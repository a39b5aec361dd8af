"""Labels go into commits and files and come back, over the real S3; rows of a file are items too."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aidos.schemas.dataforge.label_exchange import ImportRead, LabelsAs, LabelsCommit
from aidos.schemas.dataforge.labelling import TaskState
from cluster.objects import blob_key
from data_pipelines.dataforge import service as dataforge
from data_pipelines.dataforge.errors import NothingToCommit
from data_pipelines.dataforge.labelling import rows, service
from data_pipelines.dataforge.labelling.errors import ItemUnknown, LabelFileInvalid, LabelInvalid, RowsInvalid, TaskDecided
from data_pipelines.dataforge.labelling.models import Exported, LabellingSpec, Source
from data_pipelines.dataforge.models import Blob, CommitSpec, File
from tests.dataforge.labelling.setting import CAT, DOG, OWL, Setting, picture

pytestmark = pytest.mark.postgres
BOXES = {"questions": [{"name": "objects", "kind": "boxes", "labels": ["cat", "dog"]}]}
BOX = {"label": "cat", "x": 1.5, "y": 2.0, "width": 3.0, "height": 4.25}


async def export(pets: Setting, format: str, *, annotations: bool = False) -> Exported:
    return await service.export(pets.transaction, pets.owner, pets.objects, "pets", format, annotations=annotations)


def fetch(exported: Exported) -> dict[str, bytes]:
    """The files as a client downloads them."""
    found = {}
    for path, blob in exported.files.items():
        span = {"Range": f"bytes={blob.offset_bytes}-{blob.offset_bytes + blob.size_bytes - 1}"}
        found[path] = httpx.get(exported.urls[path], headers=span, trust_env=False).content if blob.size_bytes else b""
        assert hashlib.sha256(found[path]).hexdigest() == blob.sha256
    return found


async def take_in(
    pets: Setting, format: str, files: Mapping[str, bytes], become: LabelsAs = LabelsAs.LABELS, committed: tuple[str, str] | None = None
) -> ImportRead:
    return await service.import_labels(
        pets.transaction, pets.transaction, pets.owner, pets.objects, "pets", format, files, committed, become
    )


async def everything(pets: Setting) -> tuple[Any, Any]:
    """The tasks as they are, and every answer that there ever was."""
    async with pets.transaction() as conn:
        asked = "SELECT task_id, annotator_id, version, value FROM dataforge.label_versions ORDER BY task_id, annotator_id, version"
        versions = await (await conn.execute(asked)).fetchall()
    return await pets.tasks(), [tuple(row.values()) for row in versions]


async def start_anew(pets: Setting) -> None:
    """The same project without an answer."""
    async with pets.transaction() as conn:
        old = await service.get_labelling(conn, pets.owner, "pets")
        await service.delete_labelling(conn, pets.owner, "pets")
    spec = LabellingSpec("pets", "images", str(old.commit_id), old.questions, overlap=old.overlap)
    await service.create_labelling(pets.transaction, pets.transaction, pets.owner, pets.objects, spec)


async def push(pets: Setting, path: str, data: bytes) -> None:
    """A commit with the file beside what there is."""
    async with pets.transaction() as conn:
        sha256 = await pets.objects.put_blob(pets.owner.project, data)
        assert await pets.objects.find(blob_key(pets.owner.project, sha256))
    await dataforge.complete_uploads(pets.transaction, pets.transaction, pets.owner, pets.objects, "images", [Blob(sha256, len(data))], [])
    async with pets.transaction() as conn:
        head = await dataforge.get_commit(conn, pets.owner, "images", "main")
        spec = CommitSpec("main", "", head.id, (File(path, sha256, len(data)),))
        await dataforge.create_commit(conn, pets.owner, "images", spec)


class TestRoundTrip:
    async def test_of_labels_and_everyones_answers_loses_nothing(self, pets: Setting) -> None:
        await pets.make(4, overlap=2)
        for name, answers in (("ada", [CAT, DOG, OWL]), ("bob", [CAT, CAT, OWL])):
            who = pets.annotator(name)
            for answer in answers:
                await pets.answer(who, answer)
        files = {format: fetch(await export(pets, format, annotations=True)) for format in ("jsonl", "csv", "labelstudio", "coco")}
        before = [(task.item.path, task.state, task.label, task.submitted) for task in await pets.tasks()]
        for format, written in files.items():
            await start_anew(pets)
            assert (await take_in(pets, format, written)).tasks == 3
            assert [(task.item.path, task.state, task.label, task.submitted) for task in await pets.tasks()] == before
            again = fetch(await export(pets, "jsonl", annotations=True))
            assert again == files["jsonl"], format

    @pytest.mark.parametrize("format", ["yolo", "voc"])
    async def test_of_shapes_through_files_for_each_image(self, pets: Setting, format: str) -> None:
        await pets.make_over({f"{at:04}.png": picture(640, 480, at) for at in range(3)}, schema=BOXES)
        lines = [{"path": f"{at:04}.png", "value": {"objects": [BOX] * at}} for at in range(3)]
        await take_in(pets, "jsonl", {"labels.jsonl": "".join(f"{json.dumps(line)}\n" for line in lines).encode()})
        first = fetch(await export(pets, "jsonl"))
        files = fetch(await export(pets, format))
        assert len(files) == (5 if format == "yolo" else 3)
        await start_anew(pets)
        await take_in(pets, format, files)
        assert fetch(await export(pets, "jsonl")) == first


class TestCommits:
    async def test_hold_the_labels_like_any_data(self, pets: Setting) -> None:
        made = await pets.make(2)
        ada = pets.annotator("ada")
        await pets.answer(ada, CAT)
        spec = LabelsCommit(branch="labelled", format="csv")
        first = await service.commit_labels(pets.transaction, pets.transaction, pets.owner, pets.objects, "pets", spec)
        assert first.metadata == {"labels": str(made.id), "labelling": "pets", "format": "csv", "records": 1}
        assert first.parent_id == made.commit_id, "a new branch begins at the commit that was labelled"
        with pytest.raises(NothingToCommit):
            await service.commit_labels(pets.transaction, pets.transaction, pets.owner, pets.objects, "pets", spec)
        await pets.answer(ada, DOG)
        second = LabelsCommit(branch="labelled", format="jsonl", message="in another format")
        commit = await service.commit_labels(pets.transaction, pets.transaction, pets.owner, pets.objects, "pets", second)
        async with pets.transaction() as conn:
            paths = [file.path for file in await dataforge.list_files(conn, pets.owner, commit.id)]
            downloads = await dataforge.create_downloads(conn, pets.owner, pets.objects, "images", "labelled", ["labels/pets/labels.jsonl"])
        assert paths == ["0000.png", "0001.png", "labels/pets/labels.jsonl"], "the folder is replaced as a whole"
        lines = (await rows.fetch(downloads)).splitlines()
        assert [json.loads(line)["value"] for line in lines] == [CAT, DOG]

    async def test_are_where_many_labels_are_imported_from(self, pets: Setting) -> None:
        await pets.make(2)
        ada = pets.annotator("ada")
        for answer in (CAT, DOG):
            await pets.answer(ada, answer)
        await service.commit_labels(pets.transaction, pets.transaction, pets.owner, pets.objects, "pets", LabelsCommit(branch="labelled"))
        await start_anew(pets)
        assert await take_in(pets, "jsonl", {}, committed=("labelled", "labels/pets/")) == ImportRead(records=2, tasks=2)
        assert [(task.label, task.source) for task in await pets.tasks()] == [(CAT, Source.IMPORTED), (DOG, Source.IMPORTED)]


class TestImports:
    async def test_become_first_answers_or_gold_questions_when_asked(self, pets: Setting) -> None:
        await pets.make(2)
        await take_in(pets, "csv", {"l.csv": b"path,kind\n0000.png,dog\n"}, LabelsAs.PRELABELS)
        assert (await pets.next(pets.annotator("ada"))).prelabel == DOG
        await take_in(pets, "csv", {"l.csv": b"path,kind\n0001.png,owl\n"}, LabelsAs.GOLD)
        assert [(task.gold, task.state) for task in await pets.tasks()] == [(None, TaskState.OPEN), (OWL, TaskState.DONE)]

    @pytest.mark.parametrize(
        ("line", "error", "place"),
        [
            (b"0000.png,fox", LabelInvalid, "'kind'.*cat, dog, owl.*'fox', in the label of '0000.png'"),
            (b"other.png,cat", ItemUnknown, "other.png"),
            (b"0000.png", LabelFileInvalid, "line 3"),
        ],
    )
    async def test_are_refused_as_a_whole(self, pets: Setting, line: bytes, error: type[Exception], place: str) -> None:
        await pets.make(2)
        with pytest.raises(error, match=place):
            await take_in(pets, "csv", {"l.csv": b"path,kind\n0001.png,cat\n" + line + b"\n"})
        assert [task.label for task in await pets.tasks()] == [None, None]

    @pytest.mark.parametrize("format", ["jsonl", "csv", "labelstudio", "coco"])
    async def test_of_the_same_file_again_change_nothing(self, pets: Setting, format: str) -> None:
        await pets.make(3, overlap=2)
        for name, answers in (("ada", [CAT, DOG]), ("bob", [CAT, OWL])):
            for answer in answers:
                await pets.answer(pets.annotator(name), answer)
        files = fetch(await export(pets, format, annotations=True))
        await start_anew(pets)
        for become in LabelsAs:
            first = await take_in(pets, format, files, become)
            before = await everything(pets)
            assert await take_in(pets, format, files, become) == first
            assert await everything(pets) == before

    async def test_of_a_file_that_was_changed_change_what_it_changes(self, pets: Setting) -> None:
        await pets.make(2)
        lines = [{"path": f"{at:04}.png", "value": CAT, "annotator": "ada"} for at in range(2)]
        await take_in(pets, "jsonl", {"l.jsonl": "".join(f"{json.dumps(line)}\n" for line in lines).encode()})
        lines[1]["value"] = DOG
        await take_in(pets, "jsonl", {"l.jsonl": "".join(f"{json.dumps(line)}\n" for line in lines).encode()})
        assert [task.label for task in await pets.tasks()] == [CAT, DOG]
        _, versions = await everything(pets)
        assert [(version, value) for _, _, version, value in versions if value == DOG] == [(2, DOG)] and len(versions) == 3

    async def test_stand_above_answers_until_a_reviewer_says_otherwise(self, pets: Setting) -> None:
        await pets.make(1)
        ada = pets.annotator("ada")
        task = await pets.answer(ada, CAT)
        await take_in(pets, "csv", {"l.csv": b"path,kind\n0000.png,owl\n"})
        assert (await pets.task(task)).label == OWL
        with pytest.raises(TaskDecided):
            await pets.submit(ada, task, DOG)


ROWS: list[dict[str, Any]] = [{"prompt": "2+2", "first": "4", "second": "5"}, {"prompt": "ü\u2028", "first": "a", "second": "b\nc"}]
PREFERENCE = {"questions": [{"name": "better", "kind": "preference", "ties": True}]}


def parquet(rows: list[dict[str, Any]]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), out)
    return out.getvalue()


class TestRows:
    @pytest.mark.parametrize(
        ("path", "data"),
        [
            ("pairs.jsonl", "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in ROWS).encode()),
            ("pairs.parquet", parquet(ROWS)),
            ("pairs.csv", 'prompt,first,second\n2+2,4,5\n"ü\u2028",a,"b\nc"\n'.encode()),
        ],
    )
    async def test_of_a_file_are_items(self, pets: Setting, path: str, data: bytes) -> None:
        await pets.make(1)
        await push(pets, path, data)
        spec = LabellingSpec("pairs", "images", "main", PREFERENCE, prefix=path, rows=True)
        await service.create_labelling(pets.transaction, pets.transaction, pets.owner, pets.objects, spec)
        asked = await pets.call(service.next_task, pets.annotator("ada"), pets.objects, "pairs")
        assert (asked.item.row, asked.item.data, asked.url) == (0, ROWS[0], None)
        tasks = await pets.call(service.list_tasks, pets.owner, "pairs", None, 0, 10)
        assert [task.item.data for task in tasks] == ROWS

    @pytest.mark.parametrize(
        ("path", "data", "reason"),
        [
            ("bad.jsonl", b'{"a": 1}\n{"a": \n', "line 2"),
            ("bad.jsonl", b"[1]\n", "line 1 is no JSON object"),
            ("bad.jsonl", b'{"a": "\\u0000"}\n', "NUL"),
            ("bad.jsonl", b'{"a": "\\ud800"}\n', "line 1"),
            ("bad.csv", b"a,b\n1,2,3\n", "line 2 has 3 cells"),
            ("bad.csv", b"\xff\n", "byte 0 is not UTF-8"),
            ("bad.parquet", b"PAR1 and nothing", "bad.parquet"),
            ("bad.xlsx", b"x", "rows are read from"),
        ],
    )
    async def test_of_a_bad_file_are_refused_with_the_place(self, pets: Setting, path: str, data: bytes, reason: str) -> None:
        await pets.make(1)
        await push(pets, path, data)
        with pytest.raises(RowsInvalid, match=reason):
            spec = LabellingSpec("pairs", "images", "main", PREFERENCE, prefix=path, rows=True)
            await service.create_labelling(pets.transaction, pets.transaction, pets.owner, pets.objects, spec)
