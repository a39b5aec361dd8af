"""Identities and what they may do: the nouns of SecurityVault."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID


class Role(enum.StrEnum):
    """Role in a project, weakest first."""

    VIEWER = "viewer"
    ANNOTATOR = "annotator"
    DEVELOPER = "developer"
    MAINTAINER = "maintainer"
    OWNER = "owner"


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
    """The person behind a session or a personal key."""
    expires_at: datetime | None = None

    @property
    def actor(self) -> str:
        """How events and audit records name the caller."""
        return f"{self.kind}:{self.id}"


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
