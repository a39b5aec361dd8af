"""Runs in every Ray worker of a job before user code: ``worker_process_setup_hook`` of its runtime environment."""

from __future__ import annotations

import contextlib
import os
import sys

from ray._private.worker import global_worker

from aidos.errors import AidosError
from tune.trainos.job_environment import (
    Attempt,
    fetches_secrets,
    find_attempt,
    is_sandboxed_with_code,
    put_secrets,
    set_token_file,
    working_folder,
)
from tune.trainos.job_secrets import fetch_secrets
from tune.trainos.job_token import NAMESPACE, JobFiles


def setup() -> None:
    """Put the job's token into a private file that ``AIDOS_TOKEN_FILE`` names; go where the job's command is, if it is on this node."""
    attempt = find_attempt()
    if attempt is None:
        return

    def read(key: bytes) -> bytes | None:
        return global_worker.gcs_client.internal_kv_get(key, NAMESPACE, timeout=5)

    files = JobFiles(read, attempt.job_id, attempt.number, code=is_sandboxed_with_code())
    set_token_file(files.start())
    if fetches_secrets():
        _take_secrets(attempt)
    with contextlib.suppress(FileNotFoundError):
        os.chdir(working_folder())


def _take_secrets(attempt: Attempt) -> None:
    """Into the environment. A worker without them is better than none: Ray would begin one after the other."""
    try:
        put_secrets(fetch_secrets(attempt))
    except AidosError as error:
        sys.stderr.write(f"aidos: this worker has none of the job's secrets: {error}\n")
