"""From a credential to a principal: in each replica, from memory, and wrong for less than a second after a revocation.

Whatever changes what a credential may do announces it on the channel ``aidos_revoked`` in the same transaction; each
replica's listener then forgets what carries that tag. While a listener has no connection, nothing is believed for
longer than a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hmac
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from actors.securityvault import policy, store
from actors.securityvault.cache import SingleFlight, TaggedCache
from actors.securityvault.credentials import PREFIX, parse_key
from actors.securityvault.errors import CredentialInvalid, CredentialMissing, ProjectNotFound
from actors.securityvault.keyring import AUDIT_KEYS, TOKEN_KEYS, Pepper, SigningKeys, fingerprint, read_pepper, read_signing_keys
from actors.securityvault.limits import Limit, RateLimiter
from actors.securityvault.models import Account, Grade, Principal, PrincipalKind, Project, Role, Scope
from actors.securityvault.passwords import Passwords
from actors.securityvault.tokens import JOB, TokenSigner
from aidos.errors import Unavailable
from cluster.db import Connection, Database
from cluster.settings import Settings
from cluster.telemetry import get_logger

CHANNEL = "aidos_revoked"
BELIEVED_S, BELIEVED_DEAF_S = 30.0, 1.0
_UPKEEP_S = 60.0
_RESTART_S = 0.5
_LONGEST_CREDENTIAL = 4096
_log = get_logger("securityvault")


@dataclass(frozen=True, slots=True)
class Admission:
    """A caller at the door: who it is, what its requests count against, and what it may in the project it names; None, if there is none."""

    principal: Principal
    limits: tuple[Limit, ...]
    scope: Scope | None


class Authenticator:
    """One a process. Use with ``async with``, or ``start`` and ``stop``; the database must be open."""

    def __init__(self, db: Database, settings: Settings) -> None:
        self.db, self.settings = db, settings
        self.limiter = RateLimiter(db)
        self.passwords = Passwords()
        self._signer: TokenSigner | None = None
        self._signer_file: tuple[int, int] | None = None  # inode and time of change
        self._principals: TaggedCache[Principal] = TaggedCache(BELIEVED_DEAF_S)
        self._projects: TaggedCache[Project] = TaggedCache(BELIEVED_DEAF_S)
        self._admissions: TaggedCache[Admission] = TaggedCache(BELIEVED_DEAF_S)
        self._caches: tuple[TaggedCache[Any], ...] = (self._principals, self._projects, self._admissions)
        self._asking: SingleFlight[Principal] = SingleFlight()
        self._asking_projects: SingleFlight[Project | None] = SingleFlight()
        self._used_keys: dict[UUID, float] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self.listening = asyncio.Event()
        """Set while revocations are heard."""

    async def __aenter__(self) -> Authenticator:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Begin to listen for revocations and to keep house."""
        await self.limiter.__aenter__()
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._keep_house())]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(Unavailable):
            await self._flush_used_keys()
        await self.limiter.__aexit__()
        self.passwords.close()

    @functools.cached_property
    def pepper(self) -> Pepper:
        """Raises: VaultLocked."""
        return read_pepper(self.settings)

    @functools.cached_property
    def audit_keys(self) -> SigningKeys:
        """Raises: VaultLocked."""
        return read_signing_keys(self.settings, AUDIT_KEYS)

    @property
    def signer(self) -> TokenSigner:
        """Signs and reads tokens; follows a rotation of the key file."""
        path = self.settings.secret_path(TOKEN_KEYS)
        try:
            info = path.stat()
            found = (info.st_ino, info.st_mtime_ns)  # the clock of a file system ticks in milliseconds: two rotations fit in one
        except FileNotFoundError:
            found = None
        if self._signer is None or found != self._signer_file:
            self._signer, self._signer_file = TokenSigner(read_signing_keys(self.settings, TOKEN_KEYS), self.settings.url), found
        return self._signer

    async def authenticate(self, headers: Mapping[str, str]) -> Principal:
        """Who sends these headers (names in lower case). Raises: CredentialMissing, CredentialInvalid, Unavailable."""
        authorization = headers.get("authorization", "")
        if authorization[:7].lower() == "bearer ":
            return await self.resolve(authorization[7:].strip())
        if authorization or not (key := headers.get("x-api-key")):
            raise CredentialMissing
        return await self.resolve(key)

    async def admit(self, credential: str, project_name: str | None) -> Admission:
        """The caller with this credential in the project it asks for, as ``scope`` finds it; the common request needs no more than this.

        Raises: CredentialInvalid, Unavailable.
        """
        key = fingerprint(credential) + (project_name or "").encode("utf-8", "surrogatepass")
        if (known := self._admissions.get(key)) is not None:
            self._note_use(known.principal)
            return known
        generation = self._admissions.generation
        principal = await self.resolve(credential)
        wanted = _wanted_project(principal, project_name)
        project = await self._find_project(principal.org_id, wanted)
        admission = Admission(principal, self._limits(principal, project), _scope(principal, project))
        if project is not None:
            left_s = min(self._principals.left_s(fingerprint(credential)), self._projects.left_s(_project_key(principal.org_id, wanted)))
            tags = (*_tags(principal), _org_tag(principal.org_id))
            self._admissions.put(key, admission, tags, generation, left_s)
        return admission

    async def resolve(self, credential: str) -> Principal:
        """The principal of an API key, an access token or a job token. Raises: CredentialInvalid, Unavailable."""
        key = fingerprint(credential)
        if (known := self._principals.get(key)) is not None:
            self._note_use(known)
            return known
        if len(credential) > _LONGEST_CREDENTIAL or not credential.isascii():
            raise CredentialInvalid
        generation = self._principals.generation
        # A question from before an announcement is not joined: its answer may be the old one.
        return await self._asking.run((key, generation), lambda: self._look_up(credential, key, generation))

    async def _look_up(self, credential: str, key: bytes, generation: int) -> Principal:
        principal = await (self._resolve_key(credential) if credential.startswith(PREFIX) else self._resolve_token(credential))
        left_s = (principal.expires_at - datetime.now(UTC)).total_seconds() if principal.expires_at else None
        self._principals.put(key, principal, _tags(principal), generation, left_s)
        self._note_use(principal)
        return principal

    def _note_use(self, principal: Principal) -> None:
        if principal.key_id is not None:
            self._used_keys[principal.key_id] = time.time()

    async def _resolve_key(self, text: str) -> Principal:
        parsed = parse_key(text)
        if parsed is None:
            raise CredentialInvalid
        async with self.db.platform() as conn:
            row = await store.find_key_secret(conn, parsed[0])
            if row is None or not hmac.compare_digest(self.pepper.of_key(parsed[1]), bytes(row["secret_hmac"])):
                raise CredentialInvalid
            return await key_principal(conn, row)

    async def _resolve_token(self, token: str) -> Principal:
        kind, claims = self.signer.read(token)
        expires_at = datetime.fromtimestamp(claims["exp"], UTC)
        try:
            async with self.db.platform() as conn:
                if kind == JOB:
                    return await self._resolve_job(conn, claims, expires_at)
                session_id = UUID(claims["sid"])
                account = await store.find_session_account(conn, session_id)
                if account is None or str(account.id) != claims["sub"] or str(account.org_id) != claims["org"]:
                    raise CredentialInvalid
                return await account_principal(conn, account, session_id, expires_at)
        except ValueError as error:
            raise CredentialInvalid from error

    async def _resolve_job(self, conn: Connection, claims: dict[str, Any], expires_at: datetime) -> Principal:
        grant = await store.find_job_grant(conn, UUID(claims["sub"]))
        if grant is None or (str(grant["org_id"]), str(grant["project_id"]), grant["epoch"]) != (
            claims["org"],
            claims["project"],
            claims["epoch"],
        ):
            raise CredentialInvalid
        role: Role | None = Role(grant["role"])
        if not grant["everywhere"]:
            roles = await store.list_roles(conn, grant["org_id"], grant["account_id"])
            role = policy.weaker(role, roles.get(grant["project_id"]))
        if role is None:
            raise CredentialInvalid
        return Principal(
            kind=PrincipalKind.JOB,
            id=grant["job_id"],
            name=f"job {grant['job_id']}",
            org_id=grant["org_id"],
            roles={grant["project_id"]: role},
            scopes=frozenset(claims["scopes"]),
            project_id=grant["project_id"],
            job_id=grant["job_id"],
            user_id=grant["account_id"],
            expires_at=expires_at,
        )

    async def scope(self, principal: Principal, project_name: str | None) -> Scope:
        """The principal in the project it asks for (name or id), else its own, else ``default``. Raises: ProjectNotFound."""
        wanted = _wanted_project(principal, project_name)
        scope = _scope(principal, await self._find_project(principal.org_id, wanted))
        if scope is None:
            raise ProjectNotFound(name=wanted[:100])
        return scope

    async def _find_project(self, org_id: UUID, wanted: str) -> Project | None:
        key = _project_key(org_id, wanted)
        if (known := self._projects.get(key)) is not None:
            return known
        if len(wanted) > 100 or not wanted.isprintable():
            return None
        generation = self._projects.generation
        return await self._asking_projects.run((key, generation), lambda: self._look_up_project(org_id, wanted, key, generation))

    async def _look_up_project(self, org_id: UUID, wanted: str, key: bytes, generation: int) -> Project | None:
        async with self.db.platform() as conn:
            project = await store.find_project(conn, org_id, wanted)
        if project is not None:
            self._projects.put(key, project, (_org_tag(org_id),), generation)
        return project

    async def spend(self, principal: Principal, what: str, per_minute: int) -> None:
        """One of the times that a credential may do this in a minute. Raises: TooManyRequests, Unavailable."""
        limits = (Limit(f"key for {what}", str(_credential(principal)), per_minute),)
        if not self.limiter.take_local(limits):
            await self.limiter.take(limits)

    def _limits(self, principal: Principal, project: Project | None) -> tuple[Limit, ...]:
        most = self.settings.rate_limit_per_minute
        credential = _credential(principal)
        own, of_project = principal.rate_limit_per_minute or most, (project and project.rate_limit_per_minute) or most
        return _build_limits(credential, own, principal.user_id, most, project.id if project else None, of_project)

    async def _listen(self) -> None:
        while True:
            try:
                await self._hear()
            except Exception:
                _log.exception("the listener for revocations failed")
            finally:
                self._deaf()
            await asyncio.sleep(_RESTART_S)

    async def _hear(self) -> None:
        async for payload in self.db.listen(CHANNEL, self._deaf):
            if payload == "":
                self._believe_for(BELIEVED_S)
                self.listening.set()
            else:
                for cache in self._caches:
                    cache.forget(payload)

    def _deaf(self) -> None:
        self.listening.clear()
        self._believe_for(BELIEVED_DEAF_S)

    def _believe_for(self, age_s: float) -> None:
        for cache in self._caches:
            cache.max_age_s = age_s
            cache.clear()

    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(_UPKEEP_S)
            try:
                await self.keep_house()
            except Unavailable:
                _log.info("upkeep is put off: the database is away")
            except Exception:
                _log.exception("upkeep failed")

    async def keep_house(self) -> None:
        """Note which keys were used, forget what is over. Every replica does; that is harmless."""
        await self._flush_used_keys()
        async with self.db.platform() as conn:
            await store.forget_windows(conn)
            await store.forget_sessions(conn)

    async def _flush_used_keys(self) -> None:
        used, self._used_keys = self._used_keys, {}
        if used:
            async with self.db.platform() as conn:
                await store.touch_keys(conn, {id: datetime.fromtimestamp(at_s, UTC) for id, at_s in used.items()})


