"""`python -m examples.tabular.demo [--short]`, after `make up`: a real table with dirt in it, cleaned by what AI-DOS finds out about it.

A tree is trained on the table as it came and again on the clean one; between them lie reports (profile, label errors, expectations) and
a pull request that the protected branch lets in only when the expectations hold. ``--short`` leaves out the profile and the training.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from examples.digits.demo import AIDOS, Demo, Failed, start, wait_for
from examples.tabular.clean import drop_copies_and_gaps, drop_disbelieved
from examples.tabular.prepare import write_table, write_tumours

HERE = Path(__file__).resolve().parent
TRAIN, TEST = "train/rows.parquet", "test/rows.parquet"
LEAST_FOUND = 0.7
"""Of the wrong diagnoses, how many the report of label errors must find."""


@dataclass
class Cleaning:
    """One go: a dataset of its own, so that it can be run again."""

    demo: Demo
    folder: Path
    name: str = field(default_factory=lambda: f"tumours-{int(time.time())}")
    planted: dict[str, list[str]] = field(default_factory=dict)
    accuracy: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def data(self) -> Path:
        return self.folder / "tumours"

    @property
    def fresh(self) -> str:
        return f"{self.name}-fresh"

    def push(self, message: str, branch: str = "main") -> None:
        self.demo.aidos("dataset", "push", str(self.data), "--name", self.name, "--branch", branch, "-m", message)

    def report(self, kind: str, *arguments: str) -> dict[str, Any]:
        """What a report says of the branch ``cleaning``."""
        report = self.demo.aidos("report", "create", f"{self.name}@cleaning", kind, "--wait", *arguments)
        return dict(report["result"])

    def merge(self) -> str:
        """Why pull request 1 is not merged; nothing: it is."""
        command = ["pull-request", "merge", self.name, "1"]
        self.demo.console.print(f"[dim]$[/] aidos {' '.join(command)}", highlight=False)
        done = subprocess.run([AIDOS, *command], env=self.demo.environment, capture_output=True, text=True, check=False)
        return " ".join(done.stderr.split()) or "no reason" if done.returncode else ""


def push_dirty(work: Cleaning) -> None:
    """The table as it came; from then on only pull requests whose expectations hold change it."""
    started = time.monotonic()
    work.planted = write_tumours(work.folder)
    work.push("as it came")
    demo, name = work.demo, work.name
    demo.aidos("dataset", "push", str(work.folder / "fresh"), "--name", work.fresh, "-m", "tumours that nobody trains on")
    demo.aidos("dataset", "protect", name, "main", "--required-checks", "expectations", "--require-pull-request")
    demo.aidos("dataset", "set-ref", name, "cleaning", "--commit", "main")
    planted = ", ".join(f"{len(patients)} {kind}" for kind, patients in work.planted.items())
    demo.step("dataset", f"{name}@main, protected; planted: {planted}", started)


def expect(work: Cleaning) -> None:
    """Write down what the table promises, and see it break the promise."""
    started = time.monotonic()
    target = work.data / ".aidos" / "expectations.yaml"
    target.parent.mkdir(exist_ok=True)
    target.write_text((HERE / "expectations.yaml").read_text())
    work.push("what the table promises", "cleaning")
    work.demo.aidos("pull-request", "create", work.name, "cleaning", "--title", "Clean tumours")
    found = work.report("expectations")
    refused = work.merge()
    if found["passed"] or "expectations" not in refused:
        raise Failed(f"the dirty table was not kept off main: {found['summary']} {refused}")
    work.demo.step("expectations", f"broken, so the pull request is not merged: {found['summary']}", started)


def look(work: Cleaning) -> None:
    started = time.monotonic()
    table = work.report("profile", "--param", "label=diagnosis")["table"]
    missing = sum(column["nulls"] for column in table["columns"].values())
    work.demo.step("profile", f"{table['rows']} rows, {len(table['columns'])} columns, {missing} values missing", started)


def clean(work: Cleaning) -> None:
    """First what is there twice, so that no copy vouches for a wrong label; then the labels that the report does not believe."""
    started = time.monotonic()
    came, test = pd.read_parquet(work.data / TRAIN), pd.read_parquet(work.data / TEST)
    complete = drop_copies_and_gaps(came, test)
    write_table(complete, work.data / TRAIN)
    work.push("without copies, leaks and gaps", "cleaning")
    found = work.report("label_errors", "--param", "label=diagnosis", "--param", f"files={TRAIN}")
    believed = drop_disbelieved(complete, TRAIN, found)
    write_table(believed, work.data / TRAIN)
    work.push("without labels in doubt", "cleaning")
    wrong = set(work.planted["wrong"]) & set(complete.patient)
    dropped = set(complete.patient) - set(believed.patient)
    if len(wrong & dropped) < LEAST_FOUND * len(wrong):
        raise Failed(f"{len(wrong & dropped)} of {len(wrong)} wrong labels were found; the demo promises {LEAST_FOUND:.0%}")
    made = (
        f"{len(came)} rows, {len(complete)} once and complete; {len(dropped)} labels in doubt, {len(wrong & dropped)} of {len(wrong)} wrong"
    )
    work.demo.step("label errors", made, started)


def land(work: Cleaning) -> None:
    started = time.monotonic()
    found = work.report("expectations")
    refused = work.merge()
    if not found["passed"] or refused:
        raise Failed(f"the clean table does not land: {found['summary']} {refused}")
    work.demo.step("pull request", f"expectations hold, merged into {work.name}@main", started)


def train(work: Cleaning, state: str) -> None:
    """A job on main as it is now."""
    started = time.monotonic()
    demo, datasets = work.demo, [f"--dataset={name}@main" for name in (work.name, work.fresh)]
    command = ["job", "submit", "--name", f"tree-{state}", *datasets, "--", "python", "train.py", work.name, work.fresh]
    job = wait_for(demo, "job", demo.aidos(*command, cwd=HERE)["id"], {"SUCCEEDED", "FAILED", "CANCELLED"})
    if job["state"] != "SUCCEEDED":
        raise Failed(f"job {job['id']} is {job['state']}: {job.get('reason')}")
    metrics = demo.aidos("run", "get", job["run_id"], show=False)["metrics"]
    found = work.accuracy[state] = {name: metric["value"] for name, metric in metrics.items() if name in ("own_test", "fresh")}
    demo.step(f"training, {state}", f"own test split {found['own_test']:.1%}, fresh tumours {found['fresh']:.1%}", started)


def summarise(work: Cleaning) -> None:
    table = Table("data", "its own test split", "tumours never seen", title="Accuracy of one decision tree", title_justify="left")
    for state, found in work.accuracy.items():
        table.add_row(state, f"{found['own_test']:.1%}", f"{found['fresh']:.1%}")
    work.demo.console.print(table)
    if work.accuracy["clean"]["fresh"] <= work.accuracy["dirty"]["fresh"]:
        raise Failed("the clean table makes no better tree")


def main() -> int:
    short = "--short" in sys.argv[1:]
    demo = Demo(Console(), Path(os.environ.get("AIDOS_HOME") or "~/.aidos").expanduser().absolute(), role="owner")
    with tempfile.TemporaryDirectory(prefix="tumours-") as folder:
        work = Cleaning(demo, Path(folder))
        try:
            start(demo)
            push_dirty(work)
            if not short:
                train(work, "dirty")
            expect(work)
            if not short:
                look(work)
            clean(work)
            land(work)
            if not short:
                train(work, "clean")
                summarise(work)
        except Failed as error:
            demo.console.print(f"[red]The demo failed:[/] {error}", highlight=False)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
