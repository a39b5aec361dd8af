"""A job's secrets in its own processes: fetched with its token, and nowhere but in the memory of those that run its code.

Neither Ray's runtime environment nor its control store ever has them: the command's process gets them from the entry point, and each of
the job's Ray workers asks for itself (``worker.setup``). Both begin with every job, so the client is not loaded for this.
"""

from __future__ import annotations

import http.client
import json
import time
from urllib.parse import urlsplit

from aidos.errors import Unavailable, from_problem
from tune.trainos.job_environment import Attempt, read_gateway

_PATIENCE_S, _FIRST_PAUSE_S, _LONGEST_PAUSE_S, _ANSWER_S = 60.0, 0.2, 5.0, 30.0
_LATER = frozenset({429, 502, 503, 504})


def fetch_secrets(attempt: Attempt) -> dict[str, str]:
    """Values by the variable that the job wants them in.

    Raises: AidosError, in the platform's words; Unavailable where it gave no answer for longer than a restart of it takes.
    """
    began, pause_s = time.monotonic(), _FIRST_PAUSE_S
    while True:
        try:
            return _ask(attempt)
        except (OSError, http.client.HTTPException, Unavailable) as error:
            if time.monotonic() - began > _PATIENCE_S:
                raise Unavailable(reason=f"The job's secrets cannot be had: {error}.", retry_after_s=60) from error
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def _ask(attempt: Attempt) -> dict[str, str]:
    """Raises: OSError, HTTPException, Unavailable where it is to be asked again; AidosError where not."""
    gateway, token = read_gateway()
    url = urlsplit(gateway)
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    connection = kind(url.hostname or "", url.port, timeout=_ANSWER_S)
    try:
        headers = {"Authorization": f"Bearer {token}", "Content-Length": "0"}
        connection.request("POST", f"{url.path}/v1/trainos/jobs/{attempt.job_id}/secrets", headers=headers)
        answer = connection.getresponse()
        content = answer.read()
    finally:
        connection.close()
    if answer.status == 200:
        return dict(json.loads(content)["environment"])
    if answer.status in _LATER or answer.getheader("Content-Type") != "application/problem+json":  # a proxy that knows no routes yet
        raise Unavailable(reason=f"The platform answered {answer.status}.", retry_after_s=1)
    raise from_problem(answer.status, json.loads(content))
