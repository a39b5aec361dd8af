"""What a file is by its name. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

SUFFIXES = {
    ".parquet": "parquet", ".pq": "parquet",
    **{f".{ending}{packed}": "csv" for ending in ("csv", "tsv", "tab") for packed in ("", ".gz", ".zst")},
    **{f".{ending}{packed}": "jsonl" for ending in ("jsonl", "ndjson") for packed in ("", ".gz", ".zst")},
    ".png": "image", ".jpg": "image", ".jpeg": "image", ".bmp": "image", ".gif": "image", ".webp": "image", ".tif": "image",
    ".tiff": "image", ".txt": "text", ".md": "text", ".zip": "archive",
}  # fmt: skip
TABLES = frozenset({"parquet", "csv", "jsonl"})
_SPLITS = {"train": "train", "training": "train", "test": "test", "testing": "test", "val": "validation", "valid": "validation",
           "validation": "validation", "dev": "validation", "eval": "validation", "holdout": "test"}  # fmt: skip


def kind_of(path: str) -> str:
    """What a file is by its name: ``parquet``, ``csv``, ``jsonl``, ``image``, ``text``, ``archive`` or ``other``."""
    name = path.rsplit("/", 1)[-1].lower()
    _, dot, last = name.rpartition(".")
    double = "." + ".".join(name.split(".")[-2:])
    return SUFFIXES.get(double) or SUFFIXES.get(dot + last, "other")


def split_of(path: str) -> str | None:
    """``train``, ``test`` or ``validation``, where a word of the path says so: ``data/train-0.parquet`` is of ``train``."""
    for word in re.split(r"[^a-z]+", path.lower()):
        if word in _SPLITS:
            return _SPLITS[word]
    return None


def folder_of(path: str) -> str:
    """The folder that a file is in: of images in folders it is the label."""
    parts = path.split("/")
    return parts[-2] if len(parts) > 1 else ""


def matching(pattern: str, paths: Sequence[str]) -> list[str]:
    """The paths that a pattern means; ``*`` stands for any signs, slashes too."""
    return [path for path in paths if fnmatchcase(path, pattern)]
