"""Lists fetched page by page while one iterates."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Generic, TypeVar

from aidos.http.streams import Pages
from aidos.http.wire import Request
from aidos.schemas.common import PageOf

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
    def __init__(self, fetch: Callable[[Request], PageOf[T]], request: Request, limit: int | None) -> None:
        self._fetch, self._request, self._limit = fetch, request, limit

    def pages(self) -> Iterator[PageOf[T]]:
        paging: _Paging[T] = _Paging(self._request, self._limit)
        while not paging.done:
            yield paging.take(self._fetch(paging.request))

    def __iter__(self) -> Iterator[T]:
        for page in self.pages():
            yield from page.items


class AsyncPages(Pages[T]):
    def __init__(self, fetch: Callable[[Request], Awaitable[PageOf[T]]], request: Request, limit: int | None) -> None:
        self._fetch, self._request, self._limit = fetch, request, limit

    async def pages(self) -> AsyncIterator[PageOf[T]]:
        paging: _Paging[T] = _Paging(self._request, self._limit)
        while not paging.done:
            yield paging.take(await self._fetch(paging.request))

    async def __aiter__(self) -> AsyncIterator[T]:
        async for page in self.pages():
            for item in page.items:
                yield item
