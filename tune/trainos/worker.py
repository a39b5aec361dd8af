"""Runs in every Ray worker of a job before user code: ``worker_process_setup_hook`` of its runtime environment."""

from __future__ import annotations

from ray._private.worker import global_worker

from tune.trainos.job_environment import find_attempt, set_token_file
from tune.trainos.job_token import NAMESPACE, TokenFile, token_key


def setup() -> None:
    """Put the job's token into a private file that ``AIDOS_TOKEN_FILE`` names."""
    attempt = find_attempt()
    if attempt is None:
        return
    key = token_key(attempt.job_id, attempt.number)
    file = TokenFile(lambda: global_worker.gcs_client.internal_kv_get(key, NAMESPACE, timeout=5))
    set_token_file(file.start())
