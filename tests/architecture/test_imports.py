"""The import contracts of pyproject.toml are the ones that are checked, and a broken one is reported."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.architecture.source import PLATFORM, ROOT

LINT = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        LINT, cwd=folder, capture_output=True, text=True, env={"PYTHONPATH": str(folder), "PATH": "/usr/bin:/bin"}, check=False
    )


@pytest.fixture
def small_project(tmp_path: Path) -> Path:
    """A project with our contracts and two modules in the wrong order."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for name in [
        *PLATFORM,
        "actors/modelhub",
        "actors/securityvault",
        "aidos/schemas",
        "aidos/http",
        "cluster/settings",
        "cluster/reconciler",
        "data_pipelines/dataforge",
        "data_pipelines/dataforge/quality",
        "data_pipelines/dataforge/synthesis",
        "data_pipelines/dataforge/files",
    ]:
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / name / "__init__.py").write_text("")
    (tmp_path / "cluster/db.py").write_text("")
    (tmp_path / "aidos/http/paging.py").write_text("import aidos.http.wire\n")
    (tmp_path / "aidos/http/wire.py").write_text("")
    for module in ("modelhub", "securityvault"):
        for file in ("service", "store", "models"):
            (tmp_path / f"actors/{module}/{file}.py").write_text("")
    return tmp_path


@pytest.mark.plain
class TestContracts:
    def test_name_every_package_of_the_platform(self) -> None:
        config = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
        assert sorted(config["root_packages"]) == sorted(PLATFORM)
        assert {contract["type"] for contract in config["contracts"]} == {"layers", "forbidden", "acyclic_siblings"}

    def test_a_clean_project_is_kept(self, small_project: Path) -> None:
        result = lint(small_project)
        assert result.returncode == 0, result.stdout + result.stderr

    @pytest.mark.parametrize(
        ("path", "line", "contract"),
        [
            ("actors/securityvault/service.py", "import actors.modelhub.service", "Modules form tiers BROKEN"),
            ("cluster/db.py", "import actors.securityvault.service", "Modules form tiers BROKEN"),
            ("actors/modelhub/models.py", "import actors.modelhub.store", "Inside a module"),
            ("actors/modelhub/service.py", "import ray", "Domain logic knows neither Ray nor HTTP BROKEN"),
            ("data_pipelines/dataforge/synthesis/__init__.py", "import data_pipelines.dataforge.quality", "Inside DataForge"),
            ("data_pipelines/dataforge/files/__init__.py", "import data_pipelines.dataforge.quality", "Inside DataForge"),
            ("aidos/schemas/__init__.py", "import cluster.settings", "The client and the dashboards see only the contract BROKEN"),
            ("aidos/schemas/__init__.py", "import aidos.http", "Inside the client: command > what moves or records > client"),
            ("aidos/http/wire.py", "import aidos.http.paging", "No circles inside the client BROKEN"),
        ],
    )
    def test_a_broken_contract_is_reported(self, small_project: Path, path: str, line: str, contract: str) -> None:
        (small_project / path).write_text(line + "\n")
        result = lint(small_project)
        assert result.returncode == 1 and contract in result.stdout, result.stdout + result.stderr
