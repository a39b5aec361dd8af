"""Schemathesis over the whole OpenAPI: no 5xx, no undocumented status, nothing sent or taken that its schema does not say."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio
import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import Status, events, from_schema
from schemathesis.engine.recorder import ScenarioRecorder

from api.openapi import TAGS
from cluster.settings import Settings
from tests.api import probe
from tests.api.creators import Example, Made, create_everything
from tests.api.live import Server, serve
from tests.api.world import World, make_tenant

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(900)]

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "ignored_auth",
    "missing_required_header",
    "negative_data_rejection",
    "unsupported_method",
)
REFUSALS = ["400", "401", "403", "404", "405", "409", "412", "413", "422", "429"]
EXAMPLES, CASES = 35, 50
"""Random ones for each operation, beside the boundary cases that schemathesis makes of its schema; and what both come to at least."""
ENDINGS = {"archive_project", "deactivate_user", "deactivate_service_account", "revoke_key", "rotate_key"}
"""They take from the run what it stands on, as every DELETE does: so they come last."""


@pytest.fixture(scope="module")
def server(api_settings: Settings, world: World) -> Iterator[Server]:
    with serve(api_settings) as running:
        yield running


def configure(url: str, key: str, values: dict[str, str]) -> SchemathesisConfig:
    """What its schema forbids must be refused; whether what it allows is good is the modules' to test. The same cases every time.

    ``values`` stand in the paths, so that the operations find something to work on.
    """
    checks: dict[str, Any] = {name: {"enabled": True} for name in CHECKS}
    checks["negative_data_rejection"]["expected-statuses"] = REFUSALS
    options: dict[str, Any] = {
        "base-url": url,
        "headers": {"Authorization": f"Bearer {key}"},
        "request-timeout": 30,
        "continue-on-failure": True,
        "parameters": {
            "header.X-Aidos-Project": "default",
            "query.wait": "0s",
            **{f"path.{name}": value for name, value in values.items()},
        },
        "generation": {"max-examples": EXAMPLES, "deterministic": True, "database": "none", "no-shrink": True},
        "phases": {"stateful": {"enabled": False}},
        "checks": {"enabled": False, **checks},
    }
    return SchemathesisConfig.from_dict(options)


def _raw(context: Any) -> dict[str, Any]:
    return dict(context.operation.definition.raw)


def _streams(context: Any) -> bool:
    """Streams have no end to wait for; tests/api/test_sse.py has them."""
    return "text/event-stream" in _raw(context)["responses"].get("200", {}).get("content", {})


def _ends(context: Any) -> bool:
    return context.operation.method.upper() == "DELETE" or _raw(context)["operationId"] in ENDINGS


def _operates(context: Any) -> bool:
    return _raw(context)["x-permission"] == "platform:operate"


@dataclass
class Findings:
    """What was asked, what came back, and what of it is wrong (each with the command that shows it again)."""

    cases: int = 0
    wrong: dict[str, str] = field(default_factory=dict)
    statuses: dict[str, Counter[int]] = field(default_factory=dict)
    varied: set[str] = field(default_factory=set)
    """The operations of the document that take anything."""

    def __str__(self) -> str:
        return f"{len(self.wrong)} findings in {self.cases} cases\n" + "\n".join(
            f"{what}\n    {how[:600]}" for what, how in self.wrong.items()
        )


def examine(
    url: str, key: str, values: dict[str, str], choose: Callable[[Any], Any], examples: Mapping[str, Example] = MappingProxyType({})
) -> Findings:
    """Run the engine over the operations that ``choose`` leaves of the document; ``examples`` are among what it asks."""
    document = httpx.get(f"{url}/v1/openapi.json", timeout=60).raise_for_status().json()
    found = Findings()
    for path, method, operation in ((path, *each) for path, item in document["paths"].items() for each in item.items()):
        # Repeated keys would answer most changes with 409; tests/api/test_edge.py has them.
        operation["parameters"] = [each for each in operation.get("parameters", []) if each["name"] != "Idempotency-Key"]
        if example := examples.get(f"{method.upper()} {path}"):
            _show(operation, example)
        if operation["parameters"] or "requestBody" in operation:
            found.varied.add(f"{method.upper()} {path}")
    schema = choose(schemathesis.openapi.from_dict(document, config=configure(url, key, values)))
    for event in from_schema(schema).execute():
        if isinstance(event, events.NonFatalError | events.FatalError):
            found.wrong[str(event)] = "the engine failed"
        if isinstance(event, events.ScenarioFinished):
            _note(event.recorder, found, values)
    return found


def _show(operation: dict[str, Any], example: Example) -> None:
    if example.body is not None:
        operation["requestBody"]["content"]["application/json"]["example"] = example.body
    for parameter in operation["parameters"]:
        if parameter["name"] in example.query:
            parameter["example"] = example.query[parameter["name"]]


def _note(recorder: ScenarioRecorder, found: Findings, fixed: Collection[str]) -> None:
    found.cases += len(recorder.cases)
    answered = [interaction.response.status_code for interaction in recorder.interactions.values() if interaction.response]
    found.statuses.setdefault(recorder.label, Counter()).update(answered)
    for node in (node for nodes in recorder.checks.values() for node in nodes):
        if node.status is Status.FAILURE and (about := node.failure_info) is not None:
            if re.search(rf"parameter `({'|'.join(fixed)})` in path", about.failure.message):
                continue  # The value of ``configure`` was sent, not the wrong one that the engine had made.
            what = f"{recorder.label}: {node.name}: {about.failure.title}: {about.failure.message[:300]}"
            found.wrong.setdefault(what, about.code_sample)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def made(world: World) -> Made:
    """One of everything in an organisation of its own, for nothing there survives this."""
    tenant = await make_tenant(world.edge, world.operator)
    async with world.client("anonymous", Authorization=f"Bearer {tenant.admin_key}") as client:
        return await create_everything(client, world.edge, f"fuzz{uuid4().hex[:12]}")


# What the token of a study's own job alone may do: an administrator's is refused.
OF_ITS_JOB = frozenset(
    {
        "POST /v1/studies/{study}/start",
        "POST /v1/studies/{study}/finish",
        "POST /v1/studies/{study}/trials",
        "POST /v1/studies/{study}/trials/{number}/reports",
        "POST /v1/studies/{study}/trials/{number}/finish",
    }
)


class TestWholeApi:
    """In this order: what works on the objects, then what ends them."""

    def check(self, found: Findings) -> None:
        print(found.cases, *(f"{name}: {dict(statuses)}" for name, statuses in found.statuses.items()), sep="\n")
        assert not found.wrong, str(found)
        asked = found.varied & found.statuses.keys()
        assert found.cases >= CASES * len(asked), f"{found.cases} cases for {len(asked)} operations"

    @pytest.mark.parametrize("module", TAGS)
    def test_reads_and_changes_do_what_the_document_says(self, server: Server, made: Made, module: str) -> None:
        values = {name: found[0] for name, found in made.values.items()}

        def choose(schema: Any) -> Any:
            ours = schema.include(lambda context: module in _raw(context)["tags"])
            return ours.exclude(_streams).exclude(_ends).exclude(_operates)

        found = examine(server.url, made.key, values, choose, made.examples)
        self.check(found)
        for name in OF_ITS_JOB & found.statuses.keys():
            assert found.statuses[name][403] and not any(status < 300 for status in found.statuses[name]), f"{name}: {found.statuses[name]}"
        allowed = {name: statuses for name, statuses in found.statuses.items() if name not in OF_ITS_JOB}
        without_success = [name for name, statuses in allowed.items() if not any(200 <= status < 300 for status in statuses)]
        print(len(allowed), without_success)
        assert len(without_success) < len(allowed) / 3, f"never asked so that it worked: {without_success}"
        assert not made.examples.keys() & set(without_success), "an example of the creators does not work"

    def test_the_operators_too(self, server: Server, world: World) -> None:
        self.check(examine(server.url, str(world.credentials["operator"]), {}, lambda schema: schema.include(_operates)))

    def test_endings_too(self, server: Server, made: Made) -> None:
        self.check(examine(server.url, made.key, {}, lambda schema: schema.include(_ends)))

    def test_would_report_a_planted_bug(self, api_settings: Settings, world: World) -> None:
        with serve(api_settings, probe.router) as server:
            path = "/v1/probe/failing-things/{failure}"
            found = examine(server.url, str(world.credentials["operator"]), {"failure": "bug"}, lambda schema: schema.include(path=path))
        assert any("not_a_server_error" in what for what in found.wrong), str(found)
