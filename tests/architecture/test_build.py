"""The build's promises: a complete lock, a light client, a clear sentence where Python is too old."""

from __future__ import annotations

import functools
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.architecture.source import ROOT, Source, Violation, import_names, load

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKED = re.compile(r"^([a-z0-9][a-z0-9._-]*)==(\S+)( ; [^\\]+)? \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.M)
# Which build is right depends on the machine, so these are in no lock.
MACHINE_BOUND = re.compile(r"^(torch|triton|nvidia-.*)$")


@functools.cache
def installed_packages() -> Mapping[str, list[str]]:
    return packages_distributions()


def locked(text: str) -> dict[str, str]:
    """Name and version of every package that is locked with at least one hash."""
    return {match.group(1): match.group(2) for match in LOCKED.finditer(text)}


def direct_requirements() -> Iterator[Requirement]:
    lines = (ROOT / "requirements/base.in").read_text().splitlines()
    for line in [*PROJECT["project"]["dependencies"], *PROJECT["dependency-groups"]["dev"], *lines]:
        if line and not line.startswith("#"):
            yield Requirement(line)


def foreign_imports(source: Source, allowed: set[str]) -> Iterator[Violation]:
    """Imports of installed packages that the client does not declare."""
    owners = installed_packages()
    for node in source.nodes:
        for name in import_names(node):
            top = name.split(".")[0]
            if top in sys.stdlib_module_names or top == source.package:
                continue
            if not {canonicalize_name(owner) for owner in owners.get(top, [top])} & allowed:
                yield source.at(node, f"imports {top}, which the client does not declare as a dependency")


@pytest.mark.plain
class TestLock:
    def test_every_package_has_hashes(self) -> None:
        text = (ROOT / "requirements/lock.txt").read_text()
        named = {line.split("==")[0] for line in text.splitlines() if re.match(r"[a-z0-9]", line)}
        assert named == set(locked(text))

    def test_what_depends_on_the_machine_is_not_locked(self) -> None:
        assert not [name for name in locked((ROOT / "requirements/lock.txt").read_text()) if MACHINE_BOUND.match(name)]
        assert (ROOT / "requirements/torch.txt").read_text().startswith("torch==")

    def test_satisfies_every_direct_requirement(self) -> None:
        versions = locked((ROOT / "requirements/lock.txt").read_text())
        wrong = [
            str(r)
            for r in direct_requirements()
            if not r.specifier.contains(versions.get(canonicalize_name(r.name), "0"), prereleases=True)
        ]
        assert not wrong, f"run `make lock`: {wrong}"

    def test_a_package_without_a_hash_is_reported(self) -> None:
        assert locked("a==1\nb==2 \\\n    --hash=sha256:" + "0" * 64 + "\n") == {"b": "2"}


@pytest.mark.plain
class TestClient:
    def test_imports_only_its_declared_dependencies(self) -> None:
        allowed = {canonicalize_name(Requirement(line).name) for line in PROJECT["project"]["dependencies"]}
        allowed |= {"click", "anyio", "pydantic-core", "typing-extensions"}  # come with typer, httpx and pydantic, always
        violations = [str(violation) for source in load("aidos") for violation in foreign_imports(source, allowed)]
        assert not violations, "\n" + "\n".join(violations)

    def test_an_undeclared_import_is_reported(self) -> None:
        assert [v.line for v in foreign_imports(Source("aidos/client.py", "import httpx\nimport ray\n"), {"httpx"})] == [2]

    def test_loads_neither_ray_nor_a_server(self) -> None:
        heavy = {"ray", "torch", "numpy", "fastapi", "psycopg", "cluster"}
        code = f"import aidos, aidos.cli, sys; print(*sorted(set(sys.modules) & {heavy!r}))"
        loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
        assert not loaded.stdout.strip()


@pytest.mark.plain
class TestInstall:
    def test_refuses_an_old_python_with_one_sentence(self, tmp_path: Path) -> None:
        old = tmp_path / "python3.9"
        old.write_text('#!/bin/sh\n[ "$1" = -V ] && echo "Python 3.9.18" && exit 0\nexit 1\n')
        old.chmod(0o755)
        result = subprocess.run(
            ["bash", "requirements/install.sh"], cwd=ROOT, env=environment(old, tmp_path), capture_output=True, text=True, check=False
        )
        assert result.returncode == 1
        assert result.stderr == f"aidos: {old} is Python 3.9.18; AI-DOS needs Python 3.11, 3.12 or 3.13.\n"
        assert not (tmp_path / "venv").exists()

    def test_takes_only_a_finished_install_for_one(self, tmp_path: Path) -> None:
        """The stamp decides: an install that failed leaves none, and with it in place neither pip nor venv is called."""
        venv_python = tmp_path / "venv/bin/python"
        venv_python.parent.mkdir(parents=True)
        venv_python.write_text('#!/bin/sh\ncase "$*" in *--version*) exit 0 ;; esac\nexit 1\n')
        venv_python.chmod(0o755)
        command = ["bash", "-x", "requirements/install.sh"]
        failed = subprocess.run(
            command, cwd=ROOT, env=environment(Path(sys.executable), tmp_path), capture_output=True, text=True, check=False
        )
        assert failed.returncode != 0, "this pip installs nothing"
        assert not (tmp_path / "venv/.installed").exists()
        assert (tmp_path / "venv/.installing").exists()
        (want,) = set(re.findall(r"^\+ want=([0-9a-f]{64})$", failed.stderr, re.M))
        (tmp_path / "venv/.installed").write_text(want)
        again = subprocess.run(
            command[:1] + command[2:], cwd=ROOT, env=environment(Path(sys.executable), tmp_path), capture_output=True, text=True, check=True
        )
        assert again.stdout == again.stderr == ""


def environment(python: Path, folder: Path) -> dict[str, str]:
    return {"PYTHON": str(python), "VENV": str(folder / "venv"), "PATH": "/usr/bin:/bin", "HOME": str(folder)}
