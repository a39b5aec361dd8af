"""How the machine does while a run works, as its metrics ``system/…``: sampled by a thread, which ends with the run.

Needs psutil, and for GPUs nvidia-ml-py: the extra ``metrics``. What this machine cannot tell is left out. In a container the
processor, memory and network are those that the container sees, which is mostly the whole machine.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from aidos import optional
from aidos.tracking import gpus
from aidos.tracking.syncing import is_outage

psutil = optional.find("psutil")

PREFIX = "system/"
_RAPL = Path("/sys/class/powercap")


class Sampler:
    """Logs a sample every ``every_s`` seconds until ``stop``, or until ``log`` refuses one: a run that takes nothing more."""

    def __init__(self, log: Callable[[Mapping[str, float]], None], every_s: float) -> None:
        self._log, self._every_s = log, every_s
        self._stopped = threading.Event()
        self._reader = Reader()
        self._thread = threading.Thread(target=self._run, name="aidos-system-metrics", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Returns when nothing more is logged."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(self._every_s):
            try:
                sample = self._reader.read()
                if sample:
                    self._log({f"{PREFIX}{key}": value for key, value in sample.items()})
            except Exception as error:  # what the run refuses its own calls raise too; no reason to disturb it from here
                if not is_outage(error):
                    return


class Reader:
    """Reads the machine; rates and shares are those since the reading before."""

    def __init__(self) -> None:
        self._process = psutil.Process() if psutil else None
        self._counters, self._at = _counters(), time.monotonic()
        self._energies = _energies_j()
        if psutil and self._process:
            psutil.cpu_percent()
            self._process.cpu_percent()

    def read(self) -> dict[str, float]:
        """Keys without the prefix; units stand at their end."""
        now, counters, energies = time.monotonic(), _counters(), _energies_j()
        passed_s = max(now - self._at, 1e-3)
        found = {f"{key}_per_s": (value - self._counters.get(key, value)) / passed_s for key, value in counters.items()}
        # A counter that started anew is lower than before: that part of the power is not known.
        used_j = [value - self._energies[name] for name, value in energies.items() if value >= self._energies.get(name, value + 1)]
        if used_j:
            found["power_w"] = sum(used_j) / passed_s
        self._counters, self._energies, self._at = counters, energies, now
        return found | self._shares() | {f"gpu/{key}": value for key, value in gpus.readings().items()}

    def _shares(self) -> dict[str, float]:
        if not (psutil and self._process):
            return {}
        memory = psutil.virtual_memory()
        found = {
            "cpu_percent": psutil.cpu_percent(),
            "memory_percent": memory.percent,
            "memory_used_bytes": float(memory.used),
            "process/cpu_percent": self._process.cpu_percent(),
            "process/memory_bytes": float(self._process.memory_info().rss),
        }
        with contextlib.suppress(OSError):  # the directory may be gone
            found["disk_percent"] = psutil.disk_usage(".").percent
        return found


def _counters() -> dict[str, float]:
    """Bytes since the machine started."""
    if psutil is None:
        return {}
    found: dict[str, float] = {}
    if network := psutil.net_io_counters():
        found |= {"network_sent_bytes": network.bytes_sent, "network_received_bytes": network.bytes_recv}
    if disk := psutil.disk_io_counters():
        found |= {"disk_read_bytes": disk.read_bytes, "disk_written_bytes": disk.write_bytes}
    return found


def _energies_j() -> dict[str, float]:
    """By processor package, where its counter may be read (https://docs.kernel.org/power/powercap/powercap.html)."""
    found = {}
    for package in _RAPL.glob("intel-rapl:[0-9]*"):
        if package.name.count(":") == 1:  # its parts are counted in it
            with contextlib.suppress(OSError, ValueError):
                found[package.name] = int((package / "energy_uj").read_text()) / 1e6
    return found
