"""Strings and archives that try to leave their place, made by code in the same order each time."""

from __future__ import annotations

import io
import itertools
import stat
import struct
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass

STRINGS = 5000
ARCHIVES = 200
LINK_OUT = "link-out"
"""A name that tests make a symbolic link to a folder outside."""

_UPS = (
    "../", "..\\", "..//", "./../", "..;/", "....//", "...\\.\\", "%2e%2e/", "%2e%2e%2f", "..%2f", "..%5c", "%252e%252e%252f", "..%252f",
    "..%c0%af", "%c0%ae%c0%ae/", "..%e0%80%af", "..%u2215", "..\u2215", "..\u2044", "..\uff0f", "\uff0e\uff0e/", "\u2025/", "\u2024\u2024/",
    "..\x00/", "..\t/", ".. /", "..\u200b/", "..\udcaf", "x/../../", LINK_OUT + "/../", LINK_OUT + "/",
)  # fmt: skip
_HEADS = (
    "",
    "/",
    "//",
    "\\\\host\\share\\",
    "C:\\",
    "c:/",
    "file:///",
    "file:",
    "~/",
    "./",
    "a/",
    "a/b/",
    "%2f",
    "\x00",
    "#",
    "?x=",
    "s3://other/",
)
_TAILS = (
    "canary",
    "etc/passwd",
    ".",
    "..",
    "",
    "canary\x00.txt",
    "canary%00.txt",
    "canary/.",
    "canary#x",
    "canary?x",
    "canary...",
    "NUL",
    "a:b",
)
_DEPTHS = (1, 2, 3, 8, 40, 400)
_SINGLE = (
    "", ".", "..", "/", "//", "\\", "~", "~root", "*", "a/", "/a", "a//b", "a/./b", "a/..", "a/b/../c", " ", "a\n", "\x7f", "\u202etxt.exe",
    "e\u0301", "\udc80", "CON", "aux.txt", "a" * 255, "a" * 256, "a/" * 500 + "b", "\u00e9" * 512, "f" * 63, "F" * 64, "f" * 64 + "\n",
    "f" * 64 + "/../x", LINK_OUT, "proc/self/root/etc/passwd", "/proc/self/cwd/../x", "/dev/null", "a" * 20_000,
)  # fmt: skip


def strings() -> list[str]:
    """``STRINGS`` distinct ones: the singular ones, then head x ups x depth x tail with even steps through them all."""
    mixed = [
        head + up * depth + tail
        for depth, head, up, tail in itertools.product(_DEPTHS, _HEADS, _UPS, _TAILS)
    ]  # fmt: skip
    step = 7  # shares no factor with the lengths above, so that every head meets every tail
    stepped = (mixed[number * step % len(mixed)] for number in range(len(mixed)))
    distinct = dict.fromkeys(itertools.chain(_SINGLE, stepped))
    return list(itertools.islice(distinct, STRINGS))


