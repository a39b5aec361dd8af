"""Files that are not what they say: what each is made of, and what a profile and the viewer say of it."""

from __future__ import annotations

import gzip
import io
import os
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


@dataclass(frozen=True)
class Bad:
    """``profiled`` stands in the reason why a profile sets it aside, ``viewed`` in the viewer's refusal; empty: the viewer shows it."""

    path: str
    make: Callable[[], bytes]
    profiled: str
    viewed: str


def parquet(rows: int = 100_000) -> bytes:
    target = io.BytesIO()
    pq.write_table(pa.table({"x": np.random.default_rng(0).normal(size=rows)}), target)
    return target.getvalue()


def corrupt_pages() -> bytes:
    data = bytearray(parquet())
    data[5000:300_000] = os.urandom(295_000)
    return bytes(data)


def run_length_bomb() -> bytes:
    """Sixty million rows in a few hundred bytes."""
    schema, target = pa.schema([("x", pa.int8())]), io.BytesIO()
    with pq.ParquetWriter(target, schema, data_page_size=2**30, max_rows_per_page=2**30) as writer:
        for _ in range(3):
            writer.write_table(pa.table({"x": pa.repeat(pa.scalar(1, pa.int8()), 20_000_000)}), row_group_size=20_000_000)
    return target.getvalue()


def gzip_bomb() -> bytes:
    """280 MB of rows; a gzip file may have several members."""
    return gzip.compress(b"a,b\n") + gzip.compress((b"1," + b"2" * 9997 + b"\n") * 1000, 9) * 28


def zip_bomb() -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(30):
            archive.writestr(f"{number}.csv", bytes(10**7))
    return target.getvalue()


def png_that_says(width: int, height: int) -> bytes:
    """A PNG whose header promises so many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x02\0\0\0"
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(10**6))) + chunk(b"IEND", b"")


def huge_bmp() -> bytes:
    size = (10**6).to_bytes(4, "little")
    return b"BM" + (1000).to_bytes(4, "little") + bytes(4) + b"\x36\0\0\0\x28\0\0\0" + size + size + b"\1\0\x18\0" + bytes(24)


BAD = {
    "text that is called Parquet": Bad("bad.parquet", lambda: b"hello, this is text", "does not end as a Parquet file", "bad.parquet"),
    "Parquet that was cut off": Bad("bad.parquet", lambda: parquet()[:500_000], "does not end as a Parquet file", "bad.parquet"),
    "Parquet whose footer lies": Bad(
        "bad.parquet", lambda: b"PAR1" + os.urandom(99) + b"\xff\xff\xff\x7fPAR1", "footer would have", "bad.parquet"
    ),
    "Parquet whose pages are damaged": Bad("bad.parquet", corrupt_pages, "orrupt", "bad.parquet"),
    "ragged CSV": Bad(
        "bad.csv", lambda: b"a,b\n1,2\n3\n4,5,6\n7,8\n", "line 3: it has 1 columns, the header 2", "line 3: it has 1 columns"
    ),
    "mixed encodings": Bad(
        "bad.csv", lambda: "a,b\né,1\n".encode() + "é,2\n".encode("latin-1"), "byte 9 is not UTF-8 (e9), in line 3", "(e9), in line 3"
    ),
    "UTF-16 as CSV": Bad("bad.csv", lambda: "a,b\n1,2\n".encode("utf-16"), "byte 0 is not UTF-8", "byte 0 is not UTF-8"),
    "ten million columns": Bad("bad.csv", lambda: b"c," * 10_000_000 + b"\n", "no header of at most 1000 columns", "no header"),
    "twenty thousand columns": Bad("bad.csv", lambda: b"c," * 20_000 + b"\n", "it has 20001 columns", "it has 20001 columns"),
    "JSON without an end of line": Bad("bad.jsonl", lambda: b'{"a": "' + b"x" * 5_000_000, "line 1 has over", "line 1 has over"),
    "a gzip bomb": Bad("bad.csv.gz", gzip_bomb, "a bomb", "a bomb"),
    "a zip bomb": Bad("bad.zip", zip_bomb, "a bomb", "is not read as a table"),
    "no zip file": Bad("bad.zip", lambda: b"PK\3\4 and no more", "no zip file", "is not read as a table"),
    "a Parquet bomb": Bad("bad.parquet", run_length_bomb, "a bomb", ""),
    "text of another encoding": Bad("bad.txt", lambda: "déjà vu".encode("utf-16"), "not UTF-8", "is not read as a table"),
    "an image that is not one": Bad("bad.png", lambda: b"no image", "not an image", "cannot be read as an image"),
    "an image that was cut off": Bad(
        "bad.jpg", lambda: b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + bytes(20), "image", "cannot be read as an image"
    ),
    "an image of a trillion pixels": Bad("bad.bmp", huge_bmp, "pixels", "pixels"),
    "a bomb of an image": Bad("bad.png", lambda: png_that_says(60_000, 60_000), "pixels", "pixels"),
}
