"""A dataset's history through the client and the command, as a user goes through it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aidos.client import Client
from aidos.transfers.directories import push
from data_pipelines.dataforge.errors import BranchProtected, MergeConflict
from tests.dataforge.test_cli import aidos

pytestmark = pytest.mark.postgres


def write(folder: Path, client: Client, branch: str, message: str = "", **texts: str) -> str:
    """Push one text file a name; the commit's id."""
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text)
    return str(push(folder, "digits", branch=branch, message=message, client=client).commit.id)


class TestHistory:
    def test_from_the_client(self, client: Client, tmp_path: Path) -> None:
        first = write(tmp_path / "a", client, "main", a="1", b="1")
        write(tmp_path / "b", client, "dev", a="1", b="2")
        write(tmp_path / "a", client, "main", a="2")
        datasets = client.datasets
        assert datasets.diff_stat("digits", base=first, head="dev").changed == 1
        merged = datasets.merge("digits", "main", "dev", metadata={"ticket": 7})
        assert (merged.outcome, merged.commit.metadata) == ("merged", {"ticket": 7})
        assert merged.commit.merge_parent_id == datasets.show("digits", "dev").id
        undone = datasets.revert("digits", "main", str(merged.commit.id), mainline=1)
        assert datasets.diff_stat("digits", base="main", head=str(merged.commit.parent_id)).changed == 0
        assert datasets.reset("digits", "main", first, expected=undone.id).commit_id == datasets.show("digits", first).id

    def test_a_conflict_tells_each_path_and_is_settled(self, client: Client, tmp_path: Path) -> None:
        write(tmp_path / "a", client, "main", a="0", b="0")
        write(tmp_path / "b", client, "dev", a="dev", b="dev")
        write(tmp_path / "a", client, "main", a="main", b="main")
        datasets = client.datasets
        with pytest.raises(MergeConflict) as refused:
            datasets.merge("digits", "main", "dev")
        assert [each["path"] for each in refused.value.fields["conflicts"]] == ["a", "b"]
        assert [each.path for each in datasets.conflicts("digits", "main", source="dev")] == ["a", "b"]
        datasets.merge("digits", "main", "dev", take={"a": "theirs"}, strategy="ours")
        assert datasets.diff_stat("digits", base="dev", head="main").changed == 1

    def test_a_check_opens_a_protected_branch(self, client: Client, tmp_path: Path) -> None:
        write(tmp_path / "a", client, "main", a="1")
        client.datasets.protect("digits", "main", required_checks=["schema"])
        write(tmp_path / "a", client, "dev", a="2")
        with pytest.raises(BranchProtected, match="schema"):
            write(tmp_path / "a", client, "main", a="3")
        client.datasets.set_check("digits", "dev", "schema", "passed", summary="all columns there", url="https://ci.example.org/1")
        assert [check.state for check in client.datasets.checks("digits", "dev")] == ["passed"]
        client.datasets.merge("digits", "main", "dev")
        assert [each.branch for each in client.datasets.protections("digits")] == ["main"]
        client.datasets.unprotect("digits", "main")
        write(tmp_path / "a", client, "main", a="3")

    def test_from_the_command(self, client: Client, tmp_path: Path) -> None:
        first = write(tmp_path / "a", client, "main", a="1", b="1")
        picked = write(tmp_path / "b", client, "dev", a="1", b="2", c="3")
        write(tmp_path / "a", client, "main", a="2", b="1")
        stat = json.loads(aidos("dataset", "diff", "digits", first, "dev", "--stat", "--json").stdout)
        assert (stat["added"], stat["changed"], stat["removed"]) == (1, 1, 0)
        made = aidos("dataset", "cherry-pick", "digits", "main", picked, "--json")
        assert made.returncode == 0 and json.loads(made.stdout)["metadata"] == {"cherry_picked_from": picked}
        assert aidos("dataset", "merge", "digits", "main", "dev").returncode == 0
        assert aidos("dataset", "reset", "digits", "main", first).returncode == 0
        assert json.loads(aidos("dataset", "show", "digits", "main", "--json").stdout)["id"] == first
