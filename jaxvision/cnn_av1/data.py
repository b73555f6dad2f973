"""Batches of blocks with their partition types, for each stage."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

import grain
import jax
import numpy as np

from jaxvision.cnn_av1 import embedded
from jaxvision.cnn_av1.classes import IGNORED, stage_labels
from jaxvision.cnn_av1.dataset.balance import class_balanced_weights
from jaxvision.cnn_av1.dataset.blocks_set import BlockSet
from jaxvision.cnn_av1.dataset.ensembles import bootstrap
from jaxvision.cnn_av1.levels import LEVELS, Level, level_of, shrunk
from jaxvision.data.pipeline import Row, batches, shuffled

SPLITS = ("train", "val", "test")
BALANCES = ("none", "classes")
SHRUNK = 1024  # blocks at a time


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

    def blocks(self, split: str) -> BlockSet:
        """All blocks of a split, of the nodes in the coded trees."""
        return self._sets(split, self.cfg.size, self.cfg.context, "coded")

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

    def level_blocks(self, split: str, level: Level, nodes: str = "coded") -> BlockSet | None:
        """Blocks of one size: "coded", or those "left" of a search, None if they are not known.

        A partition search is asked about these too, but what it decides there matters less.
        """
        if nodes != "coded" and self.cfg.root:
            return None
        return self._sets(split, level.size, level.context, nodes)

    def member_blocks(self, number: int) -> BlockSet:
        """Training blocks of a member of the AB ensemble: see `dataset.ensembles`."""
        if self.cfg.root:
            folder = "stage3" if self.cfg.size == 16 else f"stage3_{self.cfg.size}"
            return self._load(Path(self.cfg.root) / folder / f"ab_{number + 1}" / "train.npz")
        found = self.stage_blocks("train", "ab")
        photographs = sorted({name.rpartition("_")[0] for name in found.names})
        source = [photographs.index(name.rpartition("_")[0]) for name in found.names]
        source = np.array(source)[found.sequence]
        return found.take(bootstrap(source, found.labels, seed=self._seed, member=number))

    def _read(self, split: str, size: int, context: int, nodes: str) -> BlockSet:
        if split not in SPLITS:
            raise ValueError(f"split {split!r} is none of {', '.join(SPLITS)}")
        if not self.cfg.root:
            place = dict(size=size, context=context)
            return embedded.blocks(split, **place, nodes=nodes, clips=self.cfg.clips)
        folder = Path(self.cfg.root) / f"block_{size}"
        path = folder / f"{split}.npz"
        if split == "test" and not path.is_file():
            path = folder / "val.npz"
        found = self._load(path)
        if (found.size, found.context) != (size, context):
            raise ValueError(
                f"{path} has blocks of {found.size} pixels with {found.context} around; this needs "
                f"{size} with {context}: data.size, data.context, or `blocks --context={context}`"
            )
        return found

    def _load(self, path: Path) -> BlockSet:
        if not path.is_file():
            raise FileNotFoundError(f"{path}: write it with `python -m jaxvision.cnn_av1 prepare`")
        return BlockSet.load(path)


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

    def __init__(self, sets: Sequence[BlockSet], order: grain.MapDataset | None = None):
        super().__init__()
        self._parts = [Examples(found) for found in sets]
        # Large ones are shrunk here, once: in a row's turn that is a third of a training's work.
        self._squares = [None if _shrink(found) == 1 else _shrunk(found) for found in sets]
        self._ends = np.cumsum([len(part) for part in self._parts])
        self._order = order

    def __len__(self) -> int:
        return len(self._order) if self._order is not None else int(self._ends[-1])

    def __getitem__(self, index):
        if isinstance(index, slice):
            return self.slice(index)
        i = int(index) if self._order is None else self._order[int(index)]
        part = int(np.searchsorted(self._ends, i, side="right"))
        i += len(self._parts[part]) - int(self._ends[part])
        row, ready = self._parts[part][i], self._squares[part]
        return row | {"block": shrunk(row["block"][None], 1)[0] if ready is None else ready[i]}


def _shrink(found: BlockSet) -> int:
    return LEVELS[found.size].shrink


def _shrunk(found: BlockSet) -> np.ndarray:
    parts = [found.blocks[at : at + SHRUNK] for at in range(0, len(found), SHRUNK)]
    return np.concatenate([shrunk(part, _shrink(found)) for part in parts])


def weights(labels: np.ndarray, balance: str) -> np.ndarray | None:
    """How often each example should come, `[n]`: all alike (None), or every class as often."""
    if balance not in BALANCES:
        raise ValueError(f"balance {balance!r} is none of {', '.join(BALANCES)}")
    return class_balanced_weights(labels) if balance == "classes" else None


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
    sets: Sequence[BlockSet],
    *,
    shares: Sequence[float] | None = None,
    batch: int,
    train: bool,
    seed: int,
) -> grain.MapDataset:
    """Batches of all sets; in training shuffled, each with its share of the examples."""
    processes = dict(process_index=jax.process_index(), process_count=jax.process_count())
    if not train:
        return batches(LevelExamples(sets), batch=batch, repeat=False, **processes)
    shares = [1.0] * len(sets) if shares is None else shares
    if len(shares) != len(sets) or min(shares) < 0 or not sum(shares):
        raise ValueError(f"{len(sets)} sets cannot have the shares {tuple(shares)}")
    each = np.concatenate(
        [np.full(len(found), share / len(found)) for found, share in zip(sets, shares, strict=True)]
    )
    order = shuffled(len(each), seed=seed, weights=each * len(each) / sum(shares))
    return batches(LevelExamples(sets, order), batch=batch, repeat=True, **processes)
