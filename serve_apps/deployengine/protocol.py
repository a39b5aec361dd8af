"""Open Inference Protocol v2, JSON tensors, over an ONNX Runtime session.

Spec: https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import onnxruntime

from serve_apps.deployengine.errors import InvalidTensor

DATATYPES: dict[str, Any] = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
    "BYTES": np.object_,
}
_ONNX_TYPES = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}
MAX_ELEMENTS = 50_000_000


class OnnxModel:
    """A loaded ONNX graph that answers OIP v2 requests."""

    def __init__(self, graph: bytes, name: str, version: int, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        providers = [p for p in ("CUDAExecutionProvider", "CPUExecutionProvider") if p in onnxruntime.get_available_providers()]
        self.session = onnxruntime.InferenceSession(graph, options, providers=providers)
        self.name, self.version = name, str(version)
        self.inputs = {tensor.name: tensor for tensor in self.session.get_inputs()}
        self.outputs = [tensor.name for tensor in self.session.get_outputs()]

    def metadata(self) -> dict[str, Any]:
        """Model metadata response."""
        return {
            "name": self.name,
            "versions": [self.version],
            "platform": "onnx_onnxv1",
            "inputs": [_describe(tensor) for tensor in self.session.get_inputs()],
            "outputs": [_describe(tensor) for tensor in self.session.get_outputs()],
        }

    def infer(self, body: bytes) -> dict[str, Any]:
        """Answer an inference request. Raises: InvalidTensor for anything that the model cannot take."""
        request = _parse(body)
        feeds = {name: self._tensor(name, given) for name, given in _named(request.get("inputs"), "inputs").items()}
        missing = sorted(set(self.inputs) - set(feeds))
        if missing:
            raise InvalidTensor(reason=f"Input '{missing[0]}' is missing. The model takes {sorted(self.inputs)}.")
        asked = list(_named(request.get("outputs") or [], "outputs")) or self.outputs
        unknown = sorted(set(asked) - set(self.outputs))
        if unknown:
            raise InvalidTensor(reason=f"There is no output '{unknown[0]}'. The model gives {self.outputs}.")
        try:
            results = self.session.run(asked, feeds)
        except Exception as error:  # ONNX Runtime's exception classes are not public; all mean that the input does not fit
            raise InvalidTensor(reason=f"The model refused the input: {str(error)[:300]}") from error
        answer = {
            "model_name": self.name,
            "model_version": self.version,
            "outputs": [_wire(name, np.asarray(array)) for name, array in zip(asked, results, strict=True)],
        }
        if isinstance(request.get("id"), str):
            answer["id"] = request["id"][:200]
        return answer

    def _tensor(self, name: str, given: dict[str, Any]) -> np.ndarray[Any, Any]:
        expected = self.inputs.get(name)
        if expected is None:
            raise InvalidTensor(reason=f"There is no input '{name}'. The model takes {sorted(self.inputs)}.")
        datatype, shape = given.get("datatype"), given.get("shape")
        wanted = _ONNX_TYPES.get(expected.type, expected.type)
        if datatype != wanted:
            raise InvalidTensor(reason=f"Input '{name}' must have datatype {wanted}, got {datatype}.")
        if not isinstance(shape, list) or not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in shape):
            raise InvalidTensor(reason=f"Input '{name}' must have a shape: a list of sizes.")
        elements = math.prod(shape)
        if elements > MAX_ELEMENTS:
            raise InvalidTensor(reason=f"Input '{name}' has {elements} elements; at most {MAX_ELEMENTS} are taken.")
        try:
            array = np.asarray(given.get("data"), dtype=DATATYPES[wanted])
        except (TypeError, ValueError, OverflowError, KeyError) as error:
            raise InvalidTensor(reason=f"The data of input '{name}' are not {wanted} numbers: {str(error)[:200]}") from error
        if array.size != elements:
            raise InvalidTensor(reason=f"Input '{name}' has shape {shape}, which is {elements} elements, and {array.size} data.")
        return array.reshape(shape)


def _describe(tensor: Any) -> dict[str, Any]:
    shape = [n if isinstance(n, int) else -1 for n in tensor.shape]
    return {"name": tensor.name, "datatype": _ONNX_TYPES.get(tensor.type, tensor.type), "shape": shape}


def _parse(body: bytes) -> dict[str, Any]:
    try:
        request = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidTensor(reason="The body is not JSON of the Open Inference Protocol v2.") from error
    if not isinstance(request, dict):
        raise InvalidTensor(reason="The body must be a JSON object with 'inputs'.")
    return request


def _named(tensors: Any, what: str) -> dict[str, dict[str, Any]]:
    if not isinstance(tensors, list) or not all(isinstance(t, dict) and isinstance(t.get("name"), str) for t in tensors):
        raise InvalidTensor(reason=f"'{what}' must be a list of objects with a 'name'.")
    return {tensor["name"]: tensor for tensor in tensors}


def _wire(name: str, array: np.ndarray[Any, Any]) -> dict[str, Any]:
    kind = next((kind for kind, dtype in DATATYPES.items() if array.dtype == dtype), "BYTES")
    data = array.ravel()
    # JSON knows no NaN or infinity; the protocol has no word for them, so they go as null rather than as invalid JSON.
    flat = (
        data.tolist()
        if kind not in {"FP16", "FP32", "FP64"} or bool(np.isfinite(data).all())
        else [value if math.isfinite(value) else None for value in data.tolist()]
    )
    return {"name": name, "datatype": kind, "shape": list(array.shape), "data": flat}
