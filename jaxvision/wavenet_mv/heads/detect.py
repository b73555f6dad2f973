"""YOLO-tiny: boxes and class scores for every cell of three grids."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxvision.nn.nms import select
from jaxvision.wavenet_mv.heads.stem import ConvNorm, PartialBlock, depth_to_space, twice

BASE = 2.0  # strides of a box's side where the head says nothing
PRIOR = 0.01  # initial score, so that the many empty cells do not swamp the first steps


class Cells(NamedTuple):
    """Of every cell of every grid, finest first: `logits [b p k]`, `boxes [b p 4]` xyxy pixels.

    `centres [p 2]` (x, y) and `strides [p]` are constants, in pixels.
    """

    logits: jax.Array
    boxes: jax.Array
    centres: np.ndarray
    strides: np.ndarray


class Tower(nnx.Module):
    """Classes and boxes by convolutions of their own (YOLOX, Ge et al. 2021, fig. 2)."""

    def __init__(self, channels: int, classes: int, *, dtype, rngs: nnx.Rngs):
        self.class_conv = ConvNorm(channels, channels, dtype=dtype, rngs=rngs)
        self.box_conv = ConvNorm(channels, channels, dtype=dtype, rngs=rngs)
        bias = nnx.initializers.constant(float(-np.log(1 / PRIOR - 1)))
        small = nnx.initializers.normal(1e-2)
        self.classes = nnx.Linear(channels, classes, kernel_init=small, bias_init=bias, rngs=rngs)
        self.boxes = nnx.Linear(channels, 4, kernel_init=small, rngs=rngs)

    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        return self.classes(self.class_conv(x)), self.boxes(self.box_conv(x))


class DetectHead(nnx.Module):
    """`[b h w width]` at `stride` pixels a cell -> cells at half of it, at it, and at twice it.

    The finer grid is for objects of a few pixels: the latents of a cell hold its pixels' detail,
    which depth to space lays out. The coarser one gives context, downwards as in FPN.
    """

    def __init__(self, width: int, classes: int, *, stride: int, dtype, rngs: nnx.Rngs):
        self.stride = stride
        fine = max(width // 2, 8)
        self.down = ConvNorm(width, width, stride=2, dtype=dtype, rngs=rngs)
        self.coarse = PartialBlock(width, width, dtype=dtype, rngs=rngs)
        self.middle = PartialBlock(2 * width, width, dtype=dtype, rngs=rngs)
        self.spread = nnx.Linear(width, 4 * fine, dtype=dtype, rngs=rngs)
        self.towers = nnx.List(
            [Tower(c, classes, dtype=dtype, rngs=rngs) for c in (fine, width, width)]
        )

    def __call__(self, x: jax.Array) -> Cells:
        coarse = self.coarse(self.down(x))
        middle = self.middle(jnp.concatenate([x, twice(coarse, x)], axis=-1))
        fine = depth_to_space(self.spread(middle))
        grids = (fine, middle, coarse)
        strides = (self.stride // 2, self.stride, 2 * self.stride)
        logits, boxes, centres = [], [], []
        for grid, stride, tower in zip(grids, strides, self.towers, strict=True):
            b, h, w, _ = grid.shape
            scores, offsets = (y.astype(jnp.float32).reshape(b, h * w, -1) for y in tower(grid))
            logits.append(scores)
            centres.append(cell_centres(h, w) * stride)
            boxes.append(boxes_of(offsets, centres[-1], stride))
        return Cells(
            jnp.concatenate(logits, axis=1),
            jnp.concatenate(boxes, axis=1),
            np.concatenate(centres),
            np.repeat(np.float32(strides), [len(c) for c in centres]),
        )


def boxes_of(offsets: jax.Array, centres: np.ndarray, stride: int) -> jax.Array:
    """A centre moved by so many strides, sides by exponentials of them: `[b p 4]` -> xyxy."""
    x, y = (centres[:, i] + stride * offsets[..., i] for i in range(2))
    sides = BASE * stride * jnp.exp(jnp.clip(offsets[..., 2:], -4, 4))
    w, h = sides[..., 0] / 2, sides[..., 1] / 2
    return jnp.stack([x - w, y - h, x + w, y + h], axis=-1)


def cell_centres(h: int, w: int) -> np.ndarray:
    """Centres (x, y) of a grid's cells, in cells: `[(h w) 2]`."""
    x, y = np.meshgrid(np.arange(w) + 0.5, np.arange(h) + 0.5)
    return np.stack([x.ravel(), y.ravel()], axis=-1).astype(np.float32)


def detections(
    cells: Cells,
    canvas: tuple[int, int],
    *,
    top: int = 100,
    threshold: float = 0.6,
    candidates: int = 300,
) -> dict[str, jax.Array]:
    """What `CocoDetection` reads, best first and after NMS: `boxes [b top 4]` xyxy in shares of the
    canvas (h, w), `scores [b top]` with 0 for empty slots, `labels [b top]` int32.
    """
    size = np.float32(canvas[::-1] * 2)
    boxes = jnp.clip(cells.boxes / size, 0, 1)
    scores = nnx.sigmoid(cells.logits)
    return select(boxes, scores, top=top, threshold=threshold, candidates=candidates)
