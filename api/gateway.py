"""The gateway on Ray Serve: stateless replicas of ``api.app``, whose lifespan opens the database and the rest."""

from __future__ import annotations

from ray import serve
from ray.util import metrics as ray_metrics

from actors.securityvault.asgi import Asgi, Receive, Scope, Send
from api.app import build_app, build_edge
from cluster import metrics, telemetry
from cluster.logfile import open_log
from cluster.settings import SYSTEM_GROUP, Settings, get_settings
from tune.trainos.ray_tunnel import build_open_tunnel

__all__ = ["Gateway", "build_app", "build_edge", "build_gateway_app"]


def build_gateway() -> Asgi:
    """The application of a replica. Serve calls this in the replica, so nothing of it is ever pickled.

    A function, without ``routes``: Serve would try each of our hundreds in turn, at every request, to name the route in its numbers.
    Ours name it.
    """
    settings = get_settings()
    telemetry.configure(settings, "gateway", open_log(settings.home, "gateway"))
    metrics.start(ray_metrics, "gateway")
    app = build_app(build_edge(settings, build_open_tunnel(settings)), open_edge=True)

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope, receive, send)

    return answer


class Gateway:
    """A replica of the gateway."""


def build_gateway_app(settings: Settings) -> serve.Application:
    """The Serve application that answers at ``/``."""
    deployment = serve.deployment(
        serve.ingress(build_gateway)(Gateway),
        num_replicas=settings.gateway_replicas,
        ray_actor_options={"num_cpus": 0, "label_selector": SYSTEM_GROUP},
        max_ongoing_requests=1000,
        health_check_period_s=2,
        health_check_timeout_s=5,
        graceful_shutdown_timeout_s=10,
        graceful_shutdown_wait_loop_s=0.5,
    )
    return deployment.bind()
