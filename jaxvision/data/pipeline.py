"""Batches by index: what a run reads at step i is a function of i alone.

A dataset of examples answers any index >= 0: `examples[g]` past its length is of a later epoch.
`batches` groups them into global batches, of which every process holds its own rows; `iterate`
reads those in order, ahead of time, with threads or with worker processes. Neither the number of
workers nor that of processes changes what is read: a checkpoint needs only the next batch's index.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cv2
import grain
import numpy as np
from absl import flags, logging

from jaxvision.data.workers import has_shared_memory, start_worker

Row = dict[str, Any]

_SHARED_FROM = 2**10  # bytes; what is smaller goes through a pipe, which must not fill up (64 KiB):
# a worker whose pipe is full cannot end, and grain waits 25 s before it kills it


class Shuffled(grain.MapDataset[int]):
    """Indices below `n` in an order that is new in every epoch: see `shuffled`."""

    def __init__(self, weights: np.ndarray, *, seed: int):
        super().__init__()
        self._cumulative = np.cumsum(weights, dtype=np.float64)
        self._length = max(1, round(self._cumulative[-1]))
        self._seed = seed
        self._recent: dict[int, np.ndarray] = {}  # the orders of the last two epochs

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index):
        if isinstance(index, slice):
            return self.slice(index)
        epoch, position = divmod(int(index), self._length)
        return int(self._order(epoch)[position])

    def _order(self, epoch: int) -> np.ndarray:
        """Systematic sampling, then a permutation: an index comes floor(w) or ceil(w) times."""
        order = self._recent.get(epoch)
        if order is None:
            rng = np.random.default_rng((self._seed, epoch))
            points = (np.arange(self._length) + rng.uniform()) / self._length * self._cumulative[-1]
            chosen = np.searchsorted(self._cumulative, points, side="right")
            order = rng.permutation(np.minimum(chosen, len(self._cumulative) - 1))
            self._recent = dict([*self._recent.items(), (epoch, order)][-2:])
        return order


def shuffled(n: int, *, seed: int, weights: np.ndarray | None = None) -> grain.MapDataset:
    """Indices `0..n-1`, reshuffled each epoch: entry g depends on (seed, g) alone.

    With `weights [n]`, index i comes `weights[i]` times an epoch on average (rounded up or down at
    random each epoch) and an epoch has `round(sum(weights))` entries.
    """
    if n < 1:
        raise ValueError(f"cannot shuffle {n} examples: the dataset is empty")
    weights = np.ones(n) if weights is None else np.asarray(weights, np.float64)
    if (
        weights.shape != (n,)
        or not np.all(np.isfinite(weights) & (weights >= 0))
        or not weights.any()
    ):
        raise ValueError(f"weights must be {n} finite numbers >= 0, not all zero; got {weights}")
    return Shuffled(weights, seed=seed)


def repeat_factors(labels: Sequence[np.ndarray], *, classes: int, rare: float) -> np.ndarray:
    """How often each image should come so that rare classes do: weights for `shuffled`.

    Gupta et al. 2019, "LVIS", appendix B: a class in a fraction f of the images calls for
    `max(1, sqrt(rare / f))`, an image for the most of its classes. `labels`: an array an image.
    """
    present = np.zeros(classes)
    for image in labels:
        present[np.unique(image)] += 1
    share = np.maximum(present, 1) / max(1, len(labels))
    factor = np.maximum(1.0, np.sqrt(rare / share))
    return np.array([factor[image].max(initial=1.0) for image in labels])


class Batches(grain.MapDataset[Row]):
    """This process's rows of the global batches of a dataset of examples: see `batches`."""

    def __init__(
        self,
        examples: grain.MapDataset,
        *,
        batch: int,
        repeat: bool,
        first: int,
        rows: int,
        seen: Callable[[Row], None] | None,
    ):
        super().__init__(examples)
        self.seen = seen
        self._batch, self._repeat, self._first, self._rows = batch, repeat, first, rows
        self._count = len(examples)

    def __len__(self) -> int:
        return sys.maxsize // self._batch if self._repeat else -(-self._count // self._batch)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return self.slice(index)
        if not 0 <= index < len(self):
            raise IndexError(f"batch {index} of {len(self)}")
        start = index * self._batch + self._first
        wanted = np.arange(start, start + self._rows)
        real = wanted < (sys.maxsize if self._repeat else self._count)
        rows = [self._parent[int(i)] for i in wanted[real]]
        if not real.all():
            filler = rows[-1] if rows else self._parent[self._count - 1]
            rows += [filler] * int((~real).sum())
        return stack(rows) | {"mask": real}


