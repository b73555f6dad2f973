"""Scaling, cropping and mirroring of an image together with its boxes.

A sample is a dict of `image` uint8 `[h w 3]`, `boxes` float32 `[n 4]` xyxy in pixels, `labels`
int32 `[n]` and `crowd` bool `[n]` (regions to ignore). Pixel i covers [i, i + 1]: x scales to s x.
"""

import math
from typing import Any

import cv2
import numpy as np

Sample = dict[str, Any]

GREY = 114
_AREA_BELOW = 0.75  # averaging keeps small objects that interpolation would step over
_MIN_SIDE = 1.0


def fit_scale(height: int, width: int, size: tuple[int, int]) -> float:
    """The scale at which an image just fits onto a canvas of `size` (h, w)."""
    return min(size[0] / height, size[1] / width)


def resize(image: np.ndarray, scale: float) -> np.ndarray:
    """Scales `[h w c]` by `scale` exactly: only the outer edge is rounded to a whole pixel."""
    if scale == 1:
        return image
    interpolation = cv2.INTER_AREA if scale < _AREA_BELOW else cv2.INTER_LINEAR
    if round(min(image.shape[:2]) * scale) < 1:
        shape = (max(1, round(n * scale)) for n in image.shape[1::-1])
        return cv2.resize(image, tuple(shape), interpolation=interpolation)
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=interpolation)


def letterbox(
    image: np.ndarray, size: tuple[int, int], *, pad: int = GREY
) -> tuple[np.ndarray, np.ndarray]:
    """Fits an image in the middle of a canvas of `size` (h, w).

    Returns the canvas and float32 (scale, left, top): x on the canvas is `x * scale + left`.
    """
    scale = fit_scale(*image.shape[:2], size)
    small = resize(image, scale)
    top, left = (size[0] - small.shape[0]) // 2, (size[1] - small.shape[1]) // 2
    canvas = _canvas(small, size, top, left, pad)
    return canvas, np.array([scale, left, top], np.float32)


def place(
    sample: Sample,
    size: tuple[int, int],
    *,
    scale: float,
    origin: tuple[int, int] = (0, 0),
    at: tuple[int, int] = (0, 0),
    pad: int = GREY,
    min_visible: float = 0.3,
) -> Sample:
    """Puts the image, from `origin` (y, x) on and scaled, onto a canvas of `size` (h, w) at `at`.

    Boxes are clipped to what is seen of the image, see `clip_boxes`; `windows` int `[1 4]` xyxy is
    where on the canvas that is.
    """
    (y0, x0), (top, left) = origin, at
    height, width = sample["image"].shape[:2]
    y1 = min(height, y0 + math.ceil((size[0] - top) / scale))
    x1 = min(width, x0 + math.ceil((size[1] - left) / scale))
    part = resize(sample["image"][y0:y1, x0:x1], scale)[: size[0] - top, : size[1] - left]
    moved = (sample["boxes"] - np.float32([x0, y0] * 2)) * scale + np.float32([left, top] * 2)
    window = (left, top, left + part.shape[1], top + part.shape[0])
    canvas = _canvas(part, size, top, left, pad)
    placed = sample | dict(image=canvas, boxes=np.float32(moved), windows=np.array([window]))
    return clip_boxes(placed, window, min_visible=min_visible)


def clip_boxes(
    sample: Sample, window: tuple[float, float, float, float], *, min_visible: float
) -> Sample:
    """Clips boxes to `window` (xyxy).

    What is left of an object of which less than the fraction `min_visible` is seen becomes a region
    to ignore: it is neither an object to find nor background. Slivers under a pixel are dropped.
    """
    boxes = sample["boxes"]
    inside = np.clip(boxes, np.float32(window[:2] * 2), np.float32(window[2:] * 2))
    sides, seen = boxes[:, 2:] - boxes[:, :2], inside[:, 2:] - inside[:, :2]
    visible = seen.prod(axis=1) / np.maximum(sides.prod(axis=1), 1e-9)
    keep = (seen >= _MIN_SIDE).all(axis=1)
    crowd = sample["crowd"] | (visible < min_visible)
    return sample | dict(boxes=inside[keep], labels=sample["labels"][keep], crowd=crowd[keep])


def flip(sample: Sample) -> Sample:
    """Mirrors left and right."""
    x0, y0, x1, y1 = sample["boxes"].T
    width = np.float32(sample["image"].shape[1])
    boxes = np.stack([width - x1, y0, width - x0, y1], axis=-1)
    return sample | dict(image=cv2.flip(sample["image"], 1), boxes=boxes)


def scale_jitter(
    sample: Sample,
    size: tuple[int, int],
    rng: np.random.Generator,
    *,
    ratio: float,
    focus: float = 0.0,
    pad: int = GREY,
    min_visible: float = 0.3,
) -> Sample:
    """Large-scale jitter: `ratio` times the size that fits the canvas, at a random place.

    Ghiasi et al. 2021, "Simple Copy-Paste", section 3. A smaller image is padded, a larger one
    cropped; with probability `focus` the crop is one that holds an object drawn at random (small
    objects in large images would else be cut away most of the time).
    """
    height, width = sample["image"].shape[:2]
    scale = fit_scale(height, width, size) * ratio
    objects = sample["boxes"][~sample["crowd"]]
    held = objects[rng.integers(len(objects))] if len(objects) and rng.random() < focus else None
    spans = [None, None] if held is None else [(held[1], held[3]), (held[0], held[2])]
    places = [
        _slide(rng, length, canvas, scale, span)
        for length, canvas, span in zip((height, width), size, spans, strict=True)
    ]
    (y0, top), (x0, left) = places
    return place(
        sample,
        size,
        scale=scale,
        origin=(y0, x0),
        at=(top, left),
        pad=pad,
        min_visible=min_visible,
    )


def _slide(
    rng: np.random.Generator,
    length: int,
    canvas: int,
    scale: float,
    span: tuple[float, float] | None,
) -> tuple[int, int]:
    """A random (first pixel, place on the canvas) along one axis; the part seen holds `span`."""
    scaled = round(length * scale)
    if scaled <= canvas:
        return 0, int(rng.integers(canvas - scaled + 1))
    seen = math.floor(canvas / scale)
    low, high = 0, length - seen
    if span is not None and span[1] - span[0] <= seen:
        low = min(max(low, math.ceil(span[1]) - seen), high)
        high = max(min(high, math.floor(span[0])), low)
    return int(rng.integers(low, high + 1)), 0


def _canvas(image: np.ndarray, size: tuple[int, int], top: int, left: int, pad: int) -> np.ndarray:
    if image.shape[:2] == tuple(size):
        return np.ascontiguousarray(image)
    canvas = np.full((*size, 3), pad, np.uint8)
    canvas[top : top + image.shape[0], left : left + image.shape[1]] = image
    return canvas
