"""Rule 6: named queries and functions are one list; a module names only its own schema."""

from __future__ import annotations

import re

import pytest

from tests.architecture import sql_rules as rules
from tests.architecture.source import Source, load, platform

QUERIES = Source("actors/modelhub/queries.sql", "-- find_run --\nselect * from modelhub.runs r where r.id = %(id)s;\n")
STORE = Source("actors/modelhub/store.py", "async def find_run(conn): ...\ndef _to_run(row): ...\n")


@pytest.mark.plain
class TestNamedQueries:
    def test_every_block_is_a_function_and_every_function_a_block(self) -> None:
        stores = {source.folder: source for source in platform() if source.name == "store.py"}
        queries = {source.folder: source for source in load("actors", "data_pipelines", "serve_apps", "tune", suffix="queries.sql")}
        assert not set(queries) - set(stores), "queries.sql without a store.py"
        violations = [
            str(violation)
            for folder, store in stores.items()
            for violation in rules.blocks_match_functions(queries.get(folder, Source(f"{folder}/queries.sql", "")), store)
        ]
        assert not violations, "\n" + "\n".join(violations)

    def test_reports_both_directions(self) -> None:
        orphan_block = Source(QUERIES.path, QUERIES.text + "-- claim_run --\nselect 1;\n")
        orphan_function = Source(STORE.path, STORE.text + "async def list_runs(conn): ...\n")
        assert [v.line for v in rules.blocks_match_functions(orphan_block, STORE)] == [3]
        assert [v.path for v in rules.blocks_match_functions(QUERIES, orphan_function)] == [STORE.path]
        assert not list(rules.blocks_match_functions(QUERIES, STORE))

    def test_the_substrate_uses_every_query_it_has(self) -> None:
        (queries,) = load("cluster", suffix="queries.sql")
        used = {name for source in platform() for name in re.findall(r"\.(\w+)", source.text)}
        assert not sorted(set(rules.blocks(queries.text)) - used)


@pytest.mark.plain
class TestSchemas:
    def test_a_module_names_only_its_own_schema(self) -> None:
        files = [source for source in load(suffix=".sql") if source.package != "tests"]
        violations = [str(violation) for source in files for violation in rules.foreign_schemas(source)]
        assert not violations, "\n" + "\n".join(violations)

    def test_reports_a_foreign_schema(self) -> None:
        bad = Source(
            "actors/modelhub/migrations/0001_runs.sql", "create table modelhub.runs (\n  by uuid references securityvault.users (id)\n);"
        )
        assert [v.line for v in rules.foreign_schemas(bad)] == [2]

    def test_the_substrates_functions_may_be_called(self) -> None:
        text = "select cluster.wall_by_project('modelhub.runs');\nselect * from cluster.events;"
        assert [v.line for v in rules.foreign_schemas(Source("actors/modelhub/migrations/0001_runs.sql", text))] == [2]

    def test_reads_neither_comments_nor_strings_nor_aliases(self) -> None:
        text = "-- see trainos.jobs\nselect r.id, 'trainos.job.started' from modelhub.runs r;"
        assert not list(rules.foreign_schemas(Source("actors/modelhub/queries.sql", text)))
