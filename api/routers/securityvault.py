"""Routes of SecurityVault: signing in, who exists, who may do what, keys, and the audit log."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Request

from actors.securityvault import service
from actors.securityvault.models import AuditEntry, Grade, PrincipalKind, Role
from aidos.schemas.common import PageOf
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
from api.deps import PUBLIC, ApiRoute, EdgeDep, PageDep, SessionDep, TxDep, needs
from api.pages import id_of, key_of, page_of, whole_below

router = APIRouter(prefix="/v1/securityvault", tags=["securityvault"], route_class=ApiRoute)

AccountKey = Annotated[str, Path(max_length=254, description="Name, address or id of the account.")]
Key = Annotated[str, Path(max_length=100, description="Name or id.")]
SecretName = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$", description="Name of the secret.")]
_USER, _SERVICE = PrincipalKind.USER, PrincipalKind.SERVICE_ACCOUNT
_SELF = needs("securityvault:self", project=False)
_ADMIN = needs("org:manage", project=False)
_OWNER = needs("securityvault:manage")
_KEEPER = needs("securityvault:keep")


def _entry(request: Request, action: str) -> AuditEntry:
    return AuditEntry(action, request.scope["path"], request.client.host if request.client else "", request.state.request_id)


@router.post("/sessions", status_code=201, openapi_extra=needs(PUBLIC))
async def sign_in(body: SignIn, request: Request, edge: EdgeDep) -> TokensRead:
    """Sign in with a password."""
    where = _entry(request, "sign_in")
    return TokensRead.model_validate(
        await service.sign_in(edge.vault, body.organisation, body.email, body.password.get_secret_value(), where)
    )


@router.post("/sessions/refresh", openapi_extra=needs(PUBLIC))
async def refresh_session(body: RefreshAsked, request: Request, edge: EdgeDep) -> TokensRead:
    """Change the refresh token for the next one; a second use ends the session."""
    where = _entry(request, "refresh_session")
    return TokensRead.model_validate(await service.refresh(edge.vault, body.refresh_token.get_secret_value(), where))


@router.post("/sessions/end", status_code=204, openapi_extra=needs(PUBLIC))
async def sign_out(body: RefreshAsked, request: Request, edge: EdgeDep) -> None:
    """End the session that the refresh token belongs to."""
    await service.sign_out(edge.vault, body.refresh_token.get_secret_value(), _entry(request, "sign_out"))


@router.post("/invitations/accept", openapi_extra=needs(PUBLIC))
async def accept_invitation(body: InvitationAccept, request: Request, edge: EdgeDep) -> AccountRead:
    """Choose a password with an invitation."""
    invitation, password = body.invitation.get_secret_value(), body.password.get_secret_value()
    account = await service.accept_invitation(edge.vault, invitation, password, _entry(request, "accept_invitation"))
    return AccountRead.model_validate(account)


@router.get("/whoami", openapi_extra=needs("securityvault:self", project=False, transaction=False))
async def get_whoami(request: Request, session: SessionDep) -> WhoAmI:
    """Who the credential belongs to, and what it may do in the named project."""
    wanted = request.headers.get("x-aidos-project")
    return WhoAmI.model_validate(await service.describe_caller(session.edge.vault, session.scope.principal, wanted))


@router.get("/sessions", openapi_extra=_SELF)
async def list_sessions(tx: TxDep, page: PageDep) -> PageOf[SessionRead]:
    """Your sign-ins, newest first."""
    found = await service.list_sessions(tx.conn, tx.scope, id_of(page.cursor), page.limit)
    return page_of(SessionRead, found, page.limit, "id")


@router.delete("/sessions/{session_id}", status_code=204, openapi_extra=_SELF)
async def revoke_session(session_id: UUID, tx: TxDep) -> None:
    """End one of your sign-ins; an administrator, anybody's."""
    await service.revoke_session(tx.conn, tx.scope, session_id)


@router.post("/organisations", status_code=201, openapi_extra=needs("platform:operate", project=False, transaction=False))
async def create_organisation(body: OrganisationCreate, session: SessionDep) -> OrganisationCreated:
    """A new tenant with its first administrator, who gets the invitation."""
    async with session.edge.db.platform() as conn:
        made, invitation = await service.create_organisation(conn, session.scope, body.name, body.admin)
        await session.audit(conn)
    return OrganisationCreated(id=made.id, name=made.name, created_at=made.created_at, invitation=invitation)


@router.get("/organisations", openapi_extra=needs("platform:operate", project=False, transaction=False))
async def list_organisations(session: SessionDep, page: PageDep) -> PageOf[OrganisationRead]:
    """All tenants of the installation, newest first."""
    async with session.edge.db.platform() as conn:
        found = await service.list_organisations(conn, id_of(page.cursor), page.limit)
    return page_of(OrganisationRead, found, page.limit, "id")


