"""The routes that MLflow's client declares: each is spoken, or the page says that it is not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from mlflow.protos import databricks_pb2, mlflow_artifacts_pb2, model_registry_pb2, service_pb2, webhooks_pb2

from api.app import ROUTERS
from api.deps import ApiRoute

PAGE = Path(__file__).parents[3] / "docs" / "modelhub-mlflow.md"


def list_declared() -> Iterator[tuple[str, str]]:
    """Verb and path of each route, as the client's protobuf services declare them."""
    for module in (service_pb2, model_registry_pb2, mlflow_artifacts_pb2, webhooks_pb2):
        for service in module.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                for endpoint in method.GetOptions().Extensions[databricks_pb2.rpc].endpoints:
                    yield endpoint.method, f"/api/{endpoint.since.major}.0/{endpoint.path.lstrip('/')}"


def is_spoken(verb: str, path: str) -> bool:
    routes = (route for router in ROUTERS for route in router.routes if isinstance(route, ApiRoute))
    return any(verb in route.methods and route.path_regex.match(re.sub(r"\{.*?\}", "0", path)) for route in routes)


def list_unspoken() -> list[re.Pattern[str]]:
    """What the page names, as patterns of ``VERB path``; without a verb it is all below a path."""
    section = PAGE.read_text().split("## What is not spoken", 1)[1].split("\n## ", 1)[0]
    named = re.findall(r"`(?:([A-Z]+) )?(/api/\S+)`", section)
    return [re.compile(f"{verb} {re.escape(path)}(/{{[^/]+}})?" if verb else rf"\w+ {re.escape(path)}(/.*)?") for verb, path in named]


class TestRoutesOfTheClient:
    def test_are_spoken_or_named_as_not_spoken(self) -> None:
        missing = [f"{verb} {path}" for verb, path in list_declared() if not is_spoken(verb, path)]
        named = list_unspoken()
        assert [route for route in missing if not any(pattern.fullmatch(route) for pattern in named)] == []
        assert [pattern.pattern for pattern in named if not any(pattern.fullmatch(route) for route in missing)] == []
