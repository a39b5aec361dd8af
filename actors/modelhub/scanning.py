"""What in a file could run code or lead out of it, told without loading it: nothing is unpickled, nothing is extracted.

Archives are looked into, archives in archives too, each member through a bounded copy. The judge is what a file is, not what it is called: any pickle
is a finding, whatever it imports, for no list of bad names is complete; picklescan's list adds which imports are known to be bad.
Pickle: https://docs.python.org/3/library/pickletools.html · bombs: https://www.bamsoftware.com/hacks/zipbomb/
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import pickletools
import posixpath
import re
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from numpy.lib import format as npy
from picklescan.scanner import SafetyLevel, scan_pickle_bytes

from actors.modelhub.models import Finding

MOST_FINDINGS = 100
MOST_MEMBERS = 100_000
MOST_OPCODES = 1_000_000
DEPTH = 4
GROWTH_BYTES = 2**30
"""By how much, in all, archives may be larger unpacked than packed."""
TAKEN_APART_BYTES = 64 * 2**20
"""Of a pickle, to find what it imports; that it is one is told by its beginning."""
JSON_BYTES = 16 * 2**20
_BLOCK = 2**20
_IMPORTING = frozenset({"GLOBAL", "INST", "STACK_GLOBAL", "EXT1", "EXT2", "EXT4"})
_CALLING = frozenset({"REDUCE", "BUILD", "OBJ", "NEWOBJ", "NEWOBJ_EX", "INST"})
_IMPORTABLE = re.compile(r"[\w.]+ [\w.]+")
_LAMBDA = re.compile(rb'"class_name"\s*:\s*"(__lambda__|Lambda|[^"]{0,40}\\u)')
_TF_OPERATORS = re.compile(rb"\b(PyFunc|PyFuncStateless|EagerPyFunc|ReadFile|WriteFile|MatchingFiles|WholeFileReaderV2)\b")

EXECUTABLE = (
    (b"\x7fELF", "an executable"),
    (b"MZ", "an executable of Windows"),
    (b"\xcf\xfa\xed\xfe", "an executable of macOS"),
    (b"\xca\xfe\xba\xbe", "compiled code"),
    (b"#!", "a script"),
)
CLOSED = (
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"Rar!\x1a", "RAR"),
    (b"\x28\xb5\x2f\xfd", "Zstandard"),
    (b"\x04\x22\x4d\x18", "LZ4"),
    (b"ZF0x", "old joblib"),
)
_STREAMS: tuple[tuple[bytes, Callable[[Any], Any]], ...] = (
    (b"\x1f\x8b", lambda file: gzip.GzipFile(fileobj=file)),
    (b"BZh", bz2.BZ2File),
    (b"\xfd7zXZ\x00", lzma.LZMAFile),
)
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
# `zipfile` says NotImplementedError of a version or a packing that it does not know, and RuntimeError of a password.
_NO_ZIP = (zipfile.BadZipFile, ValueError, NotImplementedError, OSError)
_NO_ARCHIVE = (*_NO_ZIP, RuntimeError, EOFError, zlib.error, lzma.LZMAError, tarfile.TarError)


SEVERITY = {
    "pickle-import": "critical",
    "archive-path": "critical",
    "archive-link": "critical",
    "archive-bomb": "critical",
    "archive-duplicate": "high",
    "archive-unreadable": "high",
    "executable": "high",
    "keras-lambda": "high",
    "pickle": "high",
    "polyglot": "high",
    "tensorflow-operator": "high",
    "too-many": "critical",
    "loader": "medium",
    "onnx-operator": "medium",
}
"""How bad what is found is, by its kind."""
_ORDER = ("critical", "high", "medium")


class TooLarge(Exception):
    """What is packed grows beyond all bounds."""


class Scan:
    """The findings of the files of one version, and how much was unpacked for them."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self._grown_bytes = 0

    def add(self, kind: str, path: str, detail: str) -> None:
        """Each once; beyond MOST_FINDINGS only that there are more."""
        finding = Finding(kind, SEVERITY[kind], path[:1000], detail[:500])
        if finding in self.findings:
            return
        if len(self.findings) >= MOST_FINDINGS:
            finding = Finding("too-many", SEVERITY["too-many"], "", f"there are more than {MOST_FINDINGS} findings")
            if finding in self.findings:
                return
        self.findings.append(finding)

    def worst_first(self) -> list[Finding]:
        return sorted(self.findings, key=lambda finding: _ORDER.index(finding.severity))

    def scan(self, path: str, local: Path) -> None:
        """A file of the version."""
        try:
            with local.open("rb") as file:
                self._look(path, file, local.stat().st_size, 0)
        except TooLarge as reason:
            self.add("archive-bomb", path, str(reason))

    def _look(self, path: str, file: IO[bytes], size_bytes: int, depth: int) -> None:
        start = _start(file, 512)
        for magic, what in EXECUTABLE:
            if start.startswith(magic) and not (magic == b"MZ" and b"\0" not in start):
                self.add("executable", path, f"the file is {what}")
        for magic, what in CLOSED:
            if start.startswith(magic):
                self.add("archive-unreadable", path, f"the file is packed as {what}, which is not looked into")
        if start.startswith(b"\x93NUMPY"):
            self._look_at_array(path, file)
        elif start.startswith(b"\x89HDF\r\n"):
            self._search(path, file, _LAMBDA, "keras-lambda", "the Keras model has a Lambda layer, which is Python code")
        elif start.lstrip()[:1] in (b"{", b"[") and size_bytes <= JSON_BYTES:
            self._look_at_json(path, file)
        if path.endswith("saved_model.pb"):
            self._search(
                path, file, _TF_OPERATORS, "tensorflow-operator", "the TensorFlow graph has an operator that reads files or runs Python"
            )
        self._look_for_pickle(path, file, start)
        self._look_inside(path, file, start, size_bytes, depth)

    def _look_at_array(self, path: str, file: IO[bytes]) -> None:
        file.seek(0)
        try:
            version = npy.read_magic(file)
            read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            if read(file)[2].hasobject:
                self.add("pickle", path, "the file is a NumPy array of Python objects, which is a pickle")
        except Exception:  # the header is Python text, and its parser has errors of many kinds
            self.add("archive-unreadable", path, "the file begins like a NumPy array and is none")

    def _look_at_json(self, path: str, file: IO[bytes]) -> None:
        file.seek(0)
        try:
            document = json.load(file)
        except (ValueError, RecursionError):
            return
        if any(value in ("Lambda", "__lambda__") for value in _values_of(document, "class_name")):
            self.add("keras-lambda", path, "the Keras model has a Lambda layer, which is Python code")

    def _search(self, path: str, file: IO[bytes], pattern: re.Pattern[bytes], kind: str, detail: str) -> None:
        file.seek(0)
        tail = b""
        while block := file.read(_BLOCK):
            if pattern.search(tail + block):
                self.add(kind, path, detail)
                return
            tail = block[-100:]

    def _look_for_pickle(self, path: str, file: IO[bytes], start: bytes) -> None:
        marked = len(start) > 1 and start[0] == 0x80 and start[1] <= 5
        if not marked and not _runs_as_pickle(file):
            return
        self.add("pickle", path, "the file is a Python pickle, which can run code")
        file.seek(0)
        try:
            found = scan_pickle_bytes(io.BytesIO(file.read(TAKEN_APART_BYTES)), path).globals
        except Exception as error:  # whatever a stranger's bytes do to the parser; the pickle is a finding already
            self.add("pickle-import", path, f"the pickle hides what it imports: {type(error).__name__}")
            return
        for bad in sorted({f"{each.module}.{each.name}" for each in found if each.safety is SafetyLevel.Dangerous})[:10]:
            self.add("pickle-import", path, f"the pickle imports {bad}")

    def _look_inside(self, path: str, file: IO[bytes], start: bytes, size_bytes: int, depth: int) -> None:
        opener = _opener(file, start)
        if opener is None:
            if start.startswith(_ZIP):
                self.add("archive-unreadable", path, "the file begins like a ZIP archive and is none that can be read")
            return
        if depth >= DEPTH:
            self.add("archive-unreadable", path, f"archives are nested deeper than {DEPTH}")
            return
        if opener is _in_zip and not start.startswith(_ZIP):
            self.add("polyglot", path, "the file begins as something else and is a ZIP archive too")
        file.seek(0)
        self._grown_bytes -= size_bytes
        try:
            members = opener(file, lambda kind, name, detail: self.add(kind, f"{path}!{name}" if name else path, detail))
            for name, member in members:
                with tempfile.SpooledTemporaryFile(max_size=16 * _BLOCK) as copy:
                    unpacked_bytes = self._copy(member, copy)
                    self._look(f"{path}!{name}" if name else path, copy, unpacked_bytes, depth + 1)
        except _NO_ARCHIVE as error:
            self.add("archive-unreadable", path, f"the archive cannot be read to its end: {' '.join(str(error).split())[:200]}")

    def _copy(self, member: IO[bytes], copy: Any) -> int:
        """The size of the member, written to ``copy``. Raises: TooLarge."""
        unpacked_bytes = 0
        while block := member.read(_BLOCK):
            unpacked_bytes += len(block)
            if self._grown_bytes + unpacked_bytes > GROWTH_BYTES:
                raise TooLarge(f"unpacked, it is more than {GROWTH_BYTES // 2**20} MiB larger than packed")
            copy.write(block)
        self._grown_bytes += unpacked_bytes
        return unpacked_bytes


