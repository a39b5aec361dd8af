"""What in a file could run code or lead out of it, whatever coat it wears; and nothing of it is unpickled or extracted."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import pickle
import random
import stat
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save

from actors.modelhub import scanning
from actors.modelhub.scanning import MOST_FINDINGS, Scan
from tests.modelhub.test_inspection import Trap
from tests.support.onnx_models import linear

pytestmark = pytest.mark.plain


class Evil:
    """Imports what picklescan knows to be bad."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return (eval, ("1/0",))


PICKLE = pickle.dumps(Evil())


def zipped(members: Mapping[str, bytes] | list[tuple[str, bytes]], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in members.items() if isinstance(members, Mapping) else members:
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return buffer.getvalue()


def tarred(*entries: tuple[tarfile.TarInfo, bytes], format: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as archive:
        for entry, data in entries:
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def old_tar() -> bytes:
    """As tar wrote before POSIX: without its mark."""
    data = bytearray(tarred((member("a"), PICKLE), format=tarfile.USTAR_FORMAT))
    data[257:265], data[148:156] = bytes(8), b" " * 8
    data[148:156] = b"%06o\x00 " % sum(data[:512])
    return bytes(data)


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, link
    return entry


def linked_zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        entry = zipfile.ZipInfo("weights")
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(entry, "/etc/passwd")
    return buffer.getvalue()


def torch_saved() -> bytes:
    buffer = io.BytesIO()
    torch.save({"w": torch.ones(2)}, buffer)
    return buffer.getvalue()


def array(*values: object) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array(values, dtype=object))
    return buffer.getvalue()


def other_name_inside() -> bytes:
    """The local header has another name than the directory: Python's zipfile stumbles, other readers do not."""
    data = bytearray(zipped({"data.pkl": PICKLE}, zipfile.ZIP_STORED))
    data[data.index(b"data.pkl")] ^= 1
    return bytes(data)


def encrypted() -> bytes:
    data = bytearray(zipped({"data.pkl": PICKLE}, zipfile.ZIP_STORED))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset] |= 1
    return bytes(data)


def nested(depth: int) -> bytes:
    data = PICKLE
    for _ in range(depth):
        data = zipped({"inner.zip": data})
    return data


def keras(**layer: object) -> bytes:
    return json.dumps({"class_name": "Sequential", "config": {"layers": [{"class_name": "Dense"}, layer]}}).encode()


