"""Batches of blocks with their partition types, for each stage."""

import dataclasses
import functools
from pathlib import Path

import grain
import jax
import numpy as np

from jaxvision.cnn_av1 import embedded
from jaxvision.cnn_av1.classes import IGNORED, stage_labels
from jaxvision.cnn_av1.dataset.blocks_set import BlockSet
from jaxvision.cnn_av1.levels import LEVELS, Level, level_of, shrunk
from jaxvision.data.pipeline import Row, batches, shuffled
from jaxvision.losses.balanced import class_balanced_weights

SPLITS = ("train", "val", "test")
MEMBERS = 3  # of the ensemble for AB types
BALANCES = ("none", "classes", "effective")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Blocks of `size` pixels with `context` around them.

    `root` = "" means the labels that come with the library, of panned photographs; else a folder
    that `python -m jaxvision.cnn_av1 prepare` wrote. It may lack a test split: then val is tested.
    `four_way` False leaves out HORZ_4 and VERT_4, as in the older data. `clips`: of the library's
    own, so many of each split; 0 means all.
    """

    root: str = ""
    size: int = 16
    context: int = 8
    four_way: bool = True
    clips: int = 0

    def __post_init__(self):
        level_of(self.size)
        if not 0 <= self.context <= 64:
            raise ValueError(f"data.context={self.context} must be from 0 to 64")
        if self.clips < 0:
            raise ValueError(f"data.clips={self.clips} must be at least 0")


class PartitionData:
    """The splits of a data set by stage; every set is read once."""

    def __init__(self, cfg: DataConfig, *, seed: int):
        self.cfg, self._seed = cfg, seed
        self._sets = functools.cache(self._read)

    def blocks(self, split: str, *, size: int = 0, context: int | None = None) -> BlockSet:
        """All blocks of a split."""
        return self._sets(
            split, size or self.cfg.size, self.cfg.context if context is None else context
        )

    def typed_blocks(self, split: str) -> BlockSet:
        """All blocks of a split that are of a type which is predicted."""
        return self.stage_blocks(split, "binary")

    def stage_blocks(self, split: str, stage: str) -> BlockSet:
        """The blocks that a stage learns from or is measured on."""
        found = self.blocks(split)
        labels = stage_labels(found.labels, stage, four_way=self.cfg.four_way)
        rows = np.flatnonzero(labels != IGNORED)
        if not len(rows):
            raise ValueError(f"the {split} blocks have no partition of stage {stage!r}")
        return found.take(rows)

    def level_blocks(self, split: str, level: Level) -> BlockSet:
        """Blocks of one size; in training, of all nodes that the encoder tried, if that is known.

        A partition search is asked about those too, and about them it has to be right as well.
        """
        tried = split == "train" and not self.cfg.root
        return self._sets(split, level.size, level.context, tried)

    def member_blocks(self, number: int) -> BlockSet:
        """Training blocks of a member of the AB ensemble: sequences drawn with replacement.

        Breiman 1996: members that saw other samples err in other places. Whole sequences are drawn,
        for blocks of one sequence are much alike.
        """
        found = self.stage_blocks("train", "ab")
        rng = np.random.default_rng((self._seed, number))
        there = np.unique(found.sequence)
        drawn = rng.choice(there, len(there))
        rows = [np.flatnonzero(found.sequence == sequence) for sequence in drawn]
        return found.take(np.concatenate(rows))

    def _read(self, split: str, size: int, context: int, tried: bool) -> BlockSet:
        if split not in SPLITS:
            raise ValueError(f"split {split!r} is none of {', '.join(SPLITS)}")
        if not self.cfg.root:
            place = dict(size=size, context=context)
            return embedded.blocks(split, **place, tried=tried, clips=self.cfg.clips)
        folder = Path(self.cfg.root) / f"block_{size}"
        path = folder / f"{split}.npz"
        if split == "test" and not path.is_file():
            path = folder / "val.npz"
        if not path.is_file():
            raise FileNotFoundError(f"{path}: write it with `python -m jaxvision.cnn_av1 prepare`")
        found = BlockSet.load(path)
        if (found.size, found.context) != (size, context):
            raise ValueError(
                f"{path} has blocks of {found.size} pixels with {found.context} around; the config "
                f"has data.size={size}, data.context={context}"
            )
        return found


class Examples(grain.MapDataset[Row]):
    """A row for each block: `block`, `qp`, `type`, `level`, `sequence`, `costs` (NaN: unknown)."""

    def __init__(self, found: BlockSet, order: grain.MapDataset | None = None):
        super().__init__()
        self._found, self._order = found, order
        self._level = np.int32(LEVELS[found.size].number)

    def __len__(self) -> int:
        return len(self._order if self._order is not None else self._found.labels)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return self.slice(index)
        i = int(index) if self._order is None else self._order[int(index)]
        found = self._found
        costs = np.full(4, np.nan, np.float32) if found.costs is None else found.costs[i]
        return {
            "block": found.blocks[i],
            "qp": np.int32(found.qps[i]),
            "type": np.int32(found.labels[i]),
            "level": self._level,
            "sequence": np.int32(found.sequence[i]),
            "costs": costs,
        }


class LevelExamples(grain.MapDataset[Row]):
    """Blocks of several sizes, each as the network's square of `INPUT` pixels: `block [p p 2]`."""

    def __init__(self, sets: tuple[BlockSet, ...], order: grain.MapDataset | None = None):
        super().__init__()
        self._parts = [Examples(found) for found in sets]
        self._shrinks = [LEVELS[found.size].shrink for found in sets]
        self._ends = np.cumsum([len(part) for part in self._parts])
        self._order = order

    def __len__(self) -> int:
        return len(self._order) if self._order is not None else int(self._ends[-1])

    def __getitem__(self, index):
        if isinstance(index, slice):
            return self.slice(index)
        i = int(index) if self._order is None else self._order[int(index)]
        part = int(np.searchsorted(self._ends, i, side="right"))
        row = self._parts[part][i - int(self._ends[part]) + len(self._parts[part])]
        return row | {"block": shrunk(row["block"][None], self._shrinks[part])[0]}


