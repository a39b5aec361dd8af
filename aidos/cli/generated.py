"""A command for every declared operation: path parameters and positional fields are arguments, the rest are options."""

from __future__ import annotations

import inspect
import json
import sys
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from aidos.cli.session import session
from aidos.errors import InvalidRequest
from aidos.http.operation import Operation, Resource

LISTED = 100
RESERVED = frozenset({"--json", "--help"})
Parse = Callable[[Any], Any]


@dataclass(frozen=True)
class Parameter:
    """One argument or option: where its value goes, and how its text is read."""

    name: str
    place: Literal["path", "positional", "body", "query", "header", "limit", "file"]
    annotation: Any
    default: Any
    parse: Parse = lambda value: value

    @property
    def keyword(self) -> str:
        return f"{self.place}__{self.name}"


@dataclass(frozen=True)
class Kind:
    """A type as the command line takes it."""

    annotation: Any
    parse: Parse = lambda value: value
    metavar: str | None = None


def verb(name: str) -> str:
    return name.rstrip("_").replace("_", "-")


def build_command(resource: type[Resource], name: str, declared: Operation[Any]) -> Callable[..., None]:
    """A function that typer makes the command of, by its signature."""
    parameters = list(_parameters(declared))

    def run(**given: Any) -> None:
        current = session()
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        for parameter in parameters:
            value = given.get(parameter.keyword)
            if value is None:
                continue
            value = parameter.parse(value)
            if parameter.place in {"path", "file"}:
                args.append(value)
            elif parameter.place == "limit":
                kwargs["limit"] = value or None
            else:
                kwargs[parameter.name] = value
        call = getattr(resource(current.client.transport), name)
        result = call(*args, **kwargs)
        if declared.stream:
            current.show_each(result)
        else:
            current.show(list(result) if declared.paged else result)

    run.__name__ = name
    run.__doc__ = declared.help
    sort = inspect.Parameter
    run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # inspect and typer read it
        [sort(each.keyword, sort.KEYWORD_ONLY, default=each.default, annotation=each.annotation) for each in parameters]
    )
    run.__annotations__ = {each.keyword: each.annotation for each in parameters}
    return run


def _parameters(declared: Operation[Any]) -> list[Parameter]:
    found = [Parameter(name, "path", _argument(name, "", str), inspect.Parameter.empty) for name in declared.path_parameters]
    fields = declared.fields
    found += [_body_argument(name, fields[name]) for name in declared.positional]
    taken = set(RESERVED)
    for name, field in fields.items():
        if name not in declared.positional:
            taken.add(_flag(name))
            found.append(_body_option(name, field))
    if declared.body is not None and not fields:
        found.append(_file_option(declared.body))
    for name in declared.query:
        annotation, default = declared.query_parameter(name)
        kind = kind_of(annotation)
        flag = _flag(name) if _flag(name) not in taken else f"--query-{_flag(name)[2:]}"
        option = typer.Option(*_flags(flag, kind), metavar=kind.metavar, help=_query_help(name, default), show_default=False)
        shown = inspect.Parameter.empty if default is ... else None
        found.append(Parameter(name, "query", Annotated[_optional(kind, shown), option], shown, kind.parse))
    for name, header in declared.headers.items():
        found.append(Parameter(name, "header", Annotated[str | None, typer.Option(_flag(name), help=f"Sent as {header}.")], None))
    if declared.paged:
        option = typer.Option("--limit", min=0, help="At most so many; 0: all of them.")
        found.append(Parameter("limit", "limit", Annotated[int, option], LISTED))
    return found


_QUERY_HELP = {"wait": "Answer when the state is final, or after so long, e.g. 30s (at most 60s)."}


def _query_help(name: str, default: Any) -> str:
    shown = "" if default is None or default is ... or default == "" else f"[default: {default}]"
    return f"{_QUERY_HELP.get(name, '')} {shown}".strip()


def _argument(name: str, help: str, annotation: Any) -> Any:
    return Annotated[annotation, typer.Argument(metavar=name.rstrip("_").upper(), help=help, show_default=False)]


def _body_argument(name: str, field: FieldInfo) -> Parameter:
    kind = kind_of(field.annotation)
    default = inspect.Parameter.empty if field.is_required() else None
    return Parameter(name, "positional", _argument(name, field.description or "", _optional(kind, default)), default, kind.parse)