COATS: dict[str, tuple[bytes, str]] = {
    "plain": (PICKLE, "m"),
    **{f"protocol {protocol}": (pickle.dumps(Evil(), protocol=protocol), "m") for protocol in range(6)},
    "data first, of protocol 0": (pickle.dumps(1, protocol=0) + pickle.dumps(Evil(), protocol=0), "m"),
    "broken off behind the call": (pickle.dumps(Evil(), protocol=0)[:-1] + b"\xff\xff", "m"),
    "torch.save": (torch_saved(), "m!archive/data.pkl"),
    "zip": (zipped({"a/b.dat": PICKLE}), "m!a/b.dat"),
    "zip in zip in zip": (nested(3), "m!inner.zip!inner.zip!inner.zip"),
    "tar": (tarred((member("a"), PICKLE)), "m!a"),
    "old tar": (old_tar(), "m!a"),
    "tar.gz": (gzip.compress(tarred((member("a"), PICKLE))), "m!a"),
    "tar.bz2": (bz2.compress(tarred((member("a"), PICKLE))), "m!a"),
    "tar.xz": (lzma.compress(tarred((member("a"), PICKLE))), "m!a"),
    "gzip": (gzip.compress(PICKLE), "m"),
    "zlib, as joblib": (zlib.compress(PICKLE * 100), "m"),
    "array of objects": (array(Evil()), "m"),
    "npz": (zipped({"x.npy": array(1)}), "m!x.npy"),
}
OTHERS: dict[str, tuple[bytes, str]] = {
    "zip that climbs": (zipped({"../../etc/cron.d/x": b"a"}), "archive-path"),
    "zip of an absolute path": (zipped({"/etc/passwd": b"a"}), "archive-path"),
    "zip of a Windows path": (zipped({"..\\x": b"a"}), "archive-path"),
    "zip of a drive": (zipped({"C:x": b"a"}), "archive-path"),
    "tar that climbs": (tarred((member("a/../../x"), b"a")), "archive-path"),
    "zip with a link": (linked_zip(), "archive-link"),
    "tar with a link": (tarred((member("a", tarfile.SYMTYPE, "/etc"), b"")), "archive-link"),
    "tar with a hard link": (tarred((member("a", tarfile.LNKTYPE, "/etc/passwd"), b"")), "archive-link"),
    "tar with a device": (tarred((member("a", tarfile.CHRTYPE), b"")), "archive-link"),
    "zip with a name twice": (zipped([("a", b"1"), ("a", b"2")]), "archive-duplicate"),
    "zip with a name twice but for its case": (zipped([("a/B", b"1"), ("a/./b", b"2")]), "archive-duplicate"),
    "tar with a name twice": (tarred((member("a"), b"1"), (member("./a"), b"2")), "archive-duplicate"),
    "zip behind a picture": (b"\x89PNG\r\n\x1a\n" + zipped({"a": b"1"}), "polyglot"),
    "zip with two names of one member": (other_name_inside(), "archive-unreadable"),
    "encrypted zip": (encrypted(), "archive-unreadable"),
    "zip cut off": (zipped({"a": bytes(100)})[:-30], "archive-unreadable"),
    "zip too deep": (nested(8), "archive-unreadable"),
    "gzip cut off": (gzip.compress(random.Random(1).randbytes(5000))[:2000], "archive-unreadable"),
    "7z": (b"7z\xbc\xaf\x27\x1c" + bytes(50), "archive-unreadable"),
    "Zstandard": (b"\x28\xb5\x2f\xfd" + bytes(50), "archive-unreadable"),
    "executable": (b"\x7fELF" + bytes(50), "executable"),
    "executable of Windows": (b"MZ\x90\x00" + bytes(50), "executable"),
    "script": (b"#!/bin/sh\nrm -rf /\n", "executable"),
    "Keras layer": (zipped({"config.json": keras(class_name="Lambda")}), "keras-lambda"),
    "Keras layer in JSON escapes": (keras(class_name="X").replace(b'"X"', b'"L\\u0061mbda"'), "keras-lambda"),
    "Keras layer in HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(2**20 - 20) + keras(class_name="Lambda"), "keras-lambda"),
}  # fmt: skip
HARMLESS = {
    "onnx": linear(),
    "safetensors": save({"w": np.ones(9, dtype=np.float32)}),
    "text": b"catalogue of digits\ncomes from\nReal people.\n",
    "more text": b".\n.\n.\n",
    "json": b'{"class_name": "Dense", "labels": ["Lambda"]}',
    "csv": b"MZ,name\n1,x\n",
    "picture": b"\x89PNG\r\n\x1a\n" + bytes(100),
    "array": (lambda buffer: (np.save(buffer, np.ones(3)), buffer.getvalue())[1])(io.BytesIO()),
    "x^2": b"x^2 + 1\n",
    "zip of text": zipped({"a.txt": b"one", "b/": b"", "b/c.txt": b"two"}),
    "empty": b"",
    "noise": random.Random(3).randbytes(100_000),
}  # fmt: skip


def findings(tmp_path: Path, data: bytes) -> dict[str, set[str]]:
    """Paths by kind."""
    (tmp_path / "m").write_bytes(data)
    scan = Scan()
    scan.scan("m", tmp_path / "m")
    found: dict[str, set[str]] = {}
    for each in scan.findings:
        assert each.severity == scanning.SEVERITY[each.kind] and each.detail
        found.setdefault(each.kind, set()).add(each.path)
    return found


