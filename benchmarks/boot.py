"""How long ``aidos up`` takes on a warm machine, and what the platform then uses while nobody asks anything of it.

``python -m benchmarks.boot [--quick]``: a platform of its own, started empty, stopped, and started again; each process is a row.
Memory is the proportional set size (shared pages are shared out), processor is per cent of one core. What Ray itself brings (its
servers, dashboard, Serve's controller, proxies and idle workers) is told apart: a bare ``ray start`` with Serve has it too. So is what
any actor costs before it does anything: an empty one is started beside ours, and its processor time taken off each of them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.harness import Figure, parse_arguments, report
from cluster import launch, ray_head
from cluster.settings import inherited_environment, read_settings
from tests.support.platform import find_free_ports

UP_S, IDLE_GIB, IDLE_CPU_PERCENT = 45.0, 3.0, 5.0
# Ray's processes by the beginning of their title, or a word of their command.
EMPTY = "ray::Empty"
_RAY_TITLES = (EMPTY, "ray::ServeController", "ray::ProxyActor", "ray::HAProxyManager", "ray::IDLE", "ray::DashboardAgent", "ray::RuntimeEnvAgent",
               "ray-dashboard", "haproxy", "gcs_server", "raylet")  # fmt: skip
_RAY_WORDS = ("cluster.ray_start", "ray/dashboard/", "ray/autoscaler/", "ray.util.client", "ray/_private/", "multiprocessing.")


@dataclass(frozen=True)
class Usage:
    """One process at rest."""

    title: str
    program: str
    of_ray: bool
    memory_bytes: int
    cpu_percent: float


def main() -> int:
    """Measure, print the table and the figures; 1 when a bar is missed."""
    arguments = parse_arguments(__doc__.splitlines()[0], settle_s=20.0, watch_s=60.0)
    settle_s, watch_s = (5.0, 10.0) if arguments.quick else (arguments.settle_s, arguments.watch_s)
    with tempfile.TemporaryDirectory(prefix="aidos-boot-") as directory, platform(Path(directory) / "home") as (home, aidos):
        first_s = timed(aidos, "up")
        down_s = timed(aidos, "down")
        again_s = timed(aidos, "up")
        start_empty_actor(home, aidos)
        time.sleep(settle_s)
        usages = measure(home, watch_s)
    print_rows(usages)
    ours = [usage for usage in usages if not usage.of_ray]
    empty_percent = next(usage.cpu_percent for usage in usages if usage.title == EMPTY)
    own_percent = sum(max(0.0, usage.cpu_percent - (empty_percent if usage.title.startswith("ray::") else 0.0)) for usage in ours)
    return report([
        Figure("boot.up_first", first_s, "s", bar=UP_S, lower_is_better=True),
        Figure("boot.up_again", again_s, "s", bar=UP_S, lower_is_better=True),
        Figure("boot.down", down_s, "s", bar=20.0, lower_is_better=True),
        Figure("boot.idle_memory", sum(usage.memory_bytes for usage in ours) / 2**30, "GiB", bar=IDLE_GIB, lower_is_better=True),
        Figure("boot.idle_memory_of_ray", sum(usage.memory_bytes for usage in usages if usage.of_ray) / 2**30, "GiB"),
        Figure("boot.idle_cpu", own_percent, "% of a core", bar=IDLE_CPU_PERCENT, lower_is_better=True),
        Figure("boot.idle_cpu_with_empty_actors", sum(usage.cpu_percent for usage in ours), "% of a core"),
        Figure("boot.idle_cpu_of_an_empty_actor", empty_percent, "% of a core"),
        Figure("boot.idle_cpu_of_ray", sum(usage.cpu_percent for usage in usages if usage.of_ray), "% of a core"),
    ])  # fmt: skip


@contextmanager
def platform(home: Path) -> Iterator[tuple[Path, list[str]]]:
    """A home and the command that runs its platform, which is stopped at the end."""
    first = find_free_ports(200)
    ports = {"GATEWAY": first, "POSTGRES": first + 1, "S3": first + 2, "RAY_DASHBOARD": first + 11, "RAY": first + 20}
    variables = [f"AIDOS_{name}_PORT={port}" for name, port in ports.items()]
    aidos = ["/usr/bin/env", *variables, f"AIDOS_HOME={home}", str(Path(sys.executable).parent / "aidos")]
    try:
        yield home, aidos
    finally:
        subprocess.run([*aidos, "down"], env=inherited_environment(), capture_output=True, check=False)


def timed(aidos: list[str], verb: str) -> float:
    """Seconds that the command takes. Raises: SystemExit with what it said when it fails."""
    began = time.perf_counter()
    done = subprocess.run([*aidos, verb, "--json"], env=inherited_environment(), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"aidos {verb} failed: {done.stderr or done.stdout}")
    json.loads(done.stdout.splitlines()[-1])
    return time.perf_counter() - began


def start_empty_actor(home: Path, aidos: list[str]) -> None:
    """A detached actor that does nothing, in the cluster of the platform."""
    variables = dict(word.split("=", 1) for word in aidos[1:-1])
    settings = read_settings(home).model_copy(update={"ray_port": int(variables["AIDOS_RAY_PORT"])})
    environment = {**inherited_environment(), **ray_head.driver_environment(settings)}
    subprocess.run([sys.executable, "-c", _START_EMPTY], env=environment, capture_output=True, check=True)


_START_EMPTY = """
import ray
class Empty:
    def ready(self): return True
