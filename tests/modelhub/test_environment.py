"""What a run is made with is kept: code, command, packages, machine. Secrets are not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import aidos
from actors.modelhub.errors import RunEnded
from aidos.client import Client
from aidos.tracking import environment
from aidos.tracking.redaction import HIDDEN, redact, redact_command
from aidos.tracking.system_metrics import Reader
from aidos.transfers.artifacts import write_files
from tests.support.waiting import wait_until


def git(*words: str) -> None:
    subprocess.run(["git", "-c", "user.name=ada", "-c", "user.email=ada@example.org", *words], check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a commit, and the working directory."""
    folder = tmp_path / "code"
    folder.mkdir()
    monkeypatch.chdir(folder)
    git("init", "-q", "-b", "main")
    git("remote", "add", "origin", "https://ada:hunter2@git.example.org/code.git")
    for name in ("train.py", "deploy.key", ".env"):
        (folder / name).write_text("lr = 0.1\n")
    git("add", "-f", ".")
    git("commit", "-q", "-m", "first")
    return folder


@pytest.mark.plain
class TestRedaction:
    @pytest.mark.parametrize(
        "text",
        [
            'password = "S3CRET"',
            "DB_PASSWORD=S3CRET",
            '"api_key": "S3CRET"',
            "apiKey: 'S3CRET'",
            "+  hf_token: S3CRET",
            "postgres://ada:S3CRET@db/x",
            "Authorization: Bearer S3CRETS3CRET",
            "-----BEGIN RSA PRIVATE KEY-----\nS3CRET\n-----END RSA PRIVATE KEY-----",
            "ghp_S3CRETS3CRETS3CRETS3CRETS3CRETS3CRET",
            "aidos_live_S3CRET_S3CRET",
        ],
    )
    def test_hides_what_stands_behind_its_name_or_looks_like_one(self, text: str) -> None:
        assert "S3CRET" not in redact(text) and HIDDEN in redact(text)

    @pytest.mark.parametrize(
        "text", ["max_tokens = 512", "tokenizer: bert", "password = None", "key = sorted(values)", "lr = 0.1", "https://h:8000/x"]
    )
    def test_leaves_the_rest(self, text: str) -> None:
        assert redact(text) == text

    def test_of_a_command_line_too(self) -> None:
        words = ["train.py", "--db-password", "S3CRET", "--token=S3CRET", "--lr", "0.1", "--api-key", "S3CRET", "--max-tokens", "5"]
        assert redact_command(words) == [
            "train.py",
            "--db-password",
            HIDDEN,
            f"--token={HIDDEN}",
            "--lr",
            "0.1",
            "--api-key",
            HIDDEN,
            "--max-tokens",
            "5",
        ]