def weights(labels: np.ndarray, balance: str, *, beta: float = 0.9999) -> np.ndarray:
    """How often each example should come, `[n]`, mean 1.

    "classes": every class as often as every other; "effective": by the effective number of
    examples (Cui et al. 2019, eq. 2); "none": as they are.
    """
    if balance not in BALANCES:
        raise ValueError(f"balance {balance!r} is none of {', '.join(BALANCES)}")
    if balance == "none":
        return np.ones(len(labels))
    counts = np.bincount(labels)
    if balance == "classes":
        of_class = 1 / np.maximum(counts, 1)
    else:
        of_class = np.asarray(class_balanced_weights(counts, beta=beta))
    found = of_class[labels].astype(np.float64)
    return found / found.mean()


def stage_batches(
    found: BlockSet,
    *,
    labels: np.ndarray,
    batch: int,
    train: bool,
    balance: str,
    seed: int,
) -> grain.MapDataset:
    """Batches of one stage; in training shuffled, classes as often as `balance` says."""
    processes = dict(process_index=jax.process_index(), process_count=jax.process_count())
    if not train:
        return batches(Examples(found), batch=batch, repeat=False, **processes)
    order = shuffled(len(labels), seed=seed, weights=weights(labels, balance))
    return batches(Examples(found, order), batch=batch, repeat=True, **processes)


def level_batches(
    sets: tuple[BlockSet, ...], *, batch: int, train: bool, seed: int
) -> grain.MapDataset:
    """Batches of all sizes; in training, every size has an equal share."""
    processes = dict(process_index=jax.process_index(), process_count=jax.process_count())
    if not train:
        return batches(LevelExamples(sets), batch=batch, repeat=False, **processes)
    sizes = [len(found.labels) for found in sets]
    each = np.concatenate([np.full(n, sum(sizes) / (len(sizes) * n)) for n in sizes])
    order = shuffled(len(each), seed=seed, weights=each)
    return batches(LevelExamples(sets, order), batch=batch, repeat=True, **processes)
