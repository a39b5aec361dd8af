"""``ray start`` on a busy machine: ``python -m cluster.ray_start start --head …``.

A raylet of Ray 2.60 reads its agents' ports from files that the agents write once they are up, also when the ports were given on the
command line, and aborts when a file is not there after 15 s (``WaitForPersistedPort``; no setting reaches it). ``ray start`` then
sits out its own 30 s, ends, and all begins anew: on a machine that is busy enough, for ever. Here every port is given, so the files are
written before the raylet starts. It comes up at once and reaches its agents as soon as they listen, within
``RAY_agent_register_timeout_ms``.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from typing import Any

from ray._private import services
from ray._raylet import (
    DASHBOARD_AGENT_LISTEN_PORT_NAME,
    METRICS_AGENT_PORT_NAME,
    METRICS_EXPORT_PORT_NAME,
    RUNTIME_ENV_AGENT_PORT_NAME,
    persist_port,
)
from ray.scripts.scripts import main

PORT_NAMES = {
    "metrics_agent_port": METRICS_AGENT_PORT_NAME,
    "metrics_export_port": METRICS_EXPORT_PORT_NAME,
    "dashboard_agent_listen_port": DASHBOARD_AGENT_LISTEN_PORT_NAME,
    "runtime_env_agent_port": RUNTIME_ENV_AGENT_PORT_NAME,
}
"""Parameters of ``services.start_raylet``, and the files that the raylet waits for."""


def announcing(start_raylet: Callable[..., Any]) -> Callable[..., Any]:
    """``start_raylet``, with the agents' given ports told beforehand; one that Ray is to choose is left to the agent."""

    @functools.wraps(start_raylet)
    def start(*args: Any, **kwargs: Any) -> Any:
        given = inspect.signature(start_raylet).bind(*args, **kwargs).arguments
        for parameter, name in PORT_NAMES.items():
            if given.get(parameter):
                persist_port(given["session_dir"], given["node_id"], name, given[parameter])
        return start_raylet(*args, **kwargs)

    return start


if __name__ == "__main__":
    services.start_raylet = announcing(services.start_raylet)
    sys.exit(main())
