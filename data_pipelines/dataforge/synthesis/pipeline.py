"""The kind of report that makes synthetic data: Ray Data graphs that look, make and compare, with a commit between."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from aidos.schemas.dataforge.reports import SynthesizeParams
from aidos.schemas.dataforge.synthesis import MOST_ROWS, Condition, ImageGenerator, TableFormat, TableGenerator, TextGenerator
from aidos.schemas.dataforge.versions import CommitRead, FileAdd
from data_pipelines.dataforge.files.pieces import Piece, matching_tables, share_out, split_pieces
from data_pipelines.dataforge.files.quarantine import Quarantine
from data_pipelines.dataforge.reports.source import Source, Tree
from data_pipelines.dataforge.synthesis import privacy, texts
from data_pipelines.dataforge.synthesis.columns import MODELLED
from data_pipelines.dataforge.synthesis.comparing import compare_tables
from data_pipelines.dataforge.synthesis.image_pipeline import compare_images, make_images
from data_pipelines.dataforge.synthesis.mixture import fit_mixture, generate_mixture
from data_pipelines.dataforge.synthesis.publishing import Output, describe_generator
from data_pipelines.dataforge.synthesis.sampling import Sample, read_unit, sample_unit
from data_pipelines.dataforge.synthesis.tables import TableModel, fit_table, generate, look

PART_ROWS = 100_000
COMPARED_ROWS = 20_000
PART_TEXTS = 5000
COMPARED_TEXTS = 5000
LEAST_ROWS = 8
_HELD_SHARE = 0.25


def synthesize(source: Source, params: SynthesizeParams) -> dict[str, Any]:
    """Make the data, commit it, and say how alike it is. A job that is begun again after its commit only compares."""
    output = Output(params.out, params.branch, source.report_id)
    commit = output.prepare(source.client)
    if isinstance(params.generator, ImageGenerator):
        return make_pictures(source, params, params.generator, output, commit)
    if isinstance(params.generator, TextGenerator):
        return make_writing(source, params, params.generator, output, commit)
    return make_table(source, params, params.generator, output, commit)


def make_writing(
    source: Source, params: SynthesizeParams, spec: TextGenerator, output: Output, commit: CommitRead | None
) -> dict[str, Any]:
    """Texts from templates, some of whose values are the source's."""
    real = pa.table({})
    if wanted := texts.columns_of(spec):
        pieces = split_pieces(source, source.tree, matching_tables(source.files(), spec.files or "*"))
        table = _sample(source, source.tree, pieces, COMPARED_ROWS, "sample").table
        real = table.select([name for name in wanted if name in table.column_names])
    pools = {name: [str(value) for value in real[name].to_pylist() if value is not None] for name in real.column_names}
    texts.check_slots(spec, pools)
    if commit is None:
        parts = [
            Part(number, first, min(PART_TEXTS, spec.rows - first), None) for number, first in enumerate(range(0, spec.rows, PART_TEXTS))
        ]
        work = partial(_write_texts, source.share(pools), spec, params.seed, output)
        files = [file for found in source.each("texts", parts, work) for file in found]
        commit = publish(source, params, output, files, f"{spec.rows} texts")
    written = Tree(params.out, str(commit.id))
    rows = _sample(source, written, split_pieces(source, written, source.files(written)), COMPARED_TEXTS, "compare")
    return {**made(params, commit), **texts.compare_texts(spec, rows.table, real)}


def _write_texts(pools: Callable[[], texts.Pools], spec: TextGenerator, seed: int, output: Output, part: Part) -> list[FileAdd]:
    table = texts.make_texts(spec, pools(), part.rows, np.random.default_rng([seed, part.number]))
    table = mark(texts.as_cells(table) if spec.write is TableFormat.CSV else table, spec.marker)
    return output.upload({f"part-{part.number:05d}.{spec.write.value}": write_table(table, spec.write)})


