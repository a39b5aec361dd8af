"""The registry as MLflow's clients know it: versions are registered by the address of their files, and have stages, tags and aliases.

They are the native models and versions: the same rows, the same inspection, the same aliases.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from urllib.parse import unquote, urlsplit
from uuid import UUID

from actors.modelhub import policy, service
from actors.modelhub.artifacts import service as artifacts
from actors.modelhub.artifacts.errors import InvalidArtifactPath
from actors.modelhub.artifacts.models import Location, OwnerKind
from actors.modelhub.errors import ModelExists, ModelNotFound, VersionNotFound
from actors.modelhub.governance import service as governance
from actors.modelhub.logged import service as logged
from actors.modelhub.models import Finding, Model, ModelFile, ModelVersion, Run, VersionOrigin
from actors.modelhub.registry import store
from actors.modelhub.registry.errors import AliasUnknown, InvalidAlias, InvalidModelName, InvalidSource, InvalidStage
from actors.modelhub.search import service as search
from actors.modelhub.search.conditions import IS_PROMPT
from actors.modelhub.tracking import service as tracking
from actors.securityvault.models import Scope
from aidos.errors import NotFound
from cluster.db import Connection, unique

STAGES = {stage.lower(): stage for stage in ("None", "Staging", "Production", "Archived")}
MOST_FILES = 2000
NOT_SERVED = Finding("prompt", "high", "", "a prompt is read, not served")
ELSEWHERE = Finding("elsewhere", "high", "", "its files are outside of the platform, which has not looked at them")
"""Why such a version is there at once, for clients to read, and for no endpoint."""
_OUTSIDE = frozenset({"s3", "gs", "abfss", "wasbs", "dbfs", "r2"})
"""Stores that clients read by themselves, with credentials of their own."""
_NAME = re.compile(r"[^/:\x00-\x1f\x7f]{1,255}")
_ALIAS = re.compile(r"(?!(?:latest|[vV]?\d+)$)[\w-]{1,255}")
_LOGGED = re.compile(r"m-[0-9a-f]{32}")


async def create_model(conn: Connection, scope: Scope, name: str, description: str, tags: Mapping[str, str]) -> Model:
    """Raises: InvalidModelName, ModelExists."""
    _check_name(name)
    made = await service.create_model(conn, scope, name, description)
    await store.set_model_tags(conn, scope.project, made.id, tags)
    return await get_model(conn, scope, name)


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name) or not name.strip():
        raise InvalidModelName(name=name[:300])


async def get_model(conn: Connection, scope: Scope, name: str) -> Model:
    """With its tags. Raises: ModelNotFound."""
    if found := await search.find_models(conn, scope, [name]):
        return found[0]
    raise ModelNotFound(name=name)


async def rename_model(conn: Connection, scope: Scope, name: str, new_name: str) -> Model:
    """Raises: InvalidModelName, ModelNotFound, ModelExists, ProtectionKept."""
    _check_name(new_name)
    await governance.refuse_protected(conn, scope, name)
    with unique("models_name", ModelExists(name=new_name)):
        if not await store.rename_model(conn, scope.project, name, new_name):
            raise ModelNotFound(name=name)
    return await get_model(conn, scope, new_name)


async def describe_model(conn: Connection, scope: Scope, name: str, description: str) -> Model:
    """Raises: ModelNotFound."""
    if not await store.describe_model(conn, scope.project, name, description):
        raise ModelNotFound(name=name)
    return await get_model(conn, scope, name)


async def set_model_tags(conn: Connection, scope: Scope, name: str, tags: Mapping[str, str | None]) -> None:
    """None removes one. Raises: ModelNotFound."""
    id = (await service.get_model(conn, scope, name)).id
    await store.set_model_tags(conn, scope.project, id, {key: value for key, value in tags.items() if value is not None})
    for key in (key for key, value in tags.items() if value is None):
        await store.delete_model_tag(conn, scope.project, id, key)


async def create_version(
    conn: Connection, scope: Scope, name: str, origin: VersionOrigin, run_id: str, description: str, tags: Mapping[str, str]
) -> ModelVersion:
    """Register what lies at ``origin.source``, PENDING until inspected. A prompt has no files, its text is a tag; those that lie in another
    store stay there.

    Raises: ModelNotFound, RunNotFound, InvalidSource.
    """
    await service.get_model(conn, scope, name)
    run = await tracking.get_run(conn, scope, run_id) if run_id else None
    apart = NOT_SERVED if tags.get(IS_PROMPT) == "true" else ELSEWHERE if _is_outside(origin.source) else None
    files, made_by, logged_model = ([], None, None) if apart else await _resolve(conn, scope, origin)
    if not files and not apart:
        raise InvalidSource(source=origin.source, reason="there are no files")
    flavour = policy.choose_flavour([file.path for file in files])
    known = VersionOrigin(origin.source, origin.run_link, logged_model)
    made = await service.register_files(conn, scope, name, flavour, files, run=run or made_by, description=description, origin=known)
    await store.set_version_tags(conn, scope.project, made.id, tags)
    if apart:
        await store.keep_apart(conn, scope.project, made.id, apart)
    return await get_version(conn, scope, name, str(made.version))


def _is_outside(source: str) -> bool:
    parts = urlsplit(source)
    return parts.scheme in _OUTSIDE and ".." not in unquote(parts.path).split("/")


async def _resolve(conn: Connection, scope: Scope, origin: VersionOrigin) -> tuple[list[ModelFile], Run | None, UUID | None]:
    """The files at a source, the run that made them, and the logged model that they are."""
    parts = urlsplit(origin.source)
    path = unquote(parts.path).strip("/")
    try:
        if parts.scheme == "models" and _LOGGED.fullmatch(path):
            return await _of_logged_model(conn, scope, Location(OwnerKind.MODEL, logged.to_id(path), ""))
        if parts.scheme == "models":
            version = await service.get_version(conn, scope, *_split_version(path))
            run = await tracking.get_run(conn, scope, str(version.run_id)) if version.run_id else None
            return list(version.files), run, origin.logged_model_id
        if parts.scheme == "runs":
            path = "/artifacts/".join(["runs/" + path.partition("/")[0], path.partition("/")[2]])
        elif parts.scheme != "mlflow-artifacts" or parts.netloc:
            raise InvalidSource(source=origin.source, reason=f"'{parts.scheme or 'a path'}' is no address that the platform reads")
        at = artifacts.parse_location(path)
        if at.kind is OwnerKind.MODEL:
            return await _of_logged_model(conn, scope, at)
        if at.kind is OwnerKind.RUN:
            return await _below(conn, scope, at), await tracking.get_run(conn, scope, str(at.owner_id)), None
    except (NotFound, InvalidArtifactPath) as error:
        raise InvalidSource(source=origin.source, reason=str(error).rstrip(".")) from None
    raise InvalidSource(source=origin.source, reason="it is neither a run's nor a logged model's")


def _split_version(path: str) -> tuple[str, str]:
    name, at, version = path.rpartition("@") if "@" in path else path.partition("/")
    return name, version if at else "latest"


async def _of_logged_model(conn: Connection, scope: Scope, at: Location) -> tuple[list[ModelFile], Run | None, UUID | None]:
    model = await logged.get_model(conn, scope, at.owner_id)
    run = await tracking.get_run(conn, scope, str(model.run_id)) if model.run_id else None
    return await _below(conn, scope, at), run, model.id


async def _below(conn: Connection, scope: Scope, at: Location) -> list[ModelFile]:
    folder = f"{at.path}/" if at.path else ""
    found = await artifacts.list_tree(conn, scope, at, MOST_FILES + 1)
    if len(found) > MOST_FILES:
        raise InvalidSource(source=at.path, reason=f"a version has at most {MOST_FILES} files")
    return [ModelFile(file.path.removeprefix(folder), file.key, file.size_bytes, file.sha256) for file in found]


async def get_version(conn: Connection, scope: Scope, name: str, version: str) -> ModelVersion:
    """By number, with its tags. Raises: VersionNotFound."""
    found = await service.get_version(conn, scope, name, version)
    return (await search.find_versions(conn, scope, [found.id]))[0]


async def get_version_by_alias(conn: Connection, scope: Scope, name: str, alias: str) -> ModelVersion:
    """``latest`` is the newest, whatever its state, as clients load prompts. Raises: ModelNotFound, VersionNotFound, AliasUnknown, InvalidAlias."""
    if alias.lower() == "latest":
        newest = await latest_versions(conn, scope, [await get_model(conn, scope, name)])
        if not newest:
            raise VersionNotFound(model=name, version=alias)
        return max(newest, key=lambda version: version.version)
    await service.get_model(conn, scope, name)
    try:
        return await get_version(conn, scope, name, _check_alias(alias))
    except VersionNotFound:
        raise AliasUnknown(alias=alias) from None


def _check_alias(alias: str) -> str:
    if not _ALIAS.fullmatch(alias):
        raise InvalidAlias(alias=alias[:300])
    return alias


async def move_alias(conn: Connection, scope: Scope, name: str, alias: str, version: str) -> None:
    """Raises: InvalidAlias, VersionNotFound, VersionNotReady, AliasProtected."""
    await governance.move_alias(conn, scope, name, _check_alias(alias), version)


async def delete_version(conn: Connection, scope: Scope, name: str, version: str) -> None:
    """With the aliases that point at it. Raises: VersionNotFound, ProtectionKept."""
    found = await service.get_version(conn, scope, name, version)
    for alias in found.aliases:
        await governance.delete_alias(conn, scope, name, alias)
    await service.delete_version(conn, scope, name, str(found.version))


async def describe_version(conn: Connection, scope: Scope, name: str, version: str, description: str) -> ModelVersion:
    """Raises: VersionNotFound."""
    found = await service.get_version(conn, scope, name, version)
    await store.update_version(conn, scope.project, found.id, description=description)
    return await get_version(conn, scope, name, version)


async def update_version(
    conn: Connection, scope: Scope, name: str, version: str, description: str | None, card: str | None, tags: Mapping[str, str | None]
) -> ModelVersion:
    """Change what is prose; None stays, and removes a tag. Raises: VersionNotFound."""
    found = await service.get_version(conn, scope, name, version)
    await store.update_version(conn, scope.project, found.id, description=description, card=card)
    await set_version_tags(conn, scope, name, str(found.version), tags)
    return await service.get_version(conn, scope, name, str(found.version))


async def move_stage(conn: Connection, scope: Scope, name: str, version: str, stage: str, *, archive: bool) -> ModelVersion:
    """``archive``: the others in the stage become Archived. An alias `staging` or `production` that is protected holds for the stage too.

    Raises: VersionNotFound, InvalidStage, AliasProtected.
    """
    wanted = check_stage(stage)
    found = await service.get_version(conn, scope, name, version)
    if archive and wanted not in ("Staging", "Production"):
        raise InvalidStage(stage=f"{stage} cannot archive the versions in it")
    await governance.refuse_unfit(conn, scope, await service.lock_version(conn, scope, found), wanted.lower())
    if archive:
        await store.archive_versions(conn, scope.project, found.model_id, found.id, wanted)
    await store.update_version(conn, scope.project, found.id, stage=wanted)
    return await get_version(conn, scope, name, version)


def check_stage(stage: str) -> str:
    """As it is written. Raises: InvalidStage."""
    if stage.lower() not in STAGES:
        raise InvalidStage(stage=stage[:100])
    return STAGES[stage.lower()]


async def set_version_tags(conn: Connection, scope: Scope, name: str, version: str, tags: Mapping[str, str | None]) -> None:
    """None removes one. Raises: VersionNotFound."""
    id = (await service.get_version(conn, scope, name, version)).id
    await store.set_version_tags(conn, scope.project, id, {key: value for key, value in tags.items() if value is not None})
    for key in (key for key, value in tags.items() if value is None):
        await store.delete_version_tag(conn, scope.project, id, key)


async def latest_versions(conn: Connection, scope: Scope, models: Sequence[Model], stages: Sequence[str] = ()) -> list[ModelVersion]:
    """The newest of each model in each stage, or in these. Raises: InvalidStage."""
    wanted = {check_stage(stage) for stage in stages}
    newest = await search.find_latest_versions(conn, scope, [model.id for model in models])
    return [version for version in newest if not wanted or version.stage in wanted]
