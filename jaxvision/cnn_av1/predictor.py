"""A trained net as a function of frames: the probabilities of all nodes of a size."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from jaxvision import model_file
from jaxvision.cnn_av1.levels import level_of, squares
from jaxvision.cnn_av1.pipeline import MultiTask
from jaxvision.cnn_av1.stage_model import ModelConfig
from jaxvision.config import from_config
from jaxvision.data.av1.partitions import NODE_SIZES
from jaxvision.data.y4m import Planes
from jaxvision.step import INFERENCE

KIND = "cnn_av1 levels 2"
BATCHES = (256, 64)  # nodes at a time: two programs for frames of every size; 512 leave the cache


class Predictor:
    """`predictor(planes, qindex, sizes)` -> float32 `[n 10]` of each, for nodes within the frame.

    They come in raster order; `planes` are of 10 bits, or of 8, `qindex` is the frame's base index.
    All nodes of a frame go through the network together.
    """

    def __init__(self, model: MultiTask):
        graph, state = nnx.split(nnx.view(model, **INFERENCE))

        def run(state, blocks, qps, levels):
            return nnx.merge(graph, state)(blocks, qps, levels)["types"]

        self._state, self._run = state, jax.jit(run)

    def __call__(
        self, planes: Planes, qindex: int, sizes: Sequence[int] = NODE_SIZES
    ) -> dict[int, np.ndarray]:
        luma = planes[0]
        if luma.dtype not in (np.uint8, np.uint16):
            raise ValueError(f"planes are {luma.dtype}; they must be uint8 or uint16")
        luma = luma.astype(np.uint16) << 2 if luma.dtype == np.uint8 else luma
        if not 0 <= qindex <= 255:
            raise ValueError(f"qindex={qindex} must be from 0 to 255")
        parts = [squares(luma, size) for size in sizes]
        counts = [len(part) for part in parts]
        levels = np.repeat([level_of(size).number for size in sizes], counts).astype(np.int32)
        found = self._batched(np.concatenate(parts), qindex, levels)
        return dict(zip(sizes, np.split(found, np.cumsum(counts)[:-1]), strict=True))

    def _batched(self, blocks: np.ndarray, qindex: int, levels: np.ndarray) -> np.ndarray:
        found, at = [], 0
        while at < len(blocks):
            batch = next((n for n in BATCHES if n <= len(blocks) - at), BATCHES[-1])
            here = blocks[at : at + batch]
            short = batch - len(here)
            padded = np.pad(here, ((0, short), *[(0, 0)] * (blocks.ndim - 1)))
            qps = np.full(batch, qindex, np.int32)
            numbers = np.pad(levels[at : at + batch], (0, short))
            found.append((self._run(self._state, padded, qps, numbers), len(here)))
            at += batch
        told = [np.asarray(types)[:count] for types, count in found]
        return np.concatenate([np.zeros((0, 10), np.float32), *told])


def save(path: Path, model: MultiTask, cfg: ModelConfig) -> None:
    """Writes what `predictor` reads; `cfg` is what the model was made of."""
    model_file.save(path, model, kind=KIND, config=dataclasses.asdict(cfg))


def predictor(path: str | Path) -> Predictor:
    """The predictor of a model's file; ValueError if it is none."""
    return Predictor(model_file.load(Path(path), _make))


def _make(kind: str, config: Mapping[str, Any]) -> MultiTask:
    if kind != KIND:
        raise ValueError(
            f"this is a model of kind {kind!r}, not {KIND!r}: a run's folder has one in model.npz"
        )
    return MultiTask(from_config(ModelConfig, config), rngs=nnx.Rngs(0))
