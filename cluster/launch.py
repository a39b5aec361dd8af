"""Becomes one supervised program: ends what an earlier life of it left behind, takes the program's user, then execs it.

supervisord runs this file as a script (``python -P launch.py SPEC.json``), so it needs nothing of ours on the path. The mark
``AIDOS_PROGRAM=<name>@<home>`` in the environment is how a process is known to belong to one program of one ``AIDOS_HOME``,
also after its parents were killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import resource
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

import psutil

MARK = "AIDOS_PROGRAM"


def mark(name: str, home: Path) -> str:
    """Value of the mark for program ``name`` of the platform in ``home``."""
    return f"{name}@{home}"


def find_marked(home: Path, name: str | None = None) -> list[psutil.Process]:
    """Living processes of ``home`` (of program ``name`` only, if given), this one and its ancestors left out."""
    own = {os.getpid()} | {parent.pid for parent in psutil.Process().parents()}
    return [
        process
        for process in psutil.process_iter()
        if process.pid not in own and (program := find_program(process, home)) and name in (None, program)
    ]


def find_program(process: psutil.Process, home: Path) -> str | None:
    """Name of the program of ``home`` that this process is part of."""
    try:
        program, _, owner = process.environ().get(MARK, "").partition("@")
        if program:
            return program if owner == str(home) else None
        # PostgreSQL's and Ray's processes write their title over their environment: they are known by where they work.
        title = process.name()
        if title == "postgres":
            return "postgres" if process.cwd() == str(home / "postgres" / "data") else None
        if title.startswith(("ray::", "ray-dashboard")):
            return "ray" if Path(process.cwd()).is_relative_to(work_directory(home, "ray")) else None
    except (psutil.Error, OSError):
        return None
    return None


def work_directory(home: Path, name: str) -> Path:
    """Where program ``name`` starts; nothing else works there."""
    return home / "work" / name


def end_processes(processes: Iterable[psutil.Process], first: signal.Signals = signal.SIGKILL, grace_s: float = 3.0) -> None:
    """Send ``first``, and SIGKILL to what still lives after ``grace_s``."""
    living = list(processes)
    for process in living:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(first)
    _, stubborn = psutil.wait_procs(living, timeout=grace_s)
    for process in stubborn:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(stubborn, timeout=grace_s)


def end_leftovers(home: Path, name: str | None = None) -> list[int]:
    """End all processes of ``home`` (of one program); returns their pids. Every program here survives a kill by design."""
    # a supervisor first, which would start again what is ended here
    supervisors = find_marked(home, "supervisord") if name is None else []
    end_processes(supervisors)
    leftovers = find_marked(home, name)
    servers = [process for process in leftovers if process.name() == "postgres"]
    # SIGQUIT is PostgreSQL's immediate shutdown: its shared memory goes with it, and the log replays on the next start.
    end_processes(servers, signal.SIGQUIT)
    end_processes(process for process in leftovers if process not in servers)
    return [process.pid for process in (*supervisors, *leftovers)]


def become(spec_path: Path) -> None:
    """Replace this process by the program that ``spec_path`` describes."""
    spec = json.loads(spec_path.read_text())
    home = Path(spec["home"])
    end_leftovers(home, spec["name"])
    for path in spec["fresh"]:
        Path(path).unlink(missing_ok=True)
    environment = {**os.environ, **spec["environment"], MARK: mark(spec["name"], home)}
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    os.umask(0o077)
    directory = work_directory(home, spec["name"])
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.chdir(directory)
    if spec["user"]:
        user = pwd.getpwnam(spec["user"])
        os.setgroups([])
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)
        environment.update(HOME="/", USER=spec["user"], LOGNAME=spec["user"])
    os.execve(spec["command"][0], spec["command"], environment)


if __name__ == "__main__":
    become(Path(sys.argv[1]))
