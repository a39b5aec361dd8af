"""Wire schemas of SecurityVault."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AliasChoices, Field, SecretStr, StringConstraints, field_validator

from aidos.schemas.common import Asked, Name, Text, Wire

Email = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._+-]{1,64}@[A-Za-z0-9.-]{1,189}$", to_lower=True)]
"""An address of ASCII letters, digits and ``._+-``; kept in lower case."""
RoleName = Literal["viewer", "annotator", "developer", "maintainer", "owner"]
KeyRole = Literal["viewer", "annotator", "developer", "maintainer", "owner", "admin", "operator"]
Password = Annotated[SecretStr, Field(min_length=12, max_length=200)]
RequestsPerMinute = Annotated[int, Field(ge=1, le=10_000_000)]
MAX_SECRET_CHARS = 32_000
Permission = Annotated[str, StringConstraints(pattern=r"^[a-z]{1,40}:[a-z]{1,40}$")]


class SignIn(Asked):
    """Who signs in."""

    email: Email
    password: SecretStr = Field(max_length=200)
    organisation: Name = "default"


class RefreshAsked(Asked):
    """The refresh token of the sign-in, or of the last refresh."""

    refresh_token: SecretStr = Field(max_length=200)


class TokensRead(Wire):
    """What proves the sign-in: the access token for minutes, the refresh token once."""

    access_token: str
    refresh_token: str
    expires_in_s: int
    session_id: UUID


class InvitationAccept(Asked):
    """The password of one's choice."""

    invitation: SecretStr = Field(max_length=200)
    password: Password


class WhoAmI(Wire):
    """The caller, and what it may do in the project that the request names."""

    actor: str
    kind: str
    id: UUID
    name: str
    organisation: str
    organisation_id: UUID
    org_admin: bool
    operator: bool
    project: str | None
    project_id: UUID | None
    role: str | None
    permissions: list[str]
    expires_at: datetime | None


class OrganisationCreate(Asked):
    """A tenant of its own, with its first administrator."""

    name: Name
    admin: Email


class OrganisationRead(Wire):
    """An organisation."""

    id: UUID
    name: str
    created_at: datetime


class OrganisationCreated(OrganisationRead):
    """A new organisation, and the invitation of its administrator: shown this once."""

    invitation: str


class ProjectCreate(Asked):
    """A project that is wanted."""

    name: Name
    description: Text = ""
    rate_limit_per_minute: RequestsPerMinute | None = None


class ProjectRead(Wire):
    """A project."""

    id: UUID
    name: str
    description: str
    rate_limit_per_minute: int | None
    created_at: datetime
    archived_at: datetime | None


class UserCreate(Asked):
    """A person. Without a password the answer holds an invitation to choose one."""

    email: Email
    password: Password | None = None
    org_admin: bool = False


class AccountRead(Wire):
    """A user (``name`` is the address) or a service account."""

    id: UUID
    kind: str
    name: str
    org_admin: bool
    operator: bool
    created_at: datetime
    deactivated_at: datetime | None


class UserCreated(AccountRead):
    """A new user; the invitation is shown this once."""

    invitation: str | None = None


class InvitationRead(Wire):
    """An invitation, shown this once: it lets its holder choose the user's password."""

    invitation: str


class ServiceAccountCreate(Asked):
    """An identity for programs."""

    name: Name
    org_admin: bool = False


class MemberPut(Asked):
    """The role that an account shall have in the project."""

    role: RoleName


class MemberRead(Wire):
    """An account's role in the project."""

    account_id: UUID
    name: str
    kind: str
    role: str
    created_at: datetime


class KeyCreate(Asked):
    """An API key. It does what its role may, in one project, and never more than the account that it belongs to."""

    name: Name
    role: KeyRole = "developer"
    project: Name | None = Field(None, description="Name or id; the request's project otherwise. `admin` and `operator` keys have none.")
    scopes: list[Permission] | None = Field(None, max_length=100, description="Permissions that the key is narrowed to.")
    expires_in_s: int | None = Field(None, ge=1, le=10 * 366 * 86400)
    service_account: Name | None = Field(None, description="Whose key it is; the caller's own otherwise.")
    rate_limit_per_minute: RequestsPerMinute | None = None


class KeyRead(Wire):
    """What is known of a key. The key itself is not."""

    id: UUID
    name: str
    role: str = Field(validation_alias=AliasChoices("grade", "role"))
    project_id: UUID | None
    account_id: UUID
    scopes: list[str] | None
    rate_limit_per_minute: int | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


class KeyCreated(KeyRead):
    """A key, shown this once."""

    key: str


class SecretPut(Asked):
    """The value that a secret shall have."""

    value: Annotated[SecretStr, Field(min_length=1, max_length=MAX_SECRET_CHARS)]

    @field_validator("value")
    @classmethod
    def _fits_an_environment(cls, value: SecretStr) -> SecretStr:
        if "\x00" in value.get_secret_value():
            raise ValueError("must be text without NUL: jobs find it in their environment")
        return value


class SecretRead(Wire):
    """What is known of a secret. Its value is not."""

    id: UUID
    name: str
    version: int = Field(description="How often it was set.")
    set_by: str
    created_at: datetime
    set_at: datetime
    last_used_at: datetime | None = Field(description="When a job last got its value, give or take ten seconds.")


class SessionRead(Wire):
    """A sign-in."""

    id: UUID
    client_ip: str
    created_at: datetime
    refreshed_at: datetime
    expires_at: datetime
    revoked_at: datetime | None


class AuditRead(Wire):
    """One record of the audit log."""

    seq: int
    at: datetime
    actor: str
    action: str
    resource: str
    project_id: UUID | None
    client_ip: str
    request_id: str
    data: dict[str, Any]
    hash: str

    @field_validator("data", mode="before")
    @classmethod
    def _parse(cls, value: Any) -> Any:
        try:
            return json.loads(value) if isinstance(value, str) else value
        except ValueError:
            return {"text": value}

    @field_validator("hash", mode="before")
    @classmethod
    def _hex(cls, value: Any) -> Any:
        return value.hex() if isinstance(value, bytes) else value


class AuditAnchor(Asked):
    """What the log's hash was at a row, noted outside the platform."""

    seq: int = Field(ge=1, le=2**53)
    hash: str = Field(pattern=r"^[0-9a-f]{64}$")


class AuditVerify(Asked):
    """What to hold the chain against, beside its own checkpoints."""

    anchors: list[AuditAnchor] = Field(default=[], max_length=100)
    organisation: Name | None = Field(None, description="Another organisation's log; for the installation's operator.")


class AuditVerdictRead(Wire):
    """What the verifier found."""

    valid: bool
    rows: int = Field(description="Rows found good, from the first on.")
    checkpoints: int
    head_seq: int
    first_bad_seq: int | None = Field(None, description="The first row that was edited, removed or reordered.")
    finding: str = ""


class CheckpointRead(Wire):
    """How many chains were signed anew: 1, or 0 when nothing had been added."""

    sealed: int
