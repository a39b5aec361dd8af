"""The operations of each module, one file a module or a part of it: nouns with their verbs.

``CATALOGUE`` says where a noun is declared, so that ``client.datasets`` and ``aidos --help`` load no more than they
need; a test holds it against the declarations.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from aidos.http.operation import Resource


class Entry(NamedTuple):
    """A noun: its attribute on the client, the module that declares it, and one line of help."""

    noun: str
    plural: str
    module: str
    help: str


CATALOGUE: tuple[Entry, ...] = (
    Entry(
        "dataset",
        "datasets",
        "dataforge.versions",
        "Versioned folders of files: commits, branches and tags over content-addressed storage.",
    ),
    Entry(
        "pull-request",
        "pull_requests",
        "dataforge.pulls",
        "Branches of data that are to be merged: reviewed, checked, and merged or closed.",
    ),
    Entry("report", "reports", "dataforge.reports", "What pipelines find out about a commit: profile, drift, expectations, label errors."),
    Entry("read", "reads", "dataforge.reads", "What runs streamed: which run saw which file and which row."),
    Entry("table", "tables", "dataforge.tables", "What is in the files of a commit: pages, queries, thumbnails."),
    Entry("labelling", "labelling", "dataforge.labelling", "Questions about the files or rows of a commit, answered by people."),
    Entry("job", "jobs", "trainos", "Programs that run on the cluster: training, tuning, pipelines."),
    Entry("queue", "queues", "trainos", "Who holds what, who waits, and why."),
    Entry("quota", "quotas", "trainos", "What a project may hold at once."),
    Entry("schedule", "schedules", "schedules", "Jobs that are queued anew at the times of a cron expression."),
    Entry("checkpoint", "checkpoints", "trainos", "What a job can be taken up again from."),
    Entry("study", "studies", "studies", "Searches for good hyperparameters: spaces, samplers, budgets, trials."),
    Entry("experiment", "experiments", "modelhub", "Groups of runs that ask the same question."),
    Entry("run", "runs", "modelhub", "Trainings and trials: what went in, what was measured, what came out."),
    Entry("view", "views", "comparisons", "Questions about runs that the project keeps: which runs, columns and charts."),
    Entry("model", "models", "modelhub", "Registered models: versions that were inspected, and aliases that point at them."),
    Entry("graph", "lineage", "modelhub", "The graph from the raw file to the prediction."),
    Entry("endpoint", "endpoints", "deployengine", "Models that answer predictions over the Open Inference Protocol v2."),
    Entry("bill", "costs", "costoptimizer", "What leased resources cost."),
    Entry("budget", "budgets", "costoptimizer", "What the project may cost a day, week or month."),
    Entry("price", "prices", "costoptimizer", "The organisation's price book."),
    Entry("event", "events", "events", "CloudEvents of the project."),
    Entry("project", "projects", "securityvault", "Where work is kept: each has members of its own."),
    Entry("member", "members", "securityvault", "Who is in the project, with which role."),
    Entry("key", "keys", "securityvault", "API keys."),
    Entry(
        "secret", "secrets", "securityvault", "What the project's jobs may know and nobody may read: passwords, tokens of other services."
    ),
    Entry("session", "sessions", "securityvault", "Sign-ins. `aidos login` makes one and keeps it fresh."),
    Entry("user", "users", "securityvault", "People of the organisation."),
    Entry("service-account", "service_accounts", "securityvault", "Identities for programs."),
    Entry("organisation", "organisations", "securityvault", "Tenants of the installation."),
    Entry("audit", "audit", "securityvault", "The log of all changes, as a hash chain."),
    Entry("platform", "platform", "platform", "The installation: alive, ready, which version, how it is doing."),
)


def declared(module: str) -> Iterator[type[Resource]]:
    """The resources that a module declares, in order."""
    loaded = importlib.import_module(f"{__name__}.{module}")
    for value in vars(loaded).values():
        if (
            isinstance(value, type)
            and value.__module__ == loaded.__name__
            and getattr(value, "noun", None)
            and hasattr(value, "operations")
        ):
            yield value


def every() -> Iterator[type[Resource]]:
    """All resources of all modules."""
    for module in pkgutil.walk_packages(__path__, f"{__name__}."):
        yield from declared(module.name.removeprefix(f"{__name__}."))


def find(*, noun: str | None = None, plural: str | None = None) -> type[Resource] | None:
    """The resource by its noun or by its attribute on the client."""
    for entry in CATALOGUE:
        if noun == entry.noun or plural == entry.plural:
            return next(resource for resource in declared(entry.module) if resource.noun == entry.noun)
    return None
