"""Every route × every principal, against one table: the permission that the route declares × who has it.

The table is written by hand and knows nothing of ``actors.securityvault.policy``, so a mistake there is found here. A new
permission needs a row; a new route needs nothing.
"""

from __future__ import annotations

import pytest
from fastapi import FastAPI
from starlette.responses import Response

from api.deps import PUBLIC, ApiRoute, needs
from tests.api.asgi_call import ask
from tests.api.routes import Operation, is_socket, operations, sockets, walk
from tests.api.world import NARROW, World

pytestmark = [pytest.mark.postgres, pytest.mark.asyncio(loop_scope="session")]

LADDER = ("viewer", "developer", "maintainer", "owner", "org_admin", "operator")
"""Principals of a project, weakest first: each has all that those before it have."""
UNKNOWN = ("anonymous", "expired", "revoked", "malformed")
PRINCIPALS = (*LADDER, *UNKNOWN, "annotator", "narrow", "job", "foreign_admin")

LEAST = {
    "securityvault:self": "viewer", "securityvault:read": "viewer", "securityvault:use": "developer", "securityvault:keep": "maintainer",
    "securityvault:manage": "owner",
    "org:read": "viewer", "org:manage": "org_admin", "platform:operate": "operator", "events:read": "viewer",
    "dataforge:read": "viewer", "dataforge:label": "developer", "dataforge:write": "developer", "dataforge:manage": "maintainer",
    "dataforge:protect": "owner",
    "modelhub:read": "viewer", "modelhub:write": "developer", "modelhub:manage": "maintainer",
    "modelhub:protect": "owner",
    "trainos:read": "viewer", "trainos:save": "developer", "trainos:sandbox": "developer", "trainos:write": "developer", "trainos:manage": "maintainer",
    "deployengine:read": "viewer", "deployengine:predict": "developer", "deployengine:write": "developer",
    "deployengine:manage": "maintainer",
    "costoptimizer:read": "viewer", "costoptimizer:write": "developer", "costoptimizer:manage": "maintainer",
}  # fmt: skip
"""The weakest principal of the ladder that has the permission."""
JOB_MAY = {
    "dataforge:read", "dataforge:write", "modelhub:read", "modelhub:write", "trainos:read", "trainos:write", "trainos:save", "trainos:sandbox",
    "costoptimizer:read", "events:read", "deployengine:read", "deployengine:predict", "securityvault:self",
}  # fmt: skip
ANNOTATOR_MAY = {"dataforge:label", "securityvault:self"}
"""Its tasks, who it is, and the end of its own sessions."""
NARROW_MAY = {NARROW, "securityvault:self"}
ADMIN_ELSEWHERE_MAY = {"securityvault:self", "org:read", "org:manage"}
"""What the other organisation's administrator may do, in its own organisation."""

PUBLIC_ROUTES = {
    "GET /healthz",
    "GET /readyz",
    "GET /v1/version",
    "GET /v1/openapi.json",
    "POST /v1/securityvault/sessions",
    "POST /v1/securityvault/sessions/refresh",
    "POST /v1/securityvault/sessions/end",
    "POST /v1/securityvault/invitations/accept",
}
"""Frozen: whoever adds one must argue for it. Eight at most."""


def expected(operation: Operation, principal: str) -> set[int] | None:
    """The statuses that the table asks for; None: anything but 401 and 403."""
    permission = operation.permission
    if permission == PUBLIC:
        return None
    if principal in UNKNOWN:
        return {401}
    if principal == "foreign_admin":
        # It names our project: for it there is none. Routes of the organisation are its own organisation's.
        return {404} if operation.in_project else None if permission in ADMIN_ELSEWHERE_MAY else {403}
    if principal == "job":
        return None if permission in JOB_MAY else {403}
    if principal == "annotator":
        return None if permission in ANNOTATOR_MAY else {403}
    if principal == "narrow":
        return None if permission in NARROW_MAY else {403}
    return None if LADDER.index(principal) >= LADDER.index(LEAST[permission]) else {403}


class TestEveryRoute:
    async def test_declares_a_permission_that_the_table_has(self, world: World) -> None:
        undeclared = [route for route in walk(world.app.routes) if not isinstance(route, ApiRoute) and not is_socket(route)]
        assert not undeclared, f"routes outside ApiRoute, so without a permission: {undeclared}"
        found = [*operations(world.app), *sockets(world.app)]
        unknown = {operation.permission for operation in found} - set(LEAST) - {PUBLIC}
        assert not unknown, f"permissions without a row in this table: {sorted(unknown)}"

    async def test_is_not_public_unless_listed(self, world: World) -> None:
        public = {str(operation) for operation in operations(world.app) if operation.permission == PUBLIC}
        assert public <= PUBLIC_ROUTES and len(PUBLIC_ROUTES) <= 8, f"not on the list: {sorted(public - PUBLIC_ROUTES)}"

    async def test_cannot_be_registered_without_a_permission(self) -> None:
        app = FastAPI()
        app.router.route_class = ApiRoute
        with pytest.raises(ValueError, match="declares no permission"):
            app.router.add_api_route("/open", lambda: Response())
        app.router.add_api_route("/closed", lambda: Response(), openapi_extra=needs("modelhub:read"))

    @pytest.mark.parametrize("principal", PRINCIPALS)
    async def test_answers_each_principal_as_the_table_says(self, world: World, principal: str) -> None:
        wrong, credential = [], world.credentials[principal]
        headers = {"content-type": "application/json", **({"authorization": f"Bearer {credential}"} if credential else {})}
        if principal == "foreign_admin":
            headers["x-aidos-project"] = str(world.ours.project_id)
        for operation in operations(world.app):
            body = b"{}" if operation.method in {"POST", "PUT", "PATCH"} else b""
            answer = await ask(world.app, operation.method, operation.target(), headers, body)
            allowed = expected(operation, principal)
            right = answer.status in allowed if allowed else answer.status not in {0, 401, 403} and answer.status < 500
            # A public route may refuse the credential that it is given in the body.
            if not right and not (operation.permission == PUBLIC and answer.status == 401 and operation.method == "POST"):
                wrong.append(
                    f"{operation} [{operation.permission}] as {principal}: {answer.status}, not {allowed or 'allowed'}: {answer.body[:200]!r}"
                )
        assert not wrong, "\n".join(wrong)

    @pytest.mark.parametrize("principal", PRINCIPALS)
    async def test_that_is_a_socket_opens_to_those_that_the_table_says(self, world: World, principal: str) -> None:
        """To others not at all; to these there is no such job."""
        credential = world.credentials[principal]
        headers = {"authorization": f"Bearer {credential}"} if credential else {}
        if principal == "foreign_admin":
            headers["x-aidos-project"] = str(world.ours.project_id)
        assert sockets(world.app)
        for socket in sockets(world.app):
            answer = await ask(world.app, "", socket.target(), headers, socket=True)
            assert answer.status in (expected(socket, principal) or {404}), f"{socket} as {principal}: {answer}"

    async def test_refuses_an_unknown_caller_before_it_looks_at_the_request(self, world: World) -> None:
        for operation in operations(world.app):
            if operation.permission != PUBLIC and operation.method != "GET":
                answer = await ask(world.app, operation.method, operation.target(), {"content-type": "application/json"}, b"{broken")
                assert answer.status == 401, str(operation)
                assert answer.headers["www-authenticate"] == "Bearer"