@functools.lru_cache(maxsize=10_000)
def _build_limits(credential: UUID, own: int, user: UUID | None, most: int, project: UUID | None, of_project: int) -> tuple[Limit, ...]:
    """Pure, and the same for every request of a caller: remembered because each request needs it."""
    limits = [Limit("key", str(credential), own)]
    if user is not None:
        limits.append(Limit("user", str(user), most))
    if project is not None:
        limits.append(Limit("project", str(project), of_project))
    return tuple(limits)


def _credential(principal: Principal) -> UUID:
    return principal.key_id or principal.session_id or principal.job_id or principal.id


def _scope(principal: Principal, project: Project | None) -> Scope | None:
    """The principal in a project; None where it is not there for it."""
    if project is None or (principal.project_id is not None and principal.project_id != project.id):
        return None
    role = Role.OWNER if principal.org_admin or principal.operator else principal.roles.get(project.id)
    if role is None:
        return None
    if project.archived_at is not None:
        role = policy.weaker(role, Role.VIEWER)
    return Scope(principal, principal.org_id, project.id, project.name, role)


def _wanted_project(principal: Principal, project_name: str | None) -> str:
    return project_name or (str(principal.project_id) if principal.project_id else "default")


def _org_tag(org_id: UUID) -> str:
    return f"org:{org_id}"


