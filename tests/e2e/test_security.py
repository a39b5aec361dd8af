"""What a stranger on the machine finds: closed ports; and what a thief of logs or dumps finds: no secret."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import psutil
import psycopg
import pytest

from cluster import postgres_server
from cluster.settings import read_settings
from tests.support import canary
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


def grpc_ports(platform: RunningPlatform) -> Iterator[tuple[str, grpc.Channel]]:
    """Every port that speaks gRPC with strangers: its process and number, and a channel to it."""
    for process, _, port in {entry[2]: entry for entry in listening(platform)}.values():
        with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.enable_http_proxy", 0)]) as channel:
            if canary.speaks_grpc(channel):
                yield f"{process.name()}:{port}", channel


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

    @pytest.mark.parametrize("token", [None, "", "0" * 64], ids=["no token", "an empty token", "a wrong token"])
    def test_no_port_unpickles_what_a_stranger_sends(self, platform: RunningPlatform, demo: str, tmp_path: Path, token: str | None) -> None:
        """Every gRPC method that Ray has, with the canary wherever bytes go, at every port: refused, and nothing loads it."""
        made = tmp_path / "made by the canary"
        requests = [(method, canary.fill(method, canary.build_canary(made))) for method in canary.list_methods()]
        assert len(requests) > 100
        answers = {
            (name, method.full_name): canary.send(channel, method, request, token)
            for name, channel in grpc_ports(platform)
            for method, request in requests
        }
        assert not made.exists()
        guarded = {name for (name, _), code in answers.items() if code is grpc.StatusCode.UNAUTHENTICATED}
        for program in ("gcs_server", "raylet", "ray::ServeReplica", "ray::ServeController", "ray::Host"):
            assert any(name.startswith(program) for name in guarded), f"no guarded port of {program} among {sorted(guarded)}"
        refusals = {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNIMPLEMENTED}
        assert not {call: code.name for call, code in answers.items() if code not in refusals}

    def test_the_token_alone_keeps_the_canary_out(self, platform: RunningPlatform, demo: str, tmp_path: Path) -> None:
        """With the token every replica unpickles the same request: so the sweep reaches what it must, and the canary works."""
        token = (platform.home / "secrets" / "aidos_ray_token").read_text().strip()
        handle = next(method for method in canary.list_methods() if method.full_name == "ray.serve.ASGIService.HandleRequest")
        replicas, reached = set(), set()
        for name, channel in grpc_ports(platform):
            process, _, port = name.rpartition(":")
            if process.startswith("ray::ServeReplica"):
                replicas.add(process)
                canary.send(channel, handle, canary.fill(handle, canary.build_canary(tmp_path / port)), token)
                reached |= {process} if (tmp_path / port).exists() else set()
        assert len(replicas) >= 2
        assert reached == replicas

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
