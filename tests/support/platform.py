"""Real servers for tests: one embedded PostgreSQL and S3 a test session, shared by all xdist workers.

Use in a ``conftest.py``::

    @pytest.fixture(scope="session")
    def settings(tmp_path_factory):
        with shared_storage(tmp_path_factory) as settings:
            yield settings
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import filelock
import pytest

from cluster import embedded
from cluster.settings import Settings, read_settings

_RAY_PORTS = 40


def find_free_ports(count: int) -> int:
    """First of ``count`` consecutive ports that nobody listens on, below the ephemeral range and the usual services."""
    for _ in range(500):
        first = random.randrange(21_000, 29_900 - count)
        if all(_is_free(port) for port in range(first, first + count)):
            return first
    raise RuntimeError(f"no {count} consecutive free ports")


def _is_free(port: int) -> bool:
    with socket.socket() as candidate:
        try:
            candidate.bind(("0.0.0.0", port))
        except OSError:
            return False
    return True


def start_storage(home: Path) -> Settings:
    """Embedded PostgreSQL and S3 in ``home``, on free ports the first time; returns settings that reach them.

    A second call for the same home, from any process, finds the servers of the first.
    """
    home.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(home / "storage.lock"):
        ports = home / "storage.port"
        if not ports.exists():
            ports.write_text(str(find_free_ports(9)))
        first = int(ports.read_text())
        settings = read_settings(home).model_copy(update={"postgres_port": first, "s3_port": first + 1})
        return embedded.start(settings, only={"postgres", "s3"})


@contextlib.contextmanager
def shared_storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Servers that all workers of one pytest run share; the last one to leave ends them and removes their data."""
    session = tmp_path_factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        session = session.parent
    pointer, users = session / "storage.home", session / "storage.users"
    with filelock.FileLock(session / "storage.users.lock"):
        if not pointer.exists():
            pointer.write_text(tempfile.mkdtemp(prefix="aidos-test-"))
        home = Path(pointer.read_text())
        users.write_text(str(_count(users) + 1))
        settings = start_storage(home)
    try:
        yield settings
    finally:
        with filelock.FileLock(session / "storage.users.lock"):
            users.write_text(str(_count(users) - 1))
            if _count(users) == 0:
                embedded.stop(settings)
                shutil.rmtree(home, ignore_errors=True)
                pointer.unlink()


def _count(users: Path) -> int:
    return int(users.read_text()) if users.exists() else 0
