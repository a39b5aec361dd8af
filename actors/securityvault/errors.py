"""What SecurityVault refuses."""

from __future__ import annotations

from aidos.errors import Conflict, Forbidden, InvalidPayload, InvalidRequest, NotFound, TooManyRequests, Unauthenticated, Unavailable


class CredentialMissing(Unauthenticated):
    title = "No credential"
    detail = "This route needs an API key or an access token. Send it as 'Authorization: Bearer …' or 'X-API-Key: …'."


class CredentialInvalid(Unauthenticated):
    title = "Credential is not valid"
    detail = "The API key or access token is unknown, malformed, expired or revoked. Sign in again, or create a new key."


class HostUnknown(InvalidRequest):
    title = "Host is not this platform"
    detail = "This platform does not answer for the host '{host}'. Use the address in AIDOS_URL."


class SignInFailed(Unauthenticated):
    title = "Sign-in failed"
    detail = "The organisation, name or password is wrong, or the account is not active."


class RefreshRefused(Unauthenticated):
    title = "Session is over"
    detail = "The refresh token is unknown, expired, revoked or was used before. Sign in again."


class InvitationInvalid(Unauthenticated):
    title = "Invitation is not valid"
    detail = "The invitation is unknown, used or expired. Ask an administrator of your organisation for a new one."


class ProjectNotFound(NotFound):
    title = "Project not found"
    detail = "There is no project '{name}' that you are a member of. 'aidos project list' shows yours."


class OrganisationNotFound(NotFound):
    title = "Organisation not found"
    detail = "There is no organisation '{name}' on this installation."


class AccountNotFound(NotFound):
    title = "Account not found"
    detail = "There is no user or service account '{name}' in this organisation."


class KeyNotFound(NotFound):
    title = "Key not found"
    detail = "There is no API key '{name}' here."


class SecretNotFound(NotFound):
    title = "Secret not found"
    detail = "The project has no secret '{name}'. 'aidos secret list' names those that it has, 'aidos secret set {name}' sets it."


class SecretUnreadable(Conflict):
    title = "Secret cannot be read"
    detail = "Secret '{name}' cannot be read: {reason}. 'aidos secret set {name}' sets it anew."


class SessionNotFound(NotFound):
    title = "Session not found"
    detail = "There is no session '{name}' of yours."


class MemberNotFound(NotFound):
    title = "Member not found"
    detail = "'{name}' is not a member of this project."


class NameTaken(Conflict):
    title = "Name is taken"
    detail = "There is already a {noun} named '{name}'. Choose another name."


class SelfLockout(Conflict):
    title = "This would lock you out"
    detail = "You cannot deactivate the account that you act as. Let another administrator do it."


class JobIsOver(Conflict):
    title = "Job is over"
    detail = "Job {job_id} has ended or was started anew (epoch {epoch} is over): it gets no more tokens."


class RoleNotGrantable(Forbidden):
    title = "Role cannot be granted"
    detail = "You act as '{own}' and can grant at most that, not '{role}'."


class ScopeNotGrantable(Forbidden):
    title = "Scope cannot be granted"
    detail = "You do not have the permission '{permission}' yourself, so you cannot grant it."


class ScopeUnknown(InvalidPayload):
    title = "No such scope"
    detail = "'{permission}' is not a permission. Permissions are '<module>:<action>', e.g. 'modelhub:read'."


class SigningBusy(TooManyRequests):
    title = "Too many sign-ins at once"
    detail = "Passwords are being checked as fast as this machine can. Try again in {retry_after_s} s."


class AuditUnwritable(Unavailable):
    title = "Audit log cannot be written"
    detail = "The change was not made, because its audit record could not be written. Try again in {retry_after_s} s."


class VaultLocked(Unavailable):
    title = "Secrets of the platform are missing"
    detail = "The secret file '{name}' cannot be read; 'aidos up' makes it. Try again in {retry_after_s} s."
