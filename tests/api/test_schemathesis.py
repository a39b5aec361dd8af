"""Schemathesis over the whole OpenAPI: no 5xx, no undocumented status, nothing that its schema does not say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import Status, events, from_schema
from schemathesis.engine.recorder import ScenarioRecorder

from cluster.settings import Settings
from tests.api import probe
from tests.api.live import Server, serve
from tests.api.world import World

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(400)]

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "ignored_auth",
)
EXAMPLES = 5
"""Random ones for each operation, beside the boundary cases that schemathesis makes of its schema."""


@pytest.fixture(scope="module")
def server(api_settings: Settings, world: World) -> Iterator[Server]:
    with serve(api_settings) as running:
        yield running


def configure(key: str) -> SchemathesisConfig:
    """Whether values are good is the modules' to test: here, what comes back. The same cases every time."""
    options: dict[str, Any] = {
        "headers": {"Authorization": f"Bearer {key}"},
        "request-timeout": 30,
        "continue-on-failure": True,
        "generation": {"max-examples": EXAMPLES, "deterministic": True, "database": "none", "no-shrink": True},
        "phases": {"stateful": {"enabled": False}},
        "checks": {"enabled": False, **{name: {"enabled": True} for name in CHECKS}},
    }
    return SchemathesisConfig.from_dict(options)


def _streams(context: Any) -> bool:
    """Streams have no end to wait for; tests/api/test_sse.py has them."""
    answers = context.operation.definition.raw.get("responses", {})
    return "text/event-stream" in answers.get("200", {}).get("content", {})


@dataclass
class Findings:
    """What was asked, what came back, and what of it is wrong (each with the command that shows it again)."""

    cases: int = 0
    wrong: dict[str, str] = field(default_factory=dict)
    statuses: dict[str, Counter[int]] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{len(self.wrong)} findings in {self.cases} cases\n" + "\n".join(
            f"{what}\n    {how[:600]}" for what, how in self.wrong.items()
        )


def examine(url: str, key: str, path: str | None = None) -> Findings:
    """Run the engine over all operations that are no streams, or over one path."""
    schema = schemathesis.openapi.from_url(f"{url}/v1/openapi.json", config=configure(key), wait_for_schema=10).exclude(_streams)
    found = Findings()
    for event in from_schema(schema.include(path=path) if path else schema).execute():
        if isinstance(event, events.NonFatalError | events.FatalError):
            found.wrong[str(event)] = "the engine failed"
        if isinstance(event, events.ScenarioFinished):
            _note(event.recorder, found)
    return found


def _note(recorder: ScenarioRecorder, found: Findings) -> None:
    found.cases += len(recorder.cases)
    answered = [interaction.response.status_code for interaction in recorder.interactions.values() if interaction.response]
    found.statuses.setdefault(recorder.label, Counter()).update(answered)
    for node in (node for nodes in recorder.checks.values() for node in nodes):
        if node.status is Status.FAILURE and (about := node.failure_info) is not None:
            what = f"{recorder.label}: {node.name}: {about.failure.title}: {about.failure.message[:300]}"
            found.wrong.setdefault(what, about.code_sample)


class TestWholeApi:
    def test_does_what_the_document_says(self, server: Server, world: World) -> None:
        found = examine(server.url, str(world.credentials["operator"]))
        print(found.cases, *(f"{name}: {dict(statuses)}" for name, statuses in found.statuses.items()), sep="\n")
        assert not found.wrong, str(found)
        assert len(found.statuses) > 20 and found.cases > 20 * len(found.statuses), f"hardly anything was asked: {found.cases} cases"

    def test_would_report_a_planted_bug(self, api_settings: Settings, world: World) -> None:
        with serve(api_settings, probe.router) as server:
            found = examine(server.url, str(world.credentials["operator"]), "/v1/probe/failing-things/{failure}")
        assert any("not_a_server_error" in what for what in found.wrong), str(found)
