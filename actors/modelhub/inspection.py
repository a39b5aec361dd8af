"""Are the files of a version what they say? Run as ``python -m actors.modelhub.inspection``: one JSON object on stdin, one on stdout.

The format is told by content, never by name. It runs in a process of its own, with limits and without secrets, because
the parsers are C++ and the file is a stranger's: a crash or a memory bomb ends this process and rejects one version. Code that they could hold is ``scanning``'s.
ONNX: https://onnx.ai/onnx/repo-docs/IR.html · safetensors: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import logging
import resource
import struct
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError
from safetensors import SafetensorError, safe_open

from actors.modelhub.describing import describe
from actors.modelhub.scanning import Scan

MAX_ONNX_BYTES = 2**31 - 1  # protobuf's own limit
MAX_HEADER_BYTES = 100_000_000  # safetensors' own limit
MAX_VALUES = 1000
SUFFIXES = {"onnx": ".onnx", "safetensors": ".safetensors"}
ADDRESS_SPACE_BYTES = 12 * 2**30
CPU_S = 300

# What stands at the beginning of files that are taken for models.
SIGNATURES = (
    (b"PK\x03\x04", "a ZIP archive (as torch.save and NumPy write it)"),
    (b"PK\x05\x06", "a ZIP archive"),
    (b"\x1f\x8b", "gzip data"),
    (b"\x89HDF\r\n", "an HDF5 file"),
    (b"GGUF", "a GGUF file"),
    (b"\x7fELF", "an executable"),
    (b"#!", "a script"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"version https://git-lfs", "a Git LFS pointer"),
)
# Operator domains that ONNX Runtime has without loading a library of the model's author.
DOMAINS = {"", "ai.onnx", "ai.onnx.ml", "com.microsoft"}
_DTYPES = {"float": "float32", "double": "float64"}


class NotTheModel(Exception):
    """The file is not what it says; the text says what it is instead."""


def sniff(start: bytes) -> str | None:
    """What the first bytes of a file say it is, as far as that is no model format."""
    if len(start) > 1 and start[0] == 0x80 and 2 <= start[1] <= 5:
        return "a Python pickle, which can run code"
    return next((what for magic, what in SIGNATURES if start.startswith(magic)), None)


def inspect(flavour: str, path: Path, scan: Scan | None = None, name: str = "") -> dict[str, Any]:
    """The signature of a model file; what needs foreign code is noted in ``scan``. Raises: NotTheModel."""
    with path.open("rb") as file:
        start = file.read(64)
    if not start:
        raise NotTheModel("the file is empty")
    if what := sniff(start):
        raise NotTheModel(f"the file is {what}")
    return inspect_onnx(path, scan or Scan(), name) if flavour == "onnx" else inspect_safetensors(path)


def inspect_onnx(path: Path, scan: Scan, name: str) -> dict[str, Any]:
    """Names, dtypes and shapes of what the graph takes and gives. Raises: NotTheModel."""
    if path.stat().st_size > MAX_ONNX_BYTES:
        raise NotTheModel("an ONNX file has at most 2 GiB")
    data = path.read_bytes()
    try:
        model = onnx.load_model_from_string(data)
    except DecodeError:
        raise NotTheModel("the file is not an ONNX model: its bytes are no protobuf message of one") from None
    if not model.ir_version or not model.HasField("graph") or not model.opset_import:
        raise NotTheModel("the file is not an ONNX model: it has no graph, no IR version or no operator set")
    _check_onnx_contents(model, scan, name)
    try:
        onnx.checker.check_model(data)
    except (onnx.checker.ValidationError, ValueError, RuntimeError) as error:
        raise NotTheModel(f"the ONNX graph is not valid: {' '.join(str(error).split())[:300]}") from None
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [_value(value) for value in model.graph.input if value.name not in weights]
    outputs = [_value(value) for value in model.graph.output]
    if not outputs or len(inputs) + len(outputs) > MAX_VALUES:
        raise NotTheModel(f"an ONNX graph has 1 output or more, and at most {MAX_VALUES} inputs and outputs")
    return {"inputs": inputs, "outputs": outputs}


def _check_onnx_contents(model: Any, scan: Scan, path: str) -> None:
    """Data elsewhere would be read by whoever loads the graph, from wherever it says; no exception is made for that."""
    own = {(function.domain, function.name) for function in model.functions}
    for message in _messages(model):
        name = message.DESCRIPTOR.name
        if name == "TensorProto" and (message.external_data or message.data_location == message.EXTERNAL):
            raise NotTheModel(f"tensor '{message.name}' keeps its data in another file: save the model with all data inside")
        if name == "NodeProto" and message.domain not in DOMAINS and (message.domain, message.op_type) not in own:
            scan.add(
                "onnx-operator", path, f"operator '{message.op_type}' is of the custom domain '{message.domain}', which needs foreign code"
            )


def _messages(root: Any) -> Iterator[Any]:
    """Every message inside ``root``; without recursion, since the depth is the stranger's choice."""
    stack = [root]
    while stack:
        message = stack.pop()
        yield message
        for field, value in message.ListFields():
            if field.message_type is not None:
                stack.extend([value] if hasattr(value, "ListFields") else value)


