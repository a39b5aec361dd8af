"""The documentation's index names every page, and no link leads nowhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.source import ROOT, Source, Violation, load

LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)\s#]+)[^)]*\)")
ADR_PARTS = ("Status: ", "## Situation", "## Decision")


def dead_links(page: Source, root: Path) -> Iterator[Violation]:
    for number, line in enumerate(page.text.splitlines(), 1):
        for target in LINK.findall(line):
            if not (root / page.folder / target).exists():
                yield Violation(page.path, number, f"leads to {target}, which is not there")


def pages() -> list[Source]:
    return [*load("docs", suffix=".md"), *(Source(p.name, p.read_text()) for p in ROOT.glob("*.md"))]


@pytest.mark.plain
class TestDocumentation:
    def test_links_lead_somewhere(self) -> None:
        violations = [str(violation) for page in pages() for violation in dead_links(page, ROOT)]
        assert not violations, "\n" + "\n".join(violations)

    def test_a_dead_link_is_reported(self, tmp_path: Path) -> None:
        page = Source("docs/a.md", "[here](a.md) [web](https://example.com) [gone](gone.md#part)")
        (tmp_path / "docs").mkdir()
        (tmp_path / "docs/a.md").write_text("")
        assert [v.message for v in dead_links(page, tmp_path)] == ["leads to gone.md, which is not there"]

    def test_the_index_names_every_page(self) -> None:
        index = (ROOT / "docs/README.md").read_text()
        missing = [
            page.path for page in load("docs", suffix=".md") if page.name != "README.md" and page.path.removeprefix("docs/") not in index
        ]
        assert not missing

    def test_decisions_are_one_page_with_their_reasons(self) -> None:
        for page in load("docs/adr", suffix=".md"):
            assert all(part in page.text for part in ADR_PARTS), page.path
            assert page.text.count("\n") <= 60, f"{page.path} is longer than a page"
