"""The SDK: ``Client`` and ``AsyncClient``, whose attributes are the platform's nouns.

import aidos

with aidos.Client() as client:
    for dataset in client.datasets.list():
        print(dataset.name)
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Self

from aidos import resources
from aidos.config import ClientConfig, read_config
from aidos.http.conversation import Converser, Patience
from aidos.http.credentials import Credential, find_credential
from aidos.http.operation import Resource
from aidos.http.sessions import refresh_sign_in
from aidos.http.transport import AsyncTransport, SyncTransport
from aidos.http.wire import Reply, Request

if TYPE_CHECKING:
    from aidos.resources.comparisons import Views
    from aidos.resources.costoptimizer import Budgets, Costs, Prices
    from aidos.resources.dataforge.labelling import Labelling
    from aidos.resources.dataforge.pulls import PullRequests
    from aidos.resources.dataforge.reads import Reads
    from aidos.resources.dataforge.reports import Reports
    from aidos.resources.dataforge.tables import Tables
    from aidos.resources.dataforge.versions import Datasets
    from aidos.resources.deployengine import Endpoints
    from aidos.resources.events import Events
    from aidos.resources.modelhub import Experiments, Lineage, Models, Runs
    from aidos.resources.platform import Platform
    from aidos.resources.schedules import Schedules
    from aidos.resources.securityvault import Audit, Keys, Members, Organisations, Projects, Secrets, ServiceAccounts, Sessions, Users
    from aidos.resources.studies import Studies
    from aidos.resources.trainos import Checkpoints, Jobs, Queue, Quotas

OnWait = Callable[[str, float], None]


class _Nouns:
    """What both clients do alike: resources by attribute, made when first used."""

    config: ClientConfig
    transport: Any

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        found = resources.find(plural=name)
        if found is None:
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}; it has {', '.join(self._plurals())}")
        bound = found(self.transport)
        self.__dict__[name] = bound
        return bound

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._plurals()]

    @staticmethod
    def _plurals() -> list[str]:
        return sorted(entry.plural for entry in resources.CATALOGUE)

    def with_options(
        self, *, timeout_s: float | None = None, idempotency_key: str | None = None, headers: Mapping[str, str] | None = None
    ) -> Self:
        """The same client, over the same connections, with a time-out, an idempotency key or headers of one's own."""
        other = copy.copy(self)
        other.__dict__ = {name: value for name, value in self.__dict__.items() if not isinstance(value, Resource)}
        other.transport = self.transport.with_options(timeout_s=timeout_s, idempotency_key=idempotency_key, headers=headers)
        return other


class Client(_Nouns):
    """The platform, synchronously. Safe to share between threads.

    What is not given comes from ``AIDOS_URL``, ``AIDOS_API_KEY``, ``AIDOS_TOKEN_FILE`` and ``AIDOS_PROJECT``, then from
    ``aidos login``. Calls are repeated through restarts of the platform for up to a minute (``AIDOS_RETRY_BUDGET_S``);
    a change has its effect once, whatever was repeated. ``on_wait(reason, seconds_left)`` is told when a call has to wait.
    """

    transport: SyncTransport

    # What ``__getattr__`` gives, for type checkers and editors; nothing is loaded for it.
    audit: Audit
    budgets: Budgets
    checkpoints: Checkpoints
    costs: Costs
    datasets: Datasets
    endpoints: Endpoints
    events: Events
    experiments: Experiments
    jobs: Jobs
    keys: Keys
    labelling: Labelling
    lineage: Lineage
    members: Members
    models: Models
    organisations: Organisations
    platform: Platform
    prices: Prices
    projects: Projects
    pull_requests: PullRequests
    queues: Queue
    quotas: Quotas
    reads: Reads
    reports: Reports
    runs: Runs
    schedules: Schedules
    views: Views
    service_accounts: ServiceAccounts
    secrets: Secrets
    sessions: Sessions
    studies: Studies
    tables: Tables
    users: Users

    def __init__(
        self, url: str | None = None, api_key: str | None = None, project: str | None = None, *, on_wait: OnWait | None = None
    ) -> None:
        self.config = read_config(url, api_key, project)
        self.transport = SyncTransport(build_converser(self.config, on_wait), self.config.timeout_s)

    def put_presigned(self, url: str, content: bytes, headers: Mapping[str, str] | None = None) -> Reply:
        """Upload to a presigned URL, with retries and without the token."""
        return self.transport.send_presigned(Request("PUT", url, headers=dict(headers or {}), content=content))

    def get_presigned(self, url: str, headers: Mapping[str, str] | None = None) -> Reply:
        """Download from a presigned URL, with retries and without the token."""
        return self.transport.send_presigned(Request("GET", url, headers=dict(headers or {})))

    def close(self) -> None:
        self.transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncClient(_Nouns):
    """The platform, asynchronously: the calls of ``Client``, awaited; lists and streams with ``async for``."""

    transport: AsyncTransport

    def __init__(
        self, url: str | None = None, api_key: str | None = None, project: str | None = None, *, on_wait: OnWait | None = None
    ) -> None:
        self.config = read_config(url, api_key, project)
        self.transport = AsyncTransport(build_converser(self.config, on_wait), self.config.timeout_s)

    async def put_presigned(self, url: str, content: bytes, headers: Mapping[str, str] | None = None) -> Reply:
        """As ``Client.put_presigned``."""
        return await self.transport.send_presigned(Request("PUT", url, headers=dict(headers or {}), content=content))

    async def get_presigned(self, url: str, headers: Mapping[str, str] | None = None) -> Reply:
        """As ``Client.get_presigned``."""
        return await self.transport.send_presigned(Request("GET", url, headers=dict(headers or {})))

    async def close(self) -> None:
        await self.transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def build_converser(config: ClientConfig, on_wait: OnWait | None) -> Converser:
    """What the calls of a client share, from its settings."""
    credential: Credential = find_credential(config, lambda token: refresh_sign_in(config, token))
    project = config.project or getattr(credential, "project", None)
    return Converser(config.url, credential, project, Patience(config.retry_budget_s), on_wait, config.traceparent)
