"""Push and pull by the real client, over HTTP, PostgreSQL and SeaweedFS."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from uuid import uuid4

import pytest

from aidos.client import Client
from aidos.errors import InvalidRequest, NotFound
from aidos.transfers import uploading
from aidos.transfers.directories import DirectoryEmpty, PushResult, pull, push
from aidos.transfers.downloading import FileDamaged, OutsideDirectory, PathBlocked
from aidos.transfers.local_files import DirectoryUnusable
from cluster.objects import Objects
from data_pipelines.dataforge.errors import RefMoved
from tests.support.waiting import wait_until

pytestmark = pytest.mark.postgres
NAMES = ["a.txt", "b/c/deep.bin", "b/leer zeichen.txt", "ünï/日本語.txt", "ünï/🙂 .csv", "-dash", "b/%41?&#+.txt", "zero"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory with unusual but storable names, one of them an empty file."""
    root = tmp_path / "folder"
    for name in NAMES:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"" if name == "zero" else f"content of {name}".encode())
    (root / "no files in here").mkdir()
    return root


def content(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


class TestRoundTrip:
    def test_pull_gives_what_was_pushed(self, client: Client, folder: Path, tmp_path: Path) -> None:
        pushed = push(folder, "digits", message="first", client=client)
        assert (pushed.changed, pushed.added, pushed.uploaded_files) == (True, len(NAMES), len(NAMES) - 1)
        assert (pushed.commit.message, pushed.commit.files, pushed.commit.parent_id) == ("first", len(NAMES), None)
        pulled = pull("digits", tmp_path / "out", client=client)
        assert content(tmp_path / "out") == content(folder)
        assert (pulled.written, pulled.kept, pulled.commit) == (len(NAMES), 0, pushed.commit)
        assert [f.path for f in client.datasets.files("digits")] == sorted(NAMES)

    def test_a_second_push_says_that_nothing_changed(self, client: Client, folder: Path) -> None:
        first = push(folder, "digits", client=client)
        assert push(folder, "digits", client=client) == PushResult(first.commit, False, 0, 0, 0, 0, 0)

    def test_only_changes_are_sent(self, client: Client, folder: Path, tmp_path: Path) -> None:
        first = push(folder, "digits", client=client)
        (folder / "a.txt").write_text("new content")
        (folder / "copy.txt").write_bytes((folder / "-dash").read_bytes())
        (folder / "zero").unlink()
        second = push(folder, "digits", client=client)
        assert (second.added, second.updated, second.removed, second.uploaded_files) == (1, 1, 1, 1)
        assert second.commit.parent_id == first.commit.id
        out = tmp_path / "out"
        pull(f"digits@{first.commit.id}", out, client=client)
        pulled = pull("digits@main", out, client=client)
        assert (pulled.written, pulled.kept) == (2, len(NAMES) - 2)
        assert {k: v for k, v in content(out).items() if k != "zero"} == content(folder)
        changes = [(c.path, c.kind.value) for c in client.datasets.diff("digits", base=str(first.commit.id), head="main")]
        assert changes == [("a.txt", "changed"), ("copy.txt", "added"), ("zero", "removed")]

    @pytest.mark.parametrize("few", [0, 100], ids=["in packs", "one by one"])
    def test_sizes_of_every_way_of_travel(self, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few: int) -> None:
        monkeypatch.setattr(uploading, "_FEW", few)
        monkeypatch.setattr(uploading, "SINGLE_PUT_BYTES", 5 * 2**20)
        monkeypatch.setattr(uploading, "PACK_BYTES", 3000)
        root = tmp_path / "folder"
        root.mkdir()
        for size in (0, 1, 2999, 3000, 2**20 - 1, 2**20, 5 * 2**20, 5 * 2**20 + 1, 18 * 2**20):
            (root / f"{size}.bin").write_bytes(os.urandom(size))
        push(root, "sizes", client=client)
        pull("sizes", tmp_path / "out", client=client)
        assert content(tmp_path / "out") == content(root)

    def test_what_the_directory_has_no_more_is_removed_unless_it_is_to_be_kept(self, client: Client, folder: Path, tmp_path: Path) -> None:
        push(folder, "digits", client=client)
        before = {file.path for file in client.datasets.files("digits")}
        gone = min(before)
        (folder / gone).unlink()
        (folder / "new").write_text("new")
        kept = push(folder, "digits", keep=True, client=client)
        assert (kept.added, kept.removed) == (1, 0) and {file.path for file in client.datasets.files("digits")} == before | {"new"}
        assert not push(folder, "digits", keep=True, client=client).changed
        pull("digits", tmp_path / "out", client=client)
        assert (tmp_path / "out" / gone).exists() and (tmp_path / "out" / "new").exists()
        mirrored = push(folder, "digits", client=client)
        assert mirrored.removed == 1 and {file.path for file in client.datasets.files("digits")} == (before | {"new"}) - {gone}

    def test_a_new_branch_begins_at_main(self, client: Client, folder: Path) -> None:
        first = push(folder, "digits", client=client)
        (folder / "a.txt").write_text("changed")
        second = push(folder, "digits", branch="dev", client=client)
        assert (second.added, second.updated, second.commit.parent_id) == (0, 1, first.commit.id)
        assert client.datasets.show("digits", "main") == first.commit

    def test_many_changes_are_committed_in_pieces(self, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("aidos.transfers.directories._COMMIT_PATHS", 7)
        root = tmp_path / "folder"
        root.mkdir()
        for i in range(40):
            (root / f"{i:02}").write_text(str(i))
        first = push(root, "many", client=client)
        for i in range(30):
            (root / f"{i:02}").unlink()
        (root / "00").mkdir()  # what was a file is now a folder
        for i in range(20):
            (root / "00" / f"{i}").write_text(f"new {i}")
        second = push(root, "many", client=client)
        assert (first.commit.files, second.commit.files, second.removed) == (40, 30, 30)
        pull("many", tmp_path / "out", client=client)
        assert content(tmp_path / "out") == content(root)


class TestRefusals:
    def test_an_empty_directory_is_pushed_only_when_allowed(self, client: Client, tmp_path: Path) -> None:
        empty = tmp_path / "empty"
        empty.mkdir()
        with pytest.raises(DirectoryEmpty, match="allow-empty"):
            push(empty, "digits", client=client)
        with pytest.raises(NotFound):
            client.datasets.get("digits")
        assert push(empty, "digits", allow_empty=True, client=client).commit.files == 0
        assert pull("digits", tmp_path / "out", client=client).written == 0

    def test_what_is_not_a_directory(self, client: Client, folder: Path) -> None:
        for path in (folder / "a.txt", folder / "absent"):
            with pytest.raises(DirectoryUnusable, match="not a directory"):
                push(path, "digits", client=client)

    def test_entries_that_cannot_be_stored_are_all_named_and_nothing_is_pushed(self, client: Client, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "secret").write_text("outside")
        (folder / "leaves").symlink_to(tmp_path / "secret")
        (folder / "leaves-too").symlink_to("..")
        (folder / "broken").symlink_to("nowhere")
        (folder / "b" / "loop").symlink_to("..")
        Path(os.fsdecode(os.fsencode(folder) + b"/latin-\xe9.txt")).write_text("x")
        (folder / "line\nbreak").write_text("x")
        (folder / "e\N{COMBINING ACUTE ACCENT}").write_text("decomposed")
        (folder / "\N{LATIN SMALL LETTER E WITH ACUTE}").write_text("composed")
        os.mkfifo(folder / "pipe")
        with socket.socket(socket.AF_UNIX) as unix:
            here = os.getcwd()
            os.chdir(folder)
            unix.bind("socket")
            os.chdir(here)
            with pytest.raises(DirectoryUnusable) as refused:
                push(folder, "digits", client=client)
        text = str(refused.value)
        for name in (
            "'leaves'",
            "'leaves-too'",
            "'broken'",
            "'b/loop'",
            r"'latin-\xe9.txt'",
            "'line\nbreak'",
            "'pipe'",
            "'socket'",
            "Unicode form",
        ):
            assert name in text, name
        assert refused.value.fields["count"] == 9
        with pytest.raises(NotFound):
            client.datasets.get("digits")

    def test_a_link_inside_the_directory_is_followed(self, client: Client, folder: Path, tmp_path: Path) -> None:
        (folder / "link.txt").symlink_to("a.txt")
        (folder / "linked folder").symlink_to("b")
        push(folder, "digits", client=client)
        pull("digits", tmp_path / "out", client=client)
        assert content(tmp_path / "out") == content(folder) | {
            f"linked folder/{name.removeprefix('b/')}": (folder / name).read_bytes() for name in NAMES if name.startswith("b/")
        }

    def test_a_file_that_changes_while_it_is_pushed_is_not_committed(
        self, client: Client, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = uploading.Uploader.upload

        def change_first(self: uploading.Uploader, files: dict) -> None:  # type: ignore[type-arg]  # as in the original
            (folder / "a.txt").write_bytes(b"CONTENT OF a.txt")
            real(self, files)

        monkeypatch.setattr(uploading.Uploader, "upload", change_first)
        with pytest.raises(InvalidRequest, match="'a.txt' changed"):
            push(folder, "digits", client=client)
        assert list(client.datasets.refs("digits")) == []

    def test_of_two_writers_one_is_told_both_commits(self, client: Client, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        first = push(folder, "digits", client=client)
        barrier = threading.Barrier(2)
        real = uploading.Uploader.upload

        def upload_together(self: uploading.Uploader, files: dict) -> None:  # type: ignore[type-arg]  # as in the original
            real(self, files)
            barrier.wait(20)

        monkeypatch.setattr(uploading.Uploader, "upload", upload_together)
        results: list[PushResult | RefMoved] = []

        def write(name: str) -> None:
            other = folder.parent / name
            other.mkdir()
            (other / name).write_text(name)
            try:
                results.append(push(other, "digits", client=client))
            except RefMoved as error:
                results.append(error)

        threads = [threading.Thread(target=write, args=(name,)) for name in ("one", "two")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (won,) = [result for result in results if isinstance(result, PushResult)]
        (lost,) = [result for result in results if isinstance(result, RefMoved)]
        assert (lost.fields["expected"], lost.fields["actual"]) == (str(first.commit.id), str(won.commit.id))


class TestPull:
    def test_does_not_write_through_a_link_that_leaves(self, client: Client, folder: Path, tmp_path: Path) -> None:
        push(folder, "digits", client=client)
        outside, out = tmp_path / "outside", tmp_path / "out"
        outside.mkdir()
        out.mkdir()
        (out / "b").symlink_to(outside)
        with pytest.raises(OutsideDirectory, match="b/"):
            pull("digits", out, client=client)
        assert list(outside.iterdir()) == []

    def test_replaces_a_link_instead_of_writing_through_it(self, client: Client, folder: Path, tmp_path: Path) -> None:
        push(folder, "digits", client=client)
        victim, out = tmp_path / "victim", tmp_path / "out"
        victim.write_text("mine")
        out.mkdir()
        (out / "a.txt").symlink_to(victim)
        pull("digits", out, client=client)
        assert (victim.read_text(), (out / "a.txt").read_text()) == ("mine", "content of a.txt")

    def test_a_folder_in_the_way_is_named(self, client: Client, folder: Path, tmp_path: Path) -> None:
        push(folder, "digits", client=client)
        (tmp_path / "out" / "a.txt").mkdir(parents=True)
        with pytest.raises(PathBlocked, match=r"a\.txt"):
            pull("digits", tmp_path / "out", client=client)

    def test_repairs_what_is_broken_and_keeps_the_rest(self, client: Client, folder: Path, tmp_path: Path) -> None:
        push(folder, "digits", client=client)
        out = tmp_path / "out"
        pull("digits", out, client=client)
        (out / "a.txt").write_bytes(b"X" * len("content of a.txt"))
        (out / "mine").write_text("not part of it")
        assert pull("digits", out, client=client).written == 1
        assert content(out) == content(folder) | {"mine": b"not part of it"}

    async def test_a_damaged_object_is_not_handed_out(self, client: Client, folder: Path, tmp_path: Path, objects: Objects) -> None:
        (folder / "big.bin").write_bytes(os.urandom(2**20 + 5))
        push(folder, "digits", client=client)
        sha256 = hashlib.sha256((folder / "big.bin").read_bytes()).hexdigest()
        (stored,) = [each.key for each in await objects.list_prefix("") if each.key.endswith(sha256)]
        await objects.put(stored, b"x" * (2**20 + 5))
        with pytest.raises(FileDamaged, match=r"big\.bin"):
            pull("digits", tmp_path / "out", client=client)
        assert not (tmp_path / "out" / "big.bin").exists()

    def test_workers_of_one_machine_pull_into_one_directory_at_once(self, client: Client, tmp_path: Path) -> None:
        root, out = tmp_path / "folder", tmp_path / "out"
        root.mkdir()
        for i in range(300):
            (root / f"{i}.bin").write_bytes(os.urandom(3000))
        (root / "large.bin").write_bytes(os.urandom(40 * 2**20))
        push(root, "digits", client=client)
        code = "import sys, aidos; print(aidos.pull('digits', sys.argv[1]).written)"
        children = [subprocess.Popen([sys.executable, "-c", code, str(out)], stdout=subprocess.PIPE, text=True) for _ in range(3)]
        assert sorted(int(child.communicate(timeout=60)[0]) for child in children) == [0, 0, 301]
        assert content(out) == content(root)

    def test_unknown_names_are_not_found(self, client: Client, folder: Path, tmp_path: Path) -> None:
        push(folder, "digits", client=client)
        for source in ("absent", "digits@v9", f"digits@{uuid4()}"):
            with pytest.raises(NotFound):
                pull(source, tmp_path / "out", client=client)


class TestInterrupted:
    @pytest.mark.parametrize("size", [2**20, 70_000], ids=["one PUT each", "packs"])
    def test_a_killed_push_leaves_nothing_half_and_the_next_sends_the_rest(self, client: Client, tmp_path: Path, size: int) -> None:
        root, log = tmp_path / "folder", tmp_path / "log"
        root.mkdir()
        for i in range(40):
            (root / f"{i:02}.bin").write_bytes(os.urandom(size))
        code = (
            "import sys, aidos.transfers.uploading as u\n"
            "from aidos.transfers.directories import push\n"
            "u.PACK_BYTES = 4 * 70_000\n"
            "log = open(sys.argv[2], 'a', buffering=1)\n"
            "push(sys.argv[1], 'digits', progress=lambda stage, done, total: print(stage, done, total, file=log))\n"
        )
        child = subprocess.Popen([sys.executable, "-c", code, str(root), str(log)])
        try:
            wait_until(lambda: log.exists() and _uploaded(log) >= 8 * size, within_s=60, every_s=0.005)
        finally:
            child.send_signal(signal.SIGKILL)
            child.wait()
        assert _uploaded(log) < 40 * size, "it was too fast to be interrupted"
        assert list(client.datasets.refs("digits")) == []
        again = push(root, "digits", client=client)
        assert again.commit.files == 40
        assert 0 < again.uploaded_files <= 32
        pull("digits", tmp_path / "out", client=client)
        assert content(tmp_path / "out") == content(root)

    def test_an_interrupted_multipart_upload_goes_on_with_the_missing_parts(
        self, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        root = tmp_path / "folder"
        root.mkdir()
        (root / "large.bin").write_bytes(os.urandom(66 * 2**20))
        sent: list[int] = []
        real = Client.put_presigned

        def fail_after_one(self: Client, url: str, data: bytes, headers: object = None) -> object:
            if sent:
                raise KeyboardInterrupt
            sent.append(len(data))
            return real(self, url, data)

        monkeypatch.setattr("aidos.transfers.uploading._LARGE_THREADS", 1)
        monkeypatch.setattr(Client, "put_presigned", fail_after_one)
        with pytest.raises(KeyboardInterrupt):
            push(root, "digits", client=client)
        monkeypatch.setattr(Client, "put_presigned", real)
        counted: list[int] = []
        push(root, "digits", client=client, progress=lambda stage, done, _: counted.append(done) if stage == "upload" else None)
        assert sent == [64 * 2**20]
        assert 64 * 2**20 in counted  # the first part was there before the second was sent
        pull("digits", tmp_path / "out", client=client)
        assert content(tmp_path / "out") == content(root)


def _uploaded(log: Path) -> int:
    lines = [line.split() for line in log.read_text().splitlines() if line.startswith("upload") and line.count(" ") == 2]
    return max((int(line[1]) for line in lines), default=0)
