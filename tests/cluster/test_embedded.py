"""The embedded PostgreSQL and S3, killed and started again for real; and what each way to start wrongly is told."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import psutil
import psycopg
import pytest
import urllib3
from minio.error import S3Error

from cluster import embedded, launch, postgres_server, s3_server
from cluster.embedded import CannotStart
from cluster.settings import Settings, inherited_environment, read_settings
from cluster.supervision import NotReady, Supervisor, socket_directory, wait_until
from tests.support.platform import find_free_ports, start_storage

STORAGE = {"postgres", "s3"}


def listens_to(address: str, credentials: grpc.ChannelCredentials | None) -> bool:
    """Whether a gRPC server answers at all, be it that it has no such method."""
    options = [("grpc.enable_http_proxy", 0)]
    opened = grpc.secure_channel(address, credentials, options) if credentials else grpc.insecure_channel(address, options)
    with opened as channel:
        try:
            channel.unary_unary("/nobody.Knows/This")(b"", timeout=3)
        except grpc.RpcError as error:
            return error.code() is grpc.StatusCode.UNIMPLEMENTED
    return True


def query(settings: Settings, text: str) -> Any:
    with psycopg.connect(settings.database_url.get_secret_value(), connect_timeout=3) as connection:
        cursor = connection.execute(text.encode())
        row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None


def answers(settings: Settings) -> bool:
    try:
        return query(settings, "select 1") == 1
    except psycopg.OperationalError:
        return False


def pids(settings: Settings) -> dict[str, int | None]:
    return {status.name: status.pid for status in Supervisor(settings.home).status() if status.name in STORAGE}


@pytest.fixture(scope="module")
def own() -> Iterator[Settings]:
    """Servers of this module's own, to be killed."""
    home = Path(tempfile.mkdtemp(prefix="aidos-own-"))
    settings = start_storage(home)
    yield settings
    embedded.stop(settings)
    shutil.rmtree(home)


@pytest.fixture
def fresh() -> Iterator[Settings]:
    """Settings of a home where nothing was started yet."""
    home = Path(tempfile.mkdtemp(prefix="aidos-fresh-"))
    first = find_free_ports(9)
    settings = read_settings(home).model_copy(update={"postgres_port": first, "s3_port": first + 1})
    yield settings
    embedded.stop(settings)
    shutil.rmtree(home)


