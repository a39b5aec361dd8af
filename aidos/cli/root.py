"""The root of the command: global options, nouns loaded when they are named, and one way for errors to leave."""

from __future__ import annotations

import contextlib
import functools
import importlib
import sys
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.models import CommandInfo

import aidos
from aidos import resources
from aidos.cli import session as sessions
from aidos.cli.failure import report
from aidos.cli.generated import build_command, verb
from aidos.config import debug_wanted
from aidos.errors import AidosError

# Hand-written commands: a module ``aidos.cli.<noun>`` with ``register(group)``.
HANDWRITTEN_NOUNS = ("dataset", "run", "model", "job", "endpoint", "report", "labelling", "study", "schedule", "secret")
HANDWRITTEN_ROOTS = ("signing", "lineage", "cost", "label")

Json = Annotated[
    bool, typer.Option("--json", help="Print JSON.", rich_help_panel="Global options", callback=lambda value: _set("as_json", value))
]
Project = Annotated[
    str | None,
    typer.Option(
        "--project",
        metavar="NAME",
        help="The project to act in.",
        rich_help_panel="Global options",
        callback=lambda value: _set("project", value),
    ),
]
Url = Annotated[
    str | None,
    typer.Option(
        "--url", metavar="URL", help="The platform's address.", rich_help_panel="Global options", callback=lambda value: _set("url", value)
    ),
]


def _set(name: str, value: Any) -> Any:
    if value:
        setattr(sessions.session(), name, value)
    return value


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"aidos {aidos.__version__}")
        raise typer.Exit


def _common_options() -> list[Any]:
    """``--json --project --url`` as parameters that any command can be given."""
    template = typer.Typer(add_completion=False)

    @template.command()
    def common(as_json: Json = False, project: Project = None, url: Url = None) -> None: ...

    parameters = typer.main.get_command(template).params
    for parameter in parameters:
        parameter.expose_value = False
    return parameters


class VerbGroup(TyperGroup):
    """A noun's verbs, each with the global options behind it too; each is built when it is named.

    What is installed beside the client adds verbs by the entry point group ``aidos.verbs``, each entry named as its noun.
    """

    resource: type[resources.Resource] | None = None
    written: Mapping[str, CommandInfo] = {}
    """Verbs by hand."""

    def list_commands(self, ctx: Any) -> list[str]:
        self._join_plugins()
        return list(dict.fromkeys([*self._generated, *self.written, *super().list_commands(ctx)]))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in self.commands and (info := self.written.get(cmd_name)):
            self.add_command(build_alone(info), cmd_name)
        if cmd_name not in self.commands and self.resource and (name := self._generated.get(cmd_name)):
            self.add_command(build_verb(self.resource, name), cmd_name)
        if cmd_name not in self.commands:
            self._join_plugins()
        return with_common_options(super().get_command(ctx, cmd_name))

    def _join_plugins(self) -> None:
        from importlib.metadata import entry_points

        for entry in entry_points(group="aidos.verbs", name=self.name or ""):
            for name, command in commands_of(entry.module, entry.attr).items():
                self.commands.setdefault(name, command)

    @functools.cached_property
    def _generated(self) -> dict[str, str]:
        """Operations by verb."""
        return {verb(name): name for name in self.resource.operations} if self.resource else {}


def with_common_options(command: Any) -> Any:
    """The command with the global options, except those whose flag it has for itself."""
    if command is None or isinstance(command, TyperGroup):
        return command
    taken = {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)}
    command.params += [parameter for parameter in _common_options() if not taken & set(parameter.opts)]
    return command


