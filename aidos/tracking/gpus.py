"""The GPUs of this machine by NVIDIA's management library, where it and its driver are installed (the extra ``metrics``)."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

from aidos import optional

pynvml = optional.find("pynvml")


@functools.cache
def _handles() -> list[Any]:
    """Of each GPU; the library stays loaded with the process."""
    if pynvml is None:
        return []
    try:
        pynvml.nvmlInit()
        return [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError:  # no driver, no permission, or no GPU
        return []


def names() -> list[str]:
    """``NVIDIA H100 80GB HBM3`` and its like, by index."""
    found = []
    for handle in _handles():
        with _where_supported():
            found.append(str(pynvml.nvmlDeviceGetName(handle)))
    return found


def readings() -> dict[str, float]:
    """``<index>/utilization_percent``, ``…/memory_used_bytes``, ``…/memory_percent`` and ``…/power_w``; what a GPU cannot tell is left out."""
    found: dict[str, float] = {}
    for index, handle in enumerate(_handles()):
        with _where_supported():
            found[f"{index}/utilization_percent"] = float(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu)
        with _where_supported():
            memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
            found |= {f"{index}/memory_used_bytes": float(memory.used), f"{index}/memory_percent": 100 * memory.used / memory.total}
        with _where_supported():
            found[f"{index}/power_w"] = pynvml.nvmlDeviceGetPowerUsage(handle) / 1000  # it says milliwatts
    return found


@contextlib.contextmanager
def _where_supported() -> Iterator[None]:
    with contextlib.suppress(pynvml.NVMLError):
        yield