@pytest.mark.postgres
class TestServers:
    def test_the_database_has_checksums_fsync_and_vectors(self, storage: Settings) -> None:
        assert query(storage, "show data_checksums") == "on"
        assert query(storage, "show fsync") == "on"
        assert query(storage, "show server_version_num") >= "180000"
        assert query(storage, "select count(*) from pg_extension where extname = 'vector'") == 1

    def test_the_platform_signs_in_as_no_superuser(self, storage: Settings) -> None:
        assert query(storage, "select rolsuper or rolbypassrls from pg_roles where rolname = current_user") is False
        assert query(storage, "select rolcreaterole from pg_roles where rolname = current_user") is True

    def test_a_wrong_password_is_refused(self, storage: Settings) -> None:
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            postgres_server.check(postgres_server.database_url(storage, "wrong"))

    def test_the_superuser_is_refused_over_tcp(self, storage: Settings) -> None:
        with pytest.raises(psycopg.OperationalError, match="pg_hba.conf rejects"):
            postgres_server.check(f"postgresql://postgres:x@127.0.0.1:{storage.postgres_port}/postgres")

    def test_s3_answers_its_keys_and_no_others(self, storage: Settings) -> None:
        keys = (storage.s3_access_key.get_secret_value(), storage.s3_secret_key.get_secret_value())
        s3_server.check(storage.s3_endpoint, *keys, storage.s3_region)
        with pytest.raises(S3Error, match="SignatureDoesNotMatch"):
            s3_server.check(storage.s3_endpoint, keys[0], "wrong", storage.s3_region)
        with pytest.raises(S3Error, match="AccessDenied"):
            s3_server.connect(storage.s3_endpoint, None, None, storage.s3_region).list_buckets()

    def test_the_filer_is_closed_to_strangers(self, storage: Settings) -> None:
        filer = f"http://127.0.0.1:{s3_server.ports(storage)['filer']}/buckets/"
        assert urllib3.request("GET", filer, retries=False).status == 401

    @pytest.mark.parametrize("port", ["master_grpc", "volume_grpc", "filer_grpc", "s3_grpc"])
    def test_the_inner_calls_want_the_certificate(self, storage: Settings, port: str, tmp_path: Path) -> None:
        address = f"localhost:{s3_server.ports(storage)[port]}"
        kept = [(storage.home / "config" / "s3" / name).read_bytes() for name in ("grpc.crt", "grpc.key")]
        s3_server._write_certificate(tmp_path / "key", tmp_path / "crt")
        own = [(tmp_path / name).read_bytes() for name in ("crt", "key")]
        credentials = {
            "none": None,
            "no certificate": grpc.ssl_channel_credentials(kept[0]),
            "another": grpc.ssl_channel_credentials(kept[0], own[1], own[0]),
            "its own": grpc.ssl_channel_credentials(kept[0], kept[1], kept[0]),
        }
        reached = [who for who, held in credentials.items() if listens_to(address, held)]
        assert reached == ["its own"]

    def test_everything_listens_on_loopback(self, storage: Settings) -> None:
        mine = {process.pid for process in launch.find_marked(storage.home)}
        listening = [row.laddr for row in psutil.net_connections("tcp") if row.pid in mine and row.status == psutil.CONN_LISTEN]
        assert len(listening) >= 9
        assert {address.ip for address in listening} == {"127.0.0.1"}

    def test_no_secret_is_in_a_command_line_or_an_environment(self, storage: Settings) -> None:
        hidden = [path.read_text() for path in (storage.home / "secrets").glob("aidos_*") if path.name != "aidos_s3_endpoint"]
        assert len(hidden) >= 5
        for process in launch.find_marked(storage.home):
            shown = " ".join(process.cmdline()) + " ".join(process.environ().values())
            assert not [secret for secret in hidden if secret in shown]

    def test_secrets_are_for_their_owner_alone(self, storage: Settings) -> None:
        assert stat.S_IMODE((storage.home / "secrets").stat().st_mode) == 0o700
        assert {stat.S_IMODE(path.stat().st_mode) for path in (storage.home / "secrets").iterdir()} == {0o600}
        assert stat.S_IMODE(storage.home.stat().st_mode) & 0o067 == 0


@pytest.mark.postgres
class TestStart:
    def test_a_second_start_keeps_the_processes(self, own: Settings) -> None:
        before = pids(own)
        embedded.start(own, only=STORAGE)
        assert pids(own) == before
        assert None not in before.values()

    def test_a_killed_server_comes_back_by_itself_with_its_data(self, own: Settings) -> None:
        query(own, "create table if not exists kept as select 42 as answer")
        before = pids(own)
        for pid in before.values():
            psutil.Process(pid).kill()
        wait_until(
            lambda: answers(own) and all(pid not in (None, before[name]) for name, pid in pids(own).items()), 30, lambda: str(pids(own))
        )
        assert query(own, "select answer from kept") == 42

    def test_starts_after_the_supervisor_alone_was_killed(self, own: Settings) -> None:
        before = pids(own)
        for process in launch.find_marked(own.home, "supervisord"):
            process.kill()
        embedded.start(own, only=STORAGE)
        assert answers(own)
        assert not any(psutil.pid_exists(pid) for pid in before.values() if pid)
        assert len(launch.find_marked(own.home, "supervisord")) == 1

    def test_starts_after_everything_was_killed(self, own: Settings) -> None:
        query(own, "create table if not exists kept as select 42 as answer")
        for process in launch.find_marked(own.home):
            with contextlib.suppress(psutil.NoSuchProcess):  # one may end with another
                process.kill()
        wait_until(lambda: not launch.find_marked(own.home), 10, lambda: "processes outlive SIGKILL")
        embedded.start(own, only=STORAGE)
        assert query(own, "select answer from kept") == 42

    def test_a_lost_password_file_is_made_anew(self, fresh: Settings) -> None:
        first = embedded.start(fresh, only={"postgres"})
        first.secret_path("postgres_password").unlink()
        ports = {"postgres_port": fresh.postgres_port, "s3_port": fresh.s3_port}
        second = embedded.start(read_settings(fresh.home).model_copy(update=ports), only={"postgres"})
        assert answers(second)
        assert not answers(first)

    def test_stopping_one_home_leaves_another_alone(self, fresh: Settings, own: Settings) -> None:
        before = pids(own)
        embedded.start(fresh, only={"postgres"})
        assert embedded.stop(fresh)
        assert not launch.find_marked(fresh.home)
        assert pids(own) == before
        assert not embedded.stop(fresh)


