"""What strangers' files and strangers' SQL can do to the viewer: be refused, and take no more than their share."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import io
import json
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import pytest_asyncio
from PIL import Image

from aidos.errors import InvalidPayload
from aidos.schemas.common import decode_cursor
from data_pipelines.dataforge.tables import service
from data_pipelines.dataforge.tables.cache import Cache
from data_pipelines.dataforge.tables.confinement import landlock_version
from data_pipelines.dataforge.tables.errors import (
    FileChanged,
    FileTooLarge,
    FileUnreadable,
    NoTable,
    QueryFailed,
    QueryRefused,
    TooMuchWork,
)
from data_pipelines.dataforge.tables.models import Located, RowsSpec
from data_pipelines.dataforge.tables.viewer import Viewer
from tests.dataforge.bad_files import BAD, png_that_says

pytestmark = pytest.mark.asyncio(loop_scope="module")
IMAGES = (".png", ".jpg", ".bmp")
PROJECT, COMMIT = UUID(int=1), UUID(int=2)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def viewer(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Viewer]:
    """One for them all, as in a gateway: none may harm the next."""
    made = Viewer(tmp_path_factory.mktemp("viewer"), 2**30)
    yield made
    made.close()


@pytest_asyncio.fixture(loop_scope="module")
async def empty_viewer(tmp_path: Path) -> AsyncIterator[Viewer]:
    made = Viewer(tmp_path / "viewer", 2**30)
    yield made
    made.close()


def place(viewer: Viewer, path: str, data: bytes) -> Located:
    """A file whose bytes were fetched already."""
    sha256 = hashlib.sha256(data).hexdigest()
    viewer.cache.folder.mkdir(parents=True, exist_ok=True)
    (viewer.cache.folder / f"{PROJECT}-{sha256}").write_bytes(data)
    return Located(PROJECT, COMMIT, path, sha256, len(data), None)


def table(rows: int = 1000) -> bytes:
    target = io.BytesIO()
    pq.write_table(pa.table({"id": range(rows)}), target)
    return target.getvalue()


class TestStrangersSql:
    async def test_reads_the_named_files_and_nothing_else(self, viewer: Viewer, tmp_path: Path) -> None:
        file = place(viewer, "t.parquet", table())
        (tmp_path / "other.csv").write_text("a\n1\n")
        for sql in (
            f"SELECT * FROM read_csv('{tmp_path}/other.csv')",
            f"SELECT * FROM '{tmp_path}/other.csv'",
            "SELECT (SELECT content FROM read_text('/proc/self/environ'))",
            "WITH x AS (SELECT * FROM read_blob('/etc/passwd')) SELECT * FROM x",
            "SELECT * FROM glob('/*')",
            "SELECT * FROM query('SELECT 1')",
            "SELECT * FROM duckdb_settings()",
            "SELECT * FROM information_schema.tables",
            f"COPY t TO '{tmp_path}/stolen.csv'",
            f"ATTACH '{tmp_path}/x.db'",
            "INSTALL httpfs",
            "LOAD httpfs",
            "PRAGMA database_list",
            "SET enable_external_access = true",
            "CREATE TABLE x AS SELECT 1",
            "SELECT 1; SELECT 2",
            "SELECT current_setting('allowed_paths')",
            "(" * 3000 + "1" + ")" * 3000,
            "nonsense",
            "",
        ):
            with pytest.raises((QueryRefused, QueryFailed)):
                await service.run_query(viewer, {"t": file}, sql, 10, arrow=False)
            if not sql[:1].isalpha():
                continue
            with pytest.raises((QueryRefused, QueryFailed)):
                await service.list_rows(viewer, file, RowsSpec(filter=f"id IN ({sql})"))
        assert not (tmp_path / "stolen.csv").exists()

    async def test_without_end_is_stopped_and_the_next_is_answered(self, viewer: Viewer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(viewer, "time_s", 3)
        file = place(viewer, "t.parquet", table())
        for sql in ("SELECT count(*) FROM t a, t b, t c, t d", "SELECT list(repeat('x', 1000000) || a.id) FROM t a, t b"):
            with pytest.raises(TooMuchWork):
                await service.run_query(viewer, {"t": file}, sql, 10, arrow=False)
        assert b'"rows": [[1000]]' in (await service.run_query(viewer, {"t": file}, "SELECT count(*) FROM t", 10, arrow=False)).body


class TestStrangersFiles:
    @pytest.mark.parametrize(
        ("path", "data", "said"),
        [
            ("half.parquet", table()[:900] + b"PAR1", "half.parquet"),
            ("many.csv", b"a,b\n" + b"1,2\n" * 5000 + b"1,2,3,4\n", "line 5002: it has 4 columns, the header 2"),
            ("few.tsv.zst", pa.compress(b"a\tb\n1\t2\n3\n", "zstd", asbytes=True), "line 3: it has 1 columns, the header 2"),
            ("broken.jsonl", b'{"a": 1}\n{"a": \n', "line 2, character 6"),
            ("not.csv.gz", b"a,b\n1,2\n", "not packed with gzip"),
        ],
    )
    async def test_are_refused_with_what_is_wrong(self, viewer: Viewer, path: str, data: bytes, said: str) -> None:
        with pytest.raises(InvalidPayload) as caught:
            await service.list_rows(viewer, place(viewer, path, data), RowsSpec())
        assert isinstance(caught.value, FileUnreadable | TooMuchWork)
        assert said in str(caught.value).lower() and str(viewer.open) not in str(caught.value)

    @pytest.mark.parametrize("case", BAD)
    async def test_are_said_to_be_what_they_are(self, viewer: Viewer, case: str) -> None:
        bad = BAD[case]
        file = place(viewer, bad.path, bad.make())
        look = service.get_thumbnail(viewer, file, 64) if bad.path.endswith(IMAGES) else service.list_rows(viewer, file, RowsSpec())
        if bad.viewed:
            with pytest.raises((FileUnreadable, NoTable)) as caught:
                await look
            assert bad.viewed in str(caught.value) and str(viewer.open) not in str(caught.value)
        else:
            assert len(json.loads((await look).body)["rows"]) == 100

    @pytest.mark.parametrize("case", [case for case, bad in BAD.items() if bad.path == "bad.parquet" and bad.viewed])
    async def test_are_named_by_the_answer_to_sql(self, viewer: Viewer, case: str) -> None:
        bad = BAD[case]
        tables = {"good": place(viewer, "good.parquet", table()), "bad": place(viewer, bad.path, bad.make())}
        with pytest.raises(FileUnreadable) as caught:
            await service.run_query(viewer, tables, "SELECT count(id), max(x) FROM good, bad", 1, arrow=False)
        assert caught.value.fields["path"] == bad.path and str(viewer.open) not in str(caught.value)

    async def test_are_not_blamed_for_what_the_question_does(self, viewer: Viewer) -> None:
        file = place(viewer, "t.parquet", table())
        for wrong in ("error('id')", "regexp_matches(id::VARCHAR, '(')"):
            with pytest.raises(QueryFailed):
                await service.run_query(viewer, {"t": file}, f"SELECT {wrong} FROM t", 1, arrow=False)
            with pytest.raises(QueryFailed):
                await service.list_rows(viewer, file, RowsSpec(filter=f"{wrong} IS NULL"))

    async def test_may_have_a_column_that_is_called_as_the_number_of_a_row(self, viewer: Viewer) -> None:
        target = io.BytesIO()
        pq.write_table(pa.table({"File_Row_Number": [7, 5, 6] * 1000, "row_0": [f"r{at}" for at in range(3000)]}), target)
        file = place(viewer, "t.parquet", target.getvalue())
        for spec, first in (
            (RowsSpec(offset=1501, limit=2), [5, "r1501"]),
            (RowsSpec(filter="file_row_number = 6", offset=500, limit=2), [6, "r1502"]),
            (RowsSpec(sort=("-File_Row_Number",), offset=1, limit=2), [7, "r3"]),
        ):
            page = json.loads((await service.list_rows(viewer, file, spec)).body)
            assert page["rows"][0] == first and page["row_numbers"][0] == int(first[1][1:])

    @pytest.mark.skipif(landlock_version() < 1, reason="this kernel has no Landlock, so nothing but DuckDB keeps a parser to its files")
    async def test_cannot_have_their_reader_open_another_file(self, viewer: Viewer, tmp_path: Path) -> None:
        (tmp_path / "outside.parquet").write_bytes(data := table())
        file = place(viewer, "t.parquet", data)
        entry = viewer.cache.folder / f"{PROJECT}-{file.sha256}"
        entry.unlink()
        entry.symlink_to(tmp_path / "outside.parquet")  # DuckDB is allowed the link; where it leads only the kernel keeps it from going
        with pytest.raises(FileUnreadable, match="(?i)denied|permission|cannot open"):
            await service.get_schema(viewer, file)
        entry.unlink()
        entry.write_bytes(data)
        assert b'"rows": 1000' in (await service.get_schema(viewer, file)).body

    @pytest.mark.parametrize("data", [b"%PDF-1.7", b"", png_that_says(60_000, 60_000), png_that_says(2000, 2000), b"GIF89a" + bytes(20)])
    async def test_that_are_no_images_are_refused(self, viewer: Viewer, data: bytes) -> None:
        with pytest.raises(FileUnreadable):
            await service.get_thumbnail(viewer, place(viewer, "a.png", data), 64)

    async def test_larger_than_the_cache_are_refused(self, tmp_path: Path) -> None:
        viewer = Viewer(tmp_path, 1000)
        with pytest.raises(FileTooLarge):
            await service.get_schema(viewer, place(viewer, "t.parquet", table()))
        viewer.close()


class Store(ThreadingHTTPServer):
    """An object store of one object, that counts what is read of it."""

    def __init__(self, data: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Ranges)
        self.data, self.read_bytes = data, 0
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def locate(self, sha256: str = "") -> Located:
        url = f"http://127.0.0.1:{self.server_port}/"
        return Located(PROJECT, COMMIT, "t.parquet", sha256 or hashlib.sha256(self.data).hexdigest(), len(self.data), url)


class Ranges(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Store)
        first, last = (int(number) for number in self.headers["Range"].removeprefix("bytes=").split("-"))
        data = self.server.data[first : last + 1]
        self.server.read_bytes += len(data)
        self.send_response(206)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Nothing is said."""


