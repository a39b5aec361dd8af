"""``aidos.push`` and ``aidos.pull``: a directory becomes a commit, a commit becomes a directory.

Both can be interrupted at any moment and repeated: what is there already is found by its SHA-256 and skipped.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from aidos.client import Client
from aidos.config import cache_directory
from aidos.errors import Conflict, InvalidRequest, NotFound
from aidos.schemas.dataforge.versions import CommitRead, FileAdd, FileRead
from aidos.transfers.downloading import Downloader
from aidos.transfers.listing import keep_listing, pinned_ref, read_hashes, read_listing
from aidos.transfers.local_files import HashCache, LocalFile, walk
from aidos.transfers.uploading import Uploader

Progress = Callable[[str, int, int], None]
"""Told the stage (``hash``, ``upload``, ``download``), the bytes done and all bytes of it."""
_COMMIT_PATHS = 5000


class DirectoryEmpty(InvalidRequest):
    title = "Nothing to push"
    detail = "There is no file in {directory}. To commit an empty dataset, allow it (--allow-empty)."


@dataclass(frozen=True)
class PushResult:
    """``commit`` is the branch's head afterwards; ``changed`` whether this push made it."""

    commit: CommitRead
    changed: bool
    added: int
    updated: int
    removed: int
    uploaded_files: int
    uploaded_bytes: int


@dataclass(frozen=True)
class PullResult:
    """Files written now, and those that were there already."""

    commit: CommitRead
    written: int
    written_bytes: int
    kept: int


class Meter:
    """Adds up the bytes of a stage; threads may call it at once, a lost count corrects itself with the last."""

    def __init__(self, progress: Progress | None, stage: str, total_bytes: int) -> None:
        self._progress, self._stage, self._total, self._done = progress, stage, total_bytes, 0
        self.add(0)

    def add(self, size_bytes: int) -> None:
        self._done += size_bytes
        if self._progress:
            self._progress(self._stage, min(self._done, self._total), self._total)


def push(
    directory: str | os.PathLike[str],
    name: str,
    *,
    branch: str = "main",
    message: str = "",
    allow_empty: bool = False,
    keep: bool = False,
    client: Client | None = None,
    progress: Progress | None = None,
) -> PushResult:
    """Make the branch's head equal to ``directory``: upload what is new, commit what differs. Makes the dataset and the branch.

    ``keep``: files of the branch that the directory does not have stay.

    Raises: DirectoryUnusable, DirectoryEmpty, FileChanged, RefMoved (another push came first: push again).
    """
    with _using(client) as opened:
        local = walk(Path(directory))
        if not local and not allow_empty:
            raise DirectoryEmpty(directory=str(directory))
        meter = Meter(progress, "hash", sum(file.size_bytes for file in local))
        hashes = HashCache().hash_all(local, meter.add)
        head = _prepare(opened, name, branch)
        before = read_hashes(opened, name, head.id) if head else {}
        known = HashCache().resolve(before)
        add = [file for file in local if known.get(file.path) != hashes[file.source]]
        remove = [] if keep else sorted(before.keys() - {file.path for file in local})
        if head and not add and not remove:
            return PushResult(head, False, 0, 0, 0, 0, 0)
        contents = {hashes[file.source]: file for file in add if file.size_bytes}
        meter = Meter(progress, "upload", sum(file.size_bytes for file in contents.values()))
        uploader = Uploader(opened, name, meter.add)
        uploader.upload(contents)
        files = [FileAdd(path=file.path, sha256=hashes[file.source], size_bytes=file.size_bytes) for file in add]
        commit = _commit(opened, name, branch, message or _describe(files, remove), head, files, remove)
        contents_now = {**before, **{file.path: file.sha256 for file in files}}
        if len(contents_now) - len(remove) == len(local):  # else the sizes of those that were kept are not known here
            keep_listing(commit.id, ((file.path, contents_now[file.path], file.size_bytes) for file in local))
        added = sum(file.path not in before for file in files)
        return PushResult(commit, True, added, len(files) - added, len(remove), uploader.sent_files, uploader.sent_bytes)


