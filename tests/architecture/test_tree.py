"""What must not be in any file: a machine's paths, a registry's host, a half-done mark; and what must be in some."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator

import pytest

from tests.architecture.source import ROOT, TIERS, Source, Violation, platform

# Put together from parts, so that this file does not contain what it forbids.
MACHINE_PATH = re.compile("(^|[^A-Za-z0-9._/-])/(" + "|".join(["wo" + "rk", "fa" + "rm", "ro" + "ot", "ho" + "me/[a-z]+"]) + ")/")
REGISTRY = re.compile("https?://[^ ]*(" + "|".join(["py" + "pi", "python" + "hosted", "npm" + "js", "deb" + "ian"]) + r")\.")
UNFINISHED = re.compile(r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "XX" + "X"]) + r")\b")
BARE_IGNORE = re.compile(r"#\s*type:\s*ignore(?!\[[\w, -]+\]\s*#)|#\s*noqa(?!:\s*[A-Z0-9, ]+\s*[#(—-])")
BINARY = (".png", ".jpg", ".gz", ".zip", ".safetensors", ".onnx", ".woff2", ".ico")
MODULE_FILES = {"models.py", "errors.py", "policy.py", "store.py", "service.py"}


def forbidden_text(source: Source) -> Iterator[Violation]:
    for number, line in enumerate(source.text.splitlines(), 1):
        if MACHINE_PATH.search(line) and "/ho" + "me/ray/" not in line:
            yield Violation(source.path, number, "a path of one machine")
        if REGISTRY.search(line):
            yield Violation(source.path, number, "the host of a package registry")
        if UNFINISHED.search(line):
            yield Violation(source.path, number, "an unfinished mark: finish it, or file it as an issue")
        if source.path.endswith(".py") and BARE_IGNORE.search(line):
            yield Violation(source.path, number, "an ignore needs its code and a reason: `# type: ignore[code]  # why`")


def project_files() -> list[Source]:
    """Tracked files, and those that git would track."""
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True)
    paths = [path for path in listed.stdout.splitlines() if not path.endswith(BINARY) and (ROOT / path).is_file()]
    return [Source(path, (ROOT / path).read_text(encoding="utf-8", errors="replace")) for path in paths]


@pytest.mark.plain
class TestForbiddenText:
    def test_is_in_no_file(self) -> None:
        violations = [str(v) for source in project_files() if source.path != "requirements/lock.txt" for v in forbidden_text(source)]
        assert not violations, "\n" + "\n".join(violations)

    @pytest.mark.parametrize(
        "line",
        [
            "path = '/ro" + "ot/x'",
            "index = 'https://py" + "pi.org/simple'",
            "x = 1  # TO" + "DO later",
            "x = y  # type: " + "ignore",
            "x = 1  # no" + "qa",
        ],
    )
    def test_is_reported(self, line: str) -> None:
        assert list(forbidden_text(Source("actors/a/service.py", line)))

    def test_a_reasoned_ignore_is_allowed(self) -> None:
        assert not list(forbidden_text(Source("a.py", "x = y  # type: " + "ignore[misc]  # the stub is wrong")))


@pytest.mark.plain
class TestModuleShape:
    def test_every_module_has_a_service(self) -> None:
        folders = {
            source.folder for source in platform() if source.module and source.folder.count("/") == 1 and source.name != "__init__.py"
        }
        missing = [folder for folder in sorted(folders) if not (ROOT / folder / "service.py").is_file()]
        assert not missing, f"modules without service.py: {missing}"

    def test_tiers_hold_packages_only(self) -> None:
        loose = [
            source.path for source in platform() if source.package in TIERS and source.path.count("/") == 1 and source.name != "__init__.py"
        ]
        assert not loose, f"files beside the modules: {loose}"
