"""Graphs of augmentations: what is done to an image, by a seed, and where its shapes are afterwards. Pillow and numpy; no Ray.

Geometry is one affine matrix a node, from old to new coordinates in pixels from the upper left corner; image and shapes take the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

from aidos.schemas.dataforge import synthesis as asked

_MODES = frozenset({"L", "RGB", "RGBA"})
_GREY = 128


@dataclass
class Shape:
    """A polygon [points, 2] of an image; a box is one of four points. ``about`` is what else is known of it."""

    points: np.ndarray
    about: Any = None
    box: bool = True


@dataclass
class Picture:
    """An image with its shapes, the shares of its labels, and what was done to it."""

    image: Image.Image
    shapes: list[Shape] = field(default_factory=list)
    labels: dict[str, float] = field(default_factory=dict)
    steps: list[str] = field(default_factory=list)


Other = Callable[[], Picture]
"""Another picture to mix in."""


def augment(graph: Sequence[asked.Node], picture: Picture, random: np.random.Generator, other: Other) -> Picture:
    """The picture after the graph; equal for an equal ``random``."""
    image = picture.image if picture.image.mode in _MODES else picture.image.convert("RGB")
    found = Picture(image, [Shape(shape.points.copy(), shape.about, shape.box) for shape in picture.shapes], dict(picture.labels))
    _walk(graph, found, random, other)
    return found


def _walk(nodes: Sequence[asked.Node], picture: Picture, random: np.random.Generator, other: Other) -> None:
    for node in nodes:
        if random.random() >= node.p:
            continue
        if isinstance(node, asked.Sequence):
            _walk(node.nodes, picture, random, other)
        elif isinstance(node, asked.OneOf):
            weights = np.array(node.weights or [1.0] * len(node.nodes))
            _walk([node.nodes[int(random.choice(len(node.nodes), p=weights / weights.sum()))]], picture, random, other)
        else:
            _do(node, picture, random, other)
            picture.steps.append(node.op)


def _do(node: asked.Node, picture: Picture, random: np.random.Generator, other: Other) -> None:
    if isinstance(node, asked.Flip | asked.Rotate | asked.Crop | asked.Affine):
        _transform(picture, _matrix(node, picture.image.size, random))
    elif isinstance(node, asked.Mixup):
        _mix(picture, other(), _between(node.share, random))
    elif isinstance(node, asked.Cutout):
        _cut(picture, node, random)
    elif isinstance(node, asked.Colour):
        for enhance, factors in (
            (ImageEnhance.Brightness, node.brightness),
            (ImageEnhance.Contrast, node.contrast),
            (ImageEnhance.Color, node.saturation),
        ):
            picture.image = enhance(picture.image).enhance(_between(factors, random))
    elif isinstance(node, asked.Blur):
        picture.image = picture.image.filter(ImageFilter.GaussianBlur(_between(node.radius, random)))
    elif isinstance(node, asked.Noise):
        values = np.asarray(picture.image, dtype=np.float32)
        noisy = values + random.normal(0, abs(_between(node.spread, random)), values.shape)
        picture.image = Image.fromarray(np.clip(np.rint(noisy), 0, 255).astype(np.uint8), picture.image.mode)


def _between(ends: Sequence[float], random: np.random.Generator) -> float:
    return float(random.uniform(min(ends), max(ends)))


def _matrix(node: asked.Flip | asked.Rotate | asked.Crop | asked.Affine, size: tuple[int, int], random: np.random.Generator) -> np.ndarray:
    """[3, 3] from old to new coordinates."""
    width, height = size
    if isinstance(node, asked.Flip):
        across = node.axis == "horizontal"
        return np.array([[-1, 0, width], [0, 1, 0], [0, 0, 1]] if across else [[1, 0, 0], [0, -1, height], [0, 0, 1]], float)
    if isinstance(node, asked.Crop):
        side = math.sqrt(min(1.0, max(1e-3, _between(node.area, random))))
        left, top = random.random() * width * (1 - side), random.random() * height * (1 - side)
        return np.array([[1 / side, 0, -left / side], [0, 1 / side, -top / side], [0, 0, 1]])
    if isinstance(node, asked.Rotate):
        angle = math.radians(_between(node.degrees, random))
        cosine, sine = math.cos(angle), math.sin(angle)
        return _around_middle(np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]]), size)
    scale, shear = max(1e-3, _between(node.scale, random)), math.tan(math.radians(_between(node.shear, random)))
    shift = [_between(node.shift, random) * width, _between(node.shift, random) * height]
    return _around_middle(np.array([[scale, scale * shear, shift[0]], [0, scale, shift[1]], [0, 0, 1]]), size)


def _around_middle(matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    there, back = np.eye(3), np.eye(3)
    there[:2, 2], back[:2, 2] = np.array(size) / -2, np.array(size) / 2
    return np.asarray(back @ matrix @ there)


def _transform(picture: Picture, matrix: np.ndarray) -> None:
    inverse = np.linalg.inv(matrix)
    data = tuple(inverse[:2].ravel().tolist())
    picture.image = picture.image.transform(picture.image.size, Image.Transform.AFFINE, data, Image.Resampling.BILINEAR)
    for shape in picture.shapes:
        shape.points = shape.points @ matrix[:2, :2].T + matrix[:2, 2]


def _mix(picture: Picture, other: Picture, share: float) -> None:
    width, height = picture.image.size
    scale = np.array([width / other.image.width, height / other.image.height])
    picture.image = Image.blend(picture.image, other.image.convert(picture.image.mode).resize((width, height)), share)
    picture.shapes += [Shape(shape.points * scale, shape.about, shape.box) for shape in other.shapes]
    labels = {name: weight * (1 - share) for name, weight in picture.labels.items()}
    for name, weight in other.labels.items():
        labels[name] = labels.get(name, 0.0) + weight * share
    picture.labels = labels


def _cut(picture: Picture, node: asked.Cutout, random: np.random.Generator) -> None:
    picture.image = picture.image.copy()
    width, height = picture.image.size
    grey: Any = {"L": _GREY, "RGB": (_GREY,) * 3, "RGBA": (_GREY, _GREY, _GREY, 255)}[picture.image.mode]
    for _ in range(node.holes):
        side = math.sqrt(min(1.0, max(0.0, _between(node.area, random))))
        left, top = random.random() * width * (1 - side), random.random() * height * (1 - side)
        ImageDraw.Draw(picture.image).rectangle((left, top, left + width * side, top + height * side), fill=grey)


def visible(shape: Shape, size: tuple[int, int], least: float) -> Shape | None:
    """What of a shape is inside the picture; None where that is less than ``least`` of its area, or nothing."""
    inside = clip(shape.points, size)
    whole, left = area(shape.points), area(inside)
    if left <= 0 or left < least * whole:
        return None
    if shape.box:
        low, high = inside.min(axis=0), inside.max(axis=0)
        inside = np.array([low, [high[0], low[1]], high, [low[0], high[1]]])
    return Shape(inside, shape.about, shape.box)


def area(points: np.ndarray) -> float:
    """A polygon's, by Gauss's shoelaces."""
    if len(points) < 3:
        return 0.0
    after = np.roll(points, -1, axis=0)
    return float(abs(np.sum(points[:, 0] * after[:, 1] - after[:, 0] * points[:, 1])) / 2)


def clip(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The part of a polygon inside a picture (Sutherland and Hodgman, 1974)."""
    for axis, limit, sign in ((0, 0, 1), (0, size[0], -1), (1, 0, 1), (1, size[1], -1)):
        kept = []
        for at in range(len(points)):
            one, two = points[at - 1], points[at]
            before, after = sign * (one[axis] - limit), sign * (two[axis] - limit)
            if before * after < 0:
                kept.append(one + (two - one) * before / (before - after))
            if after >= 0:
                kept.append(two)
        points = np.array(kept).reshape(-1, 2)
    return points
