"""A platform with data is backed up while it runs, destroyed, and restored on other servers: everything is there again."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import stat
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr

from actors.securityvault import service as securityvault
from aidos import pull, push
from aidos.client import Client
from aidos.errors import Conflict, Unavailable
from cluster import backup, boot, dumps, embedded, postgres_server
from cluster.backup import make_backup
from cluster.db import Connection, Database, new_id
from cluster.dumps import BackupFailed
from cluster.events import Event, consume_batch
from cluster.migrate import migrate
from cluster.objects import Objects
from cluster.restore import restore_backup
from cluster.settings import Settings
from tests.support.platform import start_storage
from tests.support.running import Ran, RunningPlatform
from tests.support.server import serve

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(300)]
CONSUMER = "reader"


@dataclass(frozen=True)
class Installation:
    """A home with servers of its own, what was pushed into it, and the key of its administrator."""

    settings: Settings
    files: dict[str, bytes]
    admin_key: str
    seen: tuple[str, ...]


def start(made: list[Settings]) -> Settings:
    made.append(start_storage(Path(tempfile.mkdtemp(prefix="aidos-backup-"))))
    return made[-1]


def end(settings: Settings) -> None:
    embedded.stop(settings)
    shutil.rmtree(settings.home, ignore_errors=True)


async def bootstrap(settings: Settings) -> str:
    objects, project_id = Objects(settings), new_id()
    await objects.ensure_bucket()
    for number in range(10):
        await objects.put_blob(project_id, os.urandom(1000 * number))
    await objects.put(f"{project_id}/artifacts/in parts/ü?#%.bin", os.urandom(12 << 20), "model/x")  # its ETag is no checksum
    async with Database(settings) as db:
        return str(await securityvault.bootstrap(db, settings))


def burn_transactions(settings: Settings, count: int) -> None:
    """An old server: its transaction numbers are far ahead of a new one's."""
    with postgres_server.connect_superuser(settings) as connection:
        connection.execute(f"DO $$ BEGIN FOR i IN 1..{count} LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$")


async def read_events(settings: Settings, limit: int = 1000) -> tuple[str, ...]:
    """What the consumer is handed next."""
    seen: list[str] = []

    async def note(_conn: Connection, events: list[Event]) -> None:
        seen.extend(str(event.id) for event in events)

    async with Database(settings) as db:
        await consume_batch(db, CONSUMER, note, limit=limit)
    return tuple(seen)


def list_events(settings: Settings) -> tuple[str, ...]:
    """All events, in the order of the consumers."""
    with postgres_server.connect_superuser(settings, postgres_server.DATABASE) as connection:
        return tuple(str(id) for (id,) in connection.execute("SELECT id FROM cluster.events ORDER BY xid, seq"))


def read_table(settings: Settings, table: str) -> list[Any]:
    with postgres_server.connect_superuser(settings, postgres_server.DATABASE) as connection:
        return connection.execute(f"SELECT to_jsonb(t) FROM {table} t ORDER BY 1".encode()).fetchall()


async def read_objects(settings: Settings) -> dict[str, tuple[str, str | None]]:
    """SHA-256 and content type of everything in the bucket."""
    objects, found = Objects(settings), {}
    for info in await objects.list_prefix(""):
        kind = objects.client.stat_object(objects.bucket, info.key).content_type
        found[info.key] = (hashlib.sha256(await objects.get(info.key)).hexdigest(), kind)
    return found


