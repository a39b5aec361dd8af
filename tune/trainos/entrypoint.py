"""Runs a job's command on the cluster: ``python -I -m tune.trainos.entrypoint -- COMMAND…``.

Passes its signals on, and leaves no process behind, and no temporary file. The job's token is already in a file: Ray's worker that began
this process ran ``worker.setup``. So Ray is not imported here, which every job would wait for. The exit code is the command's, 128 + N
for one that signal N killed, and ``GAVE_WAY`` for one that heard that it must give way and ended with 0.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import psutil

from aidos.errors import AidosError, Unavailable
from tune.trainos.disk_watch import DiskWatch
from tune.trainos.job_environment import (
    STOP_GRACE_S,
    build_command_environment,
    build_secret_environment,
    find_attempt,
    free_disk_bytes,
    has_code,
    has_heard,
    has_secrets,
    own_folder,
    working_folder,
)
from tune.trainos.job_secrets import fetch_secrets
from tune.trainos.masking import Mask
from tune.trainos.models import GAVE_WAY, SECRETS_AWAY, SECRETS_REFUSED
from tune.trainos.tunnel_end import open_to_tunnels

NOT_FOUND, NOT_EXECUTABLE, DISK_FILLED = 127, 126, 122
_PR_SET_CHILD_SUBREAPER = 36
_KILL_ROUNDS = 20
_LAST_WORDS_S = 5.0


def main(arguments: Sequence[str]) -> int:
    """Run the command after ``--``; its exit code."""
    secrets = take_secrets()
    environment = build_command_environment()
    if secrets:
        environment = build_secret_environment(environment, secrets)
    return run(list(arguments[arguments.index("--") + 1 :]), environment, Mask(secrets.values()))


def take_secrets() -> dict[str, str]:
    """Those of the job, by variable. Raises: SystemExit where one cannot be had, which is said."""
    attempt = find_attempt()
    if attempt is None or not has_secrets():
        return {}
    try:
        return fetch_secrets(attempt)
    except AidosError as error:
        say(str(error))
        raise SystemExit(SECRETS_AWAY if isinstance(error, Unavailable) else SECRETS_REFUSED) from error


def run(command: Sequence[str], environment: dict[str, str], mask: Mask) -> int:
    """Run it to its end in a folder of its own, then end whatever it left running."""
    _adopt_orphans()
    own = own_folder()
    try:
        return _run(command, environment, own, mask)
    finally:
        shutil.rmtree(own, ignore_errors=True)


def _run(command: Sequence[str], environment: dict[str, str], own: Path, mask: Mask) -> int:
    working, temporary = working_folder(), own / "tmp"
    try:
        _prepare(own, working)
        temporary.mkdir()
    except OSError as error:
        say(f"the code cannot be put into {working}: {error.strerror or error}")
        return NOT_EXECUTABLE
    try:
        # What has nothing to hide goes straight into the log; else it passes this process.
        output, errors = (subprocess.PIPE, subprocess.STDOUT) if mask.hides else (None, None)
        child = subprocess.Popen(command, env=environment | {"TMPDIR": str(temporary)}, cwd=working, stdout=output, stderr=errors)
    except FileNotFoundError:
        say(f"there is no command {command[0]!r} in the package or on the path")
        return NOT_FOUND
    except OSError as error:
        say(f"{command[0]!r} cannot be run: {error.strerror}")
        return NOT_EXECUTABLE
    with _relaying(child, mask):
        return _follow(child, own, working)


@contextlib.contextmanager
def _relaying(child: subprocess.Popen[bytes], mask: Mask) -> Iterator[None]:
    """Pass on what the command prints meanwhile, masked, to its end: what it left running has ended by then."""
    if child.stdout is None:
        yield
        return
    relay = threading.Thread(target=relay_output, args=(child.stdout, mask), name="aidos-output", daemon=True)
    relay.start()
    yield
    relay.join(_LAST_WORDS_S)


def relay_output(output: IO[bytes], mask: Mask) -> None:
    """Pass it on to the job's log, masked, until its end."""
    with output:  # who still prints, where the log takes no more, is told so by its next line
        while piece := os.read(output.fileno(), 2**16):
            sys.stdout.buffer.write(mask.feed(piece))
            sys.stdout.buffer.flush()
        sys.stdout.buffer.write(mask.rest())
        sys.stdout.buffer.flush()


def _prepare(own: Path, working: Path) -> None:
    """Copy the code, where there is any: Ray keeps one directory of it on a node for all jobs."""
    shutil.rmtree(own, ignore_errors=True)  # of the same attempt, killed on a node that lived on
    own.mkdir(mode=0o700)
    if has_code():
        shutil.copytree(Path.cwd(), working, symlinks=True)
    else:
        working.mkdir()


def _follow(child: subprocess.Popen[bytes], own: Path, working: Path) -> int:
    end = functools.partial(_end_descendants, child.pid)

    def stop(received: int, _frame: object) -> None:
        child.send_signal(received)
        signal.alarm(STOP_GRACE_S)

    # What does not stop is ended here, before Ray kills this process: then nobody would be left to see what it begins meanwhile.
    signal.signal(signal.SIGALRM, lambda *_: end())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    disk = DiskWatch(own, free_disk_bytes(), end)
    disk.start()
    with open_to_tunnels(child.pid, working):
        code = child.wait()
    end()
    if filled_bytes := disk.close():
        say(
            f"the disk was nearly full and the job held {filled_bytes / 2**30:.1f} GiB of it in its working and temporary folders: it was "
            "ended, and what it had written there was removed. Write less, or push what is to stay with aidos.push"
        )
        return DISK_FILLED
    if code == 0 and has_heard():
        return GAVE_WAY
    return code if code >= 0 else 128 - code


def say(text: str) -> None:
    """A line of the platform's in the job's log."""
    sys.stderr.write(f"aidos: {text}\n")
    sys.stderr.flush()


def _adopt_orphans() -> None:
    """Grandchildren whose parent ends become ours, and are not lost to init."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _end_descendants(command: int) -> None:
    """Kill what is left, and what that begins meanwhile. A process that cannot be killed is left to Ray and the supervisor."""
    for _ in range(_KILL_ROUNDS):
        left = [process for process in psutil.Process().children(recursive=True) if _is_alive(process)]
        if not left:
            return
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        # The command's exit code is for whoever waits for it.
        psutil.wait_procs([process for process in left if process.pid != command], timeout=1)


def _is_alive(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