Tell = Callable[[str, str, str], None]
Members = Iterator[tuple[str, IO[bytes]]]


def _start(file: IO[bytes], size_bytes: int) -> bytes:
    file.seek(0)
    return file.read(size_bytes)


def _values_of(document: Any, key: str) -> Iterator[Any]:
    stack = [document]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            if key in value:
                yield value[key]
            stack.extend(value.values())
        elif isinstance(value, list):
            stack.extend(value)


def _runs_as_pickle(file: IO[bytes]) -> bool:
    """Whether the file, which has no mark of a protocol, would import and call something were it unpickled: the first pickle in it, or one behind."""
    file.seek(0)
    counted = 0
    while counted < MOST_OPCODES:
        imported, before = False, counted
        try:
            for opcode, argument, _ in pickletools.genops(file):
                counted += 1
                if opcode.name in ("GLOBAL", "INST") and not _IMPORTABLE.fullmatch(str(argument)):
                    return False
                imported = imported or opcode.name in _IMPORTING
                if imported and opcode.name in _CALLING | {"STOP"}:
                    return True
                if counted >= MOST_OPCODES:
                    break
        except (ValueError, OverflowError, MemoryError, IndexError, AttributeError):
            return False
        if counted == before:
            return False
    return True


def _opener(file: IO[bytes], start: bytes) -> Callable[[IO[bytes], Tell], Members] | None:
    file.seek(0)
    if zipfile.is_zipfile(file):
        try:
            file.seek(0)
            zipfile.ZipFile(file).close()
            return _in_zip
        except _NO_ZIP:
            return None  # a signature in the middle of weights
    file.seek(0)
    if start.startswith(tuple(magic for magic, _ in _STREAMS)) or _is_zlib(start):
        return _in_stream
    return _in_tar if start[257:262] == b"ustar" or _is_old_tar(file) else None