@pytest.mark.postgres
class TestRefusals:
    def test_a_busy_port_is_named_with_its_process(self, fresh: Settings) -> None:
        with socket.create_server(("127.0.0.1", fresh.postgres_port)):
            with pytest.raises(CannotStart, match=rf"port {fresh.postgres_port} \(postgres\) is taken by process {os.getpid()} "):
                embedded.start(fresh, only={"postgres"})
        assert answers(embedded.start(fresh, only={"postgres"}))

    def test_a_half_made_database_is_moved_aside_and_none_is_lost(self, fresh: Settings) -> None:
        embedded.make_home(fresh.home)
        data = fresh.home / "postgres" / "data"
        data.mkdir(parents=True)
        (data / "PG_VERSION").write_text("18\n")  # initdb writes this first
        told: list[str] = []
        settings = embedded.start(fresh, lambda title, message: told.append(message), only={"postgres"})
        assert answers(settings)
        (aside,) = (fresh.home / "postgres").glob("half-made-*")
        assert (aside / "PG_VERSION").read_text() == "18\n"
        assert any("half-made database" in message and str(aside) in message for message in told)

    def test_a_program_that_cannot_run_is_told_with_its_log(self, fresh: Settings) -> None:
        embedded.make_home(fresh.home)
        settings = embedded.start(fresh, only={"postgres"})
        embedded.stop(settings)
        control = fresh.home / "postgres" / "data" / "global" / "pg_control"
        control.write_bytes(b"\0" * 8192)
        with pytest.raises(CannotStart, match=r"PostgreSQL 18 does not answer: .* its log .*postgres\.log says '.*(PANIC|FATAL)"):
            embedded.start(settings.model_copy(update={"start_timeout_s": 60.0}), only={"postgres"})


class TestStartLock:
    def test_a_second_start_at_once_is_refused_and_the_holder_named(self, tmp_path: Path) -> None:
        embedded.make_home(tmp_path / "home")
        with embedded.start_lock(tmp_path / "home"):
            with pytest.raises(CannotStart, match=rf"another 'aidos up' .* is at work \(process {os.getpid()}\)"):
                with embedded.start_lock(tmp_path / "home"):
                    pass

    def test_a_dead_holder_is_no_holder(self, tmp_path: Path) -> None:
        embedded.make_home(tmp_path / "home")
        code = (
            "import os; from pathlib import Path; from cluster.embedded import start_lock\n"
            f"with start_lock(Path({str(tmp_path / 'home')!r})): os.kill(os.getpid(), 9)"
        )
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
        with embedded.start_lock(tmp_path / "home"):
            assert (tmp_path / "home" / "run" / "up.pid").read_text() == str(os.getpid())


