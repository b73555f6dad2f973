"""A trained net as a function of frames: the probabilities of all nodes of a size."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from jaxvision import model_file
from jaxvision.cnn_av1.levels import INPUT, around, level_of, shrunk
from jaxvision.cnn_av1.pipeline import MultiTask
from jaxvision.cnn_av1.stage_model import ModelConfig
from jaxvision.config import from_config
from jaxvision.data.y4m import Planes
from jaxvision.step import INFERENCE

KIND = "cnn_av1 levels 1"
CHUNK = 256  # nodes at a time: one program for frames of every size


class Predictor:
    """`predictor(planes, qindex, size)` -> float32 `[n 10]`, for nodes that lie within the frame.

    They come in raster order; `planes` are of 10 bits, or of 8, `qindex` is the frame's base index.
    """

    def __init__(self, model: MultiTask):
        graph, state = nnx.split(nnx.view(model, **INFERENCE))

        def run(state, blocks, qps, levels):
            return nnx.merge(graph, state)(blocks, qps, levels)["types"]

        self._state, self._run = state, jax.jit(run)

    def __call__(self, planes: Planes, qindex: int, size: int) -> np.ndarray:
        luma = planes[0]
        if luma.dtype not in (np.uint8, np.uint16):
            raise ValueError(f"planes are {luma.dtype}; they must be uint8 or uint16")
        luma = luma.astype(np.uint16) << 2 if luma.dtype == np.uint8 else luma
        if not 0 <= qindex <= 255:
            raise ValueError(f"qindex={qindex} must be from 0 to 255")
        level = level_of(size)
        rows, cols = (x.ravel() for x in np.mgrid[: luma.shape[0] // size, : luma.shape[1] // size])
        blocks = around(luma, rows * size, cols * size, size=size, context=level.context)
        found = [
            self._chunk(shrunk(blocks[at : at + CHUNK], level.shrink), qindex, level.number)
            for at in range(0, len(rows), CHUNK)
        ]
        return np.concatenate([np.zeros((0, 10), np.float32), *found])

    def _chunk(self, blocks: np.ndarray, qindex: int, number: int) -> np.ndarray:
        padded = np.zeros((CHUNK, INPUT, INPUT, 2), np.float32)
        padded[: len(blocks)] = blocks
        qps, levels = np.full(CHUNK, qindex, np.int32), np.full(CHUNK, number, np.int32)
        return np.asarray(self._run(self._state, padded, qps, levels))[: len(blocks)]


def save(path: Path, model: MultiTask, cfg: ModelConfig) -> None:
    """Writes what `predictor` reads; `cfg` is what the model was made of."""
    model_file.save(path, model, kind=KIND, config=dataclasses.asdict(cfg))


def predictor(path: str | Path) -> Predictor:
    """The predictor of a model's file; ValueError if it is none."""
    return Predictor(model_file.load(Path(path), _make))


def _make(kind: str, config: Mapping[str, Any]) -> MultiTask:
    if kind != KIND:
        raise ValueError(f"this is a model of kind {kind!r}, not {KIND!r}")
    return MultiTask(from_config(ModelConfig, config), rngs=nnx.Rngs(0))
