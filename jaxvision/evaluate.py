"""Measures a model on one split of a stage's data."""

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from jaxvision import sharding
from jaxvision.agreement import Interrupted, done_by_first, is_first
from jaxvision.data.pipeline import iterate
from jaxvision.stage import Stage
from jaxvision.step import Program, TrainState

PATIENCE = 10.0  # seconds between the lines of a long evaluation


def evaluate(
    stage: Stage,
    name: str,
    program: Program,
    state: TrainState,
    mesh: Mesh,
    *,
    directory: Path,
    workers: int = 0,
    say: Callable[[str], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, float]:
    """Computes the metrics of the eval `name`, `{"<name>/<metric>": value}`, in every process.

    Host metrics may write to `directory`. Raises `Interrupted` when `stop()` becomes true.
    """
    ev = stage.evals[name]
    dataset = stage.data(ev.split)
    key = jax.random.key(stage.seed)
    host = list(ev.host(Path(directory)))
    if host:
        done_by_first(lambda: Path(directory).mkdir(parents=True, exist_ok=True))
    total = None
    with jax.set_mesh(mesh):
        batches = iterate(dataset, workers=workers)
        for i, batch in enumerate(_told(batches, len(dataset), name, say)):
            if stop():
                batches.close()
                raise Interrupted
            predictions, metrics = program.evaluators[name](
                state, sharding.put(batch, mesh), key, np.int32(i)
            )
            if metrics is not None:
                total = metrics if total is None else total.merge(metrics)
            if host:
                batch, predictions = _everywhere((batch, predictions))
                for metric in host if is_first() else ():
                    metric.add(batch, predictions)
    computed = {} if total is None else jax.device_get(total.compute())

    def results():
        found = [computed, *(metric.result() for metric in host)]
        return {f"{name}/{k}": float(v) for part in found for k, v in part.items()}

    return done_by_first(results)


def _everywhere(tree: Any) -> Any:
    """All rows as NumPy arrays: those of this process's batch, and of global arrays."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    return multihost_utils.process_allgather(tree, tiled=True)


def _told(
    batches: Iterator[Mapping[str, np.ndarray]],
    count: int,
    name: str,
    say: Callable[[str], None] | None,
) -> Iterator[Mapping[str, np.ndarray]]:
    """Says every few seconds how far a long evaluation has come."""
    begun = said = time.monotonic()
    for done, batch in enumerate(batches):
        now = time.monotonic()
        if say and done and now - said > PATIENCE:
            left = (now - begun) / done * (count - done)
            say(f"{name}: {done}/{count} batches, {left:.0f} s left")
            said = now
        yield batch
