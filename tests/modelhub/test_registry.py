"""The registry as people type it: the commands of the documentation against the API, over HTTP."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from actors.modelhub.governance.errors import AliasMoved, AliasProtected, ApprovalNotYours, VersionDeprecated
from aidos.client import Client
from aidos.errors import InvalidPayload
from aidos.transfers.artifacts import pull_model
from cluster.settings import Settings
from tests.modelhub.inspecting import inspecting
from tests.support.onnx_models import linear
from tests.support.running import AIDOS

pytestmark = pytest.mark.postgres
Aidos = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def aidos(client: Client, settings: Settings) -> Iterator[Aidos]:
    """The command, in a process of its own, of a platform that inspects what is registered."""

    def run(*words: str, key: str = "") -> subprocess.CompletedProcess[str]:
        environment = os.environ | ({"AIDOS_API_KEY": key} if key else {})
        return subprocess.run([str(AIDOS), *words], capture_output=True, text=True, timeout=60, check=False, env=environment)

    with inspecting(settings):
        yield run


@pytest.fixture
def pushed(aidos: Aidos, client: Client, tmp_path: Path) -> str:
    """Two versions of a model, which the operator registered."""
    for _ in range(2):
        (tmp_path / "model.onnx").write_bytes(linear())
        answer = aidos("model", "push", str(tmp_path / "model.onnx"), "--name", "digits", "--json")
        assert answer.returncode == 0, answer.stderr
    return "digits"


def said(answer: subprocess.CompletedProcess[str]) -> object:
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


class TestCommands:
    def test_lead_a_version_to_a_protected_alias_and_back(self, aidos: Aidos, client: Client, pushed: str) -> None:
        client.service_accounts.create("bob")
        client.members.put("bob", role="maintainer")
        colleague = client.keys.create("bob", role="maintainer", service_account="bob").key
        said(aidos("model", "protect", "digits", "champion", "--required-approvals", "1", "--required-checks", "eval", "--thresholds", "accuracy >= 0.95", "--json"))  # fmt: skip
        refused = aidos("model", "set-alias", "digits", "champion", "--version", "2")
        assert refused.returncode != 0 and "check 'eval' has not been reported" in refused.stderr
        said(aidos("model", "request-approval", "digits", "2", "--reason", "better on sevens", "--json"))
        said(aidos("model", "check", "digits", "2", "--name", "eval", "--passed", "--metric", "accuracy=0.97", "--json"))
        mine = aidos("model", "approve", "digits", "2", "--reason", "mine")
        assert mine.returncode != 0 and "approved by somebody else" in mine.stderr
        said(aidos("model", "approve", "digits", "2", "--reason", "looks right", "--json", key=colleague))
        said(aidos("model", "set-alias", "digits", "champion", "--version", "2", "--json"))
        shown = said(aidos("model", "show", "digits@champion", "--json"))
        assert isinstance(shown, dict)
        assert (shown["version"]["version"], shown["status"]["approval"], shown["status"]["obstacles"]) == (2, "approved", {"champion": []})
        table = aidos("model", "show", "digits@champion").stdout
        assert all(word in table for word in ("looks right", "eval", "model.onnx", "nothing")), table
        again = aidos("model", "set-alias", "digits", "champion", "--previous")
        assert again.returncode != 0 and "named no other version before" in again.stderr

    def test_push_what_a_version_says_of_itself(self, aidos: Aidos, client: Client, tmp_path: Path) -> None:
        (tmp_path / "model.onnx").write_bytes(linear())
        (tmp_path / "card.md").write_text("---\nlicense: apache-2.0\n---\n# Digits\nReads sevens well.\n")
        (tmp_path / "needs.txt").write_text("# made by pip\nonnx>=1.23\n")
        (tmp_path / "example.json").write_text('{"x": [[1, 2, 3, 4]]}')
        options = ("--card", str(tmp_path / "card.md"), "--requirements", str(tmp_path / "needs.txt"))
        options += ("--input-example", str(tmp_path / "example.json"), "--tag", "team=vision")
        said(aidos("model", "push", str(tmp_path / "model.onnx"), "--name", "digits", *options, "--json"))
        version = client.models.version("digits", "1")
        assert (version.licence, version.requirements, version.input_example) == ("apache-2.0", ["onnx>=1.23"], {"x": [[1, 2, 3, 4]]})
        assert version.state == "READY" and version.tags == {"team": "vision"} and {len(file.sha256) for file in version.files} == {64}
        shown = aidos("model", "show", "digits@1").stdout
        assert all(word in shown for word in ("Reads sevens well.", "apache-2.0", "onnx>=1.23", "scores", "vision")), shown
        said(aidos("model", "update-version", "digits", "1", "--card", "# Withdrawn", "--tags", '{"team": null, "by": "ada"}', "--json"))
        changed = client.models.version("digits", "1")
        assert (changed.card, changed.tags, changed.licence, changed.description) == ("# Withdrawn", {"by": "ada"}, "apache-2.0", "")
        with pytest.raises(TypeError):
            client.models.update_version("digits", "1", signature={})

    def test_undo_a_move(self, aidos: Aidos, client: Client, pushed: str) -> None:
        for version in ("1", "2"):
            said(aidos("model", "set-alias", "digits", "champion", "--version", version, "--json"))
        said(aidos("model", "set-alias", "digits", "champion", "--previous", "--json"))
        assert client.models.get("digits").aliases == {"champion": 1}
        moves = said(aidos("model", "alias-moves", "digits", "champion", "--json"))
        assert isinstance(moves, list) and [(move["moved_from"], move["version"]) for move in moves] == [(2, 1), (1, 2), (None, 1)]
        late = aidos("model", "set-alias", "digits", "champion", "--version", "2", "--expected-version", "2")
        assert late.returncode != 0 and "names version 1, not 2" in late.stderr

    def test_deprecate_and_restore(self, aidos: Aidos, client: Client, pushed: str, tmp_path: Path) -> None:
        said(aidos("model", "deprecate", "digits", "1", "--reason", "it leaks", "--replacement", "2", "--json"))
        pulled = aidos("model", "pull", "digits@1", str(tmp_path / "pulled"))
        assert pulled.returncode == 0 and "digits@1 is deprecated: it leaks. Use digits@2." in pulled.stderr
        listed = said(aidos("model", "versions", "digits", "--json"))
        assert isinstance(listed, list) and [bool(version["deprecation"]) for version in listed] == [False, True]
        said(aidos("model", "restore", "digits", "1", "--json"))
        assert client.models.version("digits", "1").deprecation is None

    def test_except_what_a_scan_found(self, aidos: Aidos, client: Client, tmp_path: Path) -> None:
        (tmp_path / "m").mkdir()
        (tmp_path / "m" / "model.onnx").write_bytes(linear())
        (tmp_path / "m" / "scaler.joblib").write_bytes(pickle.dumps([1, 2]))
        said(aidos("model", "push", str(tmp_path / "m"), "--name", "digits", "--json"))
        shown = aidos("model", "show", "digits@1").stdout
        assert "QUARANTINED" in shown and "scaler.joblib" in shown
        refused = aidos("endpoint", "create", "digits", "--model", "digits@1")
        assert refused.returncode != 0 and "aidos model except" in refused.stderr
        signed = said(aidos("model", "except", "digits", "1", "--finding", "pickle", "--reason", "ours", "--expires", "30d", "--json"))
        assert isinstance(signed, dict) and signed["state"] == "ACTIVE"
        assert "ours" in aidos("model", "show", "digits@1").stdout
        said(aidos("endpoint", "create", "digits", "--model", "digits@1", "--json"))
        said(aidos("model", "revoke-exception", "digits", "1", signed["id"], "--json"))
        listed = said(aidos("model", "exceptions", "digits", "1", "--json"))
        assert isinstance(listed, list) and [each["state"] for each in listed] == ["REVOKED"]
        for word in ("30", "d", "-1d", "1y"):
            assert aidos("model", "except", "digits", "1", "--finding", "pickle", "--reason", "x", "--expires", word).returncode != 0


class TestClient:
    def test_gets_the_refusals_as_errors(self, client: Client, pushed: str, tmp_path: Path) -> None:
        client.models.protect("digits", "champion", required_approvals=1)
        with pytest.raises(AliasProtected) as refused:
            client.models.set_alias("digits", "champion", version="1")
        assert refused.value.fields["missing"] == ["0 of 1 needed people approved"]
        with pytest.raises(ApprovalNotYours):
            client.models.review("digits", "1", verdict="approve", reason="mine")
        with pytest.raises(AliasMoved):
            client.models.set_alias("digits", "other", version="1", expected_version=7)
        client.models.deprecate("digits", "2", reason="old")
        with pytest.raises(VersionDeprecated):
            client.endpoints.create(name="digits", model="digits@2")
        with pytest.warns(UserWarning, match="digits@2 is deprecated"):
            assert [path.name for path in pull_model(client, "digits", "2", tmp_path / "out")] == ["model.onnx"]

    @pytest.mark.parametrize(
        "asked",
        [
            {"required_approvals": -1}, {"required_approvals": 21}, {"required_checks": ["a b"]}, {"thresholds": ["accuracy"]},
            {"thresholds": ["accuracy >= nan"]}, {"thresholds": ["a >= 1e999"]}, {"thresholds": ["\x00a >= 1"]},
        ],
    )  # fmt: skip
    def test_refuses_a_protection_that_nothing_could_keep(self, client: Client, asked: dict[str, object]) -> None:
        client.models.create("digits")
        with pytest.raises((InvalidPayload, ValueError)):
            client.models.protect("digits", "champion", **asked)
        assert list(client.models.protections("digits")) == []
