"""Runs a job's command on the cluster: ``python -I -m tune.trainos.entrypoint -- COMMAND…``.

Fetches the job's token, runs the command with it, passes its signals on, and leaves no process behind. Its exit code is the
command's, 128 + N for one that signal N killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import signal
import subprocess
import sys
from collections.abc import Sequence

import psutil
from ray._raylet import GcsClient

from tune.trainos.job_environment import Attempt, build_command_environment, find_attempt
from tune.trainos.job_token import NAMESPACE, JobFiles

NOT_FOUND, NOT_EXECUTABLE = 127, 126
_PR_SET_CHILD_SUBREAPER = 36
_KILL_ROUNDS = 20


def main(arguments: Sequence[str]) -> int:
    """Run the command after ``--``; its exit code."""
    command = list(arguments[arguments.index("--") + 1 :])
    attempt = find_attempt()
    files = _follow_notes(attempt) if attempt is not None and attempt.gcs_address else None
    try:
        return run(command, build_command_environment(files.start() if files else None))
    finally:
        if files:
            files.close()


def _follow_notes(attempt: Attempt) -> JobFiles:
    client = GcsClient(address=attempt.gcs_address)
    return JobFiles(lambda key: client.internal_kv_get(key, NAMESPACE, timeout=5), attempt.job_id, attempt.number)


def run(command: Sequence[str], environment: dict[str, str]) -> int:
    """Run it to its end, then end whatever it left running."""
    _adopt_orphans()
    try:
        child = subprocess.Popen(command, env=environment)
    except FileNotFoundError:
        _say(f"there is no command {command[0]!r} in the package or on the path")
        return NOT_FOUND
    except OSError as error:
        _say(f"{command[0]!r} cannot be run: {error.strerror}")
        return NOT_EXECUTABLE
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _frame: child.send_signal(received))
    code = child.wait()
    _end_descendants()
    return code if code >= 0 else 128 - code


def _say(text: str) -> None:
    sys.stderr.write(f"aidos: {text}\n")
    sys.stderr.flush()


def _adopt_orphans() -> None:
    """Grandchildren whose parent ends become ours, and are not lost to init."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _end_descendants() -> None:
    """Kill what is left, and what that begins meanwhile. A process that cannot be killed is left to Ray and the supervisor."""
    for _ in range(_KILL_ROUNDS):
        left = [process for process in psutil.Process().children(recursive=True) if _is_alive(process)]
        if not left:
            return
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(left, timeout=1)


def _is_alive(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
