"""Which objects of a listing become files, and why others do not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from aidos.schemas.dataforge.versions import path_problem
from cluster.buckets import ObjectVersion


class Page(NamedTuple):
    """Objects by the path that they get, and keys that cannot be paths, with the reason."""

    kept: dict[str, ObjectVersion]
    skipped: list[Mapping[str, str]]


def plan_page(prefix: str, found: Iterable[ObjectVersion]) -> Page:
    """The path is the key below ``prefix``. Empty objects that stand for folders are neither kept nor told."""
    page = Page({}, [])
    for each in found:
        path = each.key.removeprefix(prefix)
        if each.key.endswith("/") and not each.size_bytes:
            continue
        if reason := path_problem(path):
            page.skipped.append({"key": each.key.replace("\0", "\ufffd"), "reason": reason})
        else:
            page.kept[path] = each
    return page