def _is_zlib(start: bytes) -> bool:
    """As joblib packs: a header whose check fits (RFC 1950), and data that can be unpacked."""
    if len(start) < 2 or start[0] != 0x78 or int.from_bytes(start[:2], "big") % 31:
        return False
    try:
        return bool(zlib.decompressobj().decompress(start, 64))
    except zlib.error:
        return False


def _is_old_tar(file: IO[bytes]) -> bool:
    block = _start(file, 512)
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def _in_zip(file: IO[bytes], tell: Tell) -> Members:
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        if len(entries) > MOST_MEMBERS:
            raise ValueError(f"it has more than {MOST_MEMBERS} members")
        seen: set[str] = set()
        for entry in entries:
            _check_member(entry.orig_filename, seen, tell)
            if stat.S_ISLNK(entry.external_attr >> 16):
                tell("archive-link", entry.filename, "the member is a symbolic link")
            elif entry.flag_bits & 1:
                tell("archive-unreadable", entry.filename, "the member is encrypted")
            elif not entry.is_dir() or entry.file_size:
                with archive.open(entry) as member:
                    yield entry.filename, member


def _in_tar(file: IO[bytes], tell: Tell) -> Members:
    with tarfile.open(fileobj=file, mode="r:") as archive:
        seen: set[str] = set()
        for number, entry in enumerate(archive):
            if number >= MOST_MEMBERS:
                raise ValueError(f"it has more than {MOST_MEMBERS} members")
            _check_member(entry.name, seen, tell)
            if entry.issym() or entry.islnk():
                tell("archive-link", entry.name, f"the member is a link to '{entry.linkname[:200]}'")
            elif entry.isdev():
                tell("archive-link", entry.name, "the member is a device")
            elif entry.isfile() and (member := archive.extractfile(entry)):
                with member:
                    yield entry.name, member


def _in_stream(file: IO[bytes], _tell: Tell) -> Members:
    start = _start(file, 6)
    file.seek(0)
    unpack = next((unpack for magic, unpack in _STREAMS if start.startswith(magic)), lambda packed: io.BufferedReader(_Inflating(packed)))
    yield "", unpack(file)


class _Inflating(io.RawIOBase):
    """Reads a zlib stream."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._inflate = file, zlib.decompressobj()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._inflate.eof:
            packed = self._inflate.unconsumed_tail or self._file.read(_BLOCK)
            if data := self._inflate.decompress(packed, len(buffer)):
                buffer[: len(data)] = data
                return len(data)
            if not packed:
                raise EOFError("the zlib stream is cut off")
        return 0


def _check_member(name: str, seen: set[str], tell: Tell) -> None:
    plain = name.replace("\\", "/")
    if plain.startswith("/") or re.match(r"[A-Za-z]:", plain) or ".." in plain.split("/") or "\0" in plain:
        tell("archive-path", name.replace("\0", "\\0"), "the member's path leads out of the archive")
    key = posixpath.normpath(plain).casefold()
    if key in seen:
        tell("archive-duplicate", name.replace("\0", "\\0"), "two members have this name, and readers differ in which they take")
    seen.add(key)
