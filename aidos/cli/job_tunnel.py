"""``aidos job exec`` and ``aidos job port-forward``: into a job that runs."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aidos.cli.job_end import wait_for_end
from aidos.cli.session import session
from aidos.errors import AidosError, InvalidRequest
from aidos.schemas.tunnel import CONTENT_BYTES, ERRORS, INPUT, SIZE

if TYPE_CHECKING:
    from aidos.transfers.tunnel import JobTunnel

Job = Annotated[str, typer.Argument(help="Id of the job, or its name.")]


def add_verbs(group: typer.Typer) -> None:
    """Those of ``aidos job``."""
    group.command("exec", help="Run a command beside the one of a running job: … -- bash. Ends with the command's exit code.")(exec_)
    group.command("port-forward", help="Reach a TCP port of a running job at this machine's loopback, until Ctrl-C or the job's end.")(
        port_forward
    )


def exec_(
    job: Job,
    command: Annotated[list[str], typer.Argument(help="The command and its arguments, behind --.", show_default=False)],
    terminal: Annotated[bool | None, typer.Option(help="Whether it has a terminal; else as this command has.", show_default=False)] = None,
) -> None:
    from aidos.transfers.tunnel import JobTunnel

    current = session()
    on_terminal = terminal if terminal is not None else sys.stdin.isatty() and sys.stdout.isatty() and not current.as_json
    asked = {"command": command, "terminal": _size() if on_terminal else None}
    with JobTunnel(current.client, job, asked) as tunnel:
        threading.Thread(target=_pass_input, args=(tunnel,), daemon=True).start()
        with _raw_terminal(tunnel) if on_terminal else contextlib.nullcontext():
            for kind, content in tunnel:
                _show(current, kind, content)
    if reason := tunnel.outcome.get("reason"):
        current.note(f"job {job}: {reason}")
    if current.as_json:
        current.show(tunnel.outcome)
    raise typer.Exit(tunnel.outcome.get("exit_code", 1))


def _show(current: Any, kind: bytes, content: bytes) -> None:
    if current.as_json:
        current.show_each([{"stream": "stderr" if kind == ERRORS else "stdout", "text": content.decode(errors="replace")}])
        return
    stream = sys.stderr if kind == ERRORS else sys.stdout
    stream.buffer.write(content)
    stream.buffer.flush()


def _pass_input(tunnel: JobTunnel) -> None:
    # Not through sys.stdin, whose lock the interpreter would not get at its end while this waits.
    while content := os.read(sys.stdin.fileno(), CONTENT_BYTES):
        tunnel.send(INPUT, content)
    tunnel.send(INPUT)


def _size() -> dict[str, Any]:
    columns, rows = shutil.get_terminal_size()
    return {"columns": columns, "rows": rows}


@contextlib.contextmanager
def _raw_terminal(tunnel: JobTunnel) -> Iterator[None]:
    """Every key goes to the job meanwhile, Ctrl-C among them, and it learns of another size."""
    import termios
    import tty

    resized = threading.Event()

    def tell_sizes() -> None:
        while resized.wait():
            resized.clear()
            tunnel.send(SIZE, json.dumps(list(_size().values())).encode())

    threading.Thread(target=tell_sizes, daemon=True).start()
    before = termios.tcgetattr(sys.stdin)
    handler = signal.signal(signal.SIGWINCH, lambda *_: resized.set())
    try:
        tty.setraw(sys.stdin)
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
        signal.signal(signal.SIGWINCH, handler)


def port_forward(job: Job, ports: Annotated[list[str], typer.Argument(help="PORT of the job, or PORT:LOCAL.", show_default=False)]) -> None:
    current = session()
    found = current.client.jobs.get(job)
    with contextlib.ExitStack() as stack:
        for port, local in [_read_ports(text) for text in ports]:
            listener = stack.enter_context(_listen(local))
            here = f"127.0.0.1:{listener.getsockname()[1]}"
            threading.Thread(target=_serve, args=(current, str(found.id), port, listener), daemon=True).start()
            if current.as_json:
                current.show_each([{"port": port, "address": here}])
            else:
                current.note(f"http://{here} is port {port} of job {found.name}")
        with contextlib.suppress(KeyboardInterrupt):
            current.note(f"job {found.name} is {wait_for_end(current.client, str(found.id)).state}")


def _read_ports(text: str) -> tuple[int, int]:
    port, _, local = text.partition(":")
    if not port.isdecimal() or (local and not local.isdecimal()):
        raise InvalidRequest(reason=f"{text!r} is neither PORT nor PORT:LOCAL.")
    return int(port), int(local or port)


def _listen(port: int) -> socket.socket:
    try:
        return socket.create_server(("127.0.0.1", port))
    except (OSError, OverflowError) as error:
        raise InvalidRequest(reason=f"Port {port} of this machine cannot be listened at ({error}); PORT:LOCAL names another.") from None


def _serve(current: Any, job: str, port: int, listener: socket.socket) -> None:
    with contextlib.suppress(OSError):  # closed at the end
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=_forward, args=(current, job, port, connection), daemon=True).start()


def _forward(current: Any, job: str, port: int, connection: socket.socket) -> None:
    from aidos.transfers.tunnel import forward

    try:
        forward(current.client, job, port, connection)
    except AidosError as error:
        current.note(str(error))
