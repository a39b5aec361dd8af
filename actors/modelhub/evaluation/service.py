"""Verbs of evaluation datasets and of the scorers of an experiment."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from uuid import UUID

from actors.modelhub.evaluation import policy, store
from actors.modelhub.evaluation.errors import EvaluationDatasetNotFound, ScorerNotFound
from actors.modelhub.evaluation.models import EvaluationDataset, EvaluationRecord, Scorer
from actors.modelhub.models import Experiment
from actors.modelhub.search import service as search
from actors.modelhub.search.errors import InvalidPageToken
from actors.securityvault.models import Scope
from cluster.db import Connection


def to_id(dataset_id: str) -> UUID:
    """Raises: EvaluationDatasetNotFound."""
    try:
        return UUID(dataset_id.removeprefix("d-"))
    except ValueError:
        raise EvaluationDatasetNotFound(dataset_id=dataset_id[:100]) from None


async def create_dataset(
    conn: Connection, scope: Scope, name: str, tags: Mapping[str, str], experiments: Sequence[Experiment]
) -> EvaluationDataset:
    """Several may have one name."""
    ids = list(dict.fromkeys(experiment.id for experiment in experiments))
    made = await store.insert_dataset(conn, scope.project, name, tags, ids, tags.get(policy.USER))
    return await get_dataset(conn, scope, made)


async def get_dataset(conn: Connection, scope: Scope, id: UUID) -> EvaluationDataset:
    """Raises: EvaluationDatasetNotFound."""
    if found := await search.find_evaluation_datasets(conn, scope, [id]):
        return found[0]
    raise EvaluationDatasetNotFound(dataset_id=f"d-{id.hex}")


async def delete_dataset(conn: Connection, scope: Scope, id: UUID) -> None:
    """With its records. Once more changes nothing."""
    await store.delete_dataset(conn, scope.project, id)


async def change_tags(conn: Connection, scope: Scope, id: UUID, tags: Mapping[str, str], removed: Sequence[str] = ()) -> EvaluationDataset:
    """Raises: EvaluationDatasetNotFound."""
    await get_dataset(conn, scope, id)
    await store.change_tags(conn, scope.project, id, tags, removed)
    return await get_dataset(conn, scope, id)


async def add_experiments(conn: Connection, scope: Scope, id: UUID, experiments: Sequence[Experiment]) -> EvaluationDataset:
    """Those that it has already stay once. Raises: EvaluationDatasetNotFound."""
    return await _set_experiments(conn, scope, id, lambda ids: [*ids, *(each.id for each in experiments)])


async def remove_experiments(conn: Connection, scope: Scope, id: UUID, experiment_ids: Sequence[UUID]) -> EvaluationDataset:
    """Raises: EvaluationDatasetNotFound."""
    return await _set_experiments(conn, scope, id, lambda ids: [each for each in ids if each not in experiment_ids])


async def _set_experiments(conn: Connection, scope: Scope, id: UUID, change: Callable[[Sequence[UUID]], list[UUID]]) -> EvaluationDataset:
    await store.lock_dataset(conn, scope.project, id)
    found = await get_dataset(conn, scope, id)
    await store.set_experiments(conn, scope.project, id, list(dict.fromkeys(change(found.experiment_ids))))
    return await get_dataset(conn, scope, id)


async def put_records(conn: Connection, scope: Scope, id: UUID, text: str) -> tuple[int, int]:
    """Merge records, which are JSON, into those with the same inputs. How many are new, and how many were changed.

    Raises: EvaluationDatasetNotFound, EvaluationRecordsInvalid.
    """
    sent = policy.read_records(text)
    schema = await store.lock_dataset(conn, scope.project, id)
    await get_dataset(conn, scope, id)
    digests = [policy.digest(record) for record in sent]
    bodies = {digest: found.body for digest, found in (await store.find_records(conn, scope.project, id, digests)).items()}
    known = len(bodies)
    for digest, record in zip(digests, sent, strict=True):
        bodies[digest] = policy.merge_record(bodies.get(digest), record)
    await store.put_records(conn, scope.project, id, bodies)
    users = [user for record in sent if (user := (record.get("tags") or {}).get(policy.USER))]
    await store.touch_dataset(conn, scope.project, id, policy.extend_schema(schema, sent), users[-1] if users else None)
    inserted = len(bodies) - known
    return inserted, len(sent) - inserted


async def list_records(conn: Connection, scope: Scope, id: UUID, limit: int, page_token: str) -> tuple[list[EvaluationRecord], str]:
    """In the order in which they came, and the token of the next page. Raises: EvaluationDatasetNotFound, InvalidPageToken."""
    await get_dataset(conn, scope, id)
    try:
        after = UUID(page_token) if page_token else None
    except ValueError:
        raise InvalidPageToken from None
    found = await store.list_records(conn, scope.project, id, after, limit + 1)
    return found[:limit], found[limit - 1].id.hex if len(found) > limit else ""


async def delete_records(conn: Connection, scope: Scope, id: UUID, record_ids: Sequence[str]) -> int:
    """How many there were. Raises: EvaluationDatasetNotFound."""
    await get_dataset(conn, scope, id)
    known = [found for each in record_ids if (found := _to_record_id(each))]
    deleted = await store.delete_records(conn, scope.project, id, known)
    await store.touch_dataset(conn, scope.project, id, None, None)
    return deleted


def _to_record_id(text: str) -> UUID | None:
    try:
        return UUID(text.removeprefix("dr-"))
    except ValueError:
        return None


async def register_scorer(conn: Connection, scope: Scope, experiment: Experiment, name: str, serialized: str) -> Scorer:
    """The next version of the name."""
    await store.lock_experiment(conn, scope.project, experiment.id)
    return await store.insert_scorer(conn, scope.project, experiment.id, name, serialized)


async def list_scorers(conn: Connection, scope: Scope, experiments: Sequence[Experiment], name: str | None = None) -> list[Scorer]:
    """The newest version of each, or all of a name. Raises: ScorerNotFound for a name that there is not."""
    found = await store.list_scorers(conn, scope.project, [experiment.id for experiment in experiments], name)
    if name is not None and not found:
        raise _not_found(experiments[0], name, None)
    return found


async def get_scorer(conn: Connection, scope: Scope, experiment: Experiment, name: str, version: int | None) -> Scorer:
    """The version, or the newest. Raises: ScorerNotFound."""
    found = await list_scorers(conn, scope, [experiment], name)
    for scorer in reversed(found):
        if version in (None, scorer.version):
            return scorer
    raise _not_found(experiment, name, version)


async def delete_scorers(conn: Connection, scope: Scope, experiment: Experiment, name: str, version: int | None) -> None:
    """One version, or all. Raises: ScorerNotFound."""
    if not await store.delete_scorers(conn, scope.project, experiment.id, name, version):
        raise _not_found(experiment, name, version)


def _not_found(experiment: Experiment, name: str, version: int | None) -> ScorerNotFound:
    shown = "" if version is None else f" and version {version}"
    return ScorerNotFound(name=name[:200], version=shown, experiment_id=experiment.id.hex)
