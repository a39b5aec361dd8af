"""A host whose one loop keeps a lease, and the driver that makes it: ``python -m tests.support.lone_host``.

The driver makes the actor once and then asks that same handle for each line it reads. Were the actor dead and another made under
its name, the handle would say so.
"""

from __future__ import annotations

import asyncio
import json
import sys

import ray

from cluster import leases
from cluster.host import NAMESPACE, Host, get_or_create_host

NAME = "lone-host"
_TTL_S = 2.0
_RENEW_S = 0.2


async def keep_lease(host: Host) -> None:
    """Take the lease when it is free and renew it for ever."""
    while True:
        async with host.db.platform() as conn:
            await leases.acquire(conn, NAME, host.holder, _TTL_S)
        await asyncio.sleep(_RENEW_S)


def main() -> None:
    answers, sys.stdout = sys.stdout, sys.stderr  # Ray prints what its nodes have to say
    ray.init(namespace=NAMESPACE, log_to_driver=False, configure_logging=False)
    host = get_or_create_host(NAME, (keep_lease,))
    for _ in sys.stdin:
        print(json.dumps(ray.get(host.ready.remote(), timeout=60)), file=answers, flush=True)


if __name__ == "__main__":
    main()
