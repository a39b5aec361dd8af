"""What a model file is, told by its content."""

from __future__ import annotations

import io
import json
import pickle
import random
import struct
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save

from actors.modelhub.inspection import NotTheModel, inspect
from actors.modelhub.models import Flavour
from actors.modelhub.reconciler import inspect_apart
from actors.modelhub.scanning import Scan
from tests.support.onnx_models import linear


class Trap:
    """Running it would end the test run."""

    def __reduce__(self) -> tuple[type, tuple[str]]:
        return (SystemExit, ("the pickle was run",))


def zipped(name: str, data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, data)
    return buffer.getvalue()


def with_external_data() -> bytes:
    model = onnx.load_model_from_string(linear())
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../../etc/passwd"
    return model.SerializeToString()


def with_external_data_in_an_attribute() -> bytes:
    tensor = numpy_helper.from_array(np.ones(3, dtype=np.float32), "hidden")
    tensor.ClearField("raw_data")
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "secret"
    graph = helper.make_graph(
        [helper.make_node("Constant", [], ["y"], value=tensor)], "g", [], [helper.make_tensor_value_info("y", TensorProto.FLOAT, [3])]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()


def with_custom_operator() -> bytes:
    node = helper.make_node("Run", ["x"], ["y"], domain="evil.ops")
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([node], "g", value[:1], value[1:])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("evil.ops", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()


def with_undefined_input() -> bytes:
    model = onnx.load_model_from_string(linear())
    model.graph.node[0].input[0] = "nowhere"
    return model.SerializeToString()


def nested(depth: int) -> bytes:
    """A protobuf message inside a message inside …: GraphProto → NodeProto → AttributeProto → GraphProto."""
    inner = b""
    for _ in range(depth):
        for tag in (0x32, 0x2A, 0x0A):
            inner = bytes([tag]) + _varint(len(inner)) + inner
    return b"\x08\x09" + b"\x3a" + _varint(len(inner)) + inner


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


HOSTILE = {
    "empty": (b"", "empty"),
    "pickle": (pickle.dumps(Trap()), "a Python pickle"),
    "pickle of protocol 0": (pickle.dumps(Trap(), protocol=0), "not an ONNX model"),
    "torch archive": (zipped("archive/data.pkl", pickle.dumps(Trap())), "a ZIP archive"),
    "zip bomb": (zipped("model.onnx", bytes(10_000_000)), "a ZIP archive"),
    "gzip": (b"\x1f\x8b\x08" + bytes(20), "gzip"),
    "safetensors": (save({"w": np.ones(2, dtype=np.float32)}), "not an ONNX model"),
    "truncated": (linear()[:-7], "not an ONNX model"),
    "noise": (bytes(range(7, 250)) * 10, "not an ONNX model"),
    "json": (b'{"model": "digits"}', "not an ONNX model"),
    "nested 3000 deep": (nested(1000), "not an ONNX model"),
    "external data": (with_external_data(), "keeps its data in another file"),
    "external data in an attribute": (with_external_data_in_an_attribute(), "keeps its data in another file"),
    "undefined input": (with_undefined_input(), "not valid"),
}


class TestOnnx:
    def test_a_good_one_gives_its_signature(self, tmp_path: Path) -> None:
        (tmp_path / "m").write_bytes(linear(4, 3))
        assert inspect("onnx", tmp_path / "m") == {
            "inputs": [{"name": "x", "dtype": "float32", "shape": ["batch", 4]}],
            "outputs": [{"name": "scores", "dtype": "float32", "shape": ["batch", 3]}],
        }

    @pytest.mark.parametrize(("data", "reason"), HOSTILE.values(), ids=HOSTILE)
    def test_a_bad_one_is_named(self, tmp_path: Path, data: bytes, reason: str) -> None:
        (tmp_path / "m").write_bytes(data)
        with pytest.raises(NotTheModel, match=reason):
            inspect("onnx", tmp_path / "m")

    def test_a_custom_operator_is_a_finding(self, tmp_path: Path) -> None:
        (tmp_path / "m").write_bytes(with_custom_operator())
        scan = Scan()
        assert inspect("onnx", tmp_path / "m", scan, "m.onnx")["outputs"]
        (found,) = scan.findings
        assert (found.kind, found.path) == ("onnx-operator", "m.onnx") and "custom domain 'evil.ops'" in found.detail

    def test_its_own_functions_are_no_custom_operators(self, tmp_path: Path) -> None:
        function = helper.make_function(
            "own", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", 17)]
        )
        value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
        graph = helper.make_graph([helper.make_node("Twice", ["x"], ["y"], domain="own")], "g", value[:1], value[1:])
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
        model = helper.make_model(graph, functions=[function], opset_imports=opsets, ir_version=9)
        (tmp_path / "m").write_bytes(model.SerializeToString())
        signature = inspect("onnx", tmp_path / "m")
        assert signature is not None and signature["outputs"][0]["name"] == "y"

    def test_a_huge_one_is_refused_unread(self, tmp_path: Path) -> None:
        with (tmp_path / "m").open("wb") as file:
            file.write(linear())
            file.truncate(2**31 + 10)  # sparse
        with pytest.raises(NotTheModel, match="2 GiB"):
            inspect("onnx", tmp_path / "m")


class TestSafetensors:
    def test_a_good_one_passes(self, tmp_path: Path) -> None:
        (tmp_path / "m").write_bytes(save({"w": np.ones((2, 3), dtype=np.float32)}))
        assert inspect("safetensors", tmp_path / "m") == {"inputs": [], "outputs": []}

    @pytest.mark.parametrize(
        ("data", "reason"),
        {
            "pickle": (pickle.dumps(Trap()), "a Python pickle"),
            "onnx": (linear(), "does not begin with a JSON header"),
            "truncated": (save({"w": np.ones(9, dtype=np.float32)})[:-4], "not valid safetensors"),
            "bytes behind the tensors": (save({"w": np.ones(9, dtype=np.float32)}) + pickle.dumps(Trap()), "not valid safetensors"),
            "header of 2**60 bytes": (struct.pack("<Q", 2**60) + b"{}", "does not begin"),
            "short": (b"\x05", "does not begin"),
            "no tensor": (save({}), "holds no tensor"),
            "overlap": (
                struct.pack("<Q", len(h := json.dumps({k: {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]} for k in "ab"}).encode()))
                + h
                + b"abcd",
                "not valid safetensors",
            ),
        }.values(),
    )
    def test_a_bad_one_is_named(self, tmp_path: Path, data: bytes, reason: str) -> None:
        (tmp_path / "m").write_bytes(data)
        with pytest.raises(NotTheModel, match=reason):
            inspect("safetensors", tmp_path / "m")


class TestApart:
    """In the process of its own that the reconciler uses."""

    async def test_says_the_same(self, tmp_path: Path) -> None:
        (tmp_path / "good").write_bytes(linear())
        (tmp_path / "bad").write_bytes(pickle.dumps(Trap()))
        good = await inspect_apart(Flavour.ONNX, {"m.onnx": tmp_path / "good"})
        assert good["signature"]["inputs"][0]["name"] == "x" and good["findings"] == []
        assert "pickle" in (await inspect_apart(Flavour.ONNX, {"m.onnx": tmp_path / "bad"}))["reason"]
        beside = await inspect_apart(Flavour.ONNX, {"m.onnx": tmp_path / "good", "scaler.txt": tmp_path / "bad"})
        assert {(found["kind"], found["path"]) for found in beside["findings"]} >= {("pickle", "scaler.txt")}

    async def test_a_process_that_dies_is_a_reason(self, tmp_path: Path) -> None:
        answer = await inspect_apart(Flavour.ONNX, {"m.onnx": tmp_path / "not there"})
        assert "ended the inspection" in answer["reason"] and "FileNotFoundError" in answer["reason"]


class TestDamage:
    """Whatever bytes come, the answer is a verdict, and nothing is unpickled on the way to it."""

    @pytest.mark.parametrize("flavour", ["onnx", "safetensors"])
    def test_400_damaged_files_get_a_verdict(self, tmp_path: Path, flavour: str) -> None:
        good = linear() if flavour == "onnx" else save({"w": np.ones((2, 3), dtype=np.float32), "b": np.zeros(4, dtype=np.int64)})
        unpickled: list[str] = []
        sys.addaudithook(lambda event, _: unpickled.append(event) if event in {"pickle.find_class", "marshal.loads"} and watching else None)
        watching = True
        pickle.loads(pickle.dumps(Trap))
        assert unpickled.pop() == "pickle.find_class", "the detector detects"
        dice = random.Random(11)
        reasons: list[str] = []
        for _ in range(400):
            data = bytearray(good)
            for _ in range(dice.randint(1, 4)):
                place = dice.randrange(len(data))
                kind = dice.randrange(4)
                if kind == 0:
                    data[place] = dice.randrange(256)
                elif kind == 1:
                    del data[place : place + dice.randrange(1, 9)]
                elif kind == 2:
                    data[place:place] = dice.randbytes(dice.randrange(1, 9))
                else:
                    data[place : place + 1] = pickle.dumps(Trap())[: dice.randrange(1, 40)]
                data = data or bytearray(b"x")
            (tmp_path / "m").write_bytes(data)
            try:
                signature = inspect(flavour, tmp_path / "m")
                assert signature is not None and json.dumps(signature)
            except NotTheModel as reason:
                reasons.append(str(reason))
        watching = False
        assert len(reasons) > 100 and all(reason.isprintable() for reason in reasons) and not unpickled