@functools.cache
def large_table() -> bytes:
    """Eighty megabytes of Parquet in forty row groups, incompressible."""
    numbers, target = np.random.default_rng(0), io.BytesIO()
    columns = {"id": pa.array(np.arange(1_000_000)), **{name: pa.array(numbers.random(1_000_000)) for name in "abcdefghi"}}
    pq.write_table(pa.table(columns), target, row_group_size=25_000)
    return target.getvalue()


@pytest.fixture
def large() -> Iterator[Store]:
    store = Store(large_table())
    yield store
    store.shutdown()
    store.server_close()


class TestLargeFiles:
    async def test_are_read_in_part_for_a_page(self, empty_viewer: Viewer, large: Store) -> None:
        file = large.locate()
        assert json.loads((await service.get_schema(empty_viewer, file)).body)["rows"] == 1_000_000
        assert large.read_bytes < 10**6
        page = json.loads((await service.list_rows(empty_viewer, file, RowsSpec(offset=899_990, limit=100))).body)
        assert [row[0] for row in page["rows"]] == page["row_numbers"] == list(range(899_990, 900_090)) and page["total_rows"] == 1_000_000
        assert large.read_bytes < 6 * 10**6  # two row groups of two megabytes
        read_bytes = large.read_bytes
        again = json.loads((await service.list_rows(empty_viewer, file, RowsSpec(columns=("id", "c"), limit=5, after=900_085))).body)
        assert [row[0] for row in again["rows"]] == list(range(900_085, 900_090)) and large.read_bytes < read_bytes + 10**6

    @pytest.mark.parametrize(
        ("spec", "ids", "most_bytes"),
        [
            (RowsSpec(filter="id BETWEEN 499990 AND 500005", limit=30), list(range(499_990, 500_006)), 7 * 10**6),
            (RowsSpec(filter="id % 500000 = 7"), [7, 500_007], 15 * 10**6),
            (RowsSpec(filter="id % 250000 = 7", offset=1, limit=2, columns=("id",)), [250_007, 500_007], 15 * 10**6),
            (RowsSpec(filter="id % 250000 = 7", after=300_000, limit=5, columns=("id",)), [500_007, 750_007], 15 * 10**6),
            (RowsSpec(sort=("-id",), offset=10, limit=3), [999_989, 999_988, 999_987], 15 * 10**6),
            (RowsSpec(sort=("-id",), filter="id < 30000", limit=2, columns=("id", "a")), [29_999, 29_998], 6 * 10**6),
        ],
    )
    async def test_are_read_in_part_for_a_filter_and_an_order(
        self, empty_viewer: Viewer, large: Store, spec: RowsSpec, ids: list[int], most_bytes: int
    ) -> None:
        file = large.locate()
        page = json.loads((await service.list_rows(empty_viewer, file, spec)).body)
        assert [row[0] for row in page["rows"]] == page["row_numbers"] == ids
        assert large.read_bytes < most_bytes < file.size_bytes // 4

    async def test_are_paged_by_a_cursor_through_what_a_filter_leaves(self, empty_viewer: Viewer, large: Store) -> None:
        found, after = [], 0
        while after is not None:
            spec = RowsSpec(filter="id % 250000 = 7", limit=1, columns=("id",), after=after)
            page = json.loads((await service.list_rows(empty_viewer, large.locate(), spec)).body)
            found += [row[0] for row in page["rows"]]
            after = (decode_cursor(page["next_cursor"], [str, int]) or [None, None])[1]
        assert found == [7, 250_007, 500_007, 750_007]

    async def test_are_read_in_part_for_sql_and_differences(self, empty_viewer: Viewer, large: Store) -> None:
        file = large.locate()
        answer = await service.run_query(
            empty_viewer, {"t": file}, "SELECT count(*), min(id), max(id) FROM t WHERE id >= 10", 1, arrow=False
        )
        assert json.loads(answer.body)["rows"] == [[999_990, 10, 999_999]] and large.read_bytes < file.size_bytes // 4
        with pytest.raises(QueryFailed, match="nothing"):
            await service.run_query(empty_viewer, {"t": file}, "SELECT nothing FROM t", 1, arrow=False)
        small = place(empty_viewer, "few.parquet", table(10))
        joined = "SELECT count(*) FROM t JOIN few USING (id)"
        answer = await service.run_query(empty_viewer, {"few": small, "t": file}, joined, 1, arrow=False)
        assert json.loads(answer.body)["rows"] == [[10]] and large.read_bytes < file.size_bytes // 4

    async def test_are_fetched_once_whoever_asks_again(self, empty_viewer: Viewer, large: Store) -> None:
        spec = RowsSpec(sort=("-a",), limit=5, columns=("id", "a"))
        first = (await service.list_rows(empty_viewer, large.locate(), spec)).body
        read_bytes = large.read_bytes
        assert (await service.list_rows(empty_viewer, large.locate(), spec)).body == first
        assert large.read_bytes < read_bytes + 10**6  # threads that read in another order cut a few blocks elsewhere

    async def test_are_fetched_whole_once_most_of_them_is_here(self, empty_viewer: Viewer, large: Store) -> None:
        file = large.locate()
        for column in "abcdef":
            await service.run_query(empty_viewer, {"t": file}, f"SELECT sum({column}) FROM t", 1, arrow=False)
        await service.list_rows(empty_viewer, file, RowsSpec())
        assert empty_viewer.cache.holds(f"{PROJECT}-{file.sha256}")
        read_bytes = large.read_bytes
        await service.run_query(empty_viewer, {"t": file}, "SELECT sum(g + h + i) FROM t", 1, arrow=False)
        assert large.read_bytes == read_bytes

    async def test_may_be_larger_than_the_cache_while_an_answer_takes_less(self, tmp_path: Path, large: Store) -> None:
        viewer = Viewer(tmp_path, 40 * 2**20)
        page = json.loads((await service.list_rows(viewer, large.locate(), RowsSpec(filter="id % 500000 = 7"))).body)
        assert [row[0] for row in page["rows"]] == [7, 500_007]
        with pytest.raises(FileTooLarge):
            await service.run_query(viewer, {"t": large.locate()}, "SELECT sum(a + b + c + d + e) FROM t", 1, arrow=False)
        viewer.close()

    async def test_are_checked_whole_before_they_are_called_broken(self, empty_viewer: Viewer, large: Store) -> None:
        file = large.locate()
        large.data = large.data[:-4008] + bytes(4000) + large.data[-8:]
        with pytest.raises(FileChanged):
            await service.list_rows(empty_viewer, file, RowsSpec())
        with pytest.raises(FileUnreadable):
            await service.list_rows(empty_viewer, large.locate(), RowsSpec())

    @pytest.mark.parametrize("damaged", [slice(-4008, -8), slice(2_000_000, 4_000_000)])
    async def test_that_are_damaged_are_named_by_the_answer_to_sql(self, empty_viewer: Viewer, large: Store, damaged: slice) -> None:
        file, few = large.locate(), place(empty_viewer, "few.parquet", table(10))
        data = bytearray(large.data)
        data[damaged] = bytes(len(data[damaged]))
        large.data = bytes(data)
        total = "SELECT (SELECT sum(a) FROM t), (SELECT sum(id) FROM few)"
        with pytest.raises(FileChanged, match="'t.parquet' was committed"):
            await service.run_query(empty_viewer, {"few": few, "t": file}, total, 1, arrow=False)
        with pytest.raises(FileUnreadable, match="'t.parquet' cannot be read"):
            await service.run_query(empty_viewer, {"few": few, "t": large.locate()}, total, 1, arrow=False)

    async def test_that_are_damaged_and_larger_than_the_cache_are_called_so(self, tmp_path: Path, large: Store) -> None:
        viewer = Viewer(tmp_path, 40 * 2**20)
        large.data = large.data[:-4008] + bytes(4000) + large.data[-8:]
        with pytest.raises(FileUnreadable, match="'t.parquet' cannot be read"):
            await service.run_query(viewer, {"t": large.locate()}, "SELECT max(a) FROM t", 1, arrow=False)
        viewer.close()


