"""The viewer over real PostgreSQL and S3: pages, SQL and thumbnails of files that were pushed, and what is refused."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import duckdb
import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import aidos
from aidos.client import Client
from aidos.errors import AidosError, Conflict, InvalidPayload
from cluster.objects import Objects
from tests.support.running import AIDOS

pytestmark = pytest.mark.postgres
ROWS = 30_000


def picture(width: int, height: int, kind: str, **options: Any) -> bytes:
    target = io.BytesIO()
    Image.linear_gradient("L").resize((width, height)).convert("RGB").save(target, kind, **options)
    return target.getvalue()


def write_files(folder: Path) -> None:
    """Tables and an image."""
    numbers = range(ROWS)
    table = pa.table({"id": numbers, "key": [(n * 7919) % 30011 for n in numbers], "name": [f"n{n % 100}" for n in numbers]})
    pq.write_table(table, folder / "t.parquet", row_group_size=5000)
    (folder / "t.csv").write_text("id,day,note\n" + "".join(f"{n},2026-01-{n % 28 + 1:02},x{n}\n" for n in range(1000)))
    (folder / "t.jsonl.gz").write_bytes(gzip.compress(b'{"a": 1, "b": {"c": [1, null]}}\n{"a": 2, "b": null}\n'))
    odd = "SELECT * FROM (VALUES ('nan'::DOUBLE, 9007199254740993, 1.10::DECIMAL(9,2), TIMESTAMP '2026-01-31 10:00:00', '\\x00\\xFF'::BLOB," \
          " repeat('x', 20000), {'f': 'infinity'::DOUBLE}), (NULL, 1, NULL, NULL, NULL, 'y', NULL)) t(f, i, d, t, b, s, n)"  # fmt: skip
    duckdb.connect().execute(f"COPY ({odd}) TO '{folder / 'odd.parquet'}' (FORMAT parquet)")
    (folder / "photo.jpg").write_bytes(picture(600, 300, "JPEG", exif=_turned()))
    (folder / "notes.txt").write_text("text")


def _turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif.tobytes()


@pytest.fixture
def viewed(client: Client, tmp_path: Path) -> Client:
    write_files(tmp_path)
    aidos.push(tmp_path, "seen", client=client)
    return client


def refusal(call: Any) -> AidosError:
    with pytest.raises(InvalidPayload) as caught:
        call()
    return caught.value


class TestTables:
    def test_are_paged_filtered_and_sorted(self, viewed: Client) -> None:
        tables = viewed.tables
        schema = tables.schema("seen", path="t.parquet")
        assert [(c.name, c.type) for c in schema.columns] == [("id", "BIGINT"), ("key", "BIGINT"), ("name", "VARCHAR")]
        assert schema.rows == ROWS
        page = tables.rows("seen", path="t.parquet", offset=29_950, limit=40)
        assert [row[0] for row in page.rows] == page.row_numbers == list(range(29_950, 29_990)) and page.total_rows == ROWS
        last = tables.rows("seen", path="t.parquet", limit=40, cursor=page.next_cursor)
        assert [row[0] for row in last.rows] == list(range(29_990, ROWS)) and last.next_cursor is None

        first = tables.rows("seen", path="t.parquet", columns=["id"], filter="name = 'n7' AND id > 500", limit=3)
        following = tables.rows(
            "seen", path="t.parquet", columns=["id"], filter="name = 'n7' AND id > 500", limit=3, cursor=first.next_cursor
        )
        assert [*first.rows, *following.rows] == [[507], [607], [707], [807], [907], [1007]]

        expected = sorted(range(ROWS), key=lambda n: (-((n * 7919) % 30011), n))
        page = tables.rows("seen", path="t.parquet", sort=["-key"], offset=20_000, limit=5)
        following = tables.rows("seen", path="t.parquet", sort=["-key"], limit=5, cursor=page.next_cursor)
        assert [row[0] for row in (*page.rows, *following.rows)] == expected[20_000:20_010]

    def test_may_be_text_packed_or_not(self, viewed: Client) -> None:
        page = viewed.tables.rows("seen", path="t.csv", filter="day = DATE '2026-01-05'", limit=2)
        assert [c.type for c in page.columns] == ["BIGINT", "DATE", "VARCHAR"] and page.rows == [
            [4, "2026-01-05", "x4"],
            [32, "2026-01-05", "x32"],
        ]
        assert viewed.tables.rows("seen", path="t.jsonl.gz").rows == [[1, {"c": [1, None]}], [2, None]]

    def test_say_every_value_in_json(self, viewed: Client) -> None:
        page = viewed.tables.rows("seen", path="odd.parquet")
        assert page.rows[0][:5] == ["NaN", "9007199254740993", "1.10", "2026-01-31T10:00:00", "AP8="]
        assert (len(page.rows[0][5]), page.cut_cells, page.rows[0][6]) == (16_384, [[0, 5]], {"f": "Infinity"})
        assert page.rows[1] == [None, 1, None, None, None, "y", None]

    def test_are_joined_by_sql(self, viewed: Client) -> None:
        sql = "SELECT t.name, count(*) AS n FROM t JOIN c USING (id) GROUP BY ALL ORDER BY t.name LIMIT 2"
        answer = viewed.tables.query("seen", sql, files={"t": "t.parquet", "c": "t.csv"})
        assert answer.rows == [["n0", 10], ["n1", 10]] and not answer.truncated
        assert viewed.tables.query("seen", "FROM t", files={"t": "t.parquet"}, limit=5).truncated
        asked = viewed.tables.with_options(headers={"Accept": "application/vnd.apache.arrow.stream"})
        stream = asked.query.raw("seen", "SELECT id, name FROM t", files={"t": "t.parquet"}, limit=3000)
        assert pa.ipc.open_stream(stream.content).read_all().to_pydict()["id"] == list(range(3000))
        assert stream.headers["x-truncated"] == "true"


class TestRowDiff:
    BEFORE = "id,name,score\n1,a,1.5\n2,b,\n3,c,3\n3,c,3\n4,d,4\n"
    AFTER = "id,name,score\n4,d,4\n1,a,1.5\n2,b,7\n3,c,3\n5,e,5\n"

    @pytest.fixture
    def two(self, client: Client, tmp_path: Path) -> Client:
        (tmp_path / "t.csv").write_text(self.BEFORE)
        aidos.push(tmp_path, "rows", client=client)
        client.datasets.set_ref("rows", "before", commit="main")
        (tmp_path / "t.csv").write_text(self.AFTER)
        aidos.push(tmp_path, "rows", client=client)
        return client

    def test_tells_by_key_what_was_added_changed_and_removed(self, two: Client) -> None:
        found = two.tables.diff("rows", path="t.csv", base="before", head="main", key=["id"])
        assert (found.added, found.changed, found.removed) == (1, 1, 1)
        rows = {row.kind.value: (row.old and json.loads(row.old), row.new and json.loads(row.new)) for row in found.rows}
        assert rows["added"] == (None, {"id": 5, "name": "e", "score": 5.0})
        assert rows["changed"] == ({"id": 2, "name": "b", "score": None}, {"id": 2, "name": "b", "score": 7.0})
        assert rows["removed"] == ({"id": 3, "name": "c", "score": 3.0}, None), "one of two with the same key"

    def test_without_a_key_has_no_changed_rows(self, two: Client) -> None:
        found = two.tables.diff("rows", path="t.csv", base="before", head="main", most=1)
        assert (found.added, found.changed, found.removed) == (2, 0, 2)
        assert [row.kind.value for row in found.rows] == ["added", "removed"]

    def test_of_equal_tables_is_empty_and_of_a_column_more_is_every_row(self, two: Client, tmp_path: Path) -> None:
        assert two.tables.diff("rows", path="t.csv", base="main", head="main", key=["id"]).rows == []
        (tmp_path / "t.csv").write_text("id,name,score,new\n1,a,1.5,x\n2,b,7,x\n")
        aidos.push(tmp_path, "rows", branch="wider", client=two)
        found = two.tables.diff("rows", path="t.csv", base="main", head="wider", key=["id", "name"])
        assert (found.added, found.changed, found.removed) == (0, 2, 3)
        assert "nme" in str(refusal(lambda: two.tables.diff("rows", path="t.csv", base="main", head="wider", key=["nme"])))


class TestRefusals:
    def test_reach_the_caller_as_problems(self, viewed: Client) -> None:
        tables = viewed.tables
        error = refusal(lambda: tables.query("seen", "SELECT * FROM read_csv('/etc/passwd')", files={"t": "t.parquet"}))
        assert error.type == "urn:aidos:tables:query-refused" and "read_csv" in str(error)
        assert "'nme'" in str(refusal(lambda: tables.rows("seen", path="t.parquet", columns=["nme"])))
        assert "nme" in str(refusal(lambda: tables.rows("seen", path="t.parquet", filter="nme = 1")))
        assert refusal(lambda: tables.rows("seen", path="notes.txt")).type == "urn:aidos:tables:no-table"
        assert refusal(lambda: tables.thumbnail("seen", path="t.csv")).type == "urn:aidos:tables:file-unreadable"

    async def test_bytes_that_differ_from_what_was_committed_are_not_shown(self, viewed: Client, objects: Objects) -> None:
        data = os.urandom(100)
        name = hashlib.sha256(data).hexdigest()
        asked = [{"sha256": name, "size_bytes": 100}]
        url = viewed.datasets.uploads("seen", blobs=asked).missing[0]
        viewed.put_presigned(str(url.url), data, url.headers)
        viewed.datasets.complete_uploads("seen", blobs=asked)
        head = viewed.datasets.show("seen", "main")
        viewed.datasets.commit("seen", parent=head.id, add=[{"path": "late.csv", **asked[0]}])
        (source,) = viewed.datasets.downloads("seen", paths=["late.csv"]).sources
        await objects.put(urlsplit(source).path.removeprefix(f"/{objects.bucket}/"), b"a,b\n1,2\n".ljust(100))
        with pytest.raises(Conflict) as caught:
            viewed.tables.rows("seen", path="late.csv")
        assert caught.value.type == "urn:aidos:tables:file-changed" and name in str(caught.value)


class TestThumbnails:
    def test_are_small_upright_and_kept_by_their_content(self, viewed: Client, url: str, admin_key: str) -> None:
        shown = viewed.tables.thumbnail.raw("seen", path="photo.jpg", size=100)
        image = Image.open(io.BytesIO(shown.content))
        assert (image.format, image.size, dict(image.getexif())) == ("WEBP", (50, 100), {})
        asked = {"Authorization": f"Bearer {admin_key}", "If-None-Match": shown.headers["etag"]}
        query = {"path": "photo.jpg", "size": "100"}
        again = httpx.get(f"{url}/v1/dataforge/datasets/seen/thumbnail", params=query, headers=asked, trust_env=False)
        assert (again.status_code, again.content) == (304, b"")


class TestCommand:
    def test_shows_rows_and_answers(self, viewed: Client) -> None:
        shown = aidos_command("dataset", "head", "seen", "t.parquet", "--limit", "2", "--csv")
        assert shown.stdout == "id,key,name\n0,0,n0\n1,7919,n1\n", shown.stderr
        asked = ("dataset", "query", "seen@main", "SELECT max(id) AS most FROM t", "-f", "t=t.parquet")
        assert json.loads(aidos_command(*asked, "--json").stdout)["rows"] == [[ROWS - 1]]
        assert aidos_command(*asked).stdout.split() == ["most", str(ROWS - 1)]


def aidos_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(AIDOS), *arguments], capture_output=True, text=True, timeout=60, check=False)
