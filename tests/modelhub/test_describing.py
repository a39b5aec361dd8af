"""What the files of a version say of it; what cannot be read says nothing, and breaks nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from actors.modelhub.describing import describe

pytestmark = pytest.mark.plain
NOTHING: dict[str, Any] = {"signature": None, "input_example": None, "requirements": [], "card": "", "licence": ""}


def told(tmp_path: Path, **files: bytes) -> dict[str, Any]:
    names = {"mlmodel": "MLmodel", "readme": "README.md", "requirements": "requirements.txt", "example": "input_example.json"}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    return describe({names[name]: tmp_path / name for name in files})


class TestDescribe:
    def test_mlflows_columns_and_tensors(self, tmp_path: Path) -> None:
        mlmodel = b"""
signature:
  inputs: '[{"type": "double", "name": "a", "required": true}, {"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 3]}}]'
  outputs: '[{"type": "long"}]'
  params: null
"""
        assert told(tmp_path, mlmodel=mlmodel)["signature"] == {
            "inputs": [{"name": "a", "dtype": "double", "shape": [None]}, {"name": "", "dtype": "float32", "shape": [None, 3]}],
            "outputs": [{"name": "", "dtype": "long", "shape": [None]}],
        }

    @pytest.mark.parametrize(
        "files",
        [
            {"mlmodel": b"signature: [1, 2"}, {"mlmodel": b"- a list"}, {"mlmodel": b"signature: {inputs: 3}"}, {"mlmodel": b"\xff\xfe"},
            {"mlmodel": b"signature: {inputs: '{}', outputs: '[1]'}"}, {"mlmodel": b"!!python/object/apply:os.system [id]"},
            {"mlmodel": b"saved_input_example_info: {artifact_path: ../../etc/passwd}"}, {"mlmodel": b"a: &a [*a]"},
            {"example": b"NaN"}, {"example": b"[Infinity]"}, {"example": b'"\\u0000"'}, {"example": b'"\\ud800"'}, {"example": b"[" * 100_000},
            {"example": b" " * 100_000 + b"1"}, {"requirements": b"a\x00b"}, {"readme": b"\xff"},
        ],
    )  # fmt: skip
    def test_what_cannot_be_read_says_nothing(self, tmp_path: Path, files: dict[str, bytes]) -> None:
        assert told(tmp_path, **files) == NOTHING

    def test_a_card_without_front_matter_names_no_licence(self, tmp_path: Path) -> None:
        assert told(tmp_path, readme=b"# Digits\nlicense: mit\n") == NOTHING | {"card": "# Digits\nlicense: mit\n"}
        assert told(tmp_path, readme=b"---\nlicense: [mit]\n---\n")["licence"] == ""
