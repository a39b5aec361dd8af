"""What the list of a commit's files says before any of them is opened. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from aidos.schemas.dataforge.versions import FileRead
from data_pipelines.dataforge.files.kinds import kind_of, split_of

SHOWN = 50


def describe_files(files: Sequence[FileRead]) -> dict[str, Any]:
    """Counts and bytes by kind and by split."""
    kinds, sizes = Counter(kind_of(file.path) for file in files), Counter[str]()
    for file in files:
        sizes[kind_of(file.path)] += file.size_bytes
    return {
        "count": len(files),
        "size_bytes": sum(sizes.values()),
        "kinds": {kind: {"count": kinds[kind], "size_bytes": sizes[kind]} for kind in sorted(kinds)},
        "splits": dict(sorted(Counter(split for file in files if (split := split_of(file.path))).items())),
        "empty": sum(not file.size_bytes for file in files),
    }


def find_equal_files(files: Iterable[FileRead]) -> dict[str, Any]:
    """Files of equal content, by their SHA-256, and those of them that are in several splits. Exact, whatever their number."""
    groups: dict[str, list[str]] = defaultdict(list)
    for file in files:
        if file.size_bytes:
            groups[file.sha256].append(file.path)
    equal = [paths for paths in groups.values() if len(paths) > 1]
    leaked = [paths for paths in equal if len({split_of(path) for path in paths} - {None}) > 1]
    return {
        "duplicates": {"files": sum(len(paths) - 1 for paths in equal), "groups": [sorted(paths)[:10] for paths in equal[:SHOWN]]},
        "leakage": {"files": sum(map(len, leaked)), "groups": [sorted(paths)[:10] for paths in leaked[:SHOWN]]},
    }