def content(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def old() -> Iterator[Installation]:
    """An installation with a dataset, runs, events half read, and an audit trail."""
    made: list[Settings] = []
    settings = start(made)
    burn_transactions(settings, 20_000)
    migrate(settings, boot.SCHEMAS)
    key = asyncio.run(bootstrap(settings))
    folder = settings.home / "folder"
    folder.mkdir()
    files = {f"part-{number}.bin": os.urandom(200_000 + number) for number in range(8)} | {"labels.csv": b"name,digit\n", "empty": b""}
    for name, data in files.items():
        (folder / name).write_bytes(data)
    with serve(settings) as url, Client(url, key) as client:
        push(folder, "digits", message="first", client=client)
        client.experiments.create("digits")
        for number in range(5):
            client.runs.create(experiment="digits", name=f"run-{number}")
    seen = asyncio.run(read_events(settings, limit=3))
    yield Installation(settings, files, key, seen)
    for each in made:
        end(each)


@pytest.fixture
def new() -> Iterator[Settings]:
    """Servers that were just started, with nothing in them."""
    made: list[Settings] = []
    yield start(made)
    end(made[0])


@pytest.fixture
def finished(old: Installation, tmp_path: Path) -> Path:
    make_backup(old.settings, tmp_path / "finished")
    return tmp_path / "finished"


def aidos(settings: Settings, *arguments: str) -> Ran:
    environment = {"AIDOS_POSTGRES_PORT": str(settings.postgres_port), "AIDOS_S3_PORT": str(settings.s3_port)}
    return RunningPlatform.at(settings.home).aidos(*arguments, **environment)


class TestRoundTrip:
    def test_everything_is_back_on_other_servers(self, old: Installation, new: Settings, tmp_path: Path) -> None:
        saved = aidos(old.settings, "backup", str(tmp_path / "kept"), "--json")
        assert saved.code == 0, saved.err
        before = {table: read_table(old.settings, table) for table in saved.json["database"]["rows"]}
        events = list_events(old.settings)
        done = aidos(new, "restore", str(tmp_path / "kept"), "--json")
        assert done.code == 0, done.err
        assert done.json["rows"] == sum(saved.json["database"]["rows"].values()) > 50
        assert done.json["objects"] == saved.json["objects"]["count"] >= 12
        moved = {"cluster.events", "cluster.event_cursors"}  # they are given numbers of the new server
        changed = [table for table, rows in before.items() if table not in moved and read_table(new, table) != rows]
        assert changed == []
        assert asyncio.run(read_objects(new)) == asyncio.run(read_objects(old.settings))
        assert migrate(new, boot.SCHEMAS) == []  # and the schema is the migrations', nothing else
        assert asyncio.run(boot.prepare(new)) is None  # what `aidos up` does first finds nothing to make
        with serve(new) as url, Client(url, old.admin_key) as client:
            pull("digits", tmp_path / "pulled", client=client)
            assert content(tmp_path / "pulled") == old.files
            assert {run.name for run in client.runs.list()} == {f"run-{number}" for number in range(5)}
            verdict = client.audit.verify()
            assert (verdict.valid, verdict.rows) == (True, len(before["securityvault.audit_log"]))
            client.runs.create(experiment="digits", name="after")
        assert list_events(new)[:-1] == events
        rest = asyncio.run(read_events(new))
        assert old.seen + rest == list_events(new)  # each consumer goes on where it was, and hears of what is new
        assert len(old.seen) == 3

    def test_one_made_while_others_push_has_every_object_of_every_row(self, old: Installation, new: Settings, tmp_path: Path) -> None:
        folder, pushed = tmp_path / "folder", list[str]()
        folder.mkdir()
        copying, pushes = threading.Event(), 12

        def push_on(client: Client) -> None:
            for number in range(pushes):
                (folder / "data.bin").write_bytes(os.urandom(50_000))
                push(folder, f"live-{number}", client=client)
                pushed.append(f"live-{number}")
                if len(pushed) == 2:
                    copying.set()

        with serve(old.settings) as url, Client(url, old.admin_key) as client, ThreadPoolExecutor(1) as pool:
            pushing = pool.submit(push_on, client)
            assert copying.wait(60)
            make_backup(old.settings, tmp_path / "kept")
            pushing.result()
        restore_backup(new, tmp_path / "kept")
        with serve(new) as url, Client(url, old.admin_key) as client:
            names = [dataset.name for dataset in client.datasets.list() if dataset.name.startswith("live-")]
            assert 2 <= len(names) <= pushes
            with_commits = [name for name in names if list(client.datasets.refs(name))]
            assert len(with_commits) >= 2
            for name in with_commits:
                pull(name, tmp_path / name, client=client)

    def test_only_what_belongs_to_the_data_is_copied_of_the_secrets(self, old: Installation, finished: Path) -> None:
        names = {path.name for path in (finished / "secrets").iterdir()}
        assert names == {"aidos_key_pepper", "aidos_secret_keys", "aidos_token_keys", "aidos_audit_keys"}
        modes = {stat.S_IMODE(path.stat().st_mode) for path in finished.rglob("*")}
        assert modes == {0o600, 0o700}
        assert stat.S_IMODE(finished.stat().st_mode) == 0o700


class TestMakeBackup:
    def test_an_interrupted_one_is_taken_up(self, old: Installation, tmp_path: Path) -> None:
        kept = tmp_path / "kept"

        def interrupt(step: str, amount_bytes: int, _total_bytes: int) -> None:
            if step == "objects" and amount_bytes:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            make_backup(old.settings, kept, interrupt)
        assert not (kept / "manifest.json").exists()
        with pytest.raises(Conflict, match="no finished backup"):
            restore_backup(old.settings, kept, replace=True)
        copied = {path: path.stat().st_ino for path in (kept / "objects").glob("*/*") if path.suffix == ""}
        assert copied
        (kept / "objects" / "00").mkdir(exist_ok=True)
        (kept / "objects" / "00" / "deleted-meanwhile").write_bytes(b"")
        manifest = make_backup(old.settings, kept)
        again = {path for path, inode in copied.items() if path.stat().st_ino != inode}
        assert {path.stat().st_size for path in again} <= {12 << 20}  # only what has no checksum in the store is copied again
        assert len(list((kept / "objects").glob("*/*"))) == manifest["objects"]["count"]
        assert {path.name for path in kept.iterdir()} == {"manifest.json", "database.dump", "objects.jsonl", "objects", "secrets"}

    def test_a_directory_with_other_things_is_left_alone(self, old: Installation, tmp_path: Path) -> None:
        (tmp_path / "mine").write_text("letters")
        with pytest.raises(Conflict, match="not empty"):
            make_backup(old.settings, tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["mine"]

    def test_a_finished_one_is_not_overwritten(self, old: Installation, finished: Path) -> None:
        before = (finished / "manifest.json").read_text()
        with pytest.raises(Conflict, match="finished backup"):
            make_backup(old.settings, finished)
        assert (finished / "manifest.json").read_text() == before

    def test_a_role_that_does_not_see_all_rows_is_refused(self, old: Installation, tmp_path: Path) -> None:
        blind = old.settings.database_url.get_secret_value() + "?connect_timeout=3"  # not the embedded server's address: an outer one
        with pytest.raises(Conflict, match="role aidos does not see all rows"):
            make_backup(old.settings.model_copy(update={"database_url": SecretStr(blind)}), tmp_path / "kept")

    async def test_an_object_that_is_damaged_in_the_store_is_named(self, old: Installation, tmp_path: Path) -> None:
        objects, key = Objects(old.settings), f"{new_id()}/blobs/aa/{'a' * 64}"
        await objects.put(key, b"not what the key promises")
        try:
            with pytest.raises(BackupFailed, match=key):
                await asyncio.to_thread(make_backup, old.settings, tmp_path / "kept")
        finally:
            await objects.remove([key])

    def test_an_empty_installation_has_nothing_to_back_up(self, new: Settings, tmp_path: Path) -> None:
        with pytest.raises(Conflict, match="nothing to back up"):
            make_backup(new, tmp_path / "kept")


class TestRestoreBackup:
    def test_what_is_there_is_destroyed_only_when_asked(self, old: Installation, finished: Path) -> None:
        with postgres_server.connect_superuser(old.settings, postgres_server.DATABASE) as connection:
            connection.execute("CREATE SCHEMA later CREATE TABLE things (id int)")
        with pytest.raises(Conflict, match=r"not empty \(\d+ tables\): --replace"):
            restore_backup(old.settings, finished)
        assert read_table(old.settings, "later.things") == []
        restore_backup(old.settings, finished, replace=True)
        with pytest.raises(psycopg.errors.UndefinedTable):
            read_table(old.settings, "later.things")
        assert len(read_table(old.settings, "modelhub.runs")) >= 5

    async def test_a_running_platform_is_not_pulled_away(self, old: Installation, finished: Path) -> None:
        async with Database(old.settings) as db, db.platform():
            with pytest.raises(Conflict, match="platform runs on this database"):
                await asyncio.to_thread(restore_backup, old.settings, finished, replace=True)

    @pytest.mark.parametrize("part", ["database.dump", "objects.jsonl", "objects", "secrets/aidos_key_pepper"])
    def test_a_damaged_backup_is_refused_before_anything_is_touched(self, old: Installation, finished: Path, part: str) -> None:
        before = read_table(old.settings, "modelhub.runs")
        path = finished / part
        victim = max(path.glob("*/*"), key=lambda file: file.stat().st_size) if path.is_dir() else path
        data = bytearray(victim.read_bytes())
        data[len(data) // 2] ^= 1
        victim.write_bytes(data)
        with pytest.raises(BackupFailed, match=f"{victim.name} is not what was backed up"):
            restore_backup(old.settings, finished, replace=True)
        assert read_table(old.settings, "modelhub.runs") == before

    def test_a_lost_file_is_named(self, old: Installation, finished: Path) -> None:
        victim = next((finished / "objects").glob("*/*"))
        victim.unlink()
        with pytest.raises(BackupFailed, match=f"{victim.name} cannot be read"):
            restore_backup(old.settings, finished, replace=True)

    def test_a_format_of_the_future_is_refused(self, old: Installation, finished: Path) -> None:
        manifest = json.loads((finished / "manifest.json").read_text())
        (finished / "manifest.json").write_text(json.dumps({**manifest, "format": backup.FORMAT + 1}))
        with pytest.raises(Conflict, match="format 2; this version reads format 1"):
            restore_backup(old.settings, finished, replace=True)


class TestOuterDatabase:
    def test_is_backed_up_and_restored_by_a_role_of_its_own(self, old: Installation, tmp_path: Path) -> None:
        with postgres_server.connect_superuser(old.settings) as connection:
            connection.execute("CREATE ROLE keeper LOGIN SUPERUSER PASSWORD 'kept%:/safe'")
        port = old.settings.postgres_port
        url = f"postgresql://keeper:kept%25%3A%2Fsafe@127.0.0.1:{port}/"
        outer = old.settings.model_copy(update={"database_url": SecretStr(url + "aidos")})
        postgres_server.create_database(old.settings, "elsewhere")
        elsewhere = outer.model_copy(update={"database_url": SecretStr(url + "elsewhere")})
        manifest = make_backup(outer, tmp_path / "kept")
        restore_backup(elsewhere, tmp_path / "kept")
        theirs = old.settings.database_url.get_secret_value().rsplit("/", 1)[0] + "/elsewhere"
        platform = elsewhere.model_copy(update={"database_url": SecretStr(theirs)})
        assert migrate(platform, boot.SCHEMAS) == []

        async def count_runs() -> int:
            async with Database(platform) as db, db.platform() as conn:
                row = await (await conn.execute("SELECT count(*) AS runs FROM modelhub.runs")).fetchone()
                return int(row["runs"]) if row else 0

        assert asyncio.run(count_runs()) == manifest["database"]["rows"]["modelhub.runs"] > 0


class TestServer:
    def test_the_password_is_in_the_environment_of_the_child_alone(self) -> None:
        server = dumps.Server("postgresql://ada:s3cret@db.example.org:5433/aidos?sslmode=verify-full", "")
        environment = server.environment()
        assert {name: environment[name] for name in ("PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE", "PGSSLMODE")} == {
            "PGHOST": "db.example.org",
            "PGPORT": "5433",
            "PGUSER": "ada",
            "PGPASSWORD": "s3cret",
            "PGDATABASE": "aidos",
            "PGSSLMODE": "verify-full",
        }
        assert server.database == "aidos"

    def test_a_database_that_is_down_is_told_with_what_starts_it(self, tmp_path: Path) -> None:
        server = dumps.Server("postgresql://aidos@127.0.0.1:1/aidos", "")
        with pytest.raises(Unavailable, match="aidos up --only postgres --only s3"), server.connect():
            pass