def _describe(files: list[FileAdd], remove: list[str]) -> str:
    return f"Push {len(files)} files" + (f", remove {len(remove)}" if remove else "")


def _prepare(client: Client, name: str, branch: str) -> CommitRead | None:
    """The branch's head; the dataset is made if it is not there, a new branch begins at the head of main."""
    head = find_commit(client, name, branch)
    if head is None and branch != "main" and (main := find_commit(client, name, "main")):
        client.datasets.set_ref(name, branch, commit=str(main.id))
        return main
    if head is None:
        with contextlib.suppress(Conflict):  # it is there without a commit, or another push made it at the same moment
            client.datasets.create(name)
    return head


def find_commit(client: Client, name: str, ref: str) -> CommitRead | None:
    """The commit of a ref, or None."""
    try:
        return client.datasets.show(name, ref)
    except NotFound:
        return None


def _commit(
    client: Client, name: str, branch: str, message: str, head: CommitRead | None, files: list[FileAdd], remove: list[str]
) -> CommitRead:
    """One commit of all changes; many changes are stored as trees first, a piece at a time."""
    tree = head.tree if head else None
    while len(files) + len(remove) > _COMMIT_PATHS:
        # Removals go first: a path may be a file before and a folder afterwards.
        piece, remove = remove[:_COMMIT_PATHS], remove[_COMMIT_PATHS:]
        room = _COMMIT_PATHS - len(piece)
        tree = client.datasets.tree(name, base=tree, add=files[:room], remove=piece).sha256
        files = files[room:]
    parent: UUID | None = head.id if head else None
    return client.datasets.commit(name, branch=branch, message=message, parent=parent, tree=tree, add=files, remove=remove)


def pull(source: str, directory: str | os.PathLike[str], *, client: Client | None = None, progress: Progress | None = None) -> PullResult:
    """Write the files of ``NAME[@REF]`` into ``directory``; files that are there with the same content stay as they are.

    Raises: NotFound, FileDamaged, OutsideDirectory, PathBlocked.
    """
    name, ref = split_source(source)
    with _using(client) as opened:
        commit = opened.datasets.show(name, pinned_ref(name, ref))
        files = read_listing(opened, name, commit.id)
        root = Path(directory)
        root.mkdir(parents=True, exist_ok=True)
        with _alone_in(root):
            meter = Meter(progress, "download", commit.size_bytes)
            downloader = Downloader(opened, name, str(commit.id), root, meter.add)
            there = _equal_files(downloader, files)
            meter.add(sum(files[path].size_bytes for path in there))
            wanted = [file for path, file in files.items() if path not in there]
            downloader.download(wanted)
        return PullResult(commit, len(wanted), sum(file.size_bytes for file in wanted), len(there))


@contextlib.contextmanager
def _alone_in(root: Path) -> Iterator[None]:
    """Let the workers of one machine pull into the same directory one after the other: the second finds all there."""
    name = hashlib.sha256(os.fsencode(os.path.realpath(root))).hexdigest()[:32]
    folder = cache_directory() / "locks"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(folder / name, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def split_source(source: str) -> tuple[str, str]:
    """``digits@v1`` is dataset and ref; the ref is main where none is named."""
    name, _, ref = source.partition("@")
    return name, ref or "main"


def _equal_files(downloader: Downloader, files: dict[str, FileRead]) -> set[str]:
    """Paths that are there with the right content. Every target is looked at first, so that a pull is refused as a whole."""
    wanted = HashCache().resolve({path: file.sha256 for path, file in files.items()})
    candidates = []
    for path, file in files.items():
        target = downloader.target(path)
        if target.is_symlink() or not target.is_file():
            continue
        info = target.stat()
        if info.st_size == file.size_bytes:
            candidates.append(LocalFile(path, str(target), info.st_size, info.st_mtime_ns, info.st_ino))
    hashes = HashCache().hash_all(candidates)
    return {file.path for file in candidates if hashes[file.source] == wanted[file.path]}


@contextlib.contextmanager
def _using(client: Client | None) -> Iterator[Client]:
    if client is not None:
        yield client
        return
    with Client() as opened:
        yield opened
