"""``aidos label`` in a real terminal, and ``aidos labelling`` as a user types it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import httpx
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import aidos
from aidos.cli.label_answers import parse, prompt
from aidos.cli.label_items import draw
from aidos.client import Client
from tests.dataforge.labelling.terminal import Terminal, terminal
from tests.support.running import AIDOS

LABELS = [str(digit) for digit in range(10)]
EVEN = {"questions": [{"name": "parity", "kind": "classification", "labels": ["even", "odd"]}]}
COLOURS = {"TERM": "xterm-256color", "COLORTERM": "truecolor", "COLUMNS": "100", "LINES": "40"}


def run(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([str(AIDOS), *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture
def digits(client: Client, tmp_path: Path) -> list[int]:
    """The dataset ``digits`` with 20 images of handwritten digits; what they show."""
    bunch = load_digits()
    folder = tmp_path / "digits"
    folder.mkdir()
    for at in range(20):
        pixels = (bunch.images[at] * 15).astype("uint8")
        Image.fromarray(pixels).save(folder / f"{at:02}.png")
    aidos.push(str(folder), "digits", client=client)
    return [int(target) for target in bunch.target[:20]]


def answer(screen: Terminal, digits: list[int]) -> int:
    """Read which image is asked about, and press the right key; its number."""
    shown = screen.wait_for("odd > " if "[Enter" not in screen.screen else "] > ")
    at = int(shown.split(".png")[0][-2:])
    assert "▀" in shown and "\x1b[38;2;" in shown, "the image is shown in half blocks"
    screen.type("2" if digits[at] % 2 else "1")
    return at


@pytest.mark.postgres
class TestWalk:
    def test_labels_twenty_images_goes_back_skips_undoes_and_goes_on_later(self, client: Client, digits: list[int]) -> None:
        client.labelling.create("parity", dataset="digits", questions=EVEN, instructions="Is the digit even?")
        with terminal([str(AIDOS), "label", "parity"], **COLOURS) as screen:
            screen.wait_for("Is the digit even?")
            assert [answer(screen, digits) for _ in range(5)] == [0, 1, 2, 3, 4]
            screen.wait_for("05.png")
            screen.wait_for("odd > ")
            screen.type("b")  # back to the one before, which shows what was answered
            screen.wait_for("04.png")
            screen.wait_for('[Enter: "even"] > ')
            screen.type("2")  # a slip of the finger …
            screen.wait_for("05.png")
            screen.wait_for("odd > ")
            screen.type("b")
            screen.wait_for('[Enter: "odd"] > ')
            screen.type("u")  # … is undone from the versions
            screen.wait_for('[Enter: "even"] > ')
            screen.type("\n")
            screen.wait_for("05.png")
            screen.wait_for("odd > ")
            screen.type("s")
            assert answer(screen, digits) == 6
            screen.wait_for("odd > ")
            screen.type("q")
            assert screen.end() == 0
        assert client.labelling.progress("parity").leased == 0, "who quits gives the task back"
        with terminal([str(AIDOS), "label", "parity"], **COLOURS) as screen:
            assert [answer(screen, digits) for _ in range(7, 20)] == list(range(7, 20))
            screen.wait_for("has no task for you now")
            assert screen.end() == 0
        labels = {task.item.path: task.label for task in client.labelling.tasks("parity")}
        right = {f"{at:02}.png": {"parity": "odd" if digit % 2 else "even"} for at, digit in enumerate(digits)}
        assert labels == {**right, "05.png": None}
        assert client.labelling.task("parity", next(client.labelling.tasks("parity").__iter__()).id).item.size == (8, 8)

    def test_an_interrupted_one_gives_its_task_back(self, client: Client, digits: list[int]) -> None:
        client.labelling.create("parity", dataset="digits", questions=EVEN)
        with terminal([str(AIDOS), "label", "parity"], **COLOURS) as screen:
            screen.wait_for("odd > ")
            screen.type("\x03")
            screen.end()
        assert client.labelling.progress("parity").leased == 0

    def test_asks_several_questions_by_line_and_keeps_drafts(self, client: Client, digits: list[int]) -> None:
        questions = [
            {"name": "ink", "kind": "boxes", "labels": ["stroke", "dot"]},
            {"name": "traits", "kind": "multilabel", "labels": ["thin", "round"]},
            {"name": "note", "kind": "text", "required": False},
        ]
        client.labelling.create("marks", dataset="digits", questions={"questions": questions})
        with terminal([str(AIDOS), "label", "marks", "--limit", "1"], **COLOURS) as screen:
            screen.wait_for("for none) > ")
            screen.type("stroke 1 1\n")
            screen.wait_for("takes other numbers")
            screen.wait_for("for none) > ")
            screen.type("1 1 1 2 3; dot 5 5 1 1\n")
            screen.wait_for("for none) > ")
            screen.type("2\n")
            screen.wait_for("(a line) > ")
            (turn,) = client.labelling.mine("marks")
            boxes = [
                dict(zip(("label", "x", "y", "width", "height"), each, strict=True))
                for each in (("stroke", 1, 1, 2, 3), ("dot", 5, 5, 1, 1))
            ]
            assert client.labelling.show("marks", turn.task_id).value == {"ink": boxes, "traits": ["round"]}, "the draft is saved"
            screen.type("faint\n")
            assert screen.end() == 0
        assert client.labelling.task("marks", turn.task_id).label == {"ink": boxes, "traits": ["round"], "note": "faint"}

    def test_works_without_a_terminal(self, client: Client, digits: list[int]) -> None:
        client.labelling.create("parity", dataset="digits", questions=EVEN)
        done = subprocess.run(
            [str(AIDOS), "label", "parity", "--json"], input="1\n2\ns\n", capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.returncode, json.loads(done.stdout)) == (0, {"labelling": "parity", "submitted": 2, "skipped": 1}), done.stderr


@pytest.mark.postgres
class TestCommands:
    def test_create_import_export_and_commit(self, client: Client, digits: list[int], tmp_path: Path) -> None:
        schema = tmp_path / "schema.json"
        schema.write_text(json.dumps({"questions": [{"name": "digit", "kind": "classification", "labels": LABELS}]}))
        run("labelling", "create", "ten", "--dataset", "digits", "--questions", f"@{schema}")
        table = tmp_path / "labels.csv"
        table.write_text("path,digit\n" + "".join(f"{at:02}.png,{digit}\n" for at, digit in enumerate(digits)))
        done = run("labelling", "import", "ten", str(table), "--format", "csv", "--json")
        assert json.loads(done.stdout) == {"records": 20, "tasks": 20}
        for format, file in (("jsonl", "labels.jsonl"), ("csv", "labels.csv"), ("coco", "coco.json")):
            out = tmp_path / format
            run("labelling", "export", "ten", str(out), "--format", format)
            assert run("labelling", "import", "ten", str(out / file), "--format", format).returncode == 0
        assert (tmp_path / "csv" / "labels.csv").read_text().splitlines()[1] == "00.png,,,,,0"
        commit = json.loads(run("labelling", "commit", "ten", "--branch", "labelled", "--json").stdout)
        assert (commit["files"], commit["metadata"]["labelling"]) == (21, "ten")
        wrong = run("labelling", "export", "ten", str(tmp_path / "yolo"), "--format", "yolo", code=2)
        assert "yolo cannot hold" in wrong.stderr
        wrong = run("labelling", "import", "ten", "--json", code=2)
        assert "Name files with labels" in wrong.stderr


@pytest.mark.postgres
class TestTheAnnotatorsRole:
    def test_sees_tasks_and_nothing_else(self, client: Client, digits: list[int], url: str) -> None:
        client.labelling.create("parity", dataset="digits", questions=EVEN)
        client.service_accounts.create("ada")
        client.members.put("ada", role="annotator")
        key = client.keys.create("ada-key", role="annotator", service_account="ada").key
        with Client(url, key) as ada:
            task = ada.labelling.next("parity")
            assert httpx.get(str(task.url), trust_env=False).status_code in (200, 206)
            ada.labelling.submit("parity", task.id, value={"parity": "even"})
            shown = ada.labelling.show("parity", task.id).model_dump()
            assert not {"gold", "label", "priority", "slots"} & set(shown)
            for refused in (
                lambda: list(ada.labelling.tasks("parity")),
                lambda: ada.labelling.task("parity", task.id),
                lambda: ada.labelling.progress("parity"),
                lambda: list(ada.datasets.list()),
                lambda: list(ada.events.list()),
                lambda: list(ada.members.list()),
                lambda: list(ada.projects.list()),
            ):
                with pytest.raises(aidos.errors.Forbidden):
                    refused()


class TestAnswers:
    @pytest.mark.parametrize(
        ("question", "text", "value"),
        [
            ({"kind": "classification", "labels": ["cat", "dog"]}, "2", "dog"),
            ({"kind": "classification", "labels": ["cat", "dog"]}, "ca", "cat"),
            ({"kind": "preference", "ties": True}, "3", "tie"),
            ({"kind": "multilabel", "labels": ["a", "b"]}, "1, b", ["a", "b"]),
            ({"kind": "multilabel", "labels": ["a", "b"]}, "-", []),
            ({"kind": "spans", "labels": ["name"]}, "name 0 3; 1 5 9", [{"label": "name", "start": 0, "end": 3}, {"label": "name", "start": 5, "end": 9}]),
            ({"kind": "polygons", "labels": ["cat"]}, "cat 0 0 1 0 1 1", [{"label": "cat", "points": [[0, 0], [1, 0], [1, 1]]}]),
            ({"kind": "text"}, " words: s ", "words: s"),
        ],
    )  # fmt: skip
    def test_are_read_as_typed(self, question: dict[str, object], text: str, value: object) -> None:
        assert parse(question, text) == value

    @pytest.mark.parametrize(
        ("question", "text", "message"),
        [
            ({"kind": "classification", "labels": ["cat", "car"]}, "ca", "'ca' is none of 1 cat, 2 car"),
            ({"kind": "boxes", "labels": ["cat"]}, "cat 1 2", "takes other numbers"),
            ({"kind": "boxes", "labels": ["cat"]}, "cat a b c d", "Numbers are needed"),
        ],
    )
    def test_that_make_no_sense_say_what_is_needed(self, question: dict[str, object], text: str, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            parse(question, text)

    def test_are_asked_for_with_what_enter_takes(self) -> None:
        question = {"name": "kind", "title": "", "kind": "classification", "labels": ["cat", "dog"]}
        assert prompt(question, "cat") == 'kind: 1 cat  2 dog [Enter: "cat"] > '


class TestPictures:
    def test_that_are_none_are_not_drawn(self) -> None:
        for content in (b"", b"not an image", b"\x89PNG\r\n\x1a\n" + b"\0" * 50, b"GIF89a"):
            assert draw(content, 40, 20) == (None, None)
