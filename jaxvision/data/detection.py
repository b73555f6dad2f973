"""The detection data that a config describes: sources of each split, and batches of them."""

import dataclasses
import functools
from pathlib import Path

import grain
import jax
from jax.experimental import multihost_utils

from jaxvision.data import skywatch
from jaxvision.data.coco import CocoSource, find
from jaxvision.data.pipeline import batches
from jaxvision.data.transforms import AugmentConfig, eval_examples, train_examples

SPLITS = ("train", "val")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScenesConfig:
    """SkyWatch scenes that are drawn into `data.root` when it isn't there; 0 draws none."""

    train: int = 0
    val: int = 400
    size: int = 256
    seed: int = 0
    rare: float = 0.03
    workers: int = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where images and boxes come from, and what is done to them.

    `root` is a folder in COCO's layout with the splits `train` and `val` by those names, or
    `images` and `annotations` name the parts (`val_images` and `val_annotations` for the validation
    split). `holdout` (field, modulus, remainder) splits one annotations file in two: images whose
    `field` ends in a number n with n % modulus == remainder are held out. `val` = `train` evaluates
    on what is trained on. `names` are the classes in the model's order; empty, they are those of
    the training annotations.
    """

    root: str = ""
    train: str = "train"
    val: str = "val"
    images: str = ""
    annotations: str = ""
    val_images: str = ""
    val_annotations: str = ""
    holdout: tuple = ()
    names: tuple[str, ...] = ()
    max_boxes: int = 100
    scenes: ScenesConfig = ScenesConfig()
    augment: AugmentConfig = AugmentConfig()

    def __post_init__(self):
        if not self.root and not (self.images and self.annotations):
            raise ValueError(
                "data: no images: give --config.data.root=FOLDER (COCO layout), or "
                "--config.data.images=FOLDER with --config.data.annotations=FILE.json"
            )
        if self.holdout and len(self.holdout) != 3:
            raise ValueError(f"data.holdout={self.holdout} must be (field, modulus, remainder)")
        if self.max_boxes < 1:
            raise ValueError(f"data.max_boxes={self.max_boxes} must be at least 1")


class DetectionData:
    """Sources by split, read when first asked for."""

    def __init__(self, cfg: DataConfig, *, size: tuple[int, int], seed: int):
        self.cfg, self.size, self.seed = cfg, tuple(size), seed

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """The classes in the model's order."""
        return tuple(self.cfg.names) or self._load("train").categories

    @functools.cache  # noqa: B019 - lives as long as the run does
    def source(self, split: str) -> CocoSource:
        """The images of "train" or "val", their classes in the order of `names`."""
        source = self._load(split)
        return source if source.categories == self.names else source.with_categories(self.names)

    def batches(self, split: str, *, batch: int) -> grain.MapDataset:
        """Batches for `Stage.data`: augmented, endless for "train"; each image once for "val"."""
        source, limit = self.source(split), self.cfg.max_boxes
        if split == "train":
            rows = train_examples(
                source, augment=self.cfg.augment, size=self.size, max_boxes=limit, seed=self.seed
            )
        else:
            rows = eval_examples(source, size=self.size, max_boxes=limit)
        return batches(
            rows,
            batch=batch,
            repeat=split == "train",
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )

    @functools.cache  # noqa: B019
    def _load(self, split: str) -> CocoSource:
        if split not in SPLITS:
            raise ValueError(f"split {split!r} is none of {SPLITS}")
        images, annotations = self._find(split)
        holdout = (*self.cfg.holdout, split == "train") if self.cfg.holdout else None
        return CocoSource.load(images, annotations, holdout=holdout)

    def _find(self, split: str) -> tuple[Path, Path]:
        cfg = self.cfg
        if split == "val" and cfg.val_annotations:
            return Path(cfg.val_images or cfg.images), Path(cfg.val_annotations)
        if cfg.annotations:
            if split == "val" and not cfg.holdout and cfg.val != cfg.train:
                raise ValueError(
                    "data: nothing to evaluate on: give --config.data.val_annotations=FILE, or "
                    "--config.data.holdout=\"('id', 10, 0)\" to hold out a part of this file"
                )
            return Path(cfg.images), Path(cfg.annotations)
        if cfg.scenes.train:
            if jax.process_index() == 0:
                skywatch.generate(cfg.root, **dataclasses.asdict(cfg.scenes))
            if jax.process_count() > 1:
                multihost_utils.sync_global_devices("scenes are drawn")
        name = cfg.train if cfg.holdout or split == "train" else cfg.val
        return find(cfg.root, name)
