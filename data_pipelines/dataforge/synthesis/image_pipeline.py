"""Variations of a commit's images, as Ray Data graphs: made and uploaded unit by unit, then compared with their sources."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from aidos.schemas.dataforge.synthesis import ImageGenerator, TableGenerator
from aidos.schemas.dataforge.versions import FileAdd, FileRead
from data_pipelines.dataforge.files.kinds import kind_of, matching
from data_pipelines.dataforge.files.pieces import Piece, share_out
from data_pipelines.dataforge.reports.source import Source, Tree
from data_pipelines.dataforge.synthesis import pictures
from data_pipelines.dataforge.synthesis.augmentation import Shape
from data_pipelines.dataforge.synthesis.comparing import compare_distances, compare_tables, score_learning
from data_pipelines.dataforge.synthesis.pictures import Described, Varied
from data_pipelines.dataforge.synthesis.publishing import Output
from data_pipelines.dataforge.synthesis.tables import look

COMPARED_IMAGES = 2000
ANNOTATIONS = "annotations.json"
_UPLOAD_BYTES = 64 * 2**20
_HELD_BYTE = 64  # of 256: a quarter is held back

Shapes = Mapping[str, Sequence[Shape]]


def make_images(source: Source, spec: ImageGenerator, seed: int, output: Output) -> tuple[list[FileAdd], dict[str, Any]]:
    """The files of all variations, uploaded, and what became of the images."""
    images = images_of(source.files(), spec)
    if not images:
        raise ValueError(f"no image of the commit matches {spec.files or '*'}")
    shapes = pictures.read_coco(source.tree.read(spec.boxes), spec.boxes, [file.path for file in images]) if spec.boxes else {}
    units = list(enumerate(share_out(Piece(file.path, file.size_bytes) for file in images)))
    work = partial(_vary_unit, source.tree, spec, seed, source.share(shapes), output)
    files, found, described = [], Varied(), []
    for added, varied, about in source.each("images", units, work):
        files += added
        found.merge(varied)
        described += about
    if spec.boxes:
        files += output.upload({ANNOTATIONS: pictures.write_coco(described)})
    told = {"images": found.images, "unchanged": found.unchanged, "shapes": found.shapes, "dropped_shapes": found.dropped_shapes}
    return files, {"made": told, "steps": dict(found.steps.most_common()), "quarantine": found.quarantine.to_json()}


def images_of(files: Sequence[FileRead], spec: ImageGenerator) -> list[FileRead]:
    wanted = set(matching(spec.files or "*", [file.path for file in files if kind_of(file.path) == "image"]))
    return [file for file in files if file.path in wanted]


def _vary_unit(
    tree: Tree, spec: ImageGenerator, seed: int, shapes: Callable[[], Shapes], output: Output, unit: tuple[int, Sequence[Piece]]
) -> tuple[list[FileAdd], Varied, list[dict[str, Any]]]:
    number, pieces = unit
    added, found, described = [], Varied(), []
    waiting: dict[str, bytes] = {}
    for path, data, about in pictures.vary(tree.read, spec, seed, shapes(), pieces, found):
        waiting[path] = data
        described.append(about)
        if sum(map(len, waiting.values())) > _UPLOAD_BYTES:
            added += output.upload(waiting)
            waiting = {}
    lines = "".join(json.dumps({name: value for name, value in about.items() if name != "shapes"}) + "\n" for about in described)
    added += output.upload({**waiting, f"labels-{number:05d}.jsonl": lines.encode()})
    return added, found, described if spec.boxes else []


def compare_images(source: Source, written: Tree, spec: ImageGenerator) -> dict[str, Any]:
    """Variations beside their sources: brightness, contrast, sizes and labels; what a model learns; how near pixels are.

    Variations of the images that are held back are left out, else a model that learns from them would have seen its test.
    """
    files, made = images_of(source.files(), spec), images_of(source.files(written), spec.model_copy(update={"files": None}))
    real = _describe(source, source.tree, _first(files))
    stems = {row["path"].rpartition(".")[0] for row in real.rows if not _held(row["path"].rpartition(".")[0])}
    copies = _describe(source, written, _first([file for file in made if pictures.origin(file.path) in stems]))
    seen = real.chosen(lambda path: not _held(path.rpartition(".")[0]))
    held = real.chosen(lambda path: _held(path.rpartition(".")[0]))
    if not seen.rows or not held.rows or not copies.rows:
        return {"rows": {"seen": len(seen.rows), "held_out": len(held.rows), "synthetic": len(copies.rows)}, "columns": []}
    columns, _, _ = look(seen.table(), TableGenerator(make="table"))
    found = compare_tables(columns, seen.table(), held.table(), copies.table(), None)
    known = {row["digest"] for row in real.rows}
    nearest = compare_distances(seen.matrix(), held.matrix(), copies.matrix())
    found["nearest"] = nearest | {"copies_synthetic": sum(row["digest"] in known for row in copies.rows) / len(copies.rows)}
    return found | _learn(seen, held, copies)


def _learn(seen: Described, held: Described, made: Described) -> dict[str, Any]:
    names = sorted({row["label"] for row in seen.rows})
    if len(names) < 2:
        return {}

    def part(of: Described) -> tuple[np.ndarray, np.ndarray]:
        return of.matrix(), np.array([names.index(row["label"]) if row["label"] in names else np.nan for row in of.rows])

    return {"learning": {"target": "the folder", **score_learning({"real": part(seen), "synthetic": part(made)}, part(held), classes=True)}}


def _describe(source: Source, tree: Tree, files: Sequence[FileRead]) -> Described:
    found = Described()
    units = share_out(Piece(file.path, file.size_bytes) for file in files)
    for part in source.each("compare", units, partial(_describe_unit, tree)):
        found.merge(part)
    order = np.argsort([row["path"] for row in found.rows], kind="stable")
    return Described([found.rows[at] for at in order], [found.pixels[at] for at in order])


def _describe_unit(tree: Tree, unit: Sequence[Piece]) -> Described:
    return pictures.describe(tree.read, unit)


def _first(files: Sequence[FileRead]) -> list[FileRead]:
    """As many as are compared, chosen by their paths' hashes."""
    return sorted(files, key=lambda file: hashlib.sha256(file.path.encode()).digest())[:COMPARED_IMAGES]


def _held(stem: str) -> bool:
    return hashlib.sha256(f"held:{stem}".encode()).digest()[0] < _HELD_BYTE
