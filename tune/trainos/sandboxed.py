"""Runs an untrusted job's command in a sandbox: ``python -I -m tune.trainos.sandboxed -- COMMAND…``.

This process is the platform's: it holds the job's token, passes its calls on (``broker.py``), relays its output to the log, its signals
and its exit code, and ends it with all that it began.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

import aidos
from cluster.sandbox import outside
from cluster.sandbox.inside import NOT_MADE, PROXY
from cluster.sandbox.root import EXCHANGE
from tune.trainos.broker import GATEWAY, Broker, Ways
from tune.trainos.code_package import BadPackage, check_package
from tune.trainos.entrypoint import relay_output, say, take_secrets
from tune.trainos.job_environment import STOP_GRACE_S, SandboxOrder, has_code, read_sandbox_order
from tune.trainos.masking import Mask
from tune.trainos.models import GAVE_WAY

MEMORY_FILLED = 123
_LOOK_S = 0.5


def main(arguments: Sequence[str]) -> int:
    """Run the command after ``--``; its exit code."""
    order = read_sandbox_order(GATEWAY, f"http://{PROXY[0]}:{PROXY[1]}", EXCHANGE)
    secrets = take_secrets()
    with tempfile.TemporaryDirectory(prefix="aidos-sandbox-", ignore_cleanup_errors=True) as folder:
        try:
            sandbox = _start(list(arguments[arguments.index("--") + 1 :]), order, secrets, Path(folder))
        except outside.Refused as refused:
            say(f"this node cannot run untrusted code: {refused}. `aidos doctor` looks at that")
            return NOT_MADE
        except (BadPackage, OSError) as error:
            say(f"the job's code cannot be had: {error}")
            return NOT_MADE
        try:
            Broker(sandbox.listener, Ways(order.gateway, order.store, lambda: (order.files / "token").read_text().strip())).start()
            return _follow(sandbox, order, Mask(secrets.values()))
        finally:
            sandbox.close()


def _start(command: Sequence[str], order: SandboxOrder, secrets: Mapping[str, str], folder: Path) -> outside.Sandbox:
    """Raises: Refused, BadPackage, OSError."""
    (place := folder / "root").mkdir()
    package = _fetch_package(order, folder / "code.zip") if has_code() else None
    # The client's package alone: what else of the platform is installed from the same place is not shown.
    client = str(Path(aidos.__file__).parent)
    plan = outside.Plan(command, {**secrets, **order.environment}, order.memory_bytes, {client: client}, package)
    return outside.start(plan, place)


def _fetch_package(order: SandboxOrder, path: Path) -> str:
    """Raises: BadPackage, OSError."""
    url = (order.files / "code").read_text()
    with urllib.request.urlopen(url, timeout=60) as source, path.open("wb") as file:  # noqa: S310 (the platform's own presigned URL)
        shutil.copyfileobj(source, file)
    check_package(path, order.code_sha256)
    return str(path)


def _follow(sandbox: outside.Sandbox, order: SandboxOrder, mask: Mask) -> int:
    child = sandbox.process
    assert child.stdout is not None
    relay = threading.Thread(target=relay_output, args=(child.stdout, mask), name="aidos-output")
    relay.start()

    def stop(received: int, _frame: object) -> None:
        child.send_signal(received)
        signal.alarm(STOP_GRACE_S)

    signal.signal(signal.SIGALRM, lambda *_: child.kill())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    filled_bytes = 0
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = child.wait(_LOOK_S)
            break
        if (order.files / "preempted").exists():
            sandbox.put("preempted")
        if (held_bytes := sandbox.held_bytes()) > order.memory_bytes:
            filled_bytes = held_bytes
            child.kill()
    relay.join()
    if filled_bytes:
        say(
            f"the job held {filled_bytes / 2**30:.2f} GiB in memory and files together, {order.memory_bytes / 2**30:.2f} GiB is its bound: "
            "it was ended. Ask for more with --memory-gib-per-worker"
        )
        return MEMORY_FILLED
    if code == 0 and sandbox.has("heard"):
        return GAVE_WAY
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
