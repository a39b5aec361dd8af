"""The tabular example: dirt in a real table is found, and kept off the protected branch until it is gone."""

from __future__ import annotations

import pytest

from tests.support.running import RunningPlatform

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


class TestTabularDemo:
    def test_a_dirty_table_is_refused_cleaned_by_its_reports_and_then_merged(self, platform: RunningPlatform) -> None:
        told = platform.python("-m", "examples.tabular.demo", "--short", timeout_s=800, check=True, COLUMNS="160").out
        assert "so the pull request is not merged" in told
        assert "expectations hold, merged into" in told
