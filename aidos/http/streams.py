"""What comes bit by bit: the items of a paged list, and server-sent events. Types to name them; the transports make them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Pages(ABC, Generic[T]):
    """All items of a list, fetched page by page while one iterates. An asynchronous client's is iterated with ``async for``."""

    def __iter__(self) -> Iterator[T]:
        raise TypeError("These pages belong to an asynchronous client: iterate with `async for`.")

    def __aiter__(self) -> AsyncIterator[T]:
        raise TypeError("These pages belong to a synchronous client: iterate with `for`.")

    @abstractmethod
    def pages(self) -> Any:
        """The pages themselves (``PageOf``), with their cursors."""


class Events(Generic[T]):
    """A live stream, taken up again where it broke off. Leaving the loop ends it."""

    def __iter__(self) -> Iterator[T]:
        raise TypeError("This stream belongs to an asynchronous client: iterate with `async for`.")

    def __aiter__(self) -> AsyncIterator[T]:
        raise TypeError("This stream belongs to a synchronous client: iterate with `for`.")
