"""A pickle that makes a directory when it is loaded, and every gRPC method of Ray to send it to."""

from __future__ import annotations

import importlib
import os
import pickle
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from ray.core import generated
from ray.serve.generated import serve_pb2

_DEPTH = 4
"""How deep in a message the canary is put; Ray's messages nest without end."""


class _Canary:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def build_canary(path: Path) -> bytes:
    """Whoever unpickles it makes the directory ``path``."""
    return pickle.dumps(_Canary(path))


def list_methods() -> Iterator[MethodDescriptor]:
    """Every method of every gRPC service that Ray ships, Serve's included."""
    modules = [importlib.import_module(f"{generated.__name__}.{each.name}") for each in pkgutil.iter_modules(generated.__path__)]
    for module in (*modules, serve_pb2):
        for service in module.DESCRIPTOR.services_by_name.values() if hasattr(module, "DESCRIPTOR") else ():
            yield from service.methods


def fill(method: MethodDescriptor, canary: bytes) -> bytes:
    """A request of the method, serialized, with the canary in every field of bytes."""
    request = GetMessageClass(method.input_type)()
    _fill(request, canary, _DEPTH)
    return bytes(request.SerializePartialToString())


def _fill(message: Message, canary: bytes, depth: int) -> None:
    for field in message.DESCRIPTOR.fields:
        if field.type == FieldDescriptor.TYPE_BYTES:
            if field.is_repeated:
                getattr(message, field.name).append(canary)
            else:
                setattr(message, field.name, canary)
        elif field.message_type and depth and not field.message_type.GetOptions().map_entry:
            value = getattr(message, field.name)
            _fill(value.add() if field.is_repeated else value, canary, depth - 1)


def speaks_grpc(channel: grpc.Channel) -> bool:
    """Whether a gRPC server answers; an HTTP server's status is no gRPC status, though the client makes one of it."""
    try:
        channel.unary_unary("/nobody.Knows/This")(b"", timeout=3)
    except grpc.RpcError as error:
        refused = error.code() in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNAUTHENTICATED)
        return refused and "http2 header with status" not in error.details()
    return True


def send(channel: grpc.Channel, method: MethodDescriptor, request: bytes, token: str | None, timeout_s: float = 5.0) -> grpc.StatusCode:
    """How the method answers one request; ``token`` as Ray's clients send it."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    metadata = (("authorization", f"Bearer {token}"),) if token is not None else ()
    try:
        # Streams of one are on the wire what single messages are.
        next(iter(channel.stream_stream(path)(iter([request]), timeout=timeout_s, metadata=metadata)), None)
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK
