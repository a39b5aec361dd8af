"""The README's tour, typed as it stands after `make demo`."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.running import ROOT, RunningPlatform

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

SHOWN_URL = "http://127.0.0.1:8000"
"""The README's address is the default one; the platform of the tests has another, and that is all that is changed."""


def tour_block(language: str) -> str:
    """The one block of this language in the README's tour."""
    tour = re.search(r"^## A tour\n(.*?)^## ", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert tour
    (block,) = re.findall(rf"^```{language}\n(.*?)^```", tour.group(1), re.MULTILINE | re.DOTALL)
    return str(block)


@dataclass(frozen=True)
class Tour:
    """What each command printed, where they ran, and whose key they used."""

    printed: dict[str, str]
    folder: Path
    key: str

    def of(self, words: str) -> str:
        """What the one command that holds these words printed."""
        (found,) = [out for command, out in self.printed.items() if words in command]
        return found


@pytest.fixture(scope="module")
def tour(platform: RunningPlatform, demo: str, tmp_path_factory: pytest.TempPathFactory) -> Tour:
    """All commands in one shell, in a copy of the checkout; the first that fails ends them."""
    checkout, user = tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("user")
    shutil.copytree(ROOT / "examples", checkout / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    (checkout / ".venv").symlink_to(ROOT / ".venv")
    key = user / ".aidos" / "demo" / "key"
    key.parent.mkdir(parents=True)
    key.write_text(platform.ask("key", "create", "tour", "--role", "maintainer")["key"])  # as `make demo` does for its own user
    commands = [line.removeprefix("$ ") for line in tour_block("console").splitlines()]
    mark = "=== next command ==="
    script = "\n".join(f"{command}\necho '{mark}'" for command in commands).replace(SHOWN_URL, platform.url)
    ran = platform.run(["bash", "-eo", "pipefail", "-c", script], cwd=checkout, timeout_s=400, HOME=str(user), check=True)
    return Tour(dict(zip(commands, ran.out.split(f"{mark}\n"), strict=False)), checkout / "examples" / "digits", key.read_text())


class TestTour:
    def test_the_prediction_by_curl_is_right(self, tour: Tour) -> None:
        logits = json.loads(tour.of("curl"))["outputs"][0]["data"]
        assert logits.index(max(logits)) == 4

    def test_the_command_predicts_the_same(self, tour: Tour) -> None:
        logits = json.loads(tour.of("curl"))["outputs"][0]["data"]
        assert f"{max(logits):.4g}" in tour.of("endpoint predict")

    def test_lineage_and_cost_are_shown(self, tour: Tour) -> None:
        assert "digits" in tour.of("lineage")
        assert tour.of("aidos cost").strip()

    def test_the_python_runs_in_the_same_place(self, platform: RunningPlatform, tour: Tour) -> None:
        ran = platform.python("-c", tour_block("python"), cwd=tour.folder, key=tour.key, check=True)
        assert "tour digits READY" in ran.out and "logits" in ran.out