def make_pictures(
    source: Source, params: SynthesizeParams, spec: ImageGenerator, output: Output, commit: CommitRead | None
) -> dict[str, Any]:
    """Variations of the source's images."""
    told: dict[str, Any] = {}
    if commit is None:
        files, told = make_images(source, spec, params.seed, output)
        commit = publish(source, params, output, files, f"{told['made']['images']} images")
    return {**made(params, commit), **compare_images(source, Tree(params.out, str(commit.id)), spec), **told}


def publish(source: Source, params: SynthesizeParams, output: Output, files: Sequence[FileAdd], said: str, **metadata: Any) -> CommitRead:
    """The commit of what was made, with its generator and the commit that it was made from."""
    tree = source.tree
    return output.commit(
        source.client,
        files,
        f"Synthesise {said} from {tree.dataset}@{tree.commit_id}",
        {
            "generator": describe_generator(params.generator.model_dump(mode="json")),
            "seed": params.seed,
            "source": {"dataset": tree.dataset, "commit": tree.commit_id},
            **metadata,
        },
    )


def made(params: SynthesizeParams, commit: CommitRead) -> dict[str, Any]:
    """Where the data is: what the lineage is written from."""
    return {
        "make": params.generator.make,
        "commit": {
            "dataset": params.out,
            "branch": params.branch,
            "id": str(commit.id),
            "files": commit.files,
            "size_bytes": commit.size_bytes,
        },
        "seed": params.seed,
    }


def make_table(source: Source, params: SynthesizeParams, spec: TableGenerator, output: Output, commit: CommitRead | None) -> dict[str, Any]:
    """A table of rows that are like the source's."""
    pieces = split_pieces(source, source.tree, matching_tables(source.files(), spec.files or "*"))
    sample = _sample(source, source.tree, pieces, spec.fit_rows, "sample")
    sample.table = unmark(sample.table, spec.marker)
    if sample.table.num_rows < LEAST_ROWS:
        raise ValueError(f"{sample.table.num_rows} rows can be read; a table is fitted to {LEAST_ROWS} or more")
    held = sample.table.slice(0, int(sample.table.num_rows * _HELD_SHARE))
    seen = sample.table.slice(held.num_rows)
    if commit is None:
        model = _fit_private(source, spec, pieces) if spec.privacy else (fit_mixture if spec.by else fit_table)(seen, spec)
        parts = _parts(spec, sample.rows)
        work = partial(_write_part, source.share(model), spec, params.seed, output)
        files = [file for found in source.each("rows", parts, work) for file in found]
        stated = {"privacy": spec.privacy.model_dump()} if spec.privacy else {}
        commit = publish(source, params, output, files, f"{sum(part.rows for part in parts)} rows", **stated)
    written = Tree(params.out, str(commit.id))
    rows = _sample(source, written, split_pieces(source, written, source.files(written)), COMPARED_ROWS, "compare")
    columns, _, left_out = look(seen, spec)
    found = compare_tables(columns, seen, held, rows.table, spec.target)
    found["rows"] |= {"source": sample.rows, "made": rows.rows}
    budget = {"privacy": _budget(source, spec)} if spec.privacy else {}
    rest = {"left_out": left_out, "conditions": [each.model_dump(mode="json") for each in spec.conditions]}
    return {**made(params, commit), **found, **budget, **rest, "quarantine": sample.quarantine.to_json()}


def _sample(source: Source, tree: Tree, pieces: Sequence[Piece], most: int, stage: str) -> Sample:
    found = Sample(most)
    for part in source.each(stage, share_out(pieces), partial(_sample_unit, tree, most)):
        found.merge(part)
    return found


def _sample_unit(tree: Tree, most: int, unit: Sequence[Piece]) -> Sample:
    return sample_unit(tree.open, most, 0, unit)