ray.init(log_to_driver=False, configure_logging=False)
actor = ray.remote(Empty).options(name="benchmark-empty", lifetime="detached", num_cpus=0).remote()
assert ray.get(actor.ready.remote(), timeout=60)
"""


def measure(home: Path, watch_s: float) -> list[Usage]:
    """Each process of the home over ``watch_s``; those that come or go meanwhile are left out."""
    before = {process: sum(process.cpu_times()[:2]) for process in launch.find_marked(home)}
    began = time.perf_counter()
    time.sleep(watch_s)
    took_s = time.perf_counter() - began
    usages = []
    for process, cpu_s in before.items():
        try:
            cpu_percent = (sum(process.cpu_times()[:2]) - cpu_s) / took_s * 100
            command = " ".join(process.cmdline())
            memory_bytes = process.memory_full_info().pss
        except psutil.Error:
            continue
        program = launch.find_program(process, home) or ""
        usages.append(Usage(_title(process, command), program, is_of_ray(process.name(), command), memory_bytes, cpu_percent))
    return sorted(usages, key=lambda usage: (usage.of_ray, usage.program, -usage.memory_bytes))


def is_of_ray(name: str, command: str) -> bool:
    """Whether a process is one that Ray and Serve start by themselves."""
    return (
        command.startswith(_RAY_TITLES)
        or name.startswith(("haproxy", "gcs_server", "raylet"))
        or any(word in command for word in _RAY_WORDS)
    )


def _title(process: psutil.Process, command: str) -> str:
    if command.startswith(("ray::", "ray-", "postgres:")):
        return command.split(" (")[0].strip()[:60]
    words = [word.rsplit("/", 1)[-1] for word in command.split()[:3] if not word.startswith("-")]
    return " ".join(words)[:60] or process.name()


def print_rows(usages: list[Usage]) -> None:
    """A row a process."""
    table = Table("process", "program", "whose", "memory MiB", "cpu % of a core")
    for usage in usages:
        whose = "Ray" if usage.of_ray else "AI-DOS"
        table.add_row(usage.title, usage.program, whose, f"{usage.memory_bytes / 2**20:.0f}", f"{usage.cpu_percent:.2f}")
    Console(width=140).print(table)


if __name__ == "__main__":
    sys.exit(main())
