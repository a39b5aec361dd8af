"""Settings and errors: named, documented and able to travel."""

from __future__ import annotations

import pickle
import string
from collections.abc import Callable, Iterator

import pytest
from pydantic import Field
from pydantic_settings import BaseSettings

from aidos.errors import AidosError, from_problem
from cluster.settings import Settings
from tests.architecture.reference import PAGES, declared_errors
from tests.architecture.source import ROOT

# Rule 13. A number is a quantity with its unit, or a count named by what it counts.
UNITS = ("_s", "_ms", "_bytes", "_usd", "_ratio", "_per_minute", "_percent")
COUNTS = (
    "_port",
    "_connections",
    "_replicas",
    "_cpus",
    "_gpus",
    "_workers",
    "_attempts",
    "_rows",
    "_threads",
    "_days",
    "_processes",
    "_events",
)


def unitless(settings: type[BaseSettings]) -> Iterator[str]:
    for name, field in settings.model_fields.items():
        if field.annotation in (int, float) and not name.endswith(UNITS + COUNTS):
            yield name


def example_of(cls: type[AidosError]) -> AidosError:
    """An instance with every field of its template filled."""
    return cls(**{name: f"<{name}>" for _, name, _, _ in string.Formatter().parse(cls.detail) if name})


def template_problems(cls: type[AidosError]) -> Iterator[str]:
    """What an error's declaration lacks."""
    if cls.title == AidosError.title:
        yield "has no title of its own"
    if not cls.detail.strip():
        yield "has no detail"
    if any("." in name or "[" in name for _, name, _, _ in string.Formatter().parse(cls.detail) if name):
        yield "detail reaches into a field: pass the value itself"


@pytest.mark.plain
class TestSettings:
    def test_numbers_say_their_unit(self) -> None:
        assert not list(unitless(Settings))

    def test_a_number_without_a_unit_is_reported(self) -> None:
        class Bad(BaseSettings):
            timeout: float = Field(1.0)
            retry_s: float = Field(1.0)

        assert list(unitless(Bad)) == ["timeout"]

    def test_every_field_says_what_it_is(self) -> None:
        assert not [name for name, field in Settings.model_fields.items() if not field.description]

    def test_nothing_can_be_changed_afterwards(self) -> None:
        assert Settings.model_config["frozen"] is True


@pytest.mark.plain
class TestReferencePages:
    @pytest.mark.parametrize("path", PAGES)
    def test_say_what_the_code_says(self, path: str) -> None:
        page: Callable[[], str] = PAGES[path]
        written = (ROOT / path).read_text() if (ROOT / path).is_file() else ""
        missing = [line for line in page().splitlines() if line not in written.splitlines()]
        assert written == page(), "run `make docs`; missing:\n" + "\n".join(missing)


@pytest.mark.plain
class TestErrors:
    @pytest.mark.parametrize("cls", declared_errors().values(), ids=lambda cls: cls.__name__)
    def test_travel_between_processes(self, cls: type[AidosError]) -> None:
        error = example_of(cls)
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), copy.fields, str(copy)) == (cls, error.fields, str(error))

    @pytest.mark.parametrize("cls", declared_errors().values(), ids=lambda cls: cls.__name__)
    def test_are_declared_in_full(self, cls: type[AidosError]) -> None:
        assert not list(template_problems(cls))
        assert 400 <= cls.status <= 599

    @pytest.mark.parametrize("cls", declared_errors().values(), ids=lambda cls: cls.__name__)
    def test_are_rebuilt_by_the_client(self, cls: type[AidosError]) -> None:
        error = example_of(cls)
        again = from_problem(cls.status, {"type": cls.type, "title": cls.title, "status": cls.status, "detail": str(error), **error.fields})
        assert type(again) is cls and str(again) == str(error)

    def test_a_lazy_declaration_is_reported(self) -> None:
        lazy = type("Lazy", (AidosError,), {"detail": "{run.name}", "__module__": "tests.lazy"})
        assert list(template_problems(lazy)) == ["has no title of its own", "detail reaches into a field: pass the value itself"]