class RootGroup(TyperGroup):
    """Commands by hand, the operator's where they are installed, and a group for every noun."""

    names_only = False

    def list_commands(self, ctx: Any) -> list[str]:
        self._join_roots()
        self._join_plugins()
        return [*super().list_commands(ctx), *(name for name in noun_lines() if name not in self.commands)]

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with self._listing():
            super().format_commands(ctx, formatter)

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        with self._listing():
            return super().shell_complete(ctx, incomplete)

    @contextlib.contextmanager
    def _listing(self) -> Iterator[None]:
        """While only names and one line of each are asked for, nouns are not loaded."""
        self.names_only = True
        yield
        self.names_only = False

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if self.names_only and cmd_name not in self.commands and (line := noun_lines().get(cmd_name)):
            return TyperGroup(name=cmd_name, help=line, rich_markup_mode=None)
        if cmd_name in self.commands:
            return with_common_options(self.commands[cmd_name])
        if cmd_name not in noun_lines():
            self._join_roots()
        if cmd_name not in self.commands and cmd_name not in noun_lines():
            self._join_plugins()
        if cmd_name not in self.commands and (group := build_noun(cmd_name)):
            self.add_command(group, cmd_name)
        return with_common_options(self.commands.get(cmd_name))

    def invoke(self, ctx: Any) -> Any:
        current = sessions.session()
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise
        except Exception as error:
            if not isinstance(error, AidosError | OSError) and type(error).__module__.startswith(("typer", "click")):
                raise  # usage errors and exits are typer's own to print
            raise typer.Exit(report(current, error, debug=debug_wanted())) from None
        finally:
            current.close()

    def main(self, *args: Any, **kwargs: Any) -> Any:
        sessions.begin()
        return super().main(*args, **kwargs)

    def _join_roots(self) -> None:
        for name in HANDWRITTEN_ROOTS:
            self._join(f"aidos.cli.{name}")

    def _join_plugins(self) -> None:
        from importlib.metadata import entry_points

        for entry in entry_points(group="aidos.commands"):
            self._join(entry.module, entry.attr)

    def _join(self, module: str, attribute: str = "register") -> None:
        joined = self.__dict__.setdefault("joined", set())
        if module in joined:
            return
        joined.add(module)
        for name, command in commands_of(module, attribute).items():
            self.commands.setdefault(name, command)


def commands_of(module: str, attribute: str = "register") -> dict[str, Any]:
    """The commands that a module's ``register`` adds, by name; none where it, or what it needs, is not installed."""
    register = find_register(module, attribute)
    if register is None:
        return {}
    group = typer.Typer(rich_markup_mode=None)
    # A first command keeps typer from collapsing a group of one.
    group.callback()(lambda: None)
    register(group)
    return dict(typer.main.get_group(group).commands)


def find_register(module: str, attribute: str = "register") -> Any:
    """``register`` of a module; None where it, or what it needs, is not installed."""
    try:
        return getattr(importlib.import_module(module), attribute, None)
    except ModuleNotFoundError as error:
        if debug_wanted():
            sys.stderr.write(f"{module} is left out: {error}\n")
        return None


def noun_lines() -> dict[str, str]:
    """Every noun with its line of help."""
    return {entry.noun: entry.help for entry in resources.CATALOGUE}


def build_noun(noun: str) -> TyperGroup | None:
    """The group of a noun's verbs: generated, then hand-written in their place."""
    resource = resources.find(noun=noun)
    register = find_register(f"aidos.cli.{noun}") if noun in HANDWRITTEN_NOUNS else None
    if resource is None and register is None:
        return None
    written = typer.Typer()
    if register is not None:
        register(written)
    line = _first_line(resource.__doc__) if resource else None
    verbs = verbs_of(resource, {str(info.name): info for info in written.registered_commands})
    group = typer.Typer(name=noun, cls=verbs, no_args_is_help=True, rich_markup_mode=None, help=line)
    group.callback()(lambda: None)
    return typer.main.get_group(group)


def verbs_of(resource: type[resources.Resource] | None, written: Mapping[str, CommandInfo]) -> type[VerbGroup]:
    """The group that knows the operations of ``resource`` and the verbs by hand."""
    return type("Verbs", (VerbGroup,), {"resource": resource, "written": written})


def build_verb(resource: type[resources.Resource], name: str) -> Any:
    """The command of an operation."""
    declared = resource.operations[name]
    return build_alone(CommandInfo(verb(name), help=declared.help, callback=build_command(resource, name, declared)))


def build_alone(info: CommandInfo) -> Any:
    """One command; typer itself builds all of a group's, which takes a millisecond each."""
    alone = typer.Typer(add_completion=False, rich_markup_mode=None)
    alone.registered_commands.append(info)
    return typer.main.get_command(alone)


def _first_line(text: str | None) -> str:
    return (text or "").strip().split("\n")[0]


app = typer.Typer(
    name="aidos",
    cls=RootGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="AI-DOS: datasets, training, tracking, serving and cost on one Ray cluster.",
    epilog="Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 not allowed or not signed in, 5 conflict, 6 limit, 7 unavailable.",
)


@app.callback()
def root(
    as_json: Json = False,
    project: Project = None,
    url: Url = None,
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_version)] = False,
) -> None:
    pass
