"""Which of the project's secrets a job gets, and when it gets none."""

from __future__ import annotations

from actors.securityvault import service as securityvault
from actors.securityvault.models import Scope, platform_scope
from actors.securityvault.policy import USE_SECRETS, require
from cluster.db import Connection
from cluster.settings import Settings
from tune.trainos import store
from tune.trainos.errors import JobEnded, JobNotFound, SecretUnknown
from tune.trainos.models import Job, JobSpec


async def check_secrets(conn: Connection, scope: Scope, spec: JobSpec) -> None:
    """That who submits this job may use its secrets, and that there are these. Raises: Forbidden, SecretUnknown."""
    if not spec.secrets:
        return
    require(scope, USE_SECRETS)
    missing = await securityvault.find_missing_secrets(conn, scope, set(spec.secrets.values()))
    for variable, name in spec.secrets.items():
        if name in missing:
            raise SecretUnknown(name=name, variable=variable, pointer=f"#/secrets/{variable}")


async def find_gone_secret(conn: Connection, job: Job) -> str | None:
    """Why a job that was submitted cannot begin: in a sentence, the secret that was deleted since."""
    if not job.spec.secrets:
        return None
    scope = platform_scope(job.org_id, job.project_id)
    missing = await securityvault.find_missing_secrets(conn, scope, set(job.spec.secrets.values()))
    for variable, name in job.spec.secrets.items():
        if name in missing:
            return f"secret '{name}', which the job has as {variable}, was deleted after the job was submitted"
    return None


async def read_secrets(conn: Connection, scope: Scope, settings: Settings, name: str) -> tuple[dict[str, str], dict[str, int]]:
    """The values for a job's own processes, by variable, and which versions they are, by name: while it has not ended, for its own token.

    Raises: JobNotFound to everyone else, JobEnded, SecretNotFound, SecretUnreadable.
    """
    job = await store.find_job(conn, scope.project, name)
    if job is None or scope.principal.job_id != job.id:
        raise JobNotFound(name=name)
    if job.state.final:
        raise JobEnded(job=job.name, state=job.state)
    found = await securityvault.open_secrets(conn, scope, settings, set(job.spec.secrets.values()))
    values = {variable: found[name].value for variable, name in job.spec.secrets.items()}
    return values, {name: secret.version for name, secret in found.items()}
