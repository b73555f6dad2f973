"""DAVIS 2017: frames with masks of objects that have no class.

Pont-Tuset et al. 2017, "The 2017 DAVIS Challenge on Video Object Segmentation".
"""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxvision.data.geometry import Sample
from jaxvision.data.images import read_image
from jaxvision.data.labelled.masks import read_mask
from jaxvision.data.labelled.row import NO_LABEL, UNLABELLED

CLASSES = ("object",)
SEGMENTS = ("background", "foreground")
SPLITS = ("train", "val")


class Davis:
    """The frames of a split, by clip: a box around each object, the foreground as `segments`."""

    missing: frozenset[int] = frozenset()

    def __init__(self, root: Path, split: str):
        self.root = _find(Path(root))
        lists = self.root / "ImageSets" / "2017" / f"{split}.txt"
        if not lists.is_file():
            raise FileNotFoundError(f"{lists}: there is no such list of clips")
        self.frames: list[Path] = []
        self._first: list[Path] = []
        for clip in lists.read_text(encoding="utf-8").split():
            frames = sorted((self.root / "JPEGImages" / "480p" / clip).glob("*.jpg"))
            if not frames:
                raise FileNotFoundError(f"{lists}: clip {clip!r} has no frames")
            self.frames += frames
            self._first.append(frames[0])

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Sample:
        frame = self.frames[index]
        image, mask = read_image(frame), read_mask(self._mask(frame))
        if image.shape[:2] != mask.shape:
            raise ValueError(f"{frame}: {image.shape[:2]}, its mask is {mask.shape}")
        boxes = mask_boxes(mask)
        return dict(
            image=image,
            boxes=boxes,
            labels=np.zeros(len(boxes), np.int32),
            crowd=np.zeros(len(boxes), bool),
            segments=np.where(mask == UNLABELLED, mask, mask > 0).astype(np.uint8),
            action=NO_LABEL,
            index=index,
            size=np.array(mask.shape, np.int32),
            broken=False,
        )

    @functools.cached_property
    def most(self) -> int:
        """The most objects in a picture: all of a clip's are in its first frame."""
        return max(len(mask_boxes(read_mask(self._mask(frame)))) for frame in self._first)

    @functools.cached_property
    def dataset(self) -> dict[str, Any]:
        """The boxes in COCO's form, for metrics; reads every mask."""
        images, annotations = [], []
        for i, frame in enumerate(self.frames):
            mask = read_mask(self._mask(frame))
            name, (height, width) = f"{frame.parent.name}/{frame.name}", mask.shape
            images.append(dict(id=i, file_name=name, width=width, height=height))
            for x0, y0, x1, y1 in mask_boxes(mask).tolist():
                bbox = [x0, y0, x1 - x0, y1 - y0]
                entry = dict(id=len(annotations) + 1, image_id=i, category_id=1, bbox=bbox)
                annotations.append(entry | dict(area=bbox[2] * bbox[3], iscrowd=0))
        categories = [dict(id=1, name=CLASSES[0])]
        return dict(images=images, annotations=annotations, categories=categories)

    def note(self, batch: Mapping[str, np.ndarray]) -> None:
        """Nothing: a frame that cannot be read is an error."""

    def _mask(self, frame: Path) -> Path:
        return self.root / "Annotations" / "480p" / frame.parent.name / f"{frame.stem}.png"


def mask_boxes(mask: np.ndarray) -> np.ndarray:
    """Tight boxes float32 `[n 4]` xyxy of the objects 1, 2, … in a mask `[h w]` that has them."""
    boxes = []
    for number in np.unique(mask):
        if number in (0, UNLABELLED):
            continue
        inside = mask == number
        rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
        boxes.append((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
    return np.array(boxes, np.float32).reshape(-1, 4)


def _find(root: Path) -> Path:
    for folder in (root, root / "DAVIS"):
        if (folder / "JPEGImages" / "480p").is_dir():
            return folder
    raise FileNotFoundError(f"{root}: no JPEGImages/480p; launch/setup_davis.sh makes it")
