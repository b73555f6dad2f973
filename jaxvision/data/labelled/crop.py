"""A window of a picture with its boxes and its mask, scaled onto a row's square."""

import math

import numpy as np

from jaxvision.data.colour import colour_jitter
from jaxvision.data.geometry import Sample, fit_scale, flip, letterbox, place
from jaxvision.data.labelled.config import CropConfig
from jaxvision.data.labelled.row import UNLABELLED


def random_window(sample: Sample, size: int, cfg: CropConfig, rng: np.random.Generator) -> Sample:
    """Scaled, cropped or padded, mirrored and recoloured at random, as `CropConfig` says.

    Ghiasi et al. 2021, "Simple Copy-Paste", section 3; a crop may be one that holds an object, for
    small ones in large pictures would else be cut away most of the time.
    """
    height, width = sample["image"].shape[:2]
    scale = fit_scale(height, width, (size, size)) * math.exp(rng.uniform(*np.log(cfg.scale)))
    objects = sample["boxes"][~sample["crowd"]]
    held = [None, None]
    if len(objects) and rng.random() < cfg.focus:
        x0, y0, x1, y1 = objects[rng.integers(len(objects))]
        held = [(y0, y1), (x0, x1)]
    seen = size / scale
    starts = [_start(rng, n, seen, span) for n, span in zip((height, width), held, strict=True)]
    out = window(sample, size, scale=scale, start=starts, min_visible=cfg.min_visible)
    if rng.random() < cfg.flip:
        out = flip(out) | dict(segments=np.ascontiguousarray(out["segments"][:, ::-1]))
    colours = {k: getattr(cfg, k) for k in ("brightness", "contrast", "saturation", "hue")}
    if any(colours.values()):
        out["image"] = colour_jitter(out["image"], rng, **colours)
    return out


def window(
    sample: Sample, size: int, *, scale: float, start: list[int], min_visible: float
) -> Sample:
    """The square from `start` (y, x; negative where it begins outside) on, `size` pixels scaled."""
    origin = [max(0, n) for n in start]
    at = [math.floor(max(0, -n) * scale) for n in start]
    out = place(
        sample,
        (size, size),
        scale=scale,
        origin=tuple(origin),
        at=tuple(at),
        min_visible=min_visible,
    )
    x0, y0, x1, y1 = out["windows"][0]
    segments = np.full((size, size), UNLABELLED, np.uint8)
    segments[y0:y1, x0:x1] = _nearest(
        sample["segments"][origin[0] :, origin[1] :], scale, (y1 - y0, x1 - x0)
    )
    return out | dict(segments=segments)


def fitted(sample: Sample, size: int) -> tuple[Sample, np.ndarray]:
    """The whole picture in the middle of a square, and its (scale, left, top)."""
    height, width = sample["image"].shape[:2]
    scale = fit_scale(height, width, (size, size))
    canvas, fit = letterbox(sample["image"], (size, size))
    left, top = (int(n) for n in fit[1:])
    part = _nearest(sample["segments"], scale, (round(height * scale), round(width * scale)))
    segments = np.full((size, size), UNLABELLED, np.uint8)
    segments[top : top + part.shape[0], left : left + part.shape[1]] = part
    boxes = np.float32(sample["boxes"] * fit[0] + fit[[1, 2, 1, 2]])
    return sample | dict(image=canvas, boxes=boxes, segments=segments), fit


def _start(
    rng: np.random.Generator, length: int, seen: float, span: tuple[float, float] | None
) -> int:
    """Where a window of `seen` pixels begins on an axis, so that it holds `span` if it can.

    Within the picture, or around it where the window is larger.
    """
    low, high = sorted((0, math.floor(length - seen)))
    if span is not None and length > seen:
        first, last = math.ceil(span[1] - seen), math.floor(span[0])
        if first <= last:
            low, high = max(low, min(first, high)), min(high, max(last, low))
    return int(rng.integers(low, high + 1))


def _nearest(mask: np.ndarray, scale: float, shape: tuple[int, int]) -> np.ndarray:
    """The class under the middle of each pixel of a scaled mask's first `shape`."""
    rows, columns = (
        np.minimum(((np.arange(n) + 0.5) / scale).astype(int), length - 1)
        for n, length in zip(shape, mask.shape, strict=True)
    )
    return mask[rows[:, None], columns]
