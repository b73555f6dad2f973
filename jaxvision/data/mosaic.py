"""Images made of several: four in a mosaic, and small objects pasted from one into another."""

from collections.abc import Sequence

import numpy as np

from jaxvision.data.geometry import Sample

Region = tuple[int, int, int, int]  # top, left, height, width

_MARGIN = 0.3  # of an object's side, that a pasted patch has around it
_MIN_MARGIN = 3
_TRIES = 10


def quadrants(size: tuple[int, int], rng: np.random.Generator) -> list[Region]:
    """Splits a canvas of `size` (h, w) in four at a random point of its middle."""
    y, x = (int(n * rng.uniform(0.3, 0.7)) for n in size)
    return [
        (top, left, height, width)
        for top, height in ((0, y), (y, size[0] - y))
        for left, width in ((0, x), (x, size[1] - x))
    ]


def mosaic(tiles: Sequence[Sample], regions: Sequence[Region], size: tuple[int, int]) -> Sample:
    """Joins four samples, each of the size of its region, into one.

    Bochkovskiy et al. 2020, "YOLOv4", section 3.3.
    """
    canvas = np.empty((*size, 3), np.uint8)
    boxes, windows = [], []
    for tile, (top, left, height, width) in zip(tiles, regions, strict=True):
        canvas[top : top + height, left : left + width] = tile["image"]
        boxes.append(tile["boxes"] + np.float32([left, top, left, top]))
        windows.append(tile["windows"] + np.array([left, top, left, top]))
    joined = {key: np.concatenate([tile[key] for tile in tiles]) for key in ("labels", "crowd")}
    joined |= dict(boxes=np.concatenate(boxes), windows=np.concatenate(windows))
    return tiles[0] | joined | dict(image=canvas)


def copy_paste(
    sample: Sample,
    donor: Sample,
    rng: np.random.Generator,
    *,
    count: int,
    small: float = 32.0**2,
) -> Sample:
    """Pastes up to `count` objects of the donor, of an area below `small`, where no other is.

    Kisantal et al. 2019, "Augmentation for small object detection". A patch has a soft edge and is
    lightened or darkened to the surroundings it comes into; objects of the donor that lie too close
    to others or to its border are not used, so that nothing comes along without its box. Padding
    gets nothing: patches lie within the sample's `windows`.
    """
    image, boxes, labels = sample["image"].copy(), list(sample["boxes"]), list(sample["labels"])
    patches = [_patch(donor, k) for k in rng.permutation(len(donor["boxes"]))]
    windows = sample["windows"]
    for k, (x0, y0, x1, y1) in [p for p in patches if p is not None and _area(donor, p[0]) < small]:
        if len(boxes) - len(sample["boxes"]) == count:
            break
        room = windows[:, 2:] - windows[:, :2] - (x1 - x0, y1 - y0) + 1
        for _ in range(_TRIES if (room > 0).all(axis=1).any() else 0):
            areas = np.maximum(room, 0).prod(axis=1)
            window = rng.choice(len(windows), p=areas / areas.sum())
            left, top = windows[window, :2] + rng.integers(room[window])
            target = np.array([left, top, left + x1 - x0, top + y1 - y0])
            if boxes and _overlaps(target, np.array(boxes)).any():
                continue
            box = donor["boxes"][k] - np.float32([x0, y0, x0, y0])
            _blend(image[top : target[3], left : target[2]], donor["image"][y0:y1, x0:x1], box)
            boxes.append(box + np.float32([left, top, left, top]))
            labels.append(donor["labels"][k])
            break
    added = len(boxes) - len(sample["boxes"])
    return sample | dict(
        image=image,
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        labels=np.array(labels, np.int32),
        crowd=np.concatenate([sample["crowd"], np.zeros(added, bool)]),
    )


def _patch(donor: Sample, k: int) -> tuple[int, tuple[int, int, int, int]] | None:
    """The surroundings of object k, unless they touch another one, a crowd or the border."""
    box = donor["boxes"][k]
    margin = np.maximum(_MIN_MARGIN, _MARGIN * (box[2:] - box[:2]))
    low, high = np.floor(box[:2] - margin).astype(int), np.ceil(box[2:] + margin).astype(int)
    height, width = donor["image"].shape[:2]
    others = np.delete(donor["boxes"], k, axis=0)
    outside = low.min() < 0 or high[0] > width or high[1] > height
    if donor["crowd"][k] or outside or _overlaps(np.concatenate([low, high]), others).any():
        return None
    return k, (*low.tolist(), *high.tolist())


def _area(sample: Sample, k: int) -> float:
    x0, y0, x1, y1 = sample["boxes"][k]
    return float((x1 - x0) * (y1 - y0))


def _overlaps(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Which of `boxes [n 4]` share area with `box [4]`."""
    return ((boxes[:, :2] < box[2:]) & (boxes[:, 2:] > box[:2])).all(axis=1)


def _blend(target: np.ndarray, patch: np.ndarray, box: np.ndarray) -> None:
    """Writes `patch [h w 3]` over `target`: whole within `box`, fading to nothing at the edge."""
    height, width = patch.shape[:2]
    across = _ramp(width, float(box[0]), float(box[2]))
    down = _ramp(height, float(box[1]), float(box[3]))
    weight = (down[:, None] * across)[..., None]
    shift = _rim(target) - _rim(patch)
    target[:] = np.clip(np.rint(target + weight * (patch + shift - target)), 0, 255)


def _ramp(length: int, low: float, high: float) -> np.ndarray:
    """0 at both ends, 1 from `low` to `high`, smooth between."""
    x = np.arange(length) + 0.5
    t = np.clip(np.minimum(x / max(low, 1.0), (length - x) / max(length - high, 1.0)), 0, 1)
    return t * t * (3 - 2 * t)


def _rim(image: np.ndarray) -> np.ndarray:
    """Mean colour of the outermost pixels."""
    rim = [image[0], image[-1], image[1:-1, 0], image[1:-1, -1]]
    return np.concatenate(rim).astype(np.float64).mean(axis=0)
