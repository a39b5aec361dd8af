"""Lists fetched page by page while one iterates."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Generic, TypeVar

from aidos.schemas.common import PageOf
from aidos.streams import Pages
from aidos.wire import Reply, Request

if TYPE_CHECKING:
    from aidos.transport import AsyncTransport, SyncTransport

T = TypeVar("T")
PAGE_ITEMS = 200
MAX_PAGE_ITEMS = 500


class _Paging(Generic[T]):
    """Where a walk over pages stands."""

    def __init__(self, request: Request, limit: int | None) -> None:
        self.left, self.done = limit, limit == 0
        size = PAGE_ITEMS if limit is None else max(1, min(limit, MAX_PAGE_ITEMS))
        self.request = request.at(limit=str(size))

    def take(self, page: PageOf[T]) -> PageOf[T]:
        """The page as far as it is wanted; moves on to the next."""
        if self.left is not None:
            page = page.model_copy(update={"items": page.items[: self.left]})
            self.left -= len(page.items)
        following = self.request.at(cursor=page.next_cursor)
        self.done = page.next_cursor is None or self.left == 0 or following.query == self.request.query
        self.request = following
        return page


class SyncPages(Pages[T]):
    def __init__(self, transport: SyncTransport, request: Request, read: Callable[[Reply], PageOf[T]], limit: int | None) -> None:
        self._transport, self._request, self._read, self._limit = transport, request, read, limit

    def pages(self) -> Iterator[PageOf[T]]:
        paging: _Paging[T] = _Paging(self._request, self._limit)
        while not paging.done:
            yield paging.take(self._transport.send(paging.request, self._read))

    def __iter__(self) -> Iterator[T]:
        for page in self.pages():
            yield from page.items


class AsyncPages(Pages[T]):
    def __init__(self, transport: AsyncTransport, request: Request, read: Callable[[Reply], PageOf[T]], limit: int | None) -> None:
        self._transport, self._request, self._read, self._limit = transport, request, read, limit

    async def pages(self) -> AsyncIterator[PageOf[T]]:
        paging: _Paging[T] = _Paging(self._request, self._limit)
        while not paging.done:
            yield paging.take(await self._transport.send(paging.request, self._read))

    async def __aiter__(self) -> AsyncIterator[T]:
        async for page in self.pages():
            for item in page.items:
                yield item