def batches(
    examples: grain.MapDataset,
    *,
    batch: int,
    repeat: bool,
    process_index: int = 0,
    process_count: int = 1,
    seen: Callable[[Row], None] | None = None,
) -> grain.MapDataset:
    """Groups examples into batches of `batch` rows over all processes.

    Row j of global batch i is example `i * batch + j`, whatever the process count; process p holds
    the p-th block of `batch / process_count` rows. Every batch gets a `mask`, bool `[rows]`. With
    `repeat` the epochs follow one another without end and without a seam; else the last batch is
    filled with copies of a real row whose mask is False. `iterate` calls `seen` with each batch in
    the process that asked for it, whichever process made it.
    """
    if len(examples) == 0:
        raise ValueError(f"no examples in {examples}: check the folder, the split and the filter")
    if batch < 1:
        raise ValueError(f"batch={batch} must be at least 1")
    if batch % process_count:
        raise ValueError(
            f"batch={batch} cannot be split over {process_count} processes: "
            f"choose a positive multiple of {process_count}"
        )
    if not 0 <= process_index < process_count:
        raise ValueError(
            f"process_index={process_index} is not below process_count={process_count}"
        )
    rows = batch // process_count
    first = process_index * rows
    return Batches(examples, batch=batch, repeat=repeat, first=first, rows=rows, seen=seen)


def stack(rows: list[Row]) -> dict[str, np.ndarray]:
    """Stacks rows of equal keys and shapes along a new leading axis."""
    out = {}
    for key in rows[0]:
        values = [np.asarray(row[key]) for row in rows]
        shapes = {(value.shape, value.dtype) for value in values}
        if len(shapes) > 1:
            raise ValueError(f"rows of one batch differ in {key!r}: {sorted(map(str, shapes))}")
        out[key] = np.stack(values)
    return out


def iterate(
    dataset: grain.MapDataset,
    *,
    start: int = 0,
    workers: int = 0,
    threads: int = 2,
    buffer: int = 2,
) -> Iterator[Any]:
    """Yields `dataset[start], dataset[start + 1], …` in that order, read ahead of time.

    With `workers` processes, each prepares whole batches on a single thread; without, `threads`
    threads of this process do. OpenCV and NumPy release the GIL; OpenCV's own threads are switched
    off, for where all cores are busy every call would wait for them. `buffer` batches wait per
    worker, or in all. An error raised while an item is read is raised here, after the items before
    it. Workers end when the iterator is closed, collected or exhausted, and when this process dies.
    """
    if start < 0 or workers < 0 or threads < 0 or buffer < 1:
        raise ValueError(
            f"start={start}, workers={workers} and threads={threads} must be >= 0, "
            f"buffer={buffer} >= 1"
        )
    rest = dataset if start == 0 else _From(dataset, start)
    if workers and not has_shared_memory():
        logging.warning(
            "less than 1 GiB is free in /dev/shm: reading with threads instead of %d workers "
            "(docker run --shm-size=8g gives more)",
            workers,
        )
        workers, threads = 0, max(threads, workers)
    if workers:
        if not flags.FLAGS.is_parsed():  # grain reads its flags when it starts a worker
            flags.FLAGS.mark_as_parsed()
        reading = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
        options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=buffer)
        items = grain.experimental.WithOptionsIterDataset(
            rest.to_iter_dataset(reading),
            grain.experimental.DatasetOptions(min_shm_size=_SHARED_FROM),
        ).mp_prefetch(options, worker_init_fn=start_worker)
    else:
        cv2.setNumThreads(1)
        size = max(buffer, threads) if threads else 0
        items = rest.to_iter_dataset(
            grain.ReadOptions(num_threads=threads, prefetch_buffer_size=size)
        )
    return _read(items, dataset.seen if isinstance(dataset, Batches) else None)


def _read(items: grain.IterDataset, seen: Callable[[Row], None] | None) -> Iterator[Any]:
    iterator = iter(items)
    try:
        for item in iterator:
            if seen is not None:
                seen(item)
            yield item
    finally:
        iterator.close()


class _From(grain.MapDataset[Any]):
    """A dataset without its first `start` items."""

    def __init__(self, parent: grain.MapDataset, start: int):
        super().__init__(parent)
        self._start = start

    def __len__(self) -> int:
        return max(0, len(self._parent) - self._start)

    def __getitem__(self, index):
        return self.slice(index) if isinstance(index, slice) else self._parent[index + self._start]