@router.get("/organisation", openapi_extra=needs("org:read", project=False))
async def get_organisation(tx: TxDep) -> OrganisationRead:
    """Your organisation."""
    return OrganisationRead.model_validate(await service.get_organisation(tx.conn, tx.scope))


@router.post("/projects", status_code=201, openapi_extra=_ADMIN)
async def create_project(body: ProjectCreate, tx: TxDep) -> ProjectRead:
    """A project of your organisation."""
    return ProjectRead.model_validate(await service.create_project(tx.conn, tx.scope, **body.model_dump()))


@router.get("/projects", openapi_extra=needs("org:read", project=False))
async def list_projects(tx: TxDep, page: PageDep) -> PageOf[ProjectRead]:
    """The projects that you are a member of, newest first."""
    found = await service.list_projects(tx.conn, tx.scope, id_of(page.cursor), page.limit)
    return page_of(ProjectRead, found, page.limit, "id")


@router.get("/projects/{project}", openapi_extra=needs("org:read", project=False))
async def get_project(project: Key, tx: TxDep) -> ProjectRead:
    """One project."""
    return ProjectRead.model_validate(await service.get_project(tx.conn, tx.scope, project))


@router.post("/projects/{project}/archive", openapi_extra=_ADMIN)
async def archive_project(project: Key, tx: TxDep) -> ProjectRead:
    """Make a project read-only for everyone."""
    return ProjectRead.model_validate(await service.archive_project(tx.conn, tx.scope, project))


@router.post("/users", status_code=201, openapi_extra=_ADMIN)
async def create_user(body: UserCreate, tx: TxDep, edge: EdgeDep) -> UserCreated:
    """A person of your organisation, with a password or an invitation to choose one."""
    hashed = await edge.vault.passwords.hash(body.password.get_secret_value()) if body.password else None
    account, invitation = await service.create_user(tx.conn, tx.scope, body.email, hashed, body.org_admin)
    return UserCreated(**AccountRead.model_validate(account).model_dump(), invitation=invitation)


@router.get("/users", openapi_extra=_ADMIN)
async def list_users(tx: TxDep, page: PageDep) -> PageOf[AccountRead]:
    """The people of your organisation, newest first."""
    found = await service.list_accounts(tx.conn, tx.scope, _USER, id_of(page.cursor), page.limit)
    return page_of(AccountRead, found, page.limit, "id")


@router.get("/users/{user}", openapi_extra=_ADMIN)
async def get_user(user: AccountKey, tx: TxDep) -> AccountRead:
    """One person."""
    return AccountRead.model_validate(await service.get_account(tx.conn, tx.scope, user, _USER))


@router.post("/users/{user}/invitations", status_code=201, openapi_extra=_ADMIN)
async def invite_user(user: AccountKey, tx: TxDep) -> InvitationRead:
    """A new invitation, for who lost the first one or the password."""
    _, invitation = await service.invite(tx.conn, tx.scope, user)
    return InvitationRead(invitation=invitation)


@router.delete("/users/{user}", openapi_extra=_ADMIN)
async def deactivate_user(user: AccountKey, tx: TxDep) -> AccountRead:
    """Close an account; its sessions, keys and jobs' tokens are dead within a second."""
    return AccountRead.model_validate(await service.deactivate_account(tx.conn, tx.scope, user, _USER))


@router.post("/service-accounts", status_code=201, openapi_extra=_ADMIN)
async def create_service_account(body: ServiceAccountCreate, tx: TxDep) -> AccountRead:
    """An identity for programs."""
    return AccountRead.model_validate(await service.create_service_account(tx.conn, tx.scope, body.name, body.org_admin))


@router.get("/service-accounts", openapi_extra=_ADMIN)
async def list_service_accounts(tx: TxDep, page: PageDep) -> PageOf[AccountRead]:
    """The service accounts of your organisation, newest first."""
    found = await service.list_accounts(tx.conn, tx.scope, _SERVICE, id_of(page.cursor), page.limit)
    return page_of(AccountRead, found, page.limit, "id")


@router.delete("/service-accounts/{account}", openapi_extra=_ADMIN)
async def deactivate_service_account(account: AccountKey, tx: TxDep) -> AccountRead:
    """Close a service account; its keys are dead within a second."""
    return AccountRead.model_validate(await service.deactivate_account(tx.conn, tx.scope, account, _SERVICE))


@router.get("/members", openapi_extra=needs("securityvault:read"))
async def list_members(tx: TxDep, page: PageDep) -> PageOf[MemberRead]:
    """Who is in the project, with which role."""
    found = await service.list_members(tx.conn, tx.scope, id_of(page.cursor), page.limit)
    return page_of(MemberRead, found, page.limit, "account_id")


