"""A whole platform of its own, driven as an operator and a user drive it: by the `aidos` command, in subprocesses."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import sysconfig
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from cluster import launch
from tests.support.platform import find_free_ports

AIDOS = Path(sysconfig.get_path("scripts")) / "aidos"
ROOT = Path(__file__).resolve().parents[2]
_RAY_PORTS = 152
_OTHER_PORTS = 12


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What ``--json`` printed."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        """JSON lines."""
        return [json.loads(line) for line in self.out.splitlines() if line.strip()]


@dataclass
class RunningPlatform:
    """An AIDOS_HOME with ports of its own, and the key of its first administrator once it is up."""

    home: Path
    environment: dict[str, str] = field(default_factory=dict)
    admin_key: str = ""

    @classmethod
    def at(cls, home: Path, **settings: str) -> RunningPlatform:
        """Choose free ports; nothing is started yet."""
        first, ray = find_free_ports(_OTHER_PORTS), find_free_ports(_RAY_PORTS)
        ports = {
            "AIDOS_GATEWAY_PORT": first,
            "AIDOS_POSTGRES_PORT": first + 1,
            "AIDOS_RAY_DASHBOARD_PORT": first + 2,
            "AIDOS_S3_PORT": first + 3,
            "AIDOS_RAY_PORT": ray,
        }
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("AIDOS_", "RAY_"))}
        environment = {**clean, **{name: str(port) for name, port in ports.items()}, **settings}
        environment |= {"AIDOS_HOME": str(home), "AIDOS_URL": f"http://127.0.0.1:{first}", "XDG_CONFIG_HOME": str(home / "user")}
        return cls(home, environment)

    @property
    def url(self) -> str:
        return self.environment["AIDOS_URL"]

    def up(self) -> dict[str, Any]:
        """``aidos up``; what it says on its last line."""
        facts = self.aidos("up", "--json", timeout_s=240, check=True).lines[-1]
        self.admin_key = facts["admin_key"] or self.admin_key
        return dict(facts)

    def down(self) -> Ran:
        return self.aidos("down", timeout_s=120)

    def aidos(
        self, *arguments: str, key: str | None = None, cwd: Path | None = None, timeout_s: float = 120, check: bool = False, **env: str
    ) -> Ran:
        """Run the command with a key (the administrator's by default)."""
        return self.run([str(AIDOS), *arguments], key=key, cwd=cwd, timeout_s=timeout_s, check=check, **env)

    def run(
        self,
        command: list[str],
        *,
        key: str | None = None,
        cwd: Path | None = None,
        timeout_s: float = 120,
        check: bool = False,
        **env: str,
    ) -> Ran:
        """Run any command in the platform's environment."""
        environment = {**self.environment, **env}
        if secret := key or self.admin_key:
            environment["AIDOS_API_KEY"] = secret
        done = subprocess.run(
            command,
            env=environment,
            cwd=cwd or ROOT,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        ran = Ran(done.returncode, done.stdout, done.stderr)
        assert not check or ran.code == 0, f"{' '.join(command)} ended with {ran.code}\n{ran.out[-4000:]}\n{ran.err[-4000:]}"
        return ran

    def python(self, *arguments: str, **options: Any) -> Ran:
        return self.run([sys.executable, *arguments], **options)

    def ask(self, *arguments: str, **options: Any) -> Any:
        """``aidos … --json``, which must succeed; its answer."""
        at = arguments.index("--") if "--" in arguments else len(arguments)
        return self.aidos(*arguments[:at], "--json", *arguments[at:], check=True, **options).json

    def processes(self, *words: str) -> list[psutil.Process]:
        """Processes of this home whose command line holds all the words."""
        found = []
        for process in psutil.process_iter():
            try:
                line = " ".join(process.cmdline())
                environment = process.environ()
                ours = environment.get("AIDOS_HOME") == str(self.home) or environment.get(launch.MARK, "").endswith(f"@{self.home}")
                if ours and all(word in line for word in words):
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                continue
        return found

    def kill_program(self, name: str) -> int:
        """``kill -9`` of a supervised program with all its children; how many."""
        victims = launch.find_marked(self.home, name)
        for victim in victims:
            with contextlib.suppress(psutil.NoSuchProcess):  # it went with one of those before it, or by itself
                victim.send_signal(signal.SIGKILL)
        return len(victims)

    def kill(self, *words: str) -> int:
        """``kill -9`` of every process of this home whose command line holds all the words; how many."""
        victims = self.processes(*words)
        for victim in victims:
            victim.send_signal(signal.SIGKILL)
        return len(victims)
