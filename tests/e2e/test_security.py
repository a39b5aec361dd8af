"""What a stranger on the machine finds: closed ports; and what a thief of logs or dumps finds: no secret."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import psycopg
import pytest

from cluster import postgres_server
from cluster.settings import read_settings
from tests.support.running import RunningPlatform

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


LOOPBACK = {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


def listening(platform: RunningPlatform) -> Iterator[tuple[psutil.Process, str, int]]:
    """Every TCP socket that a process of this home listens on: process, address, port."""
    for process in platform.processes():
        try:
            for connection in process.net_connections("tcp"):
                if connection.status == psutil.CONN_LISTEN:
                    yield process, connection.laddr.ip, connection.laddr.port
        except psutil.NoSuchProcess:
            continue


class TestPorts:
    def test_only_what_ray_cannot_bind_to_loopback_listens_elsewhere(self, platform: RunningPlatform, demo: str) -> None:
        open_ones = {process.name() for process, address, _ in listening(platform) if address not in LOOPBACK}
        # A Serve replica's gRPC server has no setting for its address (Ray 2.60) and asks for Ray's token; torch's
        # rendezvous between the workers of a job listens everywhere while they train.
        assert all(name.startswith(("ray::Serve", "ray::RayTrainWorker")) for name in open_ones), open_ones

    def test_no_port_runs_a_strangers_job(self, platform: RunningPlatform, demo: str, tmp_path: Path) -> None:
        canary = tmp_path / "canary"
        job = {"entrypoint": f"touch {canary}", "submission_id": "stranger"}
        probed = 0
        for _, _, port in {entry[2]: entry for entry in listening(platform)}.values():
            for path in ("/api/jobs/", "/api/job_agent/jobs/"):
                try:
                    answer = httpx.post(f"http://127.0.0.1:{port}{path}", json=job, timeout=3)
                except (httpx.HTTPError, OSError):
                    continue
                probed += 1
                assert answer.status_code >= 400, f"port {port}{path} answers {answer.status_code}"
        assert probed >= 5
        assert not canary.exists()

    def test_no_port_gives_a_stranger_the_data(self, platform: RunningPlatform, demo: str) -> None:
        """Buckets, filer directories and volumes answer nobody who did not sign."""
        first = int(platform.environment["AIDOS_S3_PORT"])
        weed = {port for process, _, port in listening(platform) if "weed" in " ".join(process.cmdline())}
        assert first in weed
        for port in weed:
            for path in ("/", "/aidos", "/buckets/", "/buckets/aidos/"):
                try:
                    body = httpx.get(f"http://127.0.0.1:{port}{path}", timeout=3).text
                except (httpx.HTTPError, OSError):
                    continue
                assert "/blobs/" not in body and "<Contents>" not in body and '"Entries"' not in body, f"port {port}{path}: {body[:300]}"

    def test_postgres_wants_the_password(self, platform: RunningPlatform) -> None:
        port = platform.environment["AIDOS_POSTGRES_PORT"]
        for user in ("aidos", "postgres", "aidos_app", "aidos_platform"):
            with pytest.raises(psycopg.OperationalError):
                psycopg.connect(f"postgresql://{user}:wrong@127.0.0.1:{port}/aidos", connect_timeout=3)

    def test_the_gateway_listens_only_where_it_was_told_to(self, platform: RunningPlatform) -> None:
        port = int(platform.environment["AIDOS_GATEWAY_PORT"])
        addresses = {address for _, address, each in listening(platform) if each == port}
        assert addresses == {"127.0.0.1"}
        with socket.create_connection(("127.0.0.1", port), timeout=3):
            pass

    def test_the_doctor_finds_nothing(self, platform: RunningPlatform) -> None:
        examined = platform.aidos("doctor", "--json")
        assert examined.code == 0, examined.out


class TestSecrets:
    def test_no_secret_is_in_the_database_the_logs_or_a_jobs_environment(self, platform: RunningPlatform, demo: str) -> None:
        planted = platform.ask("key", "create", "canary", "--role", "developer")["key"]
        platform.aidos("whoami", key=planted, check=True)
        platform.aidos("user", "create", "canary@example.org", "--password", "canary-horse-battery-staple")
        names = ("postgres_password", "s3_secret_key", "s3_jwt_key", "ray_token", "key_pepper")
        kept = [platform.home / "secrets" / f"aidos_{name}" for name in names]
        secrets = [path.read_text().strip() for path in kept if path.exists()]
        assert len(secrets) >= 4
        secrets += [planted.split("_")[3], platform.admin_key.split("_")[3], "canary-horse-battery-staple"]

        places = {"database": dump(platform), "ray jobs": ray_jobs(platform)}
        for folder in (platform.home / "logs", platform.home / "run"):
            for path in folder.rglob("*"):
                if path.is_file() and path.suffix in {".log", ".out", ".err", ".txt", ".json"} and path.stat().st_size < 50_000_000:
                    places[str(path.relative_to(platform.home))] = path.read_text(errors="replace")
        found = [(place, secret[:6]) for place, text in places.items() for secret in secrets if secret in text]
        assert not found
        assert not [place for place, text in places.items() if place.startswith(("logs", "run")) and "X-Amz-Signature=" in text]


def dump(platform: RunningPlatform) -> str:
    """Every row of every table, as text."""
    settings = read_settings(platform.home).model_copy(update={"postgres_port": int(platform.environment["AIDOS_POSTGRES_PORT"])})
    with postgres_server.connect_superuser(settings, "aidos") as conn:
        tables = conn.execute(
            "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        ).fetchall()
        return "\n".join(str(row) for (table,) in tables for row in conn.execute(f"SELECT t::text FROM {table} t").fetchall())


def ray_jobs(platform: RunningPlatform) -> str:
    """What Ray itself tells of its jobs, runtime environments included, to who has the token."""
    token = (platform.home / "secrets" / "aidos_ray_token").read_text().strip()
    url = f"http://127.0.0.1:{platform.environment['AIDOS_RAY_DASHBOARD_PORT']}/api/jobs/"
    answer = httpx.get(url, headers={"Authorization": f"Bearer {token}"}, timeout=10)
    assert answer.status_code == 200
    assert json.loads(answer.text)
    return answer.text
