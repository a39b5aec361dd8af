"""The packages that a job asks for: really installed by pip, from wheels that lie beside the requirements, and without a cluster."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from aidos.schemas.trainos import JobCreate
from tune.trainos.packages import NotInstallable, install

LITTLE = "--no-index\n--find-links wheels\nlittle==1.0\n"


def write_wheel(folder: Path) -> None:
    """The smallest package there is (binary distribution format 1.0)."""
    folder.mkdir()
    files = {
        "little.py": "answer = 42\n",
        "little-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: little\nVersion: 1.0\n",
        "little-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "little-1.0.dist-info/RECORD": "little.py,,\nlittle-1.0.dist-info/METADATA,,\nlittle-1.0.dist-info/WHEEL,,\nlittle-1.0.dist-info/RECORD,,\n",
    }
    with zipfile.ZipFile(folder / "little-1.0-py3-none-any.whl", "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A job's code with a wheel, where the job would start."""
    write_wheel(tmp_path / "wheels")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AIDOS_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path


def run(requirements: str, *command: str) -> subprocess.CompletedProcess[str]:
    Path("requirements.txt").write_text(requirements)
    wrapped = [sys.executable, "-I", "-m", "tune.trainos.packages", "requirements.txt", "--", *command]
    return subprocess.run(wrapped, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.usefixtures("code")
class TestInstall:
    def test_the_command_finds_them_beside_the_platforms_and_they_are_made_once(self) -> None:
        done = run(LITTLE, "python", "-c", "import little, aidos, ray; print(little.answer)")
        assert (done.returncode, done.stdout) == (0, "42\n"), done.stderr
        made = install(Path("requirements.txt"))
        before = (made / "pyvenv.cfg").stat().st_mtime_ns
        assert install(Path("requirements.txt")) == made and (made / "pyvenv.cfg").stat().st_mtime_ns == before

    def test_what_cannot_be_resolved_is_said_in_the_resolvers_words(self) -> None:
        done = run("--no-index\nnot-there==9.9\n", "python", "-c", "print('begun')")
        last = done.stderr.splitlines()[-1]
        assert (done.returncode, done.stdout) == (121, "") and last.startswith("aidos: requirements.txt cannot be installed: ")
        assert "No matching distribution found for not-there==9.9" in last

    def test_what_the_platform_needs_keeps_its_version_and_the_conflict_is_shown(self) -> None:
        done = run("--no-index\nray==1.0\n", "true")
        assert done.returncode == 121 and "The user requested (constraint) ray==" in done.stderr.splitlines()[-1]

    @pytest.mark.parametrize("line", ["-r others.txt", "-e .", "./wheels/little-1.0-py3-none-any.whl", "--constraint=c.txt"])
    def test_what_names_other_files_is_refused(self, line: str) -> None:
        Path("requirements.txt").write_text(f"little\n{line}\n")
        with pytest.raises(NotInstallable, match="only packages can be named"):
            install(Path("requirements.txt"))

    def test_a_file_that_is_not_there_is_named(self) -> None:
        with pytest.raises(NotInstallable, match=r"absent\.txt cannot be read"):
            install(Path("absent.txt"))


class TestRefusals:
    @pytest.mark.parametrize(("name", "advice"), [("uv.lock", "uv export"), ("environment.yml", "conda"), ("../up.txt", "relative")])
    def test_what_is_no_requirements_file_is_refused_at_submit_with_what_to_do(self, name: str, advice: str) -> None:
        with pytest.raises(ValueError, match=advice):
            JobCreate(name="digits", command=["true"], requirements=name)
