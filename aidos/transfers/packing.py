"""Packs a code directory into the same bytes each time, so that unchanged code is uploaded once."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pathspec import GitIgnoreSpec

from aidos.errors import InvalidPayload, PayloadTooLarge
from aidos.schemas.trainos import MAX_CODE_BYTES

MAX_FILES = 20_000
IGNORE_FILES = (".gitignore", ".aidosignore")
_ALWAYS = (".git/", "__pycache__/", "*.pyc", ".venv/", ".DS_Store")
_EPOCH = (1980, 1, 1, 0, 0, 0)


class CodeNotPackable(InvalidPayload):
    """The directory has something that cannot be sent."""

    title = "Code cannot be packed"
    detail = "{path}: {reason}"


class CodeTooLarge(PayloadTooLarge):
    """More code than a job takes along."""

    title = "Code is too large"
    detail = "The code in {path} packs to {size_bytes} bytes; {limit_bytes} is the limit. Leave data out by .aidosignore, and push it as a dataset."


@dataclass(frozen=True)
class Package:
    """A packed directory."""

    content: bytes
    sha256: str
    files: int


def pack(folder: Path) -> Package:
    """Zip the files below ``folder``, without what .gitignore and .aidosignore name.

    Raises: CodeNotPackable for what is no directory and for a link that leads outside, CodeTooLarge.
    """
    if not folder.is_dir():
        raise CodeNotPackable(path=folder, reason="it is not a directory; name the one that holds the code")
    root = folder.resolve()
    buffer = io.BytesIO()
    count = 0
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as package:
        for name, path in sorted(_files(root)):
            count += 1
            if count > MAX_FILES:
                raise CodeNotPackable(path=folder, reason=f"more than {MAX_FILES} files; leave data out by .aidosignore")
            _add(package, name, path)
            if buffer.tell() > MAX_CODE_BYTES:
                raise CodeTooLarge(path=folder, size_bytes=buffer.tell(), limit_bytes=MAX_CODE_BYTES)
    content = buffer.getvalue()
    return Package(content, hashlib.sha256(content).hexdigest(), count)


def _add(package: zipfile.ZipFile, name: str, path: Path) -> None:
    try:
        info = zipfile.ZipInfo(name, _EPOCH)
        info.compress_type = zipfile.ZIP_DEFLATED
        info.external_attr = (0o100755 if os.access(path, os.X_OK) else 0o100644) << 16
        # A file that alone is over the limit need not be read into memory to be refused.
        if (size := path.stat().st_size) > MAX_CODE_BYTES * 20:
            raise CodeTooLarge(path=path, size_bytes=size, limit_bytes=MAX_CODE_BYTES)
        package.writestr(info, path.read_bytes())
    except (OSError, UnicodeError) as error:
        raise CodeNotPackable(path=repr(name), reason=str(error)) from error


def _files(root: Path) -> Iterator[tuple[str, Path]]:
    ignored = GitIgnoreSpec.from_lines(_ALWAYS)
    for current, folders, names in os.walk(root):
        here = Path(current)
        prefix = "" if here == root else here.relative_to(root).as_posix() + "/"
        ignored = ignored + _patterns(here, prefix)
        folders[:] = [name for name in folders if not ignored.match_file(f"{prefix}{name}/") and not _is_foreign_link(root, here / name)]
        for name in names:
            path = here / name
            if ignored.match_file(prefix + name) or not (path.is_file() or path.is_symlink()):
                continue
            if _is_foreign_link(root, path):
                raise CodeNotPackable(
                    path=prefix + name, reason="a link that leads out of the directory; copy the file, or ignore the link"
                )
            yield PurePosixPath(prefix + name).as_posix(), path


def _is_foreign_link(root: Path, path: Path) -> bool:
    """Links inside the directory become copies of what they name; a linked directory is never walked."""
    return path.is_symlink() and (path.is_dir() or not path.exists() or not path.resolve().is_relative_to(root))


def _patterns(folder: Path, prefix: str) -> GitIgnoreSpec:
    lines: list[str] = []
    for name in IGNORE_FILES:
        path = folder / name
        if path.is_file() and not path.is_symlink():
            lines += [_anchored(line, prefix) for line in path.read_text(errors="replace").splitlines()]
    return GitIgnoreSpec.from_lines(lines)


def _anchored(line: str, prefix: str) -> str:
    """A pattern of a nested ignore file as one of the root (gitignore(5): patterns are relative to their file)."""
    if not prefix or not line.strip() or line.startswith("#"):
        return line
    negated, pattern = ("!", line[1:]) if line.startswith("!") else ("", line)
    inner = pattern.rstrip("/")
    return f"{negated}/{prefix}{pattern.lstrip('/')}" if "/" in inner else f"{negated}/{prefix}**/{pattern}"