def _project_key(org_id: UUID, wanted: str) -> bytes:
    return f"{org_id.hex}/{wanted}".encode("utf-8", "surrogatepass")


def _tags(principal: Principal) -> tuple[str, ...]:
    """What must be announced for the principal to be looked up anew."""
    ids = {"key": principal.key_id, "session": principal.session_id, "job": principal.job_id, "account": principal.user_id}
    return tuple(f"{noun}:{id}" for noun, id in ids.items() if id is not None)


async def key_principal(conn: Connection, row: Mapping[str, Any]) -> Principal:
    """What a key may do: no more than its grade, and no more than its account may today."""
    grade = Grade(row["grade"])
    admin = bool(row["org_admin"] or row["operator"]) and row["project_id"] is None
    roles: dict[UUID, Role] = {}
    if grade not in (Grade.ADMIN, Grade.OPERATOR):
        held = await store.list_roles(conn, row["org_id"], row["account_id"])
        if row["org_admin"] or row["operator"]:
            held = {row["project_id"]: Role.OWNER}
        capped = {project: policy.weaker(role, grade.role) for project, role in held.items()}
        roles = {project: role for project, role in capped.items() if role and row["project_id"] in (None, project)}
    return Principal(
        kind=PrincipalKind.API_KEY,
        id=row["id"],
        name=row["name"],
        org_id=row["org_id"],
        roles=roles,
        org_admin=admin and grade in (Grade.ADMIN, Grade.OPERATOR),
        operator=bool(row["operator"]) and admin and grade is Grade.OPERATOR,
        scopes=frozenset(row["scopes"]) if row["scopes"] is not None else None,
        project_id=row["project_id"],
        key_id=row["id"],
        user_id=row["account_id"],
        expires_at=row["expires_at"],
        rate_limit_per_minute=row["rate_limit_per_minute"],
    )


async def account_principal(conn: Connection, account: Account, session_id: UUID, expires_at: datetime) -> Principal:
    """A person who signed in, with all that it may do."""
    return Principal(
        kind=account.kind,
        id=account.id,
        name=account.name,
        org_id=account.org_id,
        roles=await store.list_roles(conn, account.org_id, account.id),
        org_admin=account.org_admin,
        operator=account.operator,
        session_id=session_id,
        user_id=account.id,
        expires_at=expires_at,
    )