class TestStart:
    async def test_begins_one_process_that_ends_with_the_gateway_even_while_it_loads(self, empty_viewer: Viewer) -> None:
        await asyncio.gather(empty_viewer.start(), empty_viewer.start())
        process = empty_viewer._process
        assert process is not None and process.poll() is None
        await empty_viewer.start()
        assert empty_viewer._process is process
        empty_viewer.close()
        assert process.poll() is not None


class TestThumbnails:
    @pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F"])
    async def test_are_made_of_every_mode(self, viewer: Viewer, mode: str) -> None:
        target = io.BytesIO()
        Image.new(mode, (40, 20)).save(target, "TIFF" if mode in {"CMYK", "F"} else "PNG")
        made = await service.get_thumbnail(viewer, place(viewer, "a", target.getvalue()), 16)
        assert Image.open(io.BytesIO(made)).size == (16, 8)


class TestCache:
    async def test_keeps_what_was_used_last_and_leaves_readers_their_bytes(self, tmp_path: Path) -> None:
        cache = Cache(tmp_path / "cache", 300_000)
        made: list[str] = []

        async def use(name: str, target: str) -> Path:
            async def make(path: Path) -> None:
                made.append(name)
                path.write_bytes(name.encode() * 100_000)

            await cache.link(name, tmp_path / target, make)
            return tmp_path / target

        held = await use("a", "1")
        for name, target in (("b", "2"), ("a", "3"), ("c", "4"), ("d", "5")):
            await use(name, target)
        await use("d", "6")
        assert made == ["a", "b", "c", "d"]
        await use("b", "7")
        assert made == ["a", "b", "c", "d", "b"] and held.read_bytes() == b"a" * 100_000

    async def test_makes_an_entry_once_for_all_who_ask_at_once(self, tmp_path: Path) -> None:
        made: list[Path] = []

        async def make(path: Path) -> None:
            made.append(path)
            await asyncio.sleep(0)
            path.write_bytes(b"x")

        caches = [Cache(tmp_path / "cache", 10**6) for _ in range(5)]
        await asyncio.gather(*(cache.link("a", tmp_path / str(at), make) for at, cache in enumerate(caches)))
        assert len(made) == 1 and all((tmp_path / str(at)).read_bytes() == b"x" for at in range(5))

    async def test_makes_entries_of_others_without_waiting_for_itself(self, tmp_path: Path) -> None:
        cache = Cache(tmp_path / "cache", 10**6)

        async def make(path: Path) -> None:
            path.write_bytes(b"x")

        async def convert(number: int) -> None:
            async def make_of(path: Path) -> None:
                await cache.link(f"{number}", tmp_path / f"{number}", make)
                path.write_bytes(b"y")

            await cache.link(f"{number}.parquet", tmp_path / f"{number}.parquet", make_of, derived=True)

        async with asyncio.timeout(60):
            await asyncio.gather(*map(convert, range(300)))
        assert all((tmp_path / f"{number}.parquet").read_bytes() == b"y" for number in range(300))
