"""Drawn scenes: aircraft, birds and balloons on photographs, with the mask and the box of each."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxvision.data.geometry import Sample
from jaxvision.data.labelled.config import ScenesConfig
from jaxvision.data.labelled.row import NO_LABEL
from jaxvision.data.pictures import random_crop, read_again
from jaxvision.data.skywatch.looks import look
from jaxvision.data.skywatch.scene import MIN_CONTRAST, Actor, lay
from jaxvision.data.skywatch.sprite import Sprite

# Those of SkyWatch's that cover what is behind them; a meteorite is light alone.
CLASSES = ("airplane", "helicopter", "bird", "drone", "balloon")
SEGMENTS = ("background", *CLASSES)

_SCALE = 0.5  # the photographs behind are shrunk to no less
_APART = 0.62  # of the sum of two lengths: no drawing reaches further from its middle
_TRIES = 20


class Scenes:
    """Scene g, of any number, depends on (seed, stream, g) alone; `len` is what an epoch is called.

    A scene is a sample: `image` uint8 `[s s 3]`, `boxes`, `labels`, `crowd`, `area`, `segments`
    (0 is background, class k is k + 1), `action` (the class of most objects), `index`, `size`.
    """

    missing: frozenset[int] = frozenset()

    def __init__(
        self,
        photographs: Sequence[Path],
        cfg: ScenesConfig,
        *,
        count: int,
        size: int,
        seed: int,
        stream: int,
    ):
        self.photographs, self.cfg, self.count, self.size = tuple(photographs), cfg, count, size
        self._key = (seed, stream)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng((*self._key, int(index)))
        photograph = read_again(self.photographs[rng.integers(len(self.photographs))])
        behind = random_crop(photograph, self.size, scale=_SCALE, rng=rng)
        return scene(behind, self.cfg, rng) | dict(
            index=index, size=np.full(2, self.size, np.int32), broken=False
        )

    @property
    def most(self) -> int:
        """The most objects in a picture."""
        return self.cfg.objects

    @functools.cached_property
    def dataset(self) -> dict[str, Any]:
        """The boxes of one epoch in COCO's form, for metrics."""
        images, annotations = [], []
        for i in range(len(self)):
            sample = self[i]
            images.append(dict(id=i, file_name=f"scene {i}", width=self.size, height=self.size))
            for box, label, area in zip(
                sample["boxes"].tolist(), sample["labels"], sample["area"], strict=True
            ):
                x0, y0, x1, y1 = box
                annotations.append(
                    dict(
                        id=len(annotations) + 1,
                        image_id=i,
                        category_id=int(label) + 1,
                        bbox=[x0, y0, x1 - x0, y1 - y0],
                        area=float(area),
                        iscrowd=0,
                    )
                )
        categories = [dict(id=k + 1, name=name) for k, name in enumerate(CLASSES)]
        return dict(images=images, annotations=annotations, categories=categories)

    def note(self, batch: Mapping[str, np.ndarray]) -> None:
        """Nothing: no scene is broken."""


def scene(behind: np.ndarray, cfg: ScenesConfig, rng: np.random.Generator) -> Sample:
    """Draws objects that do not touch on a picture uint8 `[s s 3]`; one class has most of them."""
    size = len(behind)
    image = behind.astype(np.float32) / 255
    segments = np.zeros((size, size), np.uint8)
    boxes, labels, areas, taken = [], [], [], []
    wanted = _cast(cfg, rng)
    for label in wanted:
        length = size * float(np.exp(rng.uniform(*np.log(cfg.length))))
        centre = _place(rng, size, length, taken)
        if centre is None:
            continue
        taken.append((centre, length))
        haze = rng.uniform(0, 0.2)
        looks = look(rng, CLASSES[label], "day")
        actor = Actor(looks, length, centre, haze=haze, contrast=MIN_CONTRAST, through=1.0)
        rows, columns = _pixels(lay(image, actor, "day"), size)
        segments[rows, columns] = label + 1
        boxes.append((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
        labels.append(label)
        areas.append(len(rows))
    return dict(
        image=np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8),
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        labels=np.array(labels, np.int32),
        crowd=np.zeros(len(boxes), bool),
        area=np.array(areas, np.float32),
        segments=segments,
        action=wanted[0] if labels else NO_LABEL,
    )


def _cast(cfg: ScenesConfig, rng: np.random.Generator) -> list[int]:
    """Classes to draw. More than half are of the first one, and come first: they find room."""
    if rng.random() < cfg.empty:
        return []
    count = int(rng.integers(1, cfg.objects + 1))
    first = int(rng.integers(len(CLASSES)))
    others = (count - 1) // 2
    return [first] * (count - others) + rng.integers(len(CLASSES), size=others).tolist()


def _place(
    rng: np.random.Generator, size: int, length: float, taken: list[tuple[np.ndarray, float]]
) -> np.ndarray | None:
    """A middle (x, y) away from the others', the object almost whole in the picture."""
    margin = min(0.45 * length, size / 2)
    for _ in range(_TRIES):
        centre = rng.uniform(margin, size - margin, 2)
        if all(np.hypot(*(centre - c)) >= _APART * (length + n) for c, n in taken):
            return centre
    return None


def _pixels(sprite: Sprite, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the pixels in the picture of which an object covers at least half.

    Half of what it covers of any, for the smallest.
    """
    rows, columns = np.nonzero(sprite.alpha >= 0.5 * sprite.alpha.max())
    rows, columns = rows + sprite.top, columns + sprite.left
    inside = (rows >= 0) & (columns >= 0) & (rows < size) & (columns < size)
    return rows[inside], columns[inside]
