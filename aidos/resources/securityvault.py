"""Identities, keys and the audit log, as the client sees them."""

from __future__ import annotations

from aidos.http.operation import Resource, operation
from aidos.schemas.securityvault import (
    AccountRead,
    AuditRead,
    AuditVerdictRead,
    AuditVerify,
    CheckpointRead,
    InvitationAccept,
    InvitationRead,
    KeyCreate,
    KeyCreated,
    KeyRead,
    MemberPut,
    MemberRead,
    OrganisationCreate,
    OrganisationCreated,
    OrganisationRead,
    ProjectCreate,
    ProjectRead,
    RefreshAsked,
    SecretPut,
    SecretRead,
    ServiceAccountCreate,
    SessionRead,
    SignIn,
    TokensRead,
    UserCreate,
    UserCreated,
    WhoAmI,
)

_V1 = "/v1/securityvault"


class Sessions(Resource):
    """Sign-ins. `aidos login` makes one and keeps it fresh."""

    noun = "session"

    create = operation("POST", f"{_V1}/sessions", body=SignIn, returns=TokensRead, help="Sign in with a password.")
    refresh = operation(
        "POST", f"{_V1}/sessions/refresh", body=RefreshAsked, returns=TokensRead, help="Change a refresh token for the next."
    )
    end = operation("POST", f"{_V1}/sessions/end", body=RefreshAsked, help="End the session of a refresh token.")
    list = operation("GET", f"{_V1}/sessions", returns=SessionRead, paged=True, help="Your sign-ins, newest first.")
    revoke = operation("DELETE", f"{_V1}/sessions/{{session_id}}", help="End one of your sign-ins.")
    whoami = operation("GET", f"{_V1}/whoami", returns=WhoAmI, help="Who you are, and what you may do in the project.")


class Organisations(Resource):
    """Tenants of the installation."""

    noun = "organisation"

    create = operation(
        "POST",
        f"{_V1}/organisations",
        body=OrganisationCreate,
        returns=OrganisationCreated,
        positional=("name",),
        help="Make a tenant with its first administrator.",
    )
    list = operation("GET", f"{_V1}/organisations", returns=OrganisationRead, paged=True, help="All tenants of the installation.")
    get = operation("GET", f"{_V1}/organisation", returns=OrganisationRead, help="Your organisation.")


class Projects(Resource):
    """Where work is kept: each has members of its own."""

    noun = "project"

    create = operation("POST", f"{_V1}/projects", body=ProjectCreate, returns=ProjectRead, positional=("name",), help="Create a project.")
    list = operation("GET", f"{_V1}/projects", returns=ProjectRead, paged=True, help="The projects that you are a member of.")
    get = operation("GET", f"{_V1}/projects/{{project}}", returns=ProjectRead, help="One project.")
    archive = operation("POST", f"{_V1}/projects/{{project}}/archive", returns=ProjectRead, help="Make a project read-only.")


class Users(Resource):
    """People of the organisation."""

    noun = "user"

    create = operation(
        "POST",
        f"{_V1}/users",
        body=UserCreate,
        returns=UserCreated,
        positional=("email",),
        help="Create a user; without --password, invite them to choose one.",
    )
    list = operation("GET", f"{_V1}/users", returns=AccountRead, paged=True, help="The people of your organisation.")
    get = operation("GET", f"{_V1}/users/{{user}}", returns=AccountRead, help="One person.")
    invite = operation("POST", f"{_V1}/users/{{user}}/invitations", returns=InvitationRead, help="Make a new invitation.")
    accept = operation(
        "POST", f"{_V1}/invitations/accept", body=InvitationAccept, returns=AccountRead, help="Choose your password with an invitation."
    )
    deactivate = operation("DELETE", f"{_V1}/users/{{user}}", returns=AccountRead, help="Close an account within a second.")


class ServiceAccounts(Resource):
    """Identities for programs."""

    noun = "service-account"

    create = operation(
        "POST",
        f"{_V1}/service-accounts",
        body=ServiceAccountCreate,
        returns=AccountRead,
        positional=("name",),
        help="Create an identity for programs.",
    )
    list = operation("GET", f"{_V1}/service-accounts", returns=AccountRead, paged=True, help="The service accounts of your organisation.")
    deactivate = operation(
        "DELETE", f"{_V1}/service-accounts/{{account}}", returns=AccountRead, help="Close a service account within a second."
    )


class Members(Resource):
    """Who is in the project, with which role."""

    noun = "member"

    put = operation(
        "PUT",
        f"{_V1}/members/{{account}}",
        body=MemberPut,
        returns=MemberRead,
        positional=("role",),
        help="Give an account a role in the project.",
    )
    list = operation("GET", f"{_V1}/members", returns=MemberRead, paged=True, help="Who is in the project, with which role.")
    delete = operation("DELETE", f"{_V1}/members/{{account}}", help="Take an account out of the project.")


class Keys(Resource):
    """API keys."""

    noun = "key"

    create = operation(
        "POST",
        f"{_V1}/keys",
        body=KeyCreate,
        returns=KeyCreated,
        positional=("name",),
        help="Create a key; the answer is the only one that shows it.",
    )
    list = operation("GET", f"{_V1}/keys", returns=KeyRead, paged=True, help="The project's keys, newest first.")
    rotate = operation("POST", f"{_V1}/keys/{{key}}/rotate", returns=KeyCreated, help="Give a key a new secret; the old one dies.")
    revoke = operation("DELETE", f"{_V1}/keys/{{key}}", help="End a key, for ever and within a second.")


class Secrets(Resource):
    """What the project's jobs may know and nobody may read: passwords, tokens of other services."""

    noun = "secret"

    set = operation("PUT", f"{_V1}/secrets/{{secret}}", body=SecretPut, returns=SecretRead, help="Set a secret; its value before is gone.")
    list = operation(
        "GET", f"{_V1}/secrets", returns=SecretRead, paged=True, help="The project's secrets without their values, newest first."
    )
    delete = operation("DELETE", f"{_V1}/secrets/{{secret}}", help="Delete a secret; jobs that name it do not start any more.")


class Audit(Resource):
    """The log of all changes, as a hash chain."""

    noun = "audit"
    plural = "audit"

    list = operation("GET", f"{_V1}/audit", returns=AuditRead, paged=True, help="What was changed, newest first.")
    verify = operation(
        "POST",
        f"{_V1}/audit/verify",
        body=AuditVerify,
        returns=AuditVerdictRead,
        help="Name the first record that was edited, removed or reordered.",
    )
    checkpoint = operation("POST", f"{_V1}/audit/checkpoints", returns=CheckpointRead, help="Sign where the log ends now.")