@router.put("/members/{account}", openapi_extra=_OWNER)
async def put_member(account: AccountKey, body: MemberPut, tx: TxDep) -> MemberRead:
    """Give an account a role in the project, instead of the one it has."""
    return MemberRead.model_validate(await service.put_member(tx.conn, tx.scope, account, Role(body.role)))


@router.delete("/members/{account}", status_code=204, openapi_extra=_OWNER)
async def delete_member(account: AccountKey, tx: TxDep) -> None:
    """Take an account out of the project."""
    await service.delete_member(tx.conn, tx.scope, account)


@router.post("/keys", status_code=201, openapi_extra=_OWNER)
async def create_key(body: KeyCreate, tx: TxDep, edge: EdgeDep) -> KeyCreated:
    """An API key; the answer is the only one that shows it."""
    asked = body.model_dump(exclude={"role", "scopes"})
    scopes = frozenset(body.scopes) if body.scopes is not None else None
    made = await service.create_key(tx.conn, tx.scope, edge.vault.pepper, grade=Grade(body.role), scopes=scopes, **asked)
    return KeyCreated(**KeyRead.model_validate(made.subject).model_dump(), key=made.secret)


@router.get("/keys", openapi_extra=_OWNER)
async def list_keys(tx: TxDep, page: PageDep) -> PageOf[KeyRead]:
    """The project's keys; an administrator sees the organisation's. Newest first."""
    found = await service.list_keys(tx.conn, tx.scope, id_of(page.cursor), page.limit)
    return page_of(KeyRead, found, page.limit, "id")


@router.post("/keys/{key}/rotate", openapi_extra=_OWNER)
async def rotate_key(key: Key, tx: TxDep, edge: EdgeDep) -> KeyCreated:
    """A new secret under the same name; the old one is dead within a second."""
    made = await service.rotate_key(tx.conn, tx.scope, edge.vault.pepper, key)
    return KeyCreated(**KeyRead.model_validate(made.subject).model_dump(), key=made.secret)


@router.delete("/keys/{key}", status_code=204, openapi_extra=_OWNER)
async def revoke_key(key: Key, tx: TxDep) -> None:
    """End a key, for ever and within a second."""
    await service.revoke_key(tx.conn, tx.scope, key)


@router.get("/secrets", openapi_extra=needs("securityvault:read"))
async def list_secrets(tx: TxDep, page: PageDep) -> PageOf[SecretRead]:
    """The project's secrets without their values, newest first."""
    return page_of(SecretRead, await service.list_secrets(tx.conn, tx.scope, id_of(page.cursor), page.limit), page.limit, "id")


@router.put("/secrets/{secret}", openapi_extra=_KEEPER)
async def set_secret(secret: SecretName, body: SecretPut, tx: TxDep, edge: EdgeDep) -> SecretRead:
    """Set a secret, or give it another value; the one before is gone. No route answers with it but a running job's own."""
    value = body.value.get_secret_value()
    return SecretRead.model_validate(await service.set_secret(tx.conn, tx.scope, edge.vault.settings, secret, value))


@router.delete("/secrets/{secret}", status_code=204, openapi_extra=_KEEPER)
async def delete_secret(secret: SecretName, tx: TxDep) -> None:
    """Delete a secret. Jobs that have begun keep its value; those that name it and have not are failed."""
    await service.delete_secret(tx.conn, tx.scope, secret)


@router.get("/audit", openapi_extra=_ADMIN)
async def list_audit(tx: TxDep, page: PageDep) -> PageOf[AuditRead]:
    """What was changed in your organisation, newest first."""
    before = key_of(page.cursor, whole_below(2**63))
    found = await service.list_audit(tx.conn, tx.scope.org_id, before, page.limit)
    return page_of(AuditRead, found, page.limit, "seq")


@router.post("/audit/verify", openapi_extra=needs("org:manage", project=False, transaction=False, audit=False))
async def verify_audit(body: AuditVerify, session: SessionDep) -> AuditVerdictRead:
    """Walk the chain and name the first row that was edited, removed or reordered."""
    anchors = {anchor.seq: bytes.fromhex(anchor.hash) for anchor in body.anchors}
    return AuditVerdictRead.model_validate(await service.verify_audit(session.edge.vault, session.scope, body.organisation, anchors))


@router.post("/audit/checkpoints", status_code=201, openapi_extra=_ADMIN)
async def create_audit_checkpoint(tx: TxDep, edge: EdgeDep) -> CheckpointRead:
    """Sign where the chain ends now."""
    return CheckpointRead(sealed=await service.seal(tx.conn, edge.vault.audit_keys, tx.scope.org_id))