@pytest.mark.plain
class TestDiff:
    def test_has_tracked_changes_and_nothing_of_private_or_unknown_files(self, repository: Path, tmp_path: Path) -> None:
        (repository / "train.py").write_text("lr = 0.2\npassword = 'S3CRET'\n")
        for name in ("deploy.key", ".env", "notes.txt"):
            (repository / name).write_text("S3CRET\n")
        (folder := tmp_path / "out").mkdir()
        files, tags = environment.write(folder)
        patch, document = files["diff.patch"].read_text(), json.loads(files["environment.json"].read_text())
        assert "+lr = 0.2" in patch and "S3CRET" not in patch and "notes.txt" not in patch
        assert document["git"]["untracked"] == ["notes.txt"] and document["git"]["remote"] == f"https://{HIDDEN}@git.example.org/code.git"
        assert tags["aidos.git_dirty"] == "yes" and tags["aidos.diff_sha256"] == document["git"]["diff"]["sha256"]
        assert "S3CRET" not in json.dumps(document) and "hunter2" not in json.dumps(document)
        again, _ = environment.write(folder)
        assert again["environment.json"].read_text() == json.dumps(document, indent=1, sort_keys=True) + "\n"

    def test_applies_to_the_commit(self, repository: Path, tmp_path: Path) -> None:
        (repository / "train.py").write_bytes(b"lr = 0.3\nname = '\xe9'\n")
        changed = (repository / "train.py").read_bytes()
        (folder := tmp_path / "out").mkdir()
        patch = environment.write(folder)[0]["diff.patch"]
        git("checkout", "-q", "--", "train.py")
        git("apply", str(patch))
        assert (repository / "train.py").read_bytes() == changed

    def test_is_bounded_and_cut_between_files(self, repository: Path, tmp_path: Path) -> None:
        for name in ("a", "b"):
            (repository / name).write_text("x\n" * (environment.MOST_DIFF_BYTES // 4))
        git("add", "a", "b")
        (folder := tmp_path / "out").mkdir()
        files, _ = environment.write(folder)
        patch = files["diff.patch"].read_text()
        assert "+++ b/a" in patch and "b/b" not in patch and len(patch) <= environment.MOST_DIFF_BYTES
        assert json.loads(files["environment.json"].read_text())["git"]["diff"]["truncated"] is True

    def test_is_not_kept_where_it_is_not_wanted_and_there_is_none_without_git(self, repository: Path, tmp_path: Path) -> None:
        (repository / "train.py").write_text("lr = 0.2\n")
        (folder := tmp_path / "out").mkdir()
        assert list(environment.write(folder, diff=False)[0]) == ["environment.json"]
        (repository / ".git").rename(tmp_path / "elsewhere")
        files, tags = environment.write(folder)
        assert (
            list(files) == ["environment.json"]
            and json.loads(files["environment.json"].read_text())["git"] == {}
            and "aidos.git_dirty" not in tags
        )


@pytest.mark.plain
def test_the_machine_is_read_in_units_that_its_names_say() -> None:
    reader = Reader()
    bytearray(2**20)
    found = reader.read()
    assert 0 <= found["cpu_percent"] <= 100 and 0 < found["memory_percent"] < 100
    assert found["process/memory_bytes"] > 2**20 and found["memory_used_bytes"] > found["process/memory_bytes"]
    assert all(value >= 0 for value in found.values())
    assert {key.rsplit("_", 1)[1] for key in found} <= {"percent", "bytes", "s", "w"}


def test_a_ray_workers_command_is_not_the_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = "/opt/python/lib/python3.11/site-packages/ray/_private/workers/default_worker.py"
    monkeypatch.setattr(sys, "orig_argv", ["/opt/python/bin/python", worker, "--node-manager-port=8031", "--runtime-env-hash=1"])
    assert "aidos.command" not in environment.describe()
    monkeypatch.setattr(sys, "orig_argv", ["/opt/python/bin/python", "train.py", "--lr", "0.1"])
    assert environment.describe()["aidos.command"] == "python train.py --lr 0.1"


@pytest.mark.plain
def test_the_client_alone_needs_neither_psutil_nor_the_gpu_library() -> None:
    program = """
import sys
sys.modules["psutil"] = sys.modules["pynvml"] = None
from aidos.tracking import gpus, system_metrics
print(system_metrics.Reader().read(), gpus.names())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() in {"{} []", "{'power_w': 0.0} []"}


@pytest.mark.postgres
class TestRun:
    def test_keeps_its_environment(self, client: Client, repository: Path, tmp_path: Path) -> None:
        (repository / "train.py").write_text("lr = 0.2\n")
        with aidos.run() as run:
            pass
        read = client.runs.get(str(run.id))
        assert (
            read.tags["aidos.git_dirty"] == "yes" and len(read.tags["aidos.git_commit"]) == 40 and read.tags["aidos.git_branch"] == "main"
        )
        write_files(client, client.runs.downloads(str(run.id), paths=["environment.json", "diff.patch"]).files, tmp_path / "down")
        document = json.loads((tmp_path / "down" / "environment.json").read_text())
        assert document["packages"]["pydantic"].startswith("2.") and document["git"]["commit"] == read.tags["aidos.git_commit"]
        assert "+lr = 0.2" in (tmp_path / "down" / "diff.patch").read_text()

    def test_that_goes_on_with_other_code_keeps_both(self, client: Client, repository: Path) -> None:
        aidos.run().end("FAILED")
        (run,) = client.runs.list()
        (repository / "train.py").write_text("lr = 0.2\n")
        aidos.run(resume=run.id).end()
        paths = [artifact.path for artifact in client.runs.artifacts(str(run.id))]
        assert paths[0] == "environment.json" and {path.split("/")[-1] for path in paths[1:]} == {"diff.patch", "environment.json"}
        assert all(path.startswith("resumed/") for path in paths[1:])

    def test_offline_it_is_synced_with_the_rest(self, client: Client, repository: Path) -> None:
        (repository / "train.py").write_text("lr = 0.2\n")
        run = aidos.run(offline=True)
        run.end()
        aidos.sync_runs()
        assert [artifact.path for artifact in client.runs.artifacts(str(run.id))] == ["diff.patch", "environment.json"]

    def test_notes_how_the_machine_does_until_it_ends(self, client: Client) -> None:
        def noted() -> int:
            return sum(1 for _ in client.runs.history(str(run.id), key="system/cpu_percent"))

        with aidos.run(system_metrics_s=0.05) as run:
            wait_until(lambda: noted() >= 3, within_s=30)
        ended = noted()
        points = list(client.runs.history(str(run.id), key="system/process/memory_bytes"))
        assert [point.step for point in points] == list(range(ended)) and points[0].value > 2**20
        with aidos.run(system_metrics_s=0) as silent:
            silent.log_metric("loss", 1)
        assert list(client.runs.get(str(silent.id)).metrics) == ["loss"] and noted() == ended

    def test_sampling_does_not_hide_what_a_run_refuses(self, client: Client) -> None:
        with pytest.raises(RunEnded), aidos.run(system_metrics_s=0.01) as run:
            client.runs.update(str(run.id), state="FINISHED")
            run.log_metric("loss", 1)
            sampler = run._sampler
            assert sampler is not None
            wait_until(lambda: not sampler._thread.is_alive(), within_s=30)
            run.flush()


@pytest.mark.postgres
class TestCommand:
    def shown(self, *words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", "from aidos.cli import main; main()", "run", *words], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def test_says_what_differs_in_params_metrics_code_data_and_environment(self, client: Client, repository: Path, tmp_path: Path) -> None:
        (data := tmp_path / "data").mkdir()
        commits, runs = [], []
        for number in range(2):
            (data / "a.csv").write_text(f"x\n{number}\n")
            commits.append(str(aidos.push(data, "digits").commit.id))
            (repository / "train.py").write_text(f"lr = {number + 1}\n")
            with aidos.run("e", f"r{number}", {"lr": number, "seed": 7}, {"aidos.python": f"3.1{number}.0"}, inputs=["digits@main"]) as run:
                run.log_metric("loss", number)
            runs.append(str(run.id))
        asked = json.loads(self.shown("compare", *runs, "--json"))
        facts = [run["facts"] for run in asked["runs"]]
        assert [(each["params"], each["metrics"]["loss"]) for each in facts] == [({"lr": "0"}, 0), ({"lr": "1"}, 1)]
        changes = [each["code"]["changes"] for each in facts]
        assert changes[0] != changes[1] and all(len(text) == 64 for text in changes)
        assert [each["data"] for each in facts] == [{"digits": commit} for commit in commits]
        assert [each["environment"] for each in facts] == [{"python": "3.10.0"}, {"python": "3.11.0"}]
        everything = self.shown("compare", *runs, "--all")
        assert "params.seed" in everything and "code.commit" in everything and "environment.pydantic" in everything
        assert "git_commit" in self.shown("show", runs[0]) and "environment.json" in self.shown("show", runs[0])