def sample(count: int) -> list[str]:
    """Every n-th of them, the singular ones first."""
    found = strings()
    rest = found[len(_SINGLE) :]
    wanted = count - len(_SINGLE)
    return [*_SINGLE, *rest[:: len(rest) // wanted][:wanted]]


@dataclass(frozen=True)
class Archive:
    """A zip file; ``refused`` where the platform must say no before anything unpacks it."""

    what: str
    content: bytes
    refused: bool


def archives() -> list[Archive]:
    """``ARCHIVES`` of them."""
    found = [*_leaving(), *_special(), *_sizes(), *_broken(), *_harmless()]
    assert len(found) >= ARCHIVES, len(found)
    return found[:ARCHIVES]


def zip_with(*members: tuple[str, bytes] | tuple[zipfile.ZipInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as package, warnings.catch_warnings(action="ignore", category=UserWarning):
        for name, content in members:
            info = name if isinstance(name, zipfile.ZipInfo) else zipfile.ZipInfo("x")
            if isinstance(name, str):
                info.filename = name  # as it is: the constructor would cut it at NUL
            package.writestr(info, content)
    return buffer.getvalue()


def _leaving() -> Iterator[Archive]:
    """Names that are absolute, climb, or hold a backslash."""
    ups = ("../", "a/../../", "./../", "..//", "a/b/../../../", "../" * 40, "/", "//", "///../", "..\\", "C:\\", "\\\\host\\share\\", "\\")
    for up, tail in itertools.product(ups, ("canary", "etc/cron.d/x", "a/b/c", "tmp/x.py")):
        yield Archive(f"name {up}{tail}", zip_with(("main.py", b"good"), (up + tail, b"evil")), refused=True)
    for name in ("..", "../", "/", ".", "./", "a/..", "a/../..", "/.", "/..", "../."):
        yield Archive(f"name {name}", zip_with((name, b"evil")), refused=True)


def _special() -> Iterator[Archive]:
    """Symbolic links, followed or not by a file below them, and other entries that are no plain files."""
    for target, name in itertools.product(
        ("/", "/etc/passwd", "..", "../canary", "../../..", ".", "main.py"), ("link", "a/link", "main.py/l")
    ):
        link = _entry(name, stat.S_IFLNK | 0o777)
        yield Archive(f"link {name} to {target}", zip_with((link, target.encode()), (f"{name}/canary", b"evil")), refused=True)
    for kind in (stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK):
        for name in ("device", "a/device", "main.py", "..device"):
            yield Archive(f"kind {kind:o} {name}", zip_with((_entry(name, kind | 0o666), b"")), refused=True)
    for name in ("tune.py", "tune/worker.py", "ray.py", "ray/__init__.py", "./tune/x.py", ".//ray.py"):
        yield Archive(f"hides {name}", zip_with((name, b"evil")), refused=True)


def _entry(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, mode << 16
    return info


def _sizes() -> Iterator[Archive]:
    """Sizes that are declared huge, or small where much comes; and too many files."""
    honest = zip_with(("bomb", b"0" * 100_000))
    for declared in (500_000_001, 2**30, 2**31, 2**32 - 2):
        yield Archive(f"declares {declared}", _patched(honest, 24, struct.pack("<I", declared)), refused=True)
    for declared in (0, 1, 10, 99_999):
        yield Archive(f"declares only {declared}", _patched(honest, 24, struct.pack("<I", declared)), refused=False)
    many = [(f"f{number}", b"0" * 60) for number in range(4)]
    for declared in (130_000_000, 2**31):
        content = zip_with(*many)
        for number in range(4):
            content = _patched(content, 24, struct.pack("<I", declared), number)
        yield Archive(f"four of {declared}", content, refused=True)
    yield Archive("too many files", zip_with(*((f"{number}", b"") for number in range(20_001))), refused=True)


def _patched(content: bytes, offset: int, data: bytes, number: int = 0) -> bytes:
    """The ``number``-th record of the central directory changed at ``offset`` (APPNOTE.TXT 4.3.12)."""
    at = -1
    for _ in range(number + 1):
        at = content.index(b"PK\x01\x02", at + 1)
    return content[: at + offset] + data + content[at + offset + len(data) :]


def _broken() -> Iterator[Archive]:
    """Files that are no zip, are cut short, or whose directory says what cannot be."""
    good = zip_with(("main.py", b"print(1)" * 50), ("lib/a.py", b"x = 1"))
    for length in (0, 1, 4, 30, 100, len(good) // 2, len(good) - 22, len(good) - 1):
        yield Archive(f"cut to {length}", good[:length], refused=True)
    for version in (64, 99, 255):
        yield Archive(f"version {version}", _patched(good, 6, struct.pack("<H", version)), refused=True)
    utf8 = _patched(zip_with(("nameXX.py", b"")), 8, struct.pack("<H", 0x800))
    for bad in (b"\xff\xfe", b"\xc0\xaf", b"\xed\xb0"):
        yield Archive(f"name of bytes {bad!r}", utf8.replace(b"nameXX", b"name" + bad), refused=True)
    for flag in (0x1, 0x20, 0x40):
        yield Archive(f"flag {flag:x}", _patched(good, 8, struct.pack("<H", flag)), refused=False)
    for method in (1, 6, 97):
        yield Archive(f"method {method}", _patched(good, 10, struct.pack("<H", method)), refused=False)
    climbing = zip_with(("aa/bb/ccc", b"evil"))
    at = climbing.index(b"aa/bb/ccc")
    yield Archive("local name climbs", climbing[:at] + b"../../ccc" + climbing[at + 9 :], refused=False)
    yield Archive("name cut at NUL", zip_with(("a?../../canary", b"evil")).replace(b"a?..", b"a\x00.."), refused=False)


def _harmless() -> Iterator[Archive]:
    """Odd, but inside: it may be unpacked, or fail to."""
    devices = (
        "CON",
        "con.txt",
        "NUL",
        "aux",
        "COM1",
        "LPT9.py",
        "dev/null",
        "proc/self/mem",
        "C:x",
        "a:b",
        "file:x",
        "~",
        "~root/x",
        "$HOME/x",
    )
    for name in (
        *devices,
        "%2e%2e/x",
        "..%2fx",
        "\uff0e\uff0e/x",
        "..\u2215x",
        "...",
        ".../x",
        "..a",
        "a ",
        "-rf",
        "*",
        "a\nb",
        "a//b",
        "./a",
    ):
        yield Archive(f"name {name}", zip_with((name, b"odd")), refused=False)
    for first, second in (("a", "A"), ("main.py", "MAIN.PY"), ("lib/a", "LIB/a"), ("\u00e9", "e\u0301"), ("ss", "\u00df")):
        yield Archive(f"clash {first} {second}", zip_with((first, b"1"), (second, b"2")), refused=False)
    for first, second in (("a", "a"), ("main.py", "./main.py"), ("a/b", "a//b"), ("a", "a/b"), ("a/b", "a"), ("a/", "a")):
        yield Archive(f"twice {first} {second}", zip_with((first, b"1"), (second, b"2")), refused=False)
    for depth in (10, 100, 900, 2500, 10_000):
        yield Archive(f"depth {depth}", zip_with(("d/" * depth + "x", b"deep")), refused=False)
    for length in (255, 256, 5000, 60_000):
        yield Archive(f"length {length}", zip_with(("n" * length, b"long")), refused=False)
    inner = b"inner"
    for depth in range(1, 7):
        inner = zip_with(("../canary", inner))
        yield Archive(f"inside each other {depth}", zip_with(("inner.zip", inner)), refused=False)
    for count in range(1, 40):
        pairs = [(f"same-{number % 3}", bytes([number])) for number in range(count)]
        yield Archive(f"{count} of three names", zip_with(*pairs), refused=False)