class TestMakeHome:
    def test_a_home_that_others_can_read_becomes_private(self, tmp_path: Path) -> None:
        home = tmp_path / "home"
        home.mkdir(mode=0o755)
        embedded.make_home(home)
        assert stat.S_IMODE(home.stat().st_mode) == 0o700

    @pytest.mark.parametrize("name", ["100% mine", 'a"quote', "line\nbreak"])
    def test_a_name_that_supervisord_cannot_hold_is_refused(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(CannotStart, match="choose another"):
            embedded.make_home(tmp_path / name)
        assert not (tmp_path / name).exists()


class TestChoosingPrograms:
    def test_a_setting_replaces_its_program(self, tmp_path: Path) -> None:
        embedded.make_home(tmp_path)
        outer = read_settings(tmp_path).model_copy(
            update={"database_url": read_settings(tmp_path).database_url.__class__("postgresql://u:p@db/x"), "s3_endpoint": "http://s3:1"}
        )
        settings = embedded.make_secrets(outer.model_copy(update={"ray_address": "10.0.0.1:6379"}))
        assert [program.name for program in embedded.build_programs(settings)] == ["platform"]
        # a Ray worker that knows only AIDOS_HOME finds the outer database
        assert read_settings(tmp_path).database_url.get_secret_value() == "postgresql://u:p@db/x"

    def test_another_port_moves_the_embedded_server(self, tmp_path: Path) -> None:
        embedded.make_home(tmp_path)
        first = embedded.make_secrets(read_settings(tmp_path))
        moved = embedded.make_secrets(read_settings(tmp_path).model_copy(update={"postgres_port": 9999}))
        assert moved.database_url.get_secret_value().endswith("@127.0.0.1:9999/aidos")
        assert moved.secret("postgres_password") == first.secret("postgres_password")

    def test_the_head_listens_on_loopback_with_its_token(self, tmp_path: Path) -> None:
        embedded.make_home(tmp_path)
        settings = embedded.make_secrets(read_settings(tmp_path))
        (head,) = [program for program in embedded.build_programs(settings) if program.name == "ray"]
        assert "--node-ip-address=127.0.0.1" in head.command
        assert head.environment["RAY_AUTH_MODE"] == "token"
        assert head.environment["RAY_AUTH_TOKEN_PATH"] == str(settings.secret_path("ray_token"))
        assert head.environment["AIDOS_HOME"] == str(tmp_path)
        secrets = [path.read_text() for path in (tmp_path / "secrets").iterdir() if path.name != "aidos_s3_endpoint"]
        assert not [value for value in head.environment.values() if value in secrets]

    def test_two_platforms_share_no_port(self, tmp_path: Path) -> None:
        taken: list[int] = []
        for number in (0, 1):
            home = tmp_path / str(number)
            embedded.make_home(home)
            shift = (
                {"postgres_port": 9000, "s3_port": 9001, "gateway_port": 9010, "ray_dashboard_port": 9011, "ray_port": 9200}
                if number
                else {}
            )
            settings = embedded.make_secrets(read_settings(home).model_copy(update=shift))
            taken += [port.number for program in embedded.build_programs(settings) for port in program.ports]
        assert len(taken) == len(set(taken)) > 40


class TestInheritedEnvironment:
    def test_credentials_of_the_shell_stay_in_the_shell(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in (
            "AWS_SECRET_ACCESS_KEY",
            "AIDOS_DATABASE_URL",
            "HF_TOKEN",
            "RAY_AUTH_TOKEN",
            "RAY_ADDRESS",
            "PGPASSWORD",
            "AIDOS_PROGRAM",
        ):
            monkeypatch.setenv(name, "hidden")
        monkeypatch.setenv("RAY_health_check_period_ms", "1000")
        assert "hidden" not in inherited_environment().values()
        assert inherited_environment()["RAY_health_check_period_ms"] == "1000"


class TestSocketDirectory:
    def test_a_long_home_gets_a_short_one(self) -> None:
        home = Path("/srv") / ("deep/" * 30)
        assert len(str(socket_directory(home))) < 40
        assert socket_directory(home) != socket_directory(home / "other")
        assert socket_directory(Path("/srv/.aidos")) == Path("/srv/.aidos/run")


class TestCheckPlatform:
    def test_what_a_dead_platform_announced_does_not_count(self, tmp_path: Path) -> None:
        (tmp_path / "run").mkdir()
        gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True)
        (tmp_path / "run" / "platform.json").write_text(f'{{"url": "http://x", "pid": {gone.stdout.strip()}}}')
        assert embedded.read_announcement(tmp_path) is None
        with pytest.raises(NotReady, match="not announced"):
            embedded.check_platform(read_settings(tmp_path))

    def test_the_admin_key_is_given_once(self, tmp_path: Path) -> None:
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "admin_key").write_text("aidos_live_x\n")
        assert embedded.take_admin_key(tmp_path) == "aidos_live_x"
        assert embedded.take_admin_key(tmp_path) is None
