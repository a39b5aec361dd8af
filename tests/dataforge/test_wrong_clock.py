"""A client whose clock is two hours wrong: what it pushes, pulls and signs in with goes by the platform's clock."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aidos.client import Client
from aidos.http.credentials import SignIns
from cluster.settings import Settings

pytestmark = pytest.mark.postgres
WRONG_S = [7200, -7200]
PASSWORD = "correct horse battery staple"
# Every clock that Python code reads; files are stamped by the machine's own, as on a file server whose clock is right.
SHIFT = """
import datetime, os, time
wrong_s = float(os.environ["CLOCK_WRONG_S"])
right, right_ns = time.time, time.time_ns
time.time, time.time_ns = lambda: right() + wrong_s, lambda: right_ns() + int(wrong_s * 1e9)
class WrongDatetime(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(time.time(), tz)
datetime.datetime = WrongDatetime
"""


class Command:
    """The ``aidos`` command by another clock."""

    def __init__(self, wrong_s: float, folder: Path) -> None:
        (folder / "clock").mkdir()
        (folder / "clock" / "sitecustomize.py").write_text(SHIFT)
        self._environment = {**os.environ, "PYTHONPATH": str(folder / "clock"), "CLOCK_WRONG_S": str(wrong_s)}

    def __call__(self, *words: str, code: int = 0, said: str = "", **environment: str) -> Any:
        """What it prints as JSON."""
        asked = [sys.executable, "-c", "from aidos.cli import main; main()", *words, "--json"]
        done = subprocess.run(
            asked, env={**self._environment, **environment}, input=said, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == code and done.stdout, done.stderr
        return json.loads(done.stdout)


@pytest.fixture(params=WRONG_S, ids=["ahead", "behind"])
def aidos(request: pytest.FixtureRequest, client: Client, tmp_path: Path) -> Command:
    return Command(request.param, tmp_path)


class TestTransfers:
    def test_push_change_and_pull(self, aidos: Command, client: Client, tmp_path: Path) -> None:
        folder, out = tmp_path / "folder", tmp_path / "out"
        folder.mkdir()
        for number in range(20):
            (folder / str(number)).write_text(f"{number}")
        (folder / "large").write_bytes(os.urandom(2**20 + 1))
        first = aidos("dataset", "push", str(folder), "--name", "digits")
        (folder / "7").write_text("X")
        second = aidos("dataset", "push", str(folder), "--name", "digits")
        assert (first["added"], second["updated"], second["uploaded_files"]) == (21, 1, 1)
        assert aidos("dataset", "push", str(folder), "--name", "digits")["changed"] is False
        aidos("dataset", "pull", "digits", str(out))
        assert {path.name: path.read_bytes() for path in out.iterdir()} == {path.name: path.read_bytes() for path in folder.iterdir()}
        made = client.datasets.show("digits", "main").created_at.timestamp()
        assert abs(time.time() - made) < 600, "the platform's clock says when"


class TestSignIn:
    @pytest.fixture
    def signed_in(self, aidos: Command, client: Client, tmp_path: Path) -> SignIns:
        client.users.create("ada@example.org", password=PASSWORD)
        aidos("login", "--email", "ada@example.org", "--password-stdin", said=f"{PASSWORD}\n", AIDOS_API_KEY="")
        return SignIns(tmp_path / "config")

    @pytest.mark.parametrize("ends_in_s", [-7200, 7200])
    def test_outlives_its_access_token_whatever_the_clock_says(
        self, aidos: Command, client: Client, signed_in: SignIns, ends_in_s: int
    ) -> None:
        """The clock was set right, or wrong, since: the token is refused before it seems to end, or seems to have ended before it is."""
        first = signed_in.find(client.config.url)
        assert first is not None
        assert aidos("whoami", AIDOS_API_KEY="")["name"] == "ada@example.org"
        token = "expired.token.text" if ends_in_s > 0 else first.access_token
        kept = signed_in.find(client.config.url)
        assert kept is not None
        signed_in.save(client.config.url, replace(kept, access_token=token, expires_at=time.time() + ends_in_s))
        assert aidos("whoami", AIDOS_API_KEY="")["name"] == "ada@example.org"


class TestDoctor:
    def test_says_that_the_clock_is_wrong(self, aidos: Command, storage: Settings) -> None:
        ports = {"AIDOS_POSTGRES_PORT": str(storage.postgres_port), "AIDOS_S3_PORT": str(storage.s3_port)}
        found = aidos("doctor", code=1, AIDOS_HOME=str(storage.home), **ports)["findings"]
        wrong = next(finding for finding in found if finding["name"] == "database clock")
        assert (
            not wrong["ok"] and re.search(r"is 7(19|20)\d s (ahead of|behind) the database's", wrong["detail"]) and "NTP" in wrong["remedy"]
        )
