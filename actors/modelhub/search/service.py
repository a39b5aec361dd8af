"""Searches over ModelHub: what a filter, an order and a page token ask for, read and answered."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar
from uuid import UUID

from actors.modelhub.evaluation.models import EvaluationDataset
from actors.modelhub.logged.models import LoggedModel
from actors.modelhub.models import Experiment, Model, ModelVersion, Run
from actors.modelhub.search import store
from actors.modelhub.search.errors import InvalidPageToken
from actors.modelhub.search.grammar import parse_filter, parse_order
from actors.modelhub.search.models import Comparison, Entity, Lifecycle, OrderBy, Search, Vocabulary
from actors.modelhub.traces.models import Trace
from actors.securityvault.models import Scope
from cluster.db import Connection

EXPERIMENTS = Vocabulary(
    texts=frozenset({"name", "experiment_id"}),
    numbers=frozenset({"creation_time", "last_update_time"}),
    entities=frozenset({Entity.TAG}),
)
RUNS = Vocabulary(
    texts=frozenset({"run_id", "run_name", "status", "user_id", "artifact_uri", "experiment_id"}),
    numbers=frozenset({"start_time", "end_time"}),
    entities=frozenset({Entity.METRIC, Entity.PARAM, Entity.TAG, Entity.DATASET}),
    aliases={"created": "start_time", "Created": "start_time", **dict.fromkeys(("run name", "Run name", "Run Name"), "run_name")},
    nested={Entity.DATASET: frozenset({"name", "digest", "context"})},
)
_TIMES = frozenset({"creation_timestamp", "last_updated_timestamp"})
MODELS = Vocabulary(
    texts=frozenset({"name"}), numbers=_TIMES, entities=frozenset({Entity.TAG}), aliases={"timestamp": "last_updated_timestamp"}
)
VERSIONS = Vocabulary(
    texts=frozenset({"name", "run_id", "source_path", "current_stage"}),
    numbers=_TIMES | {"version_number"},
    entities=frozenset({Entity.TAG}),
    aliases={"version": "version_number"},
)
LOGGED_MODELS = Vocabulary(
    texts=frozenset({"name", "model_id", "model_type", "status", "source_run_id", "experiment_id"}),
    numbers=_TIMES,
    entities=frozenset({Entity.METRIC, Entity.PARAM, Entity.TAG}),
    aliases={"creation_time": "creation_timestamp", "last_updated_time": "last_updated_timestamp"},
)
EVALUATION_DATASETS = Vocabulary(
    texts=frozenset({"name", "created_by", "last_updated_by"}),
    numbers=frozenset({"created_time", "last_update_time"}),
    entities=frozenset({Entity.TAG}),
)
TRACES = Vocabulary(
    texts=frozenset({"request_id", "client_request_id", "name", "run_id", "status", "experiment_id"}),
    numbers=frozenset({"timestamp_ms", "execution_time_ms", "end_time_ms"}),
    entities=frozenset({Entity.TAG, Entity.METADATA, Entity.FEEDBACK, Entity.EXPECTATION}),
    aliases={
        "trace_id": "request_id",
        **{name: f"{name}_ms" for name in ("timestamp", "execution_time", "end_time")},
        "execution_duration": "execution_time_ms",
    },
)
T = TypeVar("T")
RUN_NAME = "mlflow.runName"
"""The tag that is the name of the run."""


@dataclass(frozen=True)
class Question:
    """A search as it was asked, in text."""

    filter: str = ""
    order_by: tuple[str, ...] = ()
    lifecycle: Lifecycle = Lifecycle.ACTIVE
    limit: int = 1000
    page_token: str = ""


def read_search(question: Question, vocabulary: Vocabulary, within: object = None) -> Search:
    """``within``: what else decides the answer, such as the experiments. Raises: InvalidFilter, InvalidOrder, InvalidPageToken."""
    return Search(
        tuple(_to_run_name(comparison) for comparison in parse_filter(question.filter, vocabulary)),
        tuple(_to_run_name(by) for by in parse_order(question.order_by, vocabulary)),
        question.lifecycle,
        question.limit,
        offset(question, within),
    )


def cut(question: Question, search: Search, found: list[T], within: object = None) -> tuple[list[T], str]:
    """The page, of which ``found`` has one row more where there is a next one, and the token of that."""
    if len(found) <= search.limit:
        return found, ""
    token = json.dumps([search.offset + search.limit, _digest(question, within)])
    return found[: search.limit], base64.urlsafe_b64encode(token.encode()).decode()


Asked = TypeVar("Asked", Comparison, OrderBy)


def _to_run_name(asked: Asked) -> Asked:
    if asked.entity is Entity.TAG and asked.key == RUN_NAME:
        return replace(asked, entity=Entity.ATTRIBUTE, key="run_name")
    return asked


def _digest(question: Question, within: object) -> str:
    asked = [question.filter, question.order_by, question.lifecycle, str(within)]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]


def offset(question: Question, within: object = None) -> int:
    """Where the page begins that the token stands for. Raises: InvalidPageToken when it is of another search."""
    if not question.page_token:
        return 0
    try:
        begins, of = json.loads(base64.urlsafe_b64decode(question.page_token))
    except (ValueError, TypeError):
        raise InvalidPageToken from None
    if of != _digest(question, within) or not isinstance(begins, int) or not 0 <= begins < 2**31:
        raise InvalidPageToken
    return begins


async def search_experiments(conn: Connection, scope: Scope, question: Question) -> tuple[list[Experiment], str]:
    """Newest first unless ordered, and the token of the next page. Raises: InvalidFilter, InvalidOrder, InvalidPageToken."""
    search = read_search(question, EXPERIMENTS)
    return cut(question, search, await store.search_experiments(conn, scope.project, search))


async def search_runs(conn: Connection, scope: Scope, experiments: Sequence[UUID], question: Question) -> tuple[list[Run], str]:
    """Newest first unless ordered, and the token of the next page. Raises: InvalidFilter, InvalidOrder, InvalidPageToken."""
    within = sorted(map(str, experiments))
    search = read_search(question, RUNS, within)
    return cut(question, search, await store.search_runs(conn, scope.project, search, experiments=experiments), within)


async def find_experiments(conn: Connection, scope: Scope, ids: Sequence[UUID]) -> list[Experiment]:
    """By id, deleted ones too."""
    return await store.search_experiments(conn, scope.project, Search(lifecycle=Lifecycle.ALL), ids)


async def find_experiments_by_name(conn: Connection, scope: Scope, name: str) -> list[Experiment]:
    """Newest first, deleted ones too."""
    named = Comparison(Entity.ATTRIBUTE, "name", "=", name)
    return await store.search_experiments(conn, scope.project, Search((named,), lifecycle=Lifecycle.ALL))


async def find_runs(conn: Connection, scope: Scope, ids: Sequence[UUID]) -> list[Run]:
    """By id, deleted ones too."""
    return await store.search_runs(conn, scope.project, Search(lifecycle=Lifecycle.ALL), ids=ids)


async def search_models(conn: Connection, scope: Scope, question: Question) -> tuple[list[Model], str]:
    """By name unless ordered, and the token of the next page. Raises: InvalidFilter, InvalidOrder, InvalidPageToken."""
    search = read_search(question, MODELS)
    return cut(question, search, await store.search_models(conn, scope.project, search))


async def search_versions(conn: Connection, scope: Scope, question: Question) -> tuple[list[ModelVersion], str]:
    """What changed last first unless ordered, and the token of the next page. Raises: InvalidFilter, InvalidOrder, InvalidPageToken."""
    search = read_search(question, VERSIONS)
    return cut(question, search, await store.search_versions(conn, scope.project, search))


async def search_logged_models(
    conn: Connection,
    scope: Scope,
    experiments: Sequence[UUID],
    question: Question,
    measured_on: Sequence[tuple[str, str] | None] = (),
    datasets: Sequence[tuple[str, str]] = (),
) -> tuple[list[LoggedModel], str]:
    """Newest first unless ordered; ``measured_on``: the dataset of each order. Raises: InvalidFilter, InvalidOrder, InvalidPageToken."""
    within = (sorted(map(str, experiments)), list(measured_on), list(datasets))
    read = read_search(question, LOGGED_MODELS, within)
    order = tuple(replace(by, dataset=dataset) for by, dataset in zip(read.order, measured_on, strict=True))
    search = replace(read, order=order, datasets=tuple(datasets))
    return cut(question, search, await store.search_logged_models(conn, scope.project, search, experiments=experiments), within)


async def find_models(conn: Connection, scope: Scope, names: Sequence[str]) -> list[Model]:
    return await store.search_models(conn, scope.project, Search(), names)


async def find_versions(conn: Connection, scope: Scope, ids: Sequence[UUID]) -> list[ModelVersion]:
    """Without their files."""
    return await store.search_versions(conn, scope.project, Search(), ids=ids)


async def find_latest_versions(conn: Connection, scope: Scope, model_ids: Sequence[UUID]) -> list[ModelVersion]:
    """Of each model the newest version in each stage, without their files."""
    return await store.search_versions(conn, scope.project, Search(limit=10_000), newest_of=model_ids) if model_ids else []


async def find_logged_models(conn: Connection, scope: Scope, ids: Sequence[UUID]) -> list[LoggedModel]:
    return await store.search_logged_models(conn, scope.project, Search(), ids=ids)


async def search_evaluation_datasets(
    conn: Connection, scope: Scope, experiments: Sequence[UUID] | None, question: Question
) -> tuple[list[EvaluationDataset], str]:
    """Of these experiments, or all; newest first unless ordered. Raises: InvalidFilter, InvalidOrder, InvalidPageToken."""
    within = None if experiments is None else sorted(map(str, experiments))
    search = read_search(question, EVALUATION_DATASETS, within)
    return cut(question, search, await store.search_evaluation_datasets(conn, scope.project, search, experiments=experiments), within)


async def find_evaluation_datasets(conn: Connection, scope: Scope, ids: Sequence[UUID]) -> list[EvaluationDataset]:
    return await store.search_evaluation_datasets(conn, scope.project, Search(), ids=ids)


async def search_traces(conn: Connection, scope: Scope, experiments: Sequence[UUID], question: Question) -> tuple[list[Trace], str]:
    """Newest first unless ordered, and the token of the next page. Raises: InvalidFilter, InvalidOrder, InvalidPageToken."""
    within = sorted(map(str, experiments))
    search = read_search(question, TRACES, within)
    return cut(question, search, await store.search_traces(conn, scope.project, search, experiments=experiments), within)


async def find_traces(conn: Connection, scope: Scope, trace_ids: Sequence[str]) -> list[Trace]:
    """By the ids that clients gave them."""
    return await store.search_traces(conn, scope.project, Search(), trace_ids=trace_ids)


async def find_traces_by_id(conn: Connection, scope: Scope, ids: Sequence[UUID]) -> list[Trace]:
    """By the ids that their files have."""
    return await store.search_traces(conn, scope.project, Search(), ids=ids)
