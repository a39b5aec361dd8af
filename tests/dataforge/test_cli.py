"""``aidos dataset …`` as a user types it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from aidos.client import Client
from tests.support.running import AIDOS

pytestmark = pytest.mark.postgres


def aidos(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(AIDOS), *arguments], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.usefixtures("client")
class TestDatasetCommands:
    def test_push_pull_log_files_and_diff(self, tmp_path: Path) -> None:
        folder = tmp_path / "folder"
        folder.mkdir()
        (folder / "a.txt").write_text("one")
        pushed = aidos("dataset", "push", str(folder), "--name", "digits", "-m", "first", "--json")
        assert pushed.returncode == 0, pushed.stderr
        first = json.loads(pushed.stdout)
        assert (first["changed"], first["added"], first["files"]) == (True, 1, 1)
        again = aidos("dataset", "push", str(folder), "--name", "digits")
        assert again.returncode == 0 and "Nothing changed" in again.stderr
        (folder / "b.txt").write_text("two")
        assert aidos("dataset", "push", str(folder), "--name", "digits").returncode == 0
        log = json.loads(aidos("dataset", "log", "digits", "--json").stdout)
        assert [commit["message"] for commit in log] == ["Push 1 files", "first"]
        assert json.loads(aidos("dataset", "files", "digits@main", "b", "--json").stdout)[0]["path"] == "b.txt"
        diff = json.loads(aidos("dataset", "diff", "digits", first["commit"], "main", "--json").stdout)
        assert [(each["path"], each["kind"]) for each in diff] == [("b.txt", "added")]
        pulled = aidos("dataset", "pull", "digits@main", str(tmp_path / "out"), "--json")
        assert json.loads(pulled.stdout)["written"] == 2 and (tmp_path / "out" / "b.txt").read_text() == "two"

    def test_problems_are_one_clear_sentence(self, tmp_path: Path) -> None:
        empty = tmp_path / "empty"
        empty.mkdir()
        for arguments, code, text in (
            (("dataset", "push", str(empty), "--name", "digits"), 2, "There is no file in"),
            (("dataset", "pull", "absent", str(tmp_path / "out")), 3, "no dataset 'absent'"),
            (("dataset", "push", str(tmp_path / "nowhere"), "--name", "digits"), 2, "not a directory"),
        ):
            done = aidos(*arguments)
            assert text in done.stderr and "Traceback" not in done.stderr, done.stderr
            assert done.returncode == code, done.stderr

    def test_a_name_that_is_not_utf8_is_shown(self, tmp_path: Path) -> None:
        folder = os.fsencode(tmp_path / "folder")
        os.mkdir(folder)
        with open(folder + b"/bad-\xff.txt", "w") as file:
            file.write("x")
        done = aidos("dataset", "push", os.fsdecode(folder), "--name", "digits")
        assert done.returncode == 2 and r"bad-\xff.txt" in done.stderr and "not UTF-8" in done.stderr


class TestClientOperations:
    def test_every_operation_of_datasets_answers(self, client: Client, tmp_path: Path) -> None:
        client.datasets.create("digits", description="x")
        assert [each.name for each in client.datasets.list()] == ["digits"]
        assert client.datasets.get("digits").description == "x"
        client.datasets.delete("digits")
        assert list(client.datasets.list()) == []
