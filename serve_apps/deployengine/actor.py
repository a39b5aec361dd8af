"""The named actor that hosts DeployEngine's reconciler."""

from __future__ import annotations

from typing import Any

from cluster.host import Host, get_or_create_host
from serve_apps.deployengine.reconciler import EndpointReconciler


class DeployEngine(Host):
    """Keeps endpoints as they are asked for."""

    name = "deployengine"

    def loops(self) -> list[Any]:
        return [EndpointReconciler(self.db).run(self.holder, self.wakeup)]


def get_or_create_deployengine() -> Any:
    """The actor's handle; made where there is none."""
    return get_or_create_host(DeployEngine)
