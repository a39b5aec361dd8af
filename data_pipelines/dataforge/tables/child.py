"""The processes that read strangers' files: ``python -m data_pipelines.dataforge.tables.child FD``.

This one has loaded the libraries and opens nothing. For each socket that comes over ``FD`` with the name of a folder it forks a child,
which is confined to the folder, answers one question and ends; so nothing of a file outlives its answer, and a crash or a memory bomb
ends one child. With the gateway's end of ``FD`` it ends itself.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import queue
import signal
import socket
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import duckdb
from PIL import Image

from data_pipelines.dataforge.files.quarantine import BadFile
from data_pipelines.dataforge.tables import confinement, images, parts, reading, text
from data_pipelines.dataforge.tables.models import CONVERTED_BYTES, MEMORY_BYTES, Answer
from data_pipelines.dataforge.tables.statements import Refused

THREADS = 2
_BESIDE_BYTES = 2**30
_WRONG_QUESTION = (duckdb.BinderException, duckdb.CatalogException, duckdb.ConversionException, duckdb.ParserException,
                   duckdb.OutOfRangeException, duckdb.SyntaxException, duckdb.TypeMismatchException)  # fmt: skip


def main(descriptor: int) -> None:
    """Fork a child for each socket that arrives, until the sender has closed."""
    control = socket.socket(fileno=descriptor)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    load()
    while True:
        folder, received, _, _ = socket.recv_fds(control, 4096, 1)
        if not folder:
            return
        if os.fork() == 0:
            control.close()
            try:
                serve(socket.socket(fileno=received[0]), Path(folder.decode()))
            except FileNotFoundError:
                pass  # the folder went while this child began: nobody needs it any more
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(0)
        os.close(received[0])


def load() -> None:
    """Have everything loaded that a child needs: a confined one finds no library."""
    Image.init()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "t.csv").write_text("a,b\n1,x\n")
        Image.new("RGB", (8, 8)).save(folder / "i.png")
        with reading.connect(1) as connection:
            text.convert(connection, folder / "t.csv", "t.csv", folder / "t.parquet")
        for path, bad in (("b.csv", b"a,b\n1,2\n3\n"), ("b.csv.gz", gzip.compress(b"a,b\n\xff,1\n")), ("b.jsonl", b'{"a": 1}\n{\n')):
            (folder / path).write_bytes(bad)
            with reading.connect(1) as connection, contextlib.suppress(BadFile):
                text.convert(connection, folder / path, path, folder / "b.parquet")
        for arrow in (False, True):
            with reading.connect(1) as connection:
                _open_in_parts(connection, {0: (folder / "t.parquet").stat().st_size}, lambda *_: folder / "t.parquet")
                reading.run_query(connection, {"t": parts.locate(0)}, "SELECT a, b, now() FROM t", 10, arrow, {})
        images.build_thumbnail(folder / "i.png", 4)


def serve(peer: socket.socket, folder: Path) -> None:
    """Be ready, answer one question, and end."""
    # DuckDB reads its limits from /proc as it starts, and starts no thread of its own until it is given two.
    connection = reading.connect(1)
    confinement.confine(folder / "in", folder / "out", MEMORY_BYTES + _BESIDE_BYTES, CONVERTED_BYTES)
    connection.execute(f"SET threads = {THREADS}")
    peer.sendall(b"ready\n")
    said = peer.makefile("rb")
    line = said.readline()
    if not line:
        return
    brought: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(said, brought), daemon=True).start()
    question = json.loads(line)
    confinement.end_after(question["time_s"])

    def fetch(number: int, start: int, end: int) -> Path:
        with confinement.untimed():
            peer.sendall(json.dumps({"part": [number, start, end]}).encode() + b"\n")
            brought.get()
        return folder / "in" / f"{number}-{start}-{end}"

    answer = respond(connection, folder, question, fetch)
    peer.sendall(json.dumps({**answer.facts, "size_bytes": len(answer.body)}).encode() + b"\n" + answer.body)


def _listen(said: BinaryIO, brought: queue.SimpleQueue[bytes]) -> None:
    """A line for each part that was brought. End when nobody waits for the answer any more."""
    for line in said:
        brought.put(line)
    os._exit(0)


def respond(connection: duckdb.DuckDBPyConnection, folder: Path, question: dict[str, Any], fetch: parts.Fetch) -> Answer:
    """The answer, or what stands against it as ``error`` and ``reason``."""
    try:
        return _answer(connection, folder, question, fetch)
    except Refused as refused:
        return Answer(b"", {"error": "refused", "reason": str(refused)})
    except BadFile as reason:
        return Answer(b"", {"error": "unreadable", "reason": f"{_name_files(str(reason), folder, question['paths']).rstrip('.')}."})
    except (MemoryError, duckdb.OutOfMemoryException):
        return Answer(b"", {"error": "too_much"})
    except duckdb.Error as error:
        faulty = _find_faulty(connection, _locate(folder, question), question["kind"], error)
        facts = {"error": "failed"} if faulty is None else {"error": "unreadable", "file": faulty}
        return Answer(b"", {**facts, "reason": _reason(error, folder, question["paths"], asked=faulty is None)})


def _find_faulty(connection: duckdb.DuckDBPyConnection, files: list[str], kind: str, error: duckdb.Error) -> int | None:
    """The number of the file that an error is about, None where it is about the question.

    DuckDB names a file whose end or whose pages are damaged; of other damage it says what it is, and not where.
    """
    if kind not in {"rows", "query"}:
        return 0
    if isinstance(error, _WRONG_QUESTION):
        return None
    named = next((number for number in reversed(range(len(files))) if files[number] in str(error)), None)
    if named is not None or isinstance(error, duckdb.InvalidInputException):
        return named
    # One of which there are parts is asked again when all of it is here.
    return next(
        (number for number, file in enumerate(files) if file == parts.locate(number) or not reading.is_whole(connection, file)), None
    )


def _answer(connection: duckdb.DuckDBPyConnection, folder: Path, question: dict[str, Any], fetch: parts.Fetch) -> Answer:
    files, head = _locate(folder, question), question.get("head", {})
    _open_in_parts(connection, {int(number): size_bytes for number, size_bytes in question["in_parts"].items()}, fetch)
    match question["kind"]:
        case "schema":
            return reading.read_schema(connection, files[0], head)
        case "rows":
            return reading.read_rows(connection, files[0], question["asked"], head)
        case "query":
            tables = dict(zip(question["tables"], files, strict=True))
            return reading.run_query(connection, tables, question["sql"], question["limit"], question["arrow"], head)
        case "convert":
            return text.convert(connection, Path(files[0]), question["paths"][0], folder / "out" / "table")
        case "thumbnail":
            return images.build_thumbnail(Path(files[0]), question["size"])
    raise AssertionError(question["kind"])


def _locate(folder: Path, question: Mapping[str, Any]) -> list[str]:
    """The names by which DuckDB reads the question's files, of which there may be only parts."""
    numbers = range(len(question["paths"]))
    return [parts.locate(number) if str(number) in question["in_parts"] else str(folder / "in" / str(number)) for number in numbers]


def _open_in_parts(connection: duckdb.DuckDBPyConnection, sizes: Mapping[int, int], fetch: parts.Fetch) -> None:
    """Have DuckDB read files of which there are only parts; ``sizes`` are theirs, in bytes, by number."""
    if sizes:
        connection.register_filesystem(parts.PartFiles(sizes, fetch))


def _reason(error: duckdb.Error, folder: Path, paths: list[str], asked: bool) -> str:
    """DuckDB's message by the files' own names, without the lines about its settings and what it quotes of our own statements."""
    text = _name_files(str(error), folder, paths)
    message, _, quoted = text.partition("\n\nLINE ")
    text = text if asked and "'/" not in quoted else message
    if "CSV Error" in text:
        text = text.split("\n  file = ")[0]
    text = text.replace(str(folder), "").split("\nPossible fixes")[0].split("\nPossible solutions")[0]
    return text[:1000].strip()


def _name_files(text: str, folder: Path, paths: list[str]) -> str:
    for number, path in reversed(list(enumerate(paths))):  # the name of the first is the beginning of that of the tenth
        text = text.replace(str(folder / "in" / str(number)), path).replace(parts.locate(number), path)
    return text


if __name__ == "__main__":
    main(int(sys.argv[1]))