def _fit_private(source: Source, spec: TableGenerator, pieces: Sequence[Piece]) -> TableModel:
    """Two readings of all rows; what is known of them afterwards are noisy counts alone."""
    random, columns = privacy.secret_random(), privacy.known_columns(spec)
    counts, products = privacy.Counts(), privacy.Counts()
    for part in source.each("histograms", share_out(pieces), partial(_count_unit, source.tree, spec, columns, privacy.count_batch)):
        counts.merge(part)
    columns = privacy.fit_marginals(counts, spec, columns, random)
    for part in source.each("correlations", share_out(pieces), partial(_count_unit, source.tree, spec, columns, privacy.multiply_batch)):
        products.merge(part)
    return privacy.fit_private(products, spec, columns, random)


def _count_unit(
    tree: Tree, spec: TableGenerator, columns: Any, count: Callable[..., privacy.Counts], unit: Sequence[Piece]
) -> privacy.Counts:
    found = privacy.Counts()
    for _, batch, _ in read_unit(tree.open, unit, Quarantine()):
        found.merge(count(batch, spec, columns))
    return found


def _budget(source: Source, spec: TableGenerator) -> dict[str, Any]:
    """What this report cost, and all reports of this kind that were asked of the dataset before, whether they ended well or not."""
    assert spec.privacy is not None
    earlier = [
        report.params["generator"].get("privacy") or {}
        for report in source.client.reports.list(source.tree.dataset, kind="synthesize")
        if str(report.id) != source.report_id
    ]
    columns = sum(column.kind in MODELLED for column in spec.columns.values())
    return privacy.describe_budget(spec.privacy, columns, earlier)


@dataclass(frozen=True)
class Part:
    """Rows ``first`` to ``first + rows`` of a synthetic table, and what they must be like."""

    number: int
    first: int
    rows: int
    condition: Condition | None


def _parts(spec: TableGenerator, source_rows: int) -> list[Part]:
    """Parts of at most 100,000 rows, each with its own seed: who draws them, and in what order, changes nothing."""
    wanted: list[tuple[int, Condition | None]] = [(each.rows, each) for each in spec.conditions] or [(spec.rows or source_rows, None)]
    if (total := sum(rows for rows, _ in wanted)) > MOST_ROWS:
        raise ValueError(f"{total} rows are asked for; {MOST_ROWS} is the limit")
    found: list[Part] = []
    first = 0
    for rows, condition in wanted:
        for begin in range(0, rows, PART_ROWS):
            size = min(PART_ROWS, rows - begin)
            found.append(Part(len(found), first, size, condition))
            first += size
    return found


def _write_part(model: Callable[[], Any], spec: TableGenerator, seed: int, output: Output, part: Part) -> list[FileAdd]:
    random, where = np.random.default_rng([seed, part.number]), part.condition.where if part.condition else None
    table = (generate_mixture if spec.by else generate)(model(), part.rows, random, part.first, where)
    table = mark(table, spec.marker)
    return output.upload({f"part-{part.number:05d}.{spec.write.value}": write_table(table, spec.write)})


def mark(table: pa.Table, marker: str | None) -> pa.Table:
    """The table with a column that says of every row that it is synthetic."""
    return table if marker is None else table.append_column(marker, pa.repeat(pa.scalar(True), table.num_rows))


def unmark(table: pa.Table, marker: str | None) -> pa.Table:
    """The table without the mark that it has where it is synthetic itself. Raises: ValueError where that column says something else."""
    if marker is None or marker not in table.column_names:
        return table
    if {str(value).lower() for value in pc.unique(table[marker]).to_pylist()} - {"true"}:
        raise ValueError(f"the source has a column '{marker}' of its own: give 'marker' another name, or null")
    return table.drop_columns([marker])


def write_table(table: pa.Table, format: TableFormat) -> bytes:
    """A file's bytes, equal for equal rows. Parquet says in its own metadata that it is synthetic."""
    sink = io.BytesIO()
    if format is TableFormat.PARQUET:
        pq.write_table(table.replace_schema_metadata({"synthetic": "true"}), sink)
    elif format is TableFormat.CSV:
        pyarrow.csv.write_csv(table, sink)
    else:
        for row in table.to_pylist():
            sink.write(json.dumps(row, default=_to_text, ensure_ascii=False).encode() + b"\n")
    return sink.getvalue()


def _to_text(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else float(value)
