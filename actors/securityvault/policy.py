"""Who may do what: one table from role to permissions, and the decisions made from it."""

from __future__ import annotations

from collections.abc import Collection

from actors.securityvault.errors import RoleNotGrantable, ScopeNotGrantable, ScopeUnknown
from actors.securityvault.models import Grade, Role, Scope
from aidos.errors import Forbidden

WORK = ("dataforge", "modelhub", "trainos", "deployengine", "costoptimizer")
"""Modules in which a project's members work."""
MODULES = (*WORK, "events", "securityvault")

SELF = "securityvault:self"
"""What every authenticated caller may do, however narrowed: ask who it is, end its own sessions."""
ORG_READ, ORG_MANAGE, OPERATE = "org:read", "org:manage", "platform:operate"
USE_SECRETS, KEEP_SECRETS = "securityvault:use", "securityvault:keep"
"""To name the project's secrets in a job, or enter a job that has some; to set and delete them."""

_ADDED: dict[Role, frozenset[str]] = {
    Role.VIEWER: frozenset(f"{module}:read" for module in MODULES),
    Role.ANNOTATOR: frozenset({"dataforge:label"}),
    Role.DEVELOPER: frozenset(
        {"deployengine:predict", "trainos:save", "trainos:sandbox", USE_SECRETS, *(f"{module}:write" for module in WORK)}
    ),
    Role.MAINTAINER: frozenset({KEEP_SECRETS, *(f"{module}:manage" for module in WORK)}),
    Role.OWNER: frozenset({"securityvault:manage", "dataforge:protect", "modelhub:protect"}),
}


def _accumulate() -> dict[Role, frozenset[str]]:
    held: frozenset[str] = frozenset()
    table = {}
    for role in Role:
        held |= _ADDED[role]
        table[role] = held
    # Whoever labels for the project sees the tasks that it is given, and nothing else: no files, no runs, no members.
    table[Role.ANNOTATOR] = _ADDED[Role.ANNOTATOR]
    return table


PERMISSIONS: dict[Role, frozenset[str]] = _accumulate()
"""The matrix: all that each role in a project may do."""
ALL = PERMISSIONS[Role.OWNER] | {SELF, ORG_READ, ORG_MANAGE, OPERATE}

JOB_SCOPES = frozenset(
    {
        "dataforge:read", "dataforge:write", "modelhub:read", "modelhub:write", "trainos:read", "trainos:write", "trainos:save",
        "costoptimizer:read", "events:read", "deployengine:read", "deployengine:predict",
    }
)  # fmt: skip
"""What user code in a job may do: read, record and ask endpoints; no deploying, no deleting, no new jobs beyond its own writes."""
SANDBOXED_JOB_SCOPES = JOB_SCOPES - {"trainos:write"}
"""Of one in a sandbox: it saves checkpoints, and begins nothing that would run outside of one."""

_PART_OF = {"trainos:save": "trainos:write", "trainos:sandbox": "trainos:write"}
"""A key that was narrowed to the second may do the first: save checkpoints, submit untrusted code."""


def covers(scopes: Collection[str], permission: str) -> bool:
    """Whether who is narrowed to ``scopes`` may do this."""
    return permission in scopes or _PART_OF.get(permission) in scopes


def allows(scope: Scope, permission: str) -> bool:
    """Whether ``scope`` has ``permission``. Unknown permissions are nobody's."""
    principal = scope.principal
    if permission == SELF:
        return True
    if principal.scopes is not None and not covers(principal.scopes, permission):
        return False
    if permission == OPERATE:
        return principal.operator
    if permission == ORG_MANAGE:
        return principal.org_admin or principal.operator
    if permission == ORG_READ:
        return principal.org_admin or principal.operator or set(principal.roles.values()) != {Role.ANNOTATOR}
    return scope.role is not None and permission in PERMISSIONS[scope.role]


def require(scope: Scope, permission: str) -> None:
    """Raises: Forbidden unless ``scope`` has ``permission``."""
    if not allows(scope, permission):
        raise Forbidden(permission=permission, role=str(scope.role or "no member"))


def grade(scope: Scope) -> Grade:
    """The strongest grade that the caller acts with, and so the most that it can grant."""
    if scope.principal.operator:
        return Grade.OPERATOR
    if scope.principal.org_admin:
        return Grade.ADMIN
    return Grade(scope.role.value) if scope.role else Grade.NONE


def require_grantable(scope: Scope, wanted: Grade, permissions: frozenset[str] | None = None) -> None:
    """Nobody grants more than they have.

    Raises: RoleNotGrantable, ScopeNotGrantable, ScopeUnknown. A caller who is narrowed by scopes can grant only narrowed keys.
    """
    own = grade(scope)
    if wanted.rank > own.rank or not PERMISSIONS[wanted.role] <= PERMISSIONS[own.role]:
        raise RoleNotGrantable(own=str(own), role=str(wanted), permission=str(wanted))
    if permissions is None:
        if scope.principal.scopes is not None:
            raise ScopeNotGrantable(permission="*", role=str(own))
        return
    for permission in sorted(permissions):
        if permission not in ALL:
            raise ScopeUnknown(permission=permission)
        if not allows(scope, permission):
            raise ScopeNotGrantable(permission=permission, role=str(own))


def weaker(first: Role | None, second: Role | None) -> Role | None:
    """The role that may do only what both may; no role is the weakest, and all that an annotator has in common with a viewer."""
    if first is None or second is None:
        return None
    low, high = sorted((first, second), key=lambda role: role.rank)
    return low if PERMISSIONS[low] <= PERMISSIONS[high] else None
