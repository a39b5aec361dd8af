"""The pipelines of quality: Ray Data graphs over the files of commits, merged as they come."""

from __future__ import annotations

from functools import partial
from typing import Any

import pyarrow.parquet

from aidos.schemas.dataforge.reports import ProfileParams
from data_pipelines.dataforge.quality.files import describe_files, find_equal_files, kind_of
from data_pipelines.dataforge.reports.source import Source, Tree


def profile(source: Source, params: ProfileParams) -> dict[str, Any]:
    """What is in a commit."""
    files = source.files()
    tables = [file.path for file in files if kind_of(file.path) == "parquet"]
    rows = sum(source.each("profile", tables, partial(_count_rows, source.tree)))
    return {"files": describe_files(files), "equal_files": find_equal_files(files), "rows": rows}


def _count_rows(tree: Tree, path: str) -> int:
    with tree.open(path) as file:
        return int(pyarrow.parquet.ParquetFile(file).metadata.num_rows)