def _body_option(name: str, field: FieldInfo) -> Parameter:
    kind, required, secret = kind_of(field.annotation), field.is_required(), _is_secret(name, field)
    help = field.description or ""
    if not required and field.default_factory is None and field.default not in (None, "", (), []):
        help = f"{help} [default: {field.default.value if isinstance(field.default, Enum) else field.default}]".strip()
    option = typer.Option(
        *_flags(_flag(name), kind),
        metavar=kind.metavar,
        help=help,
        show_default=False,
        prompt=name.replace("_", " ").capitalize() if secret and required else False,
        hide_input=secret,
    )
    default = inspect.Parameter.empty if required else None
    return Parameter(name, "body", Annotated[_optional(kind, default), option], default, kind.parse)


def _file_option(body: Any) -> Parameter:
    if body is bytes:
        option = typer.Option("--file", metavar="PATH", help="The bytes to send; - for standard input.")
        return Parameter("body", "file", Annotated[str, option], inspect.Parameter.empty, read_bytes)
    option = typer.Option("--body", metavar="JSON", help="The payload as JSON; @PATH reads a file, @- standard input.")
    return Parameter("body", "file", Annotated[str, option], inspect.Parameter.empty, lambda text: parse_json("--body", text))


def _is_secret(name: str, field: FieldInfo) -> bool:
    return _bare(field.annotation) is SecretStr or name in {"password", "new_password", "old_password", "secret"}


def _flag(name: str) -> str:
    return f"--{verb(name)}"


def _flags(flag: str, kind: Kind) -> tuple[str, ...]:
    return (f"{flag}/--no-{flag[2:]}",) if kind.annotation is bool else (flag,)


def _optional(kind: Kind, default: Any) -> Any:
    return kind.annotation if default is inspect.Parameter.empty else kind.annotation | None


def _bare(annotation: Any) -> Any:
    """The type without ``Annotated`` and ``| None``."""
    if get_origin(annotation) is Annotated:
        return _bare(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        some = [each for each in get_args(annotation) if each is not type(None)]
        if len(some) == 1:
            return _bare(some[0])
    return annotation


def kind_of(annotation: Any) -> Kind:
    """How the command line takes a value of this type; pydantic does the checking afterwards."""
    bare = _bare(annotation)
    origin = get_origin(bare)
    if bare in (bool, int, float):
        return Kind(bare)
    if origin is Literal and all(isinstance(each, str) for each in get_args(bare)):
        return Kind(bare)
    if isinstance(bare, type) and issubclass(bare, Enum) and all(isinstance(each.value, str) for each in bare):
        return Kind(Literal[tuple(each.value for each in bare)])
    if origin in (list, tuple, set, frozenset):
        item = kind_of((get_args(bare) or (str,))[0])
        metavar = item.metavar or "TEXT"
        if item.annotation in (int, float):  # typer makes numbers of them; a body takes no text for a number
            return Kind(list[item.annotation], lambda values: list(values) or None)  # type: ignore[name-defined]  # a class found at run time
        return Kind(list[str], lambda values: [item.parse(value) for value in values] or None, f"{metavar} (repeat for more)")
    if origin in (dict, Mapping) or bare is dict:
        return Kind(list[str], parse_pairs, "KEY=VALUE or JSON (repeat for more)")
    if isinstance(bare, type) and issubclass(bare, BaseModel):
        return Kind(str, lambda text: parse_json(bare.__name__, text), "JSON")
    if bare is Any or origin in (Union, types.UnionType):
        return Kind(str, parse_loose, "JSON")
    return Kind(str)


def read_text(text: str) -> str:
    """The text itself; ``@PATH``: the file's; ``@-``: standard input's."""
    if text == "@-":
        return sys.stdin.read()
    return Path(text[1:]).read_text() if text.startswith("@") else text


def read_bytes(path: str) -> bytes:
    return sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()


def parse_json(name: str, text: str) -> Any:
    """JSON from the command line. Raises: InvalidRequest with the place of the mistake."""
    try:
        return json.loads(read_text(text))
    except ValueError as error:
        raise InvalidRequest(reason=f"{name} must be JSON: {error}.") from None


def parse_loose(text: str) -> Any:
    """JSON where it is JSON, else the text."""
    text = read_text(text)
    try:
        return json.loads(text)
    except ValueError:
        return text


def parse_pairs(values: list[str]) -> dict[str, Any] | None:
    """``["a=1", "b=x"]`` or one JSON object as a mapping."""
    found: dict[str, Any] = {}
    for value in values:
        if value.lstrip().startswith(("{", "@")):
            given = parse_json("The option", value)
            if not isinstance(given, dict):
                raise InvalidRequest(reason=f"A JSON object is needed here, got {value!r}.")
            found |= given
            continue
        name, sign, text = value.partition("=")
        if not sign or not name:
            raise InvalidRequest(reason=f"KEY=VALUE is needed here, got {value!r}.")
        found[name] = text
    return found or None
