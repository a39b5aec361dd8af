"""How the client declares a route once, for the SDK and the command line alike.

    class Datasets(Resource):
        noun = "dataset"
        create = operation("POST", "/v1/dataforge/datasets", body=DatasetCreate, returns=DatasetRead, help="Create a dataset.")
        list = operation("GET", "/v1/dataforge/datasets", returns=DatasetRead, paged=True, help="List the datasets.")

``client.datasets.create(name="digits")`` and ``aidos dataset create --name digits`` follow from it. Path parameters
are positional; fields of the body, query values and headers are keywords; a ready body may stand after the path
parameters. A test holds the declarations against the OpenAPI of the gateway, both ways.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import Enum
from functools import cached_property
from typing import Any, ClassVar, Generic, Literal, Self, TypedDict, TypeVar, Unpack, overload

from pydantic import BaseModel, SecretBytes, SecretStr, TypeAdapter, ValidationError
from pydantic_core import to_jsonable_python

from aidos.errors import AidosError, InvalidPayload, InvalidRequest
from aidos.http.streams import Events, Pages
from aidos.http.wire import Reply, Request, ServerEvent, Transport, fill, path_parameters
from aidos.schemas.common import PageOf

T = TypeVar("T")
R = TypeVar("R")
_RAW = (bytes, str)


class UnexpectedReply(AidosError):
    """The platform and this client are of different versions, or something else answered."""

    status = 502
    title = "Unexpected answer"
    detail = "The answer to {route} is not what this client knows ({field}: {message}). Is AIDOS_URL right, and do `aidos --version` and the platform's version agree?"


class Operation(Generic[R]):
    """One route, as a descriptor: on a class it is the declaration, on an instance something to call."""

    def __init__(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        returns: Any = None,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        positional: tuple[str, ...] = (),
        paged: bool = False,
        stream: bool = False,
        help: str = "",
    ) -> None:
        self.method, self.path, self.body, self.returns = method.upper(), path, body, returns
        self.query, self.headers, self.positional = dict(query or {}), dict(headers or {}), positional
        self.paged, self.stream, self.help = paged, stream, help
        self.name = self.owner_name = ""
        self.path_parameters = path_parameters(path)
        if self.paged:
            self.query = {name: kind for name, kind in self.query.items() if name not in {"limit", "cursor"}}

    def __set_name__(self, owner: type, name: str) -> None:
        self.name, self.owner_name = name.rstrip("_"), owner.__name__

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: Resource, owner: type) -> Call[R]: ...
    def __get__(self, instance: Resource | None, owner: type) -> Self | Call[R]:
        return self if instance is None else Call(self, instance._transport)

    @property
    def fields(self) -> dict[str, Any]:
        """The body's fields (pydantic ``FieldInfo``) that may be given as keywords."""
        return dict(self.body.model_fields) if isinstance(self.body, type) and issubclass(self.body, BaseModel) else {}

    def query_parameter(self, name: str) -> tuple[Any, Any]:
        """Type and default of a query value; a declaration ``(type, default)`` with ``...`` for required, or just the type."""
        declared = self.query[name]
        return declared if isinstance(declared, tuple) else (declared, None)

    @cached_property
    def signature(self) -> inspect.Signature:
        """What a bound operation takes and gives."""
        sort, taken = inspect.Parameter, dict.fromkeys(self.path_parameters)
        first = [sort(name, sort.POSITIONAL_OR_KEYWORD, annotation=str) for name in self.path_parameters]
        last: list[inspect.Parameter] = []
        for name, field in self.fields.items():
            if name in taken:
                continue
            at = first if name in self.positional else last
            default = sort.empty if field.is_required() else (... if field.default_factory else field.default)
            kind = sort.POSITIONAL_OR_KEYWORD if at is first else sort.KEYWORD_ONLY
            at.append(sort(name, kind, default=default, annotation=field.annotation))
            taken[name] = None
        if self.body is not None and not self.fields:
            first.append(sort("body", sort.POSITIONAL_OR_KEYWORD, annotation=self.body))
        for name in self.query:
            annotation, default = self.query_parameter(name)
            last.append(sort(name, sort.KEYWORD_ONLY, default=sort.empty if default is ... else default, annotation=annotation))
        last += [sort(name, sort.KEYWORD_ONLY, default=None, annotation=str | None) for name in self.headers]
        if self.paged:
            last.append(sort("limit", sort.KEYWORD_ONLY, default=None, annotation=int | None))
        first.sort(key=lambda parameter: parameter.default is not sort.empty)
        return inspect.Signature([*first, *last], return_annotation=self._result())

    def _result(self) -> Any:
        if self.paged:
            return Pages[self.returns]  # type: ignore[name-defined]  # the type is known only now
        if self.stream:
            return Events[self.returns or ServerEvent]  # type: ignore[misc]  # as above
        return self.returns

    def build(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Request:
        """The request for these arguments, all checked. Raises: InvalidRequest, InvalidPayload, TypeError."""
        given = dict(kwargs)
        path = self._take_path(args, given)
        rest = args[len([name for name in self.path_parameters if name not in kwargs]) :]
        headers = {header: str(value) for name, header in self.headers.items() if (value := given.pop(name, None)) is not None}
        query = self._take_query(given)
        body = self._take_body(rest, given)
        if given:
            raise TypeError(f"{self.owner_name}.{self.name}() got an unexpected argument {next(iter(given))!r}; it takes {self.signature}")
        wait = dict(query).get("wait", "0s")
        return Request(
            self.method,
            path,
            tuple(query),
            headers,
            json=None if isinstance(body, bytes) else body,
            content=body if isinstance(body, bytes) else None,
            wait_s=float(wait[:-1]) if wait[:-1].isdecimal() else 0.0,
        )

    def _take_path(self, args: tuple[Any, ...], given: dict[str, Any]) -> str:
        places = iter(args)
        values = {}
        for name in self.path_parameters:
            value = given.pop(name) if name in given and name not in self.fields else next(places, None)
            if value is None:
                raise TypeError(f"{self.owner_name}.{self.name}() needs {name!r}; it takes {self.signature}")
            values[name] = value
        return fill(self.path, values)

    def _take_query(self, given: dict[str, Any]) -> list[tuple[str, str]]:
        pairs: list[tuple[str, str]] = []
        for name in self.query:
            value = given.pop(name, self.query_parameter(name)[1])
            if value is ...:
                raise TypeError(f"{self.owner_name}.{self.name}() needs {name!r}; it takes {self.signature}")
            if value is not None:
                values = value if isinstance(value, list | tuple | set) else [value]
                pairs += [(name.rstrip("_"), query_text(name, each)) for each in values]
        return pairs

    def _take_body(self, rest: tuple[Any, ...], given: dict[str, Any]) -> Any:
        if self.body is None:
            if rest:
                raise TypeError(f"{self.owner_name}.{self.name}() got too many arguments; it takes {self.signature}")
            return None
        if not self.fields:
            if not rest and "body" not in given:
                raise TypeError(f"{self.owner_name}.{self.name}() needs 'body'; it takes {self.signature}")
            value = rest[0] if rest else given.pop("body")
            return value if self.body is bytes else plain(checked(self.body, value))
        if len(rest) == 1 and isinstance(rest[0], self.body | Mapping if isinstance(self.body, type) else Mapping):
            return self._dumped(checked(self.body, rest[0]))
        if len(rest) > len(self.positional):
            raise TypeError(f"{self.owner_name}.{self.name}() got too many arguments; it takes {self.signature}")
        values = dict(zip(self.positional, rest, strict=False))
        values |= {name: given.pop(name) for name in list(given) if name in self.fields}
        return self._dumped(checked(self.body, values))

    def _dumped(self, model: BaseModel) -> Any:
        # What a change leaves out stays as it is; a creation is sent whole, with the defaults that this client promises.
        return plain(model.model_dump(by_alias=True, exclude_unset=self.method == "PATCH"))

    @cached_property
    def _adapter(self) -> TypeAdapter[Any]:
        return TypeAdapter(PageOf[self.returns] if self.paged else self.returns)  # type: ignore[name-defined]  # known only now

    def read(self, reply: Reply) -> Any:
        """The reply as the declared type. Raises: UnexpectedReply."""
        if self.returns is None or (not reply.content and self.returns not in _RAW):
            return None
        if self.returns is bytes:
            return reply.content
        if self.returns is str:
            return reply.content.decode()
        return self._parsed(reply.content)

    def read_event(self, event: ServerEvent) -> Any:
        """An event of a stream: the declared type from its data, or as it came. Raises: UnexpectedReply."""
        if self.returns in (None, ServerEvent):
            return event
        return event.data if self.returns is str else self._parsed(event.data)

    def _parsed(self, text: bytes | str) -> Any:
        try:
            return self._adapter.validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"])) or "body"
            raise UnexpectedReply(route=f"{self.method} {self.path}", field=field, message=first["msg"]) from error


class Call(Generic[R]):
    """An operation bound to a client. With an asynchronous one its result is awaited, or iterated with ``async for``."""

    def __init__(self, operation: Operation[R], transport: Transport) -> None:
        self.operation, self._transport = operation, transport
        self.__name__, self.__qualname__ = operation.name, f"{operation.owner_name}.{operation.name}"
        self.__signature__ = operation.signature
        self.__doc__ = f"{operation.help}\n\n{operation.method} {operation.path}"

    def __call__(self, *args: Any, **kwargs: Any) -> R:
        operation = self.operation
        limit = kwargs.pop("limit", None) if operation.paged else None
        request = operation.build(args, kwargs)
        if operation.paged:
            return self._transport.pages(request, operation.read, limit=limit)
        if operation.stream:
            return self._transport.events(request, operation.read_event)
        return self._transport.send(request, operation.read)

    def raw(self, *args: Any, **kwargs: Any) -> Any:
        """The same call, answered by a ``Reply``: status, headers (``ETag``, ``Location``) and bytes."""
        return self._transport.send(self.operation.build(args, kwargs), lambda reply: reply)

    def __repr__(self) -> str:
        return f"<{self.__qualname__}{self.__signature__}>"


class Resource:
    """Base of a noun's operations: ``aidos <noun> …`` and ``client.<plural>``."""

    noun: ClassVar[str] = ""
    plural: ClassVar[str] = ""
    operations: ClassVar[dict[str, Operation[Any]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not cls.plural and cls.noun:
            cls.plural = f"{cls.noun}s".replace("-", "_")
        cls.operations = cls.operations | {name: value for name, value in vars(cls).items() if isinstance(value, Operation)}

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def with_options(
        self, *, timeout_s: float | None = None, idempotency_key: str | None = None, headers: Mapping[str, str] | None = None
    ) -> Self:
        """The same operations with a time-out, an idempotency key or headers of one's own."""
        other = copy.copy(self)
        other._transport = self._transport.with_options(timeout_s=timeout_s, idempotency_key=idempotency_key, headers=headers)
        return other


def checked(kind: Any, value: Any) -> Any:
    """The value as a payload of that kind. Raises: InvalidPayload, which names each field that is wrong."""
    try:
        return TypeAdapter(kind).validate_python(value, by_name=True, by_alias=True)
    except ValidationError as error:
        wrong = [{"field": ".".join(map(str, item["loc"])) or "body", "message": item["msg"]} for item in error.errors()]
        reason = "; ".join(f"{item['field']}: {item['message']}" for item in wrong)
        raise InvalidPayload(reason=f"{reason}.", errors=wrong) from error


def query_text(name: str, value: Any) -> str:
    """A query value as the gateway reads it. Raises: InvalidRequest for NUL or what is not Unicode."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if name == "wait" and isinstance(value, int | float):
        return f"{int(value)}s"
    text = value.isoformat() if isinstance(value, datetime) else str(value.value if isinstance(value, Enum) else value)
    if "\x00" in text or any("\ud800" <= sign <= "\udfff" for sign in text):
        raise InvalidRequest(reason=f"{name} must be Unicode without NUL, got {text!r}.")
    return text


def plain(value: Any) -> Any:
    """A value as JSON takes it. Secrets are shown: this is what goes to the server."""
    if isinstance(value, SecretStr | SecretBytes):
        return plain(value.get_secret_value())
    if isinstance(value, BaseModel):
        return plain(value.model_dump(by_alias=True))
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(each) for each in value]
    return to_jsonable_python(value)


class Declared(TypedDict, total=False):
    """What ``operation`` takes besides the route and the type that it returns."""

    body: Any
    query: Mapping[str, Any] | None
    headers: Mapping[str, str] | None
    positional: tuple[str, ...]
    help: str


@overload
def operation(method: str, path: str, *, returns: type[T], paged: Literal[True], **declared: Unpack[Declared]) -> Operation[Pages[T]]: ...
@overload
def operation(method: str, path: str, *, returns: type[T], stream: Literal[True], **declared: Unpack[Declared]) -> Operation[Events[T]]: ...
@overload
def operation(method: str, path: str, *, stream: Literal[True], **declared: Unpack[Declared]) -> Operation[Events[ServerEvent]]: ...
@overload
def operation(method: str, path: str, *, returns: type[T], **declared: Unpack[Declared]) -> Operation[T]: ...
@overload
def operation(method: str, path: str, *, returns: None = None, **declared: Unpack[Declared]) -> Operation[None]: ...
def operation(method: str, path: str, **declared: Any) -> Operation[Any]:
    """Declare a route.

    ``body``: the pydantic model of the payload (or any type, then passed whole; ``bytes`` goes as it is). ``returns``: the
    type of the answer, of an item when ``paged``, of an event's data when ``stream``; None when there is no body. ``query``:
    names to types, or to ``(type, default)`` with ``...`` for required. ``headers``: keyword to header name, such as
    ``{"if_match": "If-Match"}``. ``positional``: fields of the body that come without a keyword, here and on the command line.
    A stream ends with an event named ``end``; one that breaks off is taken up again with ``Last-Event-ID``.
    """
    return Operation(method, path, **declared)
