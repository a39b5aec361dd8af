"""Migrations run once, in order, and the schema must be what they made it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from cluster.migrate import MigrationChanged, SchemaDrifted, collect, migrate
from cluster.settings import Settings
from tests.support.database import drop_database, make_database

pytestmark = pytest.mark.postgres


@pytest.fixture
def fresh(storage: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """A database of its own, and a package ``probe_module`` with one migration."""
    monkeypatch.syspath_prepend(str(tmp_path))
    package = tmp_path / f"probe_{tmp_path.name.replace('-', '_')}"
    (package / "migrations").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "migrations" / "0001_things.sql").write_text("CREATE SCHEMA probe; CREATE TABLE probe.things (id int PRIMARY KEY);")
    made = make_database(storage, f"migrate_{tmp_path.name.replace('-', '_')}"[:60].lower())
    yield made
    drop_database(made)


def package_of(tmp_path: Path) -> str:
    return next(path.name for path in tmp_path.iterdir() if path.name.startswith("probe_"))


class TestMigrate:
    def test_runs_once_and_only_what_is_new(self, fresh: Settings, tmp_path: Path) -> None:
        package = package_of(tmp_path)
        assert migrate(fresh, ["cluster", package])[-1].endswith("0001_things.sql")
        assert migrate(fresh, ["cluster", package]) == []
        (tmp_path / package / "migrations" / "0002_more.sql").write_text("ALTER TABLE probe.things ADD COLUMN name text;")
        assert [name.split("/")[1] for name in migrate(fresh, ["cluster", package])] == ["0002_more.sql"]

    def test_an_edited_file_is_refused_by_name(self, fresh: Settings, tmp_path: Path) -> None:
        package = package_of(tmp_path)
        migrate(fresh, ["cluster", package])
        (tmp_path / package / "migrations" / "0001_things.sql").write_text("CREATE SCHEMA probe;")
        with pytest.raises(MigrationChanged, match="0001_things"):
            migrate(fresh, ["cluster", package])

    def test_a_schema_changed_by_hand_is_refused_by_name(self, fresh: Settings, tmp_path: Path) -> None:
        package = package_of(tmp_path)
        migrate(fresh, ["cluster", package])
        with psycopg.connect(fresh.database_url.get_secret_value(), autocommit=True) as conn:
            conn.execute("ALTER TABLE probe.things ADD COLUMN sneaky text")
        with pytest.raises(SchemaDrifted, match="sneaky"):
            migrate(fresh, ["cluster", package])

    def test_one_that_fails_leaves_nothing_and_runs_again(self, fresh: Settings, tmp_path: Path) -> None:
        package = package_of(tmp_path)
        migrate(fresh, ["cluster", package])
        broken = tmp_path / package / "migrations" / "0002_broken.sql"
        broken.write_text("CREATE TABLE probe.half (id int); SELECT 1/0;")
        with pytest.raises(psycopg.errors.DivisionByZero):
            migrate(fresh, ["cluster", package])
        broken.write_text("CREATE TABLE probe.half (id int);")
        assert len(migrate(fresh, ["cluster", package])) == 1


class TestCollect:
    def test_modules_in_the_given_order_then_by_name(self) -> None:
        found = collect(["cluster", "actors.securityvault"])
        assert [m.module for m in found] == sorted([m.module for m in found], key=["cluster", "securityvault"].index)
