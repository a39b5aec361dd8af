"""The pipelines of quality: Ray Data graphs over the files of commits, merged as they come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from aidos.errors import NotFound
from aidos.schemas.dataforge.expectations import PATH, Reference, TableExpectation
from aidos.schemas.dataforge.reports import DriftParams, ExpectationsParams, LabelErrorsParams, OutliersParams, ProfileParams
from aidos.schemas.dataforge.versions import FileRead, is_in_place
from aidos.transfers.concurrent import batches
from data_pipelines.dataforge.files.kinds import kind_of, matching
from data_pipelines.dataforge.files.pieces import Piece, matching_tables, share_out, split_pieces
from data_pipelines.dataforge.files.quarantine import BadFile
from data_pipelines.dataforge.files.tables import TableReader
from data_pipelines.dataforge.quality import expectations as checks
from data_pipelines.dataforge.quality import labels as ranking
from data_pipelines.dataforge.quality.drift import compare_profiles
from data_pipelines.dataforge.quality.features import Encoding, Examples, encode_unit
from data_pipelines.dataforge.quality.files import describe_files, find_equal_files
from data_pipelines.dataforge.quality.keys import Keys, count_rounds, find_dangling, find_repeated, read_keys
from data_pipelines.dataforge.quality.profiling import Profile, Question, profile_unit
from data_pipelines.dataforge.reports.source import Source, Tree

ASKED_AT_ONCE = 1000
MOST_EXAMPLES = 100_000
_CATEGORIES = 50


def profile(source: Source, params: ProfileParams) -> dict[str, Any]:
    """What is in a commit: its columns, images and texts, what is there twice, what leaks between splits, and what is personal."""
    files = source.files()
    seen = look(source, source.tree, files, Question(params.label, params.split, params.text), "profile")
    return {"files": describe_files(files), "equal_files": find_equal_files(by_content(source, files)), **seen.to_json()}


def by_content(source: Source, files: Sequence[FileRead]) -> list[FileRead]:
    """The files, those in place by the SHA-256 that a verification found. Asked for are those of a size that others have."""
    sizes = Counter(file.size_bytes for file in files)
    placed = [file.path for file in files if is_in_place(file.sha256) and sizes[file.size_bytes] > 1]
    verified: dict[str, str] = {}
    for paths in batches(placed, ASKED_AT_ONCE):
        found = source.client.datasets.downloads(source.tree.dataset, ref=source.tree.commit_id, paths=paths).files
        verified |= {file.path: file.place.sha256 for file in found if file.place and file.place.sha256}
    return [file.model_copy(update={"sha256": verified.get(file.path, file.sha256)}) for file in files]


def drift(source: Source, params: DriftParams) -> dict[str, Any]:
    """How far the commit is from another one of its dataset."""
    question, base = Question(params.label), replace(source.tree, commit_id=params.base)
    before = look(source, base, source.files(base), question, "base")
    after = look(source, source.tree, source.files(), question, "head")
    found = compare_profiles(before, after, params.alpha, params.least)
    return {**found, "quarantine": {"base": before.quarantine.to_json(), "head": after.quarantine.to_json()}}


def look(source: Source, tree: Tree, files: Sequence[FileRead], question: Question, stage: str) -> Profile:
    """The profile of all files of a tree."""
    seen = Profile()
    for part in source.each(stage, share_out(split_pieces(source, tree, files)), partial(_profile_unit, tree, question)):
        seen.merge(part)
    return seen


def _profile_unit(tree: Tree, question: Question, unit: Sequence[Piece]) -> Profile:
    return profile_unit(tree.open, tree.read, question, unit)


def expectations(source: Source, params: ExpectationsParams) -> dict[str, Any]:
    """Whether the commit keeps what it promises. One that promises nothing keeps nothing: deleting the file is no way around it."""
    files = source.files()
    if PATH not in {file.path for file in files}:
        return _refused(f"there is no {PATH} in this commit")
    try:
        expected = checks.parse(source.tree.read(PATH))
    except checks.ExpectationsInvalid as invalid:
        return _refused(f"{PATH}: {invalid}")
    found = [each for table in expected.tables for each in _check_table(source, files, table)]
    return {"passed": all(each["passed"] for each in found), "summary": checks.summarise(found), "checks": found}


def _refused(reason: str) -> dict[str, Any]:
    return {"passed": False, "summary": reason, "checks": []}


def _check_table(source: Source, files: Sequence[FileRead], table: TableExpectation) -> Iterator[dict[str, Any]]:
    chosen = matching_tables(files, table.files)
    if not chosen:
        yield checks.verdict(table, "", "files", checks.Broken(1, 1, [f"no table matches {table.files}"]))
        return
    pieces, facts = split_pieces(source, source.tree, chosen), checks.TableFacts()
    for part in source.each(f"rows of {table.files}", share_out(pieces), partial(_check_unit, source.tree, table)):
        facts.merge(part)
    commit = source.client.datasets.show(source.tree.dataset, source.tree.commit_id)
    yield from checks.judge(table, facts, commit.created_at)
    for columns in [*((name,) for name, each in table.columns.items() if each.unique), *map(tuple, table.unique)]:
        broken = checks.Broken()
        for number in range(rounds := count_rounds(facts.rows)):
            broken.merge(find_repeated(_keys(source, source.tree, pieces, columns, number, rounds)))
        yield checks.verdict(table, ", ".join(columns), "unique", broken)
    for name, each in table.columns.items():
        if each.references:
            yield checks.verdict(
                table, name, "references", _check_references(source, pieces, facts.rows, name, each.references), each.mostly
            )


def _check_unit(tree: Tree, table: TableExpectation, unit: Sequence[Piece]) -> checks.TableFacts:
    facts = checks.TableFacts()
    for piece in unit:
        reader = TableReader(piece.path, piece.size_bytes, partial(tree.open, piece.path), piece.row_groups)
        first = piece.first_row
        try:
            for batch in reader.batches():
                facts.add(table, batch, piece.path, first)
                first += batch.num_rows
        except BadFile as bad:
            facts.unreadable.append(f"{piece.path}: {bad}")
        if reader.broken.count:
            facts.unreadable.append(f"{piece.path}: {reader.broken}")
    return facts


def _check_references(source: Source, pieces: Sequence[Piece], rows: int, name: str, reference: Reference) -> checks.Broken:
    try:
        tree = source.tree
        if reference.dataset is not None:
            commit = source.client.datasets.show(reference.dataset, reference.ref)
            tree = replace(tree, dataset=reference.dataset, commit_id=str(commit.id))
    except NotFound as missing:
        return checks.Broken(rows, rows, [str(missing)])
    files = matching_tables(source.files(tree), reference.files)
    known, broken = split_pieces(source, tree, files), checks.Broken()
    rounds = count_rounds(max(rows, sum(file.size_bytes for file in files) // 8))
    for number in range(rounds):
        there = _keys(source, tree, known, (reference.column,), number, rounds)
        broken.merge(find_dangling(_keys(source, source.tree, pieces, (name,), number, rounds), there))
    return broken


def _keys(source: Source, tree: Tree, pieces: Sequence[Piece], columns: tuple[str, ...], number: int, rounds: int) -> list[Keys]:
    work = partial(_read_keys, tree, columns, number, rounds)
    return [keys for part in source.each(f"keys {', '.join(columns)}", share_out(pieces), work) for keys in part]


def _read_keys(tree: Tree, columns: tuple[str, ...], number: int, rounds: int, unit: Sequence[Piece]) -> list[Keys]:
    return read_keys(tree.open, columns, number, rounds, unit)


def label_errors(source: Source, params: LabelErrorsParams) -> dict[str, Any]:
    """Examples by how little a cross-validated model believes their labels."""
    examples, total = _examples(source, params, params.label, leave_out=(params.label, params.split))
    vectors, rest = examples.matrix(), {"total": total, "quarantine": examples.quarantine.to_json()}
    sizes = {name: examples.labels.count(name) for name in set(examples.labels)}
    names = sorted(name for name, size in sizes.items() if size >= max(ranking.LEAST_PER_CLASS, params.folds))
    if not 2 <= len(names) <= ranking.MOST_CLASSES:
        least = max(ranking.LEAST_PER_CLASS, params.folds)
        raise ValueError(f"{len(names)} labels have at least {least} examples; 2 to {ranking.MOST_CLASSES} can be told apart")
    codes = {name: code for code, name in enumerate(names)}
    kept = np.flatnonzero([label in codes for label in examples.labels])
    labels = np.array([codes[examples.labels[at]] for at in kept])
    shared = source.share((vectors[kept], labels))
    probabilities = np.zeros((kept.size, len(names)))
    folds = ranking.split_folds(labels, params.folds)
    work = partial(_predict_fold, shared, params.embedding is not None)
    for held, found in source.each("folds", folds, work):
        probabilities[held] = found
    places = [examples.places[at] for at in kept]
    return {**ranking.rank_labels(places, names, labels, probabilities, params.top), **rest, "rare_labels": len(sizes) - len(names)}


def _predict_fold(
    shared: Callable[[], tuple[np.ndarray, np.ndarray]], embedded: bool, fold: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    vectors, labels = shared()
    return fold[1], ranking.predict_fold(vectors, labels, *fold, embedded=embedded)


def outliers(source: Source, params: OutliersParams) -> dict[str, Any]:
    """Examples that lie apart from all others."""
    examples, total = _examples(source, params, None, leave_out=())
    vectors = examples.matrix()
    if len(examples.places) < 3:
        raise ValueError(f"{len(examples.places)} examples are too few to tell which lie apart")
    found = ranking.rank_outliers(examples.places, vectors, params.top)
    return {**found, "total": total, "quarantine": examples.quarantine.to_json()}


def _examples(source: Source, params: OutliersParams, label: str | None, leave_out: tuple[str | None, ...]) -> tuple[Examples, int]:
    """Vectors of the commit's rows or, where it has no tables, of its images; and how many there are in all."""
    files = source.files()
    tables = matching_tables(files, params.files or "*")
    if tables:
        seen = look(source, source.tree, tables, Question(), "columns")
        encoding, total = _encoding(seen, params.embedding, leave_out), seen.rows
    else:
        tables = [file for file in files if kind_of(file.path) == "image" and matching(params.files or "*", [file.path])]
        encoding, total = Encoding(), len(tables)
    work = partial(_encode_unit, source.tree, encoding, label, min(1.0, MOST_EXAMPLES / max(1, total)))
    examples = Examples()
    for part in sorted(
        source.each("examples", share_out(split_pieces(source, source.tree, tables)), work), key=lambda part: part.places[:1]
    ):
        examples.merge(part)
    return examples, total


def _encoding(seen: Profile, embedding: str | None, leave_out: tuple[str | None, ...]) -> Encoding:
    """Numbers as they are, categories one by one; text, and numbers that name rows, are nothing to learn from."""
    columns = {name: column for name, column in sorted(seen.columns.items()) if name not in leave_out}
    numeric = [name for name, column in columns.items() if column.numbers.moments.count > 0.5 * (column.rows - column.nulls) > 0]
    named = {name for name in numeric if "int64" in columns[name].types and columns[name].distinct.estimate() > 0.95 * seen.rows}
    values = {
        name: sorted(map(str, column.values.counts)) for name, column in columns.items() if name not in numeric and column.categorical
    }
    categories = tuple((name, tuple(each)) for name, each in values.items() if len(each) <= _CATEGORIES)
    return Encoding(tuple(name for name in numeric if name not in named), categories, embedding)


def _encode_unit(tree: Tree, encoding: Encoding, label: str | None, share: float, unit: Sequence[Piece]) -> Examples:
    return encode_unit(tree.open, tree.read, encoding, label, share, unit)
