"""Waiting for a condition with a deadline: the tests' only way to wait."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(condition: Callable[[], T], *, within_s: float = 10, every_s: float = 0.05) -> T:
    """The first true value of ``condition``. Raises: AssertionError with its last value after ``within_s``."""
    deadline = time.monotonic() + within_s
    pause = threading.Event()
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not true within {within_s} s; last value: {value!r}"
        pause.wait(every_s)
    return value


async def wait_until_async(condition: Callable[[], Awaitable[T]], *, within_s: float = 10, every_s: float = 0.02) -> T:
    """``wait_until`` for a coroutine function."""
    deadline = time.monotonic() + within_s
    while not (value := await condition()):
        assert time.monotonic() < deadline, f"not true within {within_s} s; last value: {value!r}"
        await asyncio.sleep(every_s)
    return value