class TestPickle:
    @pytest.mark.parametrize(("data", "where"), COATS.values(), ids=COATS)
    def test_is_found_in_every_coat(self, tmp_path: Path, data: bytes, where: str) -> None:
        assert where in findings(tmp_path, data)["pickle"]

    def test_that_imports_what_is_known_to_be_bad_is_worse(self, tmp_path: Path) -> None:
        (tmp_path / "m").write_bytes(zipped({"innocent.txt": PICKLE}))
        scan = Scan()
        scan.scan("m", tmp_path / "m")
        worst = scan.worst_first()[0]
        assert (worst.kind, worst.severity, worst.path) == ("pickle-import", "critical", "m!innocent.txt") and "eval" in worst.detail


class TestOthers:
    @pytest.mark.parametrize(("data", "kind"), OTHERS.values(), ids=OTHERS)
    def test_are_found(self, tmp_path: Path, data: bytes, kind: str) -> None:
        assert kind in findings(tmp_path, data)

    @pytest.mark.parametrize("data", HARMLESS.values(), ids=HARMLESS)
    def test_what_is_harmless_is_left_alone(self, tmp_path: Path, data: bytes) -> None:
        assert findings(tmp_path, data) == {}

    def test_tensorflow_reading_files(self, tmp_path: Path) -> None:
        (tmp_path / "m").write_bytes(b"\x08\x01\x12\x08ReadFile\x1a\x02")
        scan = Scan()
        scan.scan("model/saved_model.pb", tmp_path / "m")
        assert [found.kind for found in scan.findings] == ["tensorflow-operator"]

    @pytest.mark.parametrize(
        "packed", [lambda data: zipped({"a": data}), gzip.compress, zlib.compress, lambda data: gzip.compress(zipped({"a": data}))]
    )
    def test_a_bomb_is_not_unpacked_to_its_end(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: Callable[[bytes], bytes]
    ) -> None:
        monkeypatch.setattr(scanning, "GROWTH_BYTES", 5 * 2**20)
        assert "archive-bomb" in findings(tmp_path, packed(bytes(20 * 2**20)))

    def test_what_is_stored_as_it_is_is_no_bomb(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(scanning, "GROWTH_BYTES", 2**20)
        noise = random.Random(5).randbytes(2**20)
        assert findings(tmp_path, zipped({str(n): noise for n in range(5)}, zipfile.ZIP_STORED)) == {}

    def test_a_flood_of_findings_is_cut_and_said_to_be(self, tmp_path: Path) -> None:
        found = findings(tmp_path, zipped({f"{n}": pickle.dumps(n) for n in range(MOST_FINDINGS + 50)}))
        assert len(found["pickle"]) == MOST_FINDINGS and "too-many" in found


class TestDamage:
    """Whatever bytes come, there is an answer, and nothing is unpickled on the way to it."""

    def test_1000_damaged_files_are_looked_at(self, tmp_path: Path) -> None:
        unpickled: list[str] = []
        sys.addaudithook(lambda event, _: unpickled.append(event) if event in {"pickle.find_class", "marshal.loads"} and watching else None)
        watching = True
        pickle.loads(pickle.dumps(Trap))
        assert unpickled.pop() == "pickle.find_class", "the detector detects"
        goods = [data for data, _ in (*COATS.values(), *OTHERS.values()) if len(data) < 50_000]
        dice, found = random.Random(7), 0
        for _ in range(1000):
            data = bytearray(dice.choice(goods))
            for _ in range(dice.randint(1, 4)):
                place = dice.randrange(len(data))
                if dice.random() < 0.5:
                    data[place] = dice.randrange(256)
                else:
                    data[place:place] = dice.randbytes(dice.randrange(1, 9))
            found += bool(findings(tmp_path, bytes(data)))
        watching = False
        assert found > 500 and not unpickled
