"""``mlflow server``, the peer of ModelHub: as it installs, on the benchmark's PostgreSQL and S3.

It is installed into ``build/mlflow`` on first use and is no dependency of the project. Nothing is set but where its database and its
artifacts are, and that it does not report its use.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import venv
from collections.abc import Iterator
from pathlib import Path

import httpx
from pydantic import SecretStr

from benchmarks.dvc import run
from cluster import postgres_server
from cluster.settings import Settings
from tests.support.platform import find_free_ports
from tests.support.waiting import wait_until

REQUIREMENTS = ("mlflow==3.17.*", "psycopg2-binary", "boto3")
_HOME = Path(__file__).resolve().parents[1] / "build" / "mlflow"
_PROGRAM = _HOME / "bin" / "mlflow"


@contextlib.contextmanager
def serve(storage: Settings, name: str, log: Path) -> Iterator[tuple[str, Settings]]:
    """Run it on the database ``name``, made here; its address, and settings that reach the database. What it says goes to ``log``."""
    install()
    postgres_server.create_database(storage, name)
    url, port = storage.database_url.get_secret_value().rsplit("/", 1)[0] + f"/{name}", find_free_ports(1)
    command = [_PROGRAM, "server", "--host", "127.0.0.1", "--port", str(port), "--backend-store-uri", url.replace("://", "+psycopg2://", 1)]
    command += ["--artifacts-destination", f"s3://{storage.s3_bucket}/mlflow"]
    with log.open("w") as output:
        server = subprocess.Popen(command, env=_environment(storage), stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        address = f"http://127.0.0.1:{port}"
        wait_until(lambda: _answers(address) or server.poll() is not None, within_s=300)
        if server.poll() is not None:
            raise SystemExit(f"mlflow server ended: {log.read_text()[-2000:]}")
        yield address, storage.model_copy(update={"database_url": SecretStr(url)})
    finally:
        server.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(30)
        # What it started itself, workers and job runners, does not end with it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)


def install() -> None:
    """MLflow in a virtual environment of its own, once."""
    if not _PROGRAM.exists():
        venv.create(_HOME, with_pip=True, clear=True)
        run([_HOME / "bin" / "pip", "install", "--quiet", *REQUIREMENTS], dict(os.environ))


def _environment(storage: Settings) -> dict[str, str]:
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "MLFLOW_"))},
        "AWS_ACCESS_KEY_ID": storage.s3_access_key.get_secret_value(),
        "AWS_SECRET_ACCESS_KEY": storage.s3_secret_key.get_secret_value(),
        "AWS_DEFAULT_REGION": storage.s3_region,
        "MLFLOW_S3_ENDPOINT_URL": storage.s3_endpoint,
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }


def _answers(address: str) -> bool:
    try:
        return httpx.get(f"{address}/health").is_success
    except httpx.TransportError:
        return False
