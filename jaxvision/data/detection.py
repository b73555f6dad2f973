"""The detection data that a config describes: sources of each split, and batches of them."""

import dataclasses
import functools
import shlex
from collections.abc import Callable
from pathlib import Path

import grain
import jax
from absl import logging
from jax.experimental import multihost_utils

from jaxvision.data import layout, skywatch
from jaxvision.data.coco import CocoSource
from jaxvision.data.pipeline import batches
from jaxvision.data.transforms import (
    AugmentConfig,
    eval_examples,
    max_boxes_of,
    train_examples,
)

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
    on what is trained on. `names` are the classes in the model's order and `category_ids` their ids
    in what `predict` writes; empty, they are those of the training annotations. `max_boxes` is how
    many objects a row of a batch holds; 0 takes what the training annotations need.
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
    category_ids: tuple[int, ...] = ()
    max_boxes: int = 0
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
        if self.holdout:
            layout.holdout(*self.holdout)
        if len(self.category_ids) not in (0, len(self.names)):
            raise ValueError(
                f"data.category_ids={self.category_ids} must be one for each of "
                f"data.names={self.names}"
            )
        if self.max_boxes < 0:
            raise ValueError(f"data.max_boxes={self.max_boxes} must be at least 1, or 0")


class DetectionData:
    """Sources by split, read when first asked for.

    `echo` takes a line on each source when batches to train on are asked for.
    """

    def __init__(
        self,
        cfg: DataConfig,
        *,
        size: tuple[int, int],
        seed: int,
        echo: Callable[[str], None] = logging.debug,
    ):
        self.cfg, self.size, self.seed, self.echo = cfg, tuple(size), seed, echo

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """The classes in the model's order."""
        return tuple(self.cfg.names) or self._load("train").categories

    @functools.cached_property
    def category_ids(self) -> tuple[int, ...]:
        """The ids of `names`; empty where names are given and there are no annotations to ask."""
        cfg = self.cfg
        if cfg.category_ids or (cfg.names and not Path(cfg.annotations or cfg.root).exists()):
            return tuple(cfg.category_ids)
        return self.source("train").category_ids

    @functools.cache  # noqa: B019 - lives as long as the run does
    def source(self, split: str) -> CocoSource:
        """The images of "train" or "val", their classes in the order of `names`."""
        source = self._load(split)
        return source if source.categories == self.names else source.with_categories(self.names)

    def batches(self, split: str, *, batch: int) -> grain.MapDataset:
        """Batches for `Stage.data`: augmented, endless for "train"; each image once for "val".

        To train, both splits are read: what is wrong with the other shows now, not hours later.
        """
        source, augment = self.source(split), self.cfg.augment
        limit = self.cfg.max_boxes or max_boxes_of(source, augment)
        if split == "train":
            for name in SPLITS:
                self.echo(f"{name}: {self.source(name).report()}")
                _refuse_useless(self.source(name), name)
            rows = train_examples(
                source, augment=augment, size=self.size, max_boxes=limit, seed=self.seed
            )
        else:
            _refuse_useless(source, split)
            rows = eval_examples(source, size=self.size, max_boxes=limit)
        return batches(
            rows,
            batch=batch,
            repeat=split == "train",
            process_index=jax.process_index(),
            process_count=jax.process_count(),
            seen=source.note,
        )

    @functools.cache  # noqa: B019
    def _load(self, split: str) -> CocoSource:
        if split not in SPLITS:
            raise ValueError(f"split {split!r} is none of {SPLITS}")
        cfg, (images, annotations) = self.cfg, self._find(split)
        apart = cfg.holdout or cfg.val == cfg.train
        if split == "train" and not apart and self._find("val")[1] == annotations:
            raise ValueError(
                f"data: nothing to evaluate on but {annotations}, which is trained on: give "
                "--config.data.val_annotations=FILE, or --config.data.holdout=\"('id', 10, 0)\" to "
                "hold out a part of it"
            )
        holdout = (*cfg.holdout, split == "train") if cfg.holdout else None
        return CocoSource.load(images, annotations, holdout=holdout)

    def _find(self, split: str) -> tuple[Path, Path]:
        cfg = self.cfg
        if split == "val" and cfg.val_annotations:
            return Path(cfg.val_images or cfg.images), Path(cfg.val_annotations)
        if cfg.annotations:
            return Path(cfg.images), Path(cfg.annotations)
        if cfg.scenes.train:
            if jax.process_index() == 0:
                skywatch.generate(cfg.root, **dataclasses.asdict(cfg.scenes))
            if jax.process_count() > 1:
                multihost_utils.sync_global_devices("scenes are drawn")
        name = cfg.train if cfg.holdout or split == "train" else cfg.val
        return layout.find(cfg.root, name)


def _refuse_useless(source: CocoSource, split: str) -> None:
    """Refuses a split of which so little is left that every score of the run would be empty."""
    useless = source.annotations.counts.useless()
    if useless:
        purpose = {"train": "train", "val": "evaluate"}[split]
        file = source.annotations.file
        places = ["--images", str(source.folder), "--annotations", file]
        doctor = shlex.join(["python", "-m", "jaxvision.data.doctor", *places])
        raise ValueError(f"{file}: not fit to {purpose} on: {useless}; see why with: {doctor}")
