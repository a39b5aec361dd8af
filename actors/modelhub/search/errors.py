"""What a search refuses."""

from __future__ import annotations

from aidos.errors import InvalidPayload


class InvalidFilter(InvalidPayload):
    title = "Filter cannot be read"
    detail = "Invalid clause in filter string at character {at}: {reason}. Got: {filter}"


class InvalidQuery(InvalidPayload):
    title = "Query cannot be read"
    detail = "Query cannot be read at character {at}: expected {expected}, found '{found}'. Got: {query}"


class InvalidOrder(InvalidPayload):
    title = "Order cannot be read"
    detail = "Invalid order_by clause '{clause}': {reason}."


class InvalidPageToken(InvalidPayload):
    title = "Page token is not of this search"
    detail = "Invalid page token: it must be the next_page_token of the same search, with the same filter, order and scope."