def _value(value: Any) -> dict[str, Any]:
    """``{"name", "dtype", "shape"}``; a free dimension is its name or None."""
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        return {"name": value.name, "dtype": (kind or "unknown").removesuffix("_type"), "shape": []}
    tensor = value.type.tensor_type
    dtype = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
    shape = [dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None for dim in tensor.shape.dim]
    return {"name": value.name, "dtype": _DTYPES.get(dtype, dtype), "shape": shape}


def inspect_safetensors(path: Path) -> dict[str, Any]:
    """No inputs or outputs are in the format, so the signature is empty. Raises: NotTheModel."""
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(8)
        header_bytes = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
        if not 2 <= header_bytes <= min(MAX_HEADER_BYTES, size_bytes - 8) or file.read(1) != b"{":
            raise NotTheModel("the file is not safetensors: it does not begin with a JSON header of the length that it states")
    try:
        # The library checks that the tensors cover the file exactly: no hole, no overlap, nothing behind them.
        with safe_open(path, framework="np") as tensors:
            names = list(tensors.keys())
    except SafetensorError as error:
        raise NotTheModel(f"the file is not valid safetensors: {str(error)[:300]}") from None
    if not names:
        raise NotTheModel("the safetensors file holds no tensor")
    return {"inputs": [], "outputs": []}


def inspect_files(flavour: str, files: Mapping[str, Path]) -> dict[str, Any]:
    """What the files of a version are, by their path in it: ``signature``, ``findings`` and what ``describe`` tells. Raises: NotTheModel."""
    scan = Scan()
    answer: dict[str, Any] = {"signature": None}
    if flavour not in SUFFIXES:
        scan.add("loader", next(iter(files)), "an MLflow model of this format names the code that loads it")
    for path, local in files.items():
        if flavour in SUFFIXES and path.endswith(SUFFIXES[flavour]):
            try:
                signature = inspect(flavour, local, scan, path)
            except NotTheModel as reason:
                raise NotTheModel(f"{path}: {reason}") from None
            answer["signature"] = answer["signature"] or signature
        scan.scan(path, local)
    described = describe(files)
    if not (answer["signature"] and any(answer["signature"].values())):  # safetensors has none of its own
        answer["signature"] = described["signature"] or answer["signature"]
    return {**described, **answer, "findings": [vars(finding) for finding in scan.worst_first()]}


def main(request: str) -> None:
    """``{"flavour", "files": {path: file}}`` → what ``inspect_files`` says, or ``{"reason": …}`` against the version."""
    for limit, value in ((resource.RLIMIT_AS, ADDRESS_SPACE_BYTES), (resource.RLIMIT_CPU, CPU_S), (resource.RLIMIT_CORE, 0)):
        resource.setrlimit(limit, (value, value))
    logging.disable()  # picklescan tells of each finding
    asked = json.loads(request)
    try:
        answer = inspect_files(asked["flavour"], {path: Path(file) for path, file in asked["files"].items()})
    except NotTheModel as reason:
        answer = {"reason": str(reason)}
    except MemoryError:
        answer = {"reason": "the files need more memory to read than a model may"}
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main(sys.stdin.read())
