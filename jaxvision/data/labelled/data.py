"""The labelled pictures that a config describes: classes, sources and batches."""

import functools
from collections.abc import Callable
from pathlib import Path

import grain
import jax
from absl import logging

from jaxvision.data.labelled import davis, scenes
from jaxvision.data.labelled.coco import MaskedCoco, load_coco
from jaxvision.data.labelled.config import LabelledConfig
from jaxvision.data.labelled.davis import Davis
from jaxvision.data.labelled.rows import CroppedRows, DrawnRows, WholeRows
from jaxvision.data.labelled.scenes import Scenes
from jaxvision.data.pictures import PicturesConfig, split_pictures
from jaxvision.data.pipeline import batches
from jaxvision.data.rows import boxes_needed

SPLITS = ("train", "val")
Source = Scenes | MaskedCoco | Davis


class LabelledData:
    """Sources by split, read when first asked for.

    `classes`, `segments` and `actions` name what `labels`, `segments` and `action` count; what a
    source has no labels for is (). `echo` takes a line on each source when batches to train on are
    asked for.
    """

    def __init__(
        self,
        cfg: LabelledConfig,
        *,
        seed: int,
        echo: Callable[[str], None] = logging.debug,
    ):
        self.cfg, self.seed, self.echo = cfg, seed, echo

    @property
    def classes(self) -> tuple[str, ...]:
        return self._loaded[1]

    @property
    def segments(self) -> tuple[str, ...]:
        return self._loaded[2]

    @property
    def actions(self) -> tuple[str, ...]:
        return self.classes if self.cfg.actions and self.cfg.kind != "davis" else ()

    @property
    def max_boxes(self) -> int:
        """Objects in a row."""
        return self.cfg.max_boxes or boxes_needed(self.source("train").most)

    def source(self, split: str) -> Source:
        """Pictures by index with their labels; its `dataset` is the truth that metrics take."""
        if split not in SPLITS:
            raise ValueError(f"split {split!r} is none of {SPLITS}")
        return self._loaded[0][split]

    def rows(self, split: str) -> grain.MapDataset:
        """Rows for `batches`: endless and random for "train", each picture once for "val"."""
        source, cfg = self.source(split), self.cfg
        if split == "val":
            size = cfg.val_size or cfg.size
            return WholeRows(source, size=size, max_boxes=self.max_boxes)
        if source.most > self.max_boxes:
            raise ValueError(
                f"labelled.max_boxes={cfg.max_boxes} is too few: a picture to train on has "
                f"{source.most} objects; 0 follows the pictures"
            )
        if cfg.kind == "scenes":
            return DrawnRows(source, max_boxes=self.max_boxes)
        return CroppedRows(
            source, cfg.crops, size=cfg.size, max_boxes=self.max_boxes, seed=self.seed
        )

    def batches(self, split: str, *, batch: int) -> grain.MapDataset:
        """Batches for `Stage.data`."""
        if split == "train":
            for name in SPLITS:
                self.echo(f"{name}: {len(self.source(name))} labelled pictures")
        return batches(
            self.rows(split),
            batch=batch,
            repeat=split == "train",
            process_index=jax.process_index(),
            process_count=jax.process_count(),
            seen=self.source(split).note,
        )

    @functools.cached_property
    def _loaded(self) -> tuple[dict[str, Source], tuple[str, ...], tuple[str, ...]]:
        return {"scenes": self._scenes, "coco": self._coco, "davis": self._davis}[self.cfg.kind]()

    def _scenes(self):
        cfg = self.cfg
        paths = split_pictures(PicturesConfig(root=cfg.root))
        # A run's seed draws what it trains on, the data's what it is measured by.
        train = Scenes(
            paths["train"],
            cfg.scenes,
            count=cfg.scenes.train,
            size=cfg.size,
            seed=self.seed,
            stream=0,
        )
        val = Scenes(
            paths["val"],
            cfg.scenes,
            count=cfg.scenes.val,
            size=cfg.val_size or cfg.size,
            seed=cfg.seed,
            stream=1,
        )
        return {"train": train, "val": val}, scenes.CLASSES, scenes.SEGMENTS

    def _coco(self):
        sources, segments = load_coco(self.cfg)
        return sources, sources["train"].source.categories, segments

    def _davis(self):
        cfg = self.cfg
        root = Path(cfg.root)
        sources = {"train": Davis(root, cfg.train), "val": Davis(root, cfg.val)}
        return sources, davis.CLASSES, davis.SEGMENTS
