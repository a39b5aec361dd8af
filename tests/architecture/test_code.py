"""STYLE.md's rules hold on the tree, and each rule reports the example that breaks it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.architecture import code_rules as rules
from tests.architecture.source import Source, Violation, load, platform

Rule = Callable[[Source], Iterator[Violation]]

LONG_HANDLER = "@router.get('/x')\nasync def read():\n" + "    step()\n" * 11
LONG_FUNCTION = "def run():\n" + "    step()\n" * 61
LONG_DOCSTRING = 'def run():\n    """One.\n' + "\n" * 70 + '    """\n    step()\n'

# rule, path, a snippet that breaks it, a snippet that does not
EXAMPLES: list[tuple[Rule, str, str, str]] = [
    (rules.imports_inside_functions, "actors/a/service.py", "def f():\n    from cluster import db\n", "from cluster import db\n"),
    (rules.imports_inside_functions, "actors/a/service.py", "def f():\n    import ray\n", "def f():\n    ray = 1\n"),
    (rules.imports_inside_functions, "actors/a/store.py", "async def f():\n    import torch\n", "import json\n"),
    (rules.imports_inside_functions, "tune/t/actor.py", "def f():\n    import json\n", "def f():\n    import ray\n"),
    (
        rules.ray_remote_places,
        "actors/a/actor.py",
        "@ray.remote(num_cpus=0)\nclass Room: ...\n",
        "def get_or_create_room():\n    return ray.remote(Room).options(name='room').remote()\n",
    ),
    (rules.ray_remote_places, "tune/t/x.py", "from ray import remote\n", "from ray import tune as ray_tune\n"),
    (rules.serve_declarations, "actors/a/service.py", "@serve.deployment\nclass A: ...\n", "serve.status()\n"),
    (rules.serve_declarations, "serve_apps/d/policy.py", "@serve.ingress(app)\nclass A: ...\n", "x = 1\n"),
    (rules.transaction_ends, "actors/a/service.py", "await conn.commit()\n", "async with db.platform() as conn: ...\n"),
    (rules.transaction_ends, "actors/a/store.py", "async def f(conn):\n    async with conn.transaction(): ...\n", "repo.commit(parent)\n"),
    (rules.environment_reads, "api/gateway.py", "import os\nos.environ['A']\n", "get_settings().url\n"),
    (rules.environment_reads, "aidos/client.py", "import os\nos.getenv('A')\n", "import os\nos.getpid()\n"),
    (rules.environment_reads, "tune/t/x.py", "from os import environ\n", "from os import fspath\n"),
    (rules.handler_lengths, "api/routers/modelhub.py", LONG_HANDLER, LONG_HANDLER.replace("step()\n", "step()\n", 1).replace("    step()\n", "", 1)),
    (rules.lengths, "actors/a/service.py", LONG_FUNCTION, LONG_DOCSTRING),
    (rules.lengths, "actors/a/service.py", "\n" * 600, "\n" * 599),
    (rules.vague_names, "actors/a/service.py", "class RunManager: ...\n", "class RunStore: ...\n"),
    (rules.vague_names, "actors/a/service.py", "class UtilsForRuns: ...\n", "class Utilisation: ...\n"),
    (rules.vague_names, "cluster/utils.py", "x = 1\n", ""),
    (rules.unsafe_deserialisation, "actors/a/service.py", "import pickle\n", "import json\n"),
    (rules.unsafe_deserialisation, "actors/a/service.py", "from ray import cloudpickle\n", "from ray import serve\n"),
    (rules.unsafe_deserialisation, "actors/a/service.py", "torch.load(path)\n", "safetensors.torch.load_file(path)\n"),
    (rules.unsafe_deserialisation, "actors/a/service.py", "np.load(p, allow_pickle=True)\n", "np.load(p, allow_pickle=False)\n"),
    (rules.unsafe_deserialisation, "actors/a/service.py", "yaml.load(text)\n", "yaml.load(text, Loader=yaml.SafeLoader)\n"),
    (rules.sql_outside_stores, "actors/a/service.py", "x = 'select id from a.b where id = 1'\n", "x = 'select a file from the list'\n"),
    (rules.sql_outside_stores, "api/deps.py", "x = 'INSERT INTO a.b VALUES (1)'\n", "x = 'insert coin'\n"),
    (rules.foreign_store_imports, "actors/a/service.py", "from actors.b.store import find_run\n", "from actors.a.store import find_run\n"),
    (rules.foreign_store_imports, "api/routers/b.py", "from actors.b import store\n", "from actors.b import service\n"),
]  # fmt: skip


@pytest.mark.plain
class TestEveryRule:
    @pytest.mark.parametrize(("rule", "path", "bad", "good"), EXAMPLES, ids=[f"{e[0].__name__}-{i}" for i, e in enumerate(EXAMPLES)])
    def test_reports_what_breaks_it_and_nothing_else(self, rule: Rule, path: str, bad: str, good: str) -> None:
        assert list(rule(Source(path, bad))), "the planted violation was not reported"
        if rule is not rules.vague_names or good:
            assert not list(rule(Source(path, good)))

    @pytest.mark.parametrize("rule", sorted({e[0] for e in EXAMPLES}, key=lambda rule: rule.__name__), ids=lambda rule: rule.__name__)
    def test_holds_on_the_platform(self, rule: Rule) -> None:
        violations = [str(violation) for source in platform() for violation in rule(source)]
        assert not violations, "\n" + "\n".join(violations)


@pytest.mark.plain
class TestTests:
    def test_reports_a_sleep_and_a_mock(self) -> None:
        bad = "import time\ntime.sleep(0.1)\nfrom unittest.mock import MagicMock\nasyncio.sleep(2)\nmock.patch('x')\n"
        assert len(list(rules.test_crutches(Source("tests/a/test_x.py", bad)))) == 4

    def test_allows_a_short_yield_to_the_loop(self) -> None:
        assert not list(rules.test_crutches(Source("tests/a/test_x.py", "await asyncio.sleep(0.01)\n")))

    def test_neither_sleep_nor_mock(self) -> None:
        violations = [str(violation) for source in load("tests") for violation in rules.test_crutches(source)]
        assert not violations, "\n" + "\n".join(violations)


@pytest.mark.plain
class TestExceptions:
    @pytest.mark.parametrize("path", rules.ENVIRONMENT_READERS)
    def test_who_may_read_the_environment_does(self, path: str) -> None:
        (source,) = [source for source in platform() if source.path == path]
        renamed = Source("elsewhere.py", source.text)
        assert list(rules.environment_reads(renamed)), "the exception is not needed any more"
