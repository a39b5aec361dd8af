"""Into a job that runs on the cluster, through Serve's proxy and the gateway, as from another machine."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.support.platform import find_free_ports
from tests.support.running import AIDOS, RunningPlatform
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
SERVES = """
import http.server, sys
http.server.test(http.server.SimpleHTTPRequestHandler, bind="127.0.0.1", port=int(sys.argv[1]))
"""


def test_its_command_directory_and_ports_are_reached_until_it_ends(platform: RunningPlatform, tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(SERVES)
    (tmp_path / "big").write_bytes(os.urandom(3_000_000))
    port, local = find_free_ports(2), find_free_ports(1)
    submit = ["job", "submit", "--name", "web", "--directory", str(tmp_path), "--workers", "0", "--", "python", "main.py", str(port)]
    platform.aidos(*submit, check=True)
    wait_until(lambda: platform.ask("job", "get", "web")["state"] == "RUNNING", within_s=60, every_s=0.5)
    for code in ("3", "0"):
        done = platform.aidos("job", "exec", "web", "--", "sh", "-c", f"wc -c < big; echo wrong >&2; exit {code}")
        assert (str(done.code), done.out.strip(), done.err) == (code, "3000000", "wrong\n"), done.err
    environment = {**platform.environment, "AIDOS_API_KEY": platform.admin_key}
    words = [str(AIDOS), "job", "port-forward", "web", f"{port}:{local}"]
    with subprocess.Popen(words, env=environment, stderr=subprocess.PIPE) as forwarding:
        try:
            assert forwarding.stderr is not None and f"127.0.0.1:{local}".encode() in forwarding.stderr.readline()
            assert httpx.get(f"http://127.0.0.1:{local}/big", timeout=60).content == (tmp_path / "big").read_bytes()
            platform.aidos("job", "cancel", "web", check=True)
            assert forwarding.wait(60) == 0
        finally:
            forwarding.send_signal(signal.SIGINT)
    refused = platform.aidos("job", "exec", "web", "--", "true")
    assert refused.code == 5 and "is CANCELLED: only a job whose command runs" in refused.err, refused
