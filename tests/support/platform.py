"""Ports that are one's own, and real servers on them: PostgreSQL and S3."""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path

import filelock

from cluster import embedded
from cluster.settings import Settings, read_settings

_FEW, _MANY = (21_000, 24_500), (24_500, 29_900)
"""Where few ports together are given, and many, so that those for single servers leave room for a cluster's."""
_taken: set[int] = set()
_reservations = (Path(tempfile.gettempdir()) / f"aidos-test-{os.getuid()}.ports").open("w")
"""Its byte n stands for port n: locked by the test process that has the port, for as long as it lives."""


def find_free_ports(count: int) -> int:
    """First of ``count`` consecutive ports, below the ephemeral range and the usual services.

    Nobody listens on them, and no other test process is given them, whether or not anything listens there yet.
    """
    low, high = _FEW if count < 50 else _MANY
    for _ in range(500):
        first = random.randrange(low, high - count)
        wanted = range(first, first + count)
        if _taken.isdisjoint(wanted) and reserve(first, count):
            if all(_is_free(port) for port in wanted):
                _taken.update(wanted)
                return first
            fcntl.lockf(_reservations, fcntl.LOCK_UN, count, first)
    raise RuntimeError(f"no {count} consecutive free ports")


def reserve(first: int, count: int) -> bool:
    """Whether these ports are this process's from now on."""
    try:
        fcntl.lockf(_reservations, fcntl.LOCK_EX | fcntl.LOCK_NB, count, first)
    except OSError:
        return False
    return True


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
