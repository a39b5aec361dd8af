"""`make demo`: the whole workflow on real data, by the commands that a user would type.

Push 1,797 handwritten digits, train on two workers, register the network, serve it, ask it about the images that it never saw,
and read the lineage and the cost of it all. It can be run again at any time; the platform stays up afterwards.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from examples.digits.prepare import write_digits

HERE = Path(__file__).resolve().parent
AIDOS = Path(sysconfig.get_path("scripts")) / "aidos"
GOAL = 0.97
BATCH = 32


class Failed(Exception):
    """A step did not do what the demo promises."""


@dataclass
class Demo:
    """What the steps share: where things are, the key, and what is told at the end."""

    console: Console
    home: Path
    role: str = "maintainer"
    facts: dict[str, Any] = field(default_factory=dict)
    rows: list[tuple[str, str, float]] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))

    @property
    def data(self) -> Path:
        return self.home / "demo" / "digits"

    def aidos(self, *arguments: str, show: bool = True, cwd: Path = HERE) -> Any:
        """Run an ``aidos`` command with ``--json``; its answer. The command is shown as a user would type it."""
        if show:
            self.console.print(f"[dim]$[/] aidos {' '.join(arguments)}", highlight=False)
        done = subprocess.run(
            [AIDOS, *self._with_json(arguments)], env=self.environment, cwd=cwd, stdout=subprocess.PIPE, text=True, check=False
        )
        if done.returncode:
            raise Failed(f"aidos {' '.join(arguments)} ended with {done.returncode}: {done.stdout[-2000:]}")
        return json.loads(done.stdout.strip().splitlines()[-1]) if arguments[0] == "up" else json.loads(done.stdout)

    @staticmethod
    def _with_json(arguments: tuple[str, ...]) -> list[str]:
        at = arguments.index("--") if "--" in arguments else len(arguments)
        return [*arguments[:at], "--json", *arguments[at:]]

    def step(self, title: str, made: str, started: float) -> None:
        took_s = time.monotonic() - started
        self.rows.append((title, made, took_s))
        self.console.print(f"[green]✓[/] {title}: {made} [dim]({took_s:.1f} s)[/]\n", highlight=False)


def start(demo: Demo) -> None:
    started = time.monotonic()
    demo.facts = demo.aidos("up")
    demo.environment["AIDOS_URL"] = demo.facts["url"]
    demo.environment["AIDOS_API_KEY"] = find_key(demo)
    demo.step("platform", f"up at {demo.facts['url']}", started)


def find_key(demo: Demo) -> str:
    """The key in the environment, of an earlier demo, or a new one made with the administrator's."""
    if key := demo.environment.get("AIDOS_API_KEY"):
        return key
    kept = demo.home / "demo" / ("key" if demo.role == "maintainer" else f"{demo.role}-key")
    if kept.exists():
        return kept.read_text().strip()
    admin = demo.facts["admin_key"] or demo.aidos("admin-key")["key"]
    demo.environment["AIDOS_API_KEY"] = admin
    name = f"demo-{int(time.time())}"
    key = str(demo.aidos("key", "create", name, "--role", demo.role, show=False)["key"])
    if demo.facts["admin_key"]:
        demo.console.print(f"[bold]Administrator key (shown once):[/] {admin}\n", highlight=False)
    kept.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(kept, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(key)
    return key


def push(demo: Demo) -> None:
    started = time.monotonic()
    count = write_digits(demo.data)
    demo.aidos("dataset", "push", str(demo.data), "--name", "digits", "-m", f"{count:,} handwritten digits")
    commit = demo.aidos("dataset", "log", "digits", show=False)[0]
    demo.step("dataset", f"digits@main, {count:,} images, commit {str(commit['id'])[:13]}", started)


def train(demo: Demo) -> None:
    started = time.monotonic()
    job = demo.aidos("job", "submit", "--name", "digits", "--dataset", "digits@main", "--workers", "2", "--", "python", "train.py")
    command = ["job", "logs", job["id"], "-f"]
    demo.console.print(f"[dim]$[/] aidos {' '.join(command)}", highlight=False)
    subprocess.run([AIDOS, *command], env=demo.environment, check=False)
    job = wait_for(demo, "job", job["id"], {"SUCCEEDED", "FAILED", "CANCELLED"})
    if job["state"] != "SUCCEEDED":
        raise Failed(f"job {job['id']} is {job['state']}: {job.get('reason')}")
    demo.step("training", f"job {job['name']} on 2 workers, run {str(job['run_id'])[:13]}", started)


def find_model(demo: Demo) -> None:
    started = time.monotonic()
    version = wait_for(demo, "model-version", "digits", {"READY", "REJECTED"})
    if version["state"] != "READY":
        raise Failed(f"digits@{version['version']} is {version['state']}: {version['reason']}")
    demo.facts["model"] = f"digits@{version['version']}"
    demo.step("model", f"{demo.facts['model']}, {version['flavour']}, inspected", started)


def deploy(demo: Demo) -> None:
    started = time.monotonic()
    names = [endpoint["name"] for endpoint in demo.aidos("endpoint", "list", show=False)]
    verb = "update" if "digits" in names else "create"
    demo.aidos("endpoint", verb, "digits", "--model", demo.facts["model"])
    endpoint = wait_for(demo, "endpoint", "digits", {"READY", "FAILED"})
    if endpoint["state"] != "READY":
        raise Failed(f"endpoint digits is {endpoint['state']}: {endpoint['reason']}")
    demo.facts["infer"] = f"{demo.facts['url']}{endpoint['route']}/v2/models/digits/infer"
    demo.step("endpoint", f"digits serves {demo.facts['model']}", started)


def wait_for(demo: Demo, noun: str, name: str, states: set[str], within_s: float = 180) -> dict[str, Any]:
    """Ask with ``--wait`` until the state is one of these."""
    deadline = time.monotonic() + within_s
    reads = {
        "job": ("job", "get", name, "--wait", "30s"),
        "endpoint": ("endpoint", "get", name, "--wait", "30s"),
        "model-version": ("model", "version", name, "latest", "--wait", "30s"),
    }
    while True:
        found = demo.aidos(*reads[noun], show=False)
        if found["state"] in states:
            return dict(found)
        if time.monotonic() > deadline:
            raise Failed(f"{noun} {name} is still {found['state']} after {within_s:.0f} s")


def predict(demo: Demo) -> None:
    """Ask the endpoint about every held-out image, over HTTP, as any client would."""
    started = time.monotonic()
    paths = sorted((demo.data / "test").glob("*/*.png"))
    labels = [int(path.parent.name) for path in paths]
    batches = [paths[at : at + BATCH] for at in range(0, len(paths), BATCH)]
    headers = {"Authorization": f"Bearer {demo.environment['AIDOS_API_KEY']}"}
    with httpx.Client(headers=headers, timeout=30) as client, ThreadPoolExecutor(4) as pool:
        answers = [digit for digits in pool.map(lambda batch: ask(client, demo.facts["infer"], batch), batches) for digit in digits]
    right = sum(answer == label for answer, label in zip(answers, labels, strict=True))
    accuracy = demo.facts["accuracy"] = right / len(labels)
    if accuracy < GOAL:
        raise Failed(f"the endpoint knows {accuracy:.2%} of the held-out images; the demo promises {GOAL:.0%}")
    demo.step("prediction", f"{right} of {len(labels)} held-out images right: {accuracy:.2%}", started)


def ask(client: httpx.Client, url: str, paths: list[Path]) -> list[int]:
    """The digits that the endpoint sees in these images."""
    images = np.stack([np.asarray(Image.open(path), dtype=np.float32) / 255 for path in paths])[:, None]
    tensor = {"name": "images", "shape": list(images.shape), "datatype": "FP32", "data": images.ravel().tolist()}
    answer = client.post(url, json={"inputs": [tensor]})
    if answer.status_code != 200:
        raise Failed(f"the endpoint answers {answer.status_code}: {answer.text[:500]}")
    output = answer.json()["outputs"][0]
    return [int(row.argmax()) for row in np.array(output["data"]).reshape(output["shape"])]


def show_graph_and_cost(demo: Demo) -> None:
    started = time.monotonic()
    for command in (["lineage", "endpoint:digits"], ["cost"]):
        demo.console.print(f"[dim]$[/] aidos {' '.join(command)}", highlight=False)
        if subprocess.run([AIDOS, *command], env=demo.environment, check=False).returncode:
            raise Failed(f"aidos {' '.join(command)} failed")
    graph = demo.aidos("lineage", "endpoint:digits", show=False)
    nodes = {(node["kind"], node["id"]) for edge in graph["edges"] for node in (edge["source"], edge["target"])}
    kinds = {kind for kind, _ in nodes}
    if missing := {"commit", "run", "model_version", "endpoint"} - kinds:
        raise Failed(f"the lineage of the endpoint lacks {sorted(missing)}")
    cost = demo.aidos("cost", show=False)
    demo.facts["cost"] = cost["micro_usd"] / 1e6
    demo.step("lineage and cost", f"{len(nodes)} nodes; {demo.facts['cost']:.4f} USD so far", started)


def summarise(demo: Demo, total_s: float) -> None:
    table = Table(title="AI-DOS demo", title_justify="left")
    for column, justify in (("step", "left"), ("what was made", "left"), ("seconds", "right")):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]  # rich's literal
    for title, made, took_s in demo.rows:
        table.add_row(title, made, f"{took_s:.1f}")
    table.add_section()
    table.add_row("total", f"accuracy {demo.facts['accuracy']:.2%}, cost {demo.facts['cost']:.4f} USD", f"{total_s:.1f}")
    demo.console.print(table)
    demo.console.print(f"API and endpoints  {demo.facts['url']}\nRay dashboard      {demo.facts['ray_dashboard']}")
    demo.console.print(f"Your key           {demo.home / 'demo' / 'key'}\n\nThe platform stays up. 'make down' stops it.", highlight=False)


def main() -> int:
    began = time.monotonic()
    demo = Demo(Console(), Path(os.environ.get("AIDOS_HOME") or "~/.aidos").expanduser().absolute())
    try:
        for step in (start, push, train, find_model, deploy, predict, show_graph_and_cost):
            step(demo)
    except Failed as error:
        demo.console.print(f"[red]The demo failed:[/] {error}", highlight=False)
        return 1
    summarise(demo, time.monotonic() - began)
    return 0


if __name__ == "__main__":
    sys.exit(main())
