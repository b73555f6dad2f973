"""Pictures in COCO's form with masks beside them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from jaxvision.data import layout
from jaxvision.data.annotations import read
from jaxvision.data.coco import CocoSource
from jaxvision.data.detection import DataConfig, DetectionData
from jaxvision.data.geometry import Sample
from jaxvision.data.images import image_size
from jaxvision.data.labelled.config import LabelledConfig
from jaxvision.data.labelled.masks import Classes, Masks, frequent_classes, read_mask
from jaxvision.data.labelled.row import NO_LABEL, UNLABELLED
from jaxvision.data.labelled.split import hold_out_groups


class MaskedCoco:
    """A `CocoSource` whose samples have `segments` and `action` too."""

    def __init__(self, source: CocoSource, masks: Masks | None, classes: Classes, *, actions: bool):
        self.source, self.masks, self.classes, self.actions = source, masks, classes, actions
        self.missing = source.missing

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Sample:
        sample = self.source[index]
        action = picture_class(sample) if self.actions else NO_LABEL
        return sample | dict(segments=self._segments(index, sample), action=action)

    @property
    def most(self) -> int:
        """The most objects in a picture."""
        return int(np.diff(self.source.annotations.first).max())

    @property
    def dataset(self) -> dict[str, Any]:
        return self.source.dataset

    def note(self, batch: Mapping[str, np.ndarray]) -> None:
        self.source.note(batch)

    def _segments(self, index: int, sample: Sample) -> np.ndarray:
        shape = sample["image"].shape[:2]
        picture = self.source.path(index)
        path = None if self.masks is None else self.masks.path(picture)
        if path is None:
            return np.full(shape, UNLABELLED, np.uint8)
        mask = read_mask(path)
        if mask.shape != shape:
            raise ValueError(
                f"{path}: the mask is {mask.shape[1]}x{mask.shape[0]}, "
                f"{picture.name} is {shape[1]}x{shape[0]}"
            )
        return self.classes.index(mask)


def picture_class(sample: Sample) -> int:
    """The class of a picture's objects, where they have a single one, else `NO_LABEL`."""
    labels = np.unique(sample["labels"][~sample["crowd"]])
    return int(labels[0]) if len(labels) == 1 else NO_LABEL


def load_coco(cfg: LabelledConfig) -> tuple[dict[str, MaskedCoco], tuple[str, ...]]:
    """The sources of "train" and "val", and the names of the masks' classes."""
    found = _by_group(cfg) if cfg.group else _by_file(cfg)
    folder = Path(cfg.masks) if cfg.masks else Path(cfg.root or cfg.images) / "masks"
    masks, classes, names = None, Classes(()), ()
    if cfg.masks or folder.is_dir():
        masks = Masks(folder)
        train = found["train"]
        paths = [masks.path(train.path(i)) for i in range(len(train))]
        there = [path for path in paths if path is not None]
        if not there:
            raise ValueError(f"{folder} holds no mask of a picture of {train.folder}")
        classes = frequent_classes(there, most=cfg.segment_classes)
        names = tuple(map(masks.name, classes.ids))
        logging.info("%s: %d of %d pictures have a mask", folder, len(there), len(train))
    elif cfg.segment_classes:
        raise ValueError(f"labelled.segment_classes={cfg.segment_classes}: {folder} is no folder")
    sources = {
        split: MaskedCoco(source, masks, classes, actions=cfg.actions)
        for split, source in found.items()
    }
    return sources, names


def _by_file(cfg: LabelledConfig) -> dict[str, CocoSource]:
    parts = ("root", "train", "val", "images", "annotations", "val_images", "val_annotations")
    data = DetectionData(
        DataConfig(**{name: getattr(cfg, name) for name in parts}), size=(cfg.size,) * 2, seed=0
    )
    return {split: data.source(split) for split in ("train", "val")}


def _by_group(cfg: LabelledConfig) -> dict[str, CocoSource]:
    """Both splits from the annotations of the first, no group in both."""
    if cfg.annotations:
        images, annotations = Path(cfg.images), Path(cfg.annotations)
    else:
        images, annotations = layout.find(cfg.root, cfg.train)
    held = _held_groups(images, annotations, cfg.group, every=cfg.holdout)
    load = lambda test: CocoSource.load(images, annotations, subset=test)  # noqa: E731
    return {
        "train": load(lambda image: str(image[cfg.group]) not in held),
        "val": load(lambda image: str(image[cfg.group]) in held),
    }


def _held_groups(images: Path, annotations: Path, group: str, *, every: int) -> frozenset[str]:
    """The groups to hold out, by the class that most of an image's objects have."""
    groups: list[str] = []

    def note(image: Mapping[str, Any]) -> bool:
        if group not in image:
            raise ValueError(
                f"{annotations}: images have no field {group!r}; they have {sorted(image)}"
            )
        groups.append(str(image[group]))
        return True

    # The records that are read lack other fields; the filter sees them, in the order of the images.
    found = read(annotations, keep=note, size_of=lambda name: image_size(images / name))
    labels = np.split(found.labels, found.first[1:-1])
    strata = [found.categories[np.bincount(x).argmax()] if len(x) else "" for x in labels]
    held = hold_out_groups(groups, strata, every=every)
    count = len(set(groups))
    if not held:
        raise ValueError(
            f"{annotations}: {count} values of {group!r} are too few to hold out one of {every}"
        )
    logging.info("%s: of %d values of %s, %d are held out", annotations, count, group, len(held))
    return held
