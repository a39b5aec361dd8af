"""Identities and what they may do: the nouns of SecurityVault."""

from __future__ import annotations

import enum
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID


class Role(enum.StrEnum):
    """Role in a project, weakest first."""

    VIEWER = "viewer"
    ANNOTATOR = "annotator"
    DEVELOPER = "developer"
    MAINTAINER = "maintainer"
    OWNER = "owner"

    @property
    def rank(self) -> int:
        return list(Role).index(self)


class Grade(enum.StrEnum):
    """What a key is made for, weakest first: a role in a project, the organisation's administrator, the installation's operator."""

    NONE = "none"
    VIEWER = "viewer"
    ANNOTATOR = "annotator"
    DEVELOPER = "developer"
    MAINTAINER = "maintainer"
    OWNER = "owner"
    ADMIN = "admin"
    OPERATOR = "operator"

    @property
    def rank(self) -> int:
        return list(Grade).index(self)

    @property
    def role(self) -> Role:
        """The role in each project that the grade acts with."""
        return Role.OWNER if self in (Grade.ADMIN, Grade.OPERATOR) else Role(self.value)


class PrincipalKind(enum.StrEnum):
    """How the caller is known."""

    USER = "user"
    SERVICE_ACCOUNT = "service_account"
    API_KEY = "api_key"
    JOB = "job"
    PLATFORM = "platform"


@dataclass(frozen=True)
class Principal:
    """Who calls: resolved from a credential, cached in each replica, dropped on revocation."""

    kind: PrincipalKind
    id: UUID
    name: str
    org_id: UUID
    roles: Mapping[UUID, Role] = field(default_factory=dict)
    """Role by project id."""
    org_admin: bool = False
    operator: bool = False
    """Runs the installation: sees Ray's own jobs, verifies the audit chain of every organisation."""
    scopes: frozenset[str] | None = None
    """Permissions that the key or token is narrowed to; None: no narrowing."""
    project_id: UUID | None = None
    """The project that the key or token is bound to; None: any that it is a member of."""
    job_id: UUID | None = None
    session_id: UUID | None = None
    key_id: UUID | None = None
    user_id: UUID | None = None
    """The account (person or service) behind a session or a key."""
    expires_at: datetime | None = None
    rate_limit_per_minute: int | None = None
    """The key's own limit; None: the installation's."""

    @functools.cached_property
    def actor(self) -> str:
        """How events and audit records name the caller."""
        return f"{self.kind}:{self.id}"

    @property
    def person_id(self) -> UUID:
        """Who speaks, whichever session, key or job it is by."""
        return self.user_id or self.id


@dataclass(frozen=True)
class Scope:
    """Who acts where: all that a service needs to know of its caller."""

    principal: Principal
    org_id: UUID
    project_id: UUID | None
    project_name: str = ""
    role: Role | None = None

    @property
    def actor(self) -> str:
        return self.principal.actor

    @property
    def project(self) -> UUID:
        """The project, where the route is one of a project's."""
        if self.project_id is None:
            raise ValueError("this operation needs a project")
        return self.project_id


def platform_scope(org_id: UUID, project_id: UUID) -> Scope:
    """The platform itself, acting in a project: what reconcilers pass to services."""
    platform = Principal(kind=PrincipalKind.PLATFORM, id=UUID(int=0), name="platform", org_id=org_id)
    return Scope(platform, org_id, project_id)


@dataclass(frozen=True)
class AuditEntry:
    """One change, as it is put on the record: what was done to what, from where."""

    action: str
    resource: str
    client_ip: str = ""
    request_id: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class AuditRecord:
    """A row of the hash chain. ``hash`` covers all other fields and, through ``prev_hash``, all rows before."""

    org_id: UUID
    seq: int
    at: datetime
    actor: str
    action: str
    resource: str
    project_id: UUID | None
    client_ip: str
    request_id: str
    data: str
    """Canonical JSON, kept as text so that what is hashed is what is stored."""
    prev_hash: bytes
    hash: bytes


@dataclass(frozen=True)
class AuditHead:
    """Where an organisation's chain ends."""

    org_id: UUID
    seq: int
    hash: bytes


@dataclass(frozen=True)
class AuditCheckpoint:
    """A signed statement that the chain had ``hash`` at ``seq``."""

    org_id: UUID
    seq: int
    hash: bytes
    at: datetime
    kid: str
    signature: bytes


@dataclass(frozen=True)
class AuditVerdict:
    """What the verifier found; ``first_bad_seq`` is the first row that was edited, removed or reordered."""

    valid: bool
    rows: int
    checkpoints: int
    head_seq: int
    first_bad_seq: int | None = None
    finding: str = ""


@dataclass(frozen=True)
class Organisation:
    id: UUID
    name: str
    created_at: datetime


@dataclass(frozen=True)
class Project:
    id: UUID
    org_id: UUID
    name: str
    description: str
    rate_limit_per_minute: int | None
    created_at: datetime
    archived_at: datetime | None


@dataclass(frozen=True)
class Account:
    """A user or a service account; never carries the password hash."""

    id: UUID
    org_id: UUID
    kind: PrincipalKind
    name: str
    org_admin: bool
    operator: bool
    created_at: datetime
    deactivated_at: datetime | None


@dataclass(frozen=True)
class Member:
    """An account's role in one project."""

    project_id: UUID
    account_id: UUID
    name: str
    kind: PrincipalKind
    role: Role
    created_at: datetime


@dataclass(frozen=True)
class ApiKey:
    """What is kept of a key: never the key itself."""

    id: UUID
    org_id: UUID
    project_id: UUID | None
    account_id: UUID
    name: str
    grade: Grade
    scopes: list[str] | None
    rate_limit_per_minute: int | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


@dataclass(frozen=True)
class Session:
    """A signed-in person: the family of one chain of refresh tokens."""

    id: UUID
    org_id: UUID
    account_id: UUID
    client_ip: str
    created_at: datetime
    expires_at: datetime
    refreshed_at: datetime
    revoked_at: datetime | None


@dataclass(frozen=True)
class Tokens:
    """What a sign-in or a refresh gives out."""

    access_token: str
    refresh_token: str
    expires_in_s: int
    session_id: UUID


@dataclass(frozen=True)
class ProjectSecret:
    """What is known of a project's secret: never its value. ``version`` counts how often it was set."""

    id: UUID
    name: str
    version: int
    set_by: str
    created_at: datetime
    set_at: datetime
    last_used_at: datetime | None


@dataclass(frozen=True)
class Sealed:
    """A value encrypted under a key of its own, and that key wrapped by the master key ``key_id``."""

    key_id: str
    wrapped_key: bytes
    content: bytes


@dataclass(frozen=True)
class SealedSecret:
    """A secret as it is stored."""

    id: UUID
    project_id: UUID
    name: str
    version: int
    sealed: Sealed


@dataclass(frozen=True)
class OpenSecret:
    """A secret for who may use it."""

    version: int
    value: str = field(repr=False)


@dataclass(frozen=True)
class Secret:
    """Something just made, with the secret that is shown this once."""

    subject: ApiKey
    secret: str
