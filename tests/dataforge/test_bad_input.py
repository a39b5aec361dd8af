"""Bad files through the whole platform: kept to the byte, told about by the profile and the viewer, and in nobody's way."""

from __future__ import annotations

from pathlib import Path

import pytest

from aidos.client import Client
from aidos.errors import InvalidPayload
from aidos.schemas.dataforge.reports import ReportKind
from aidos.transfers.directories import pull, push
from tests.dataforge.bad_files import BAD
from tests.dataforge.in_process import answer
from tests.support.tenant import JobClient

pytestmark = pytest.mark.postgres
PATHS = {case: f"{number:02}/{bad.path}" for number, (case, bad) in enumerate(BAD.items())}


@pytest.fixture
def pushed(client: Client, tmp_path: Path) -> Path:
    """All of them in one dataset, with a file that is good."""
    folder = tmp_path / "bad"
    for case, bad in BAD.items():
        path = folder / PATHS[case]
        path.parent.mkdir(parents=True)
        path.write_bytes(bad.make())
    (folder / "good.csv").write_text("a\n1\n2\n")
    push(folder, "bad", client=client)
    return folder


def test_are_versioned_profiled_and_viewed(client: Client, pushed: Path, tmp_path: Path, as_job: JobClient) -> None:
    pull("bad", tmp_path / "pulled", client=client)
    for path in (*PATHS.values(), "good.csv"):
        assert (tmp_path / "pulled" / path).read_bytes() == (pushed / path).read_bytes()

    found = answer(client, as_job, "bad", ReportKind.PROFILE).result or {}
    reasons = {each["path"]: each["reason"] for each in found["quarantine"]["files"]}
    assert sorted(reasons) == sorted(PATHS.values())
    assert all(bad.profiled in reasons[PATHS[case]] for case, bad in BAD.items())
    assert found["table"]["columns"]["a"]["rows"] >= 2

    tables = client.tables
    for case, bad in BAD.items():
        image = bad.path.endswith((".png", ".jpg", ".bmp"))
        if not bad.viewed:
            assert len(tables.rows("bad", path=PATHS[case]).rows) == 100
            continue
        with pytest.raises(InvalidPayload) as caught:
            tables.thumbnail("bad", path=PATHS[case]) if image else tables.rows("bad", path=PATHS[case])
        assert bad.viewed in str(caught.value), case
    assert tables.rows("bad", path="good.csv").rows == [[1], [2]]
