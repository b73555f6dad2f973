"""Learning from a teacher that sees the pixels."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxvision.wavenet_mv.heads.loss import HeadsLossConfig
from jaxvision.wavenet_mv.heads.model import AIHeads, HeadsConfig, HeadsOutput
from jaxvision.wavenet_mv.heads.stem import ConvNorm

CONFIDENT = 0.3  # score of a teacher's cell from which its box is worth learning


class PixelStem(nnx.Module):
    """Pictures uint8 `[b H W 3]` -> `[b H/stride W/stride channels]`, a power of two."""

    def __init__(self, channels: int, *, stride: int, dtype, rngs: nnx.Rngs):
        steps = stride.bit_length() - 1
        if stride != 2**steps:
            raise ValueError(f"PixelStem: stride={stride} is no power of two")
        widths = [3, *(max(channels >> (steps - 1 - i), 8) for i in range(steps - 1)), channels]
        self.convs = nnx.List(
            [
                ConvNorm(a, b, stride=2, dtype=dtype, rngs=rngs)
                for a, b in zip(widths[:-1], widths[1:], strict=True)
            ]
        )

    def __call__(self, image: jax.Array) -> jax.Array:
        x = image.astype(jnp.float32) / 127.5 - 1
        for conv in self.convs:
            x = conv(x)
        return x


class Teacher(nnx.Module):
    """The same heads on features of pixels: `[b H W 3] -> HeadsOutput`."""

    def __init__(self, channels: int, cfg: HeadsConfig, *, rngs: nnx.Rngs):
        dtype = jnp.dtype(cfg.dtype)
        self.pixels = PixelStem(channels, stride=cfg.stride, dtype=dtype, rngs=rngs)
        self.heads = AIHeads(channels, cfg, rngs=rngs)

    def __call__(self, image: jax.Array) -> HeadsOutput:
        return self.heads(self.pixels(image))


def distillation_loss(
    student: HeadsOutput, teacher: HeadsOutput, cfg: HeadsLossConfig
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """`distil` times what the logits and boxes differ by, `hint` times what the features do.

    Both outputs are of the same `HeadsConfig`; no gradient reaches the teacher.
    """
    teacher = jax.lax.stop_gradient(teacher)
    t = cfg.temperature
    parts: dict[str, jax.Array] = {}
    if student.cells is not None:
        score = nnx.sigmoid(teacher.cells.logits).max(-1)
        classes = binary_divergence(student.cells.logits, teacher.cells.logits, temperature=t)
        # Nearly all cells are empty and agree on it: the mean over them would be of nothing.
        weight = score / jnp.maximum(score.sum(), 1)
        parts["distil_classes"] = (classes.sum(-1) * weight).sum()
        error = box_error(student.cells.boxes, teacher.cells.boxes, student.cells.strides)
        sure = score > CONFIDENT
        parts["distil_boxes"] = jnp.where(sure, error, 0).sum() / jnp.maximum(sure.sum(), 1)
    for name in ("segments", "action"):
        ours, theirs = getattr(student, name), getattr(teacher, name)
        if ours is not None:
            parts[f"distil_{name}"] = divergence(ours, theirs, temperature=t).mean()
    loss = cfg.distil * sum(parts.values())
    parts["hint"] = hint(student.features, teacher.features).mean()
    return loss + cfg.hint * parts["hint"], parts


def divergence(student: jax.Array, teacher: jax.Array, *, temperature: float) -> jax.Array:
    """`T² KL(teacher || student)` of softmaxes at temperature T: logits `[* k] -> [*]`.

    Hinton et al. 2015, section 2.1: T² keeps the gradient's size as T changes.
    """
    ours = jax.nn.log_softmax(student.astype(jnp.float32) / temperature)
    theirs = jax.nn.log_softmax(teacher.astype(jnp.float32) / temperature)
    return temperature**2 * (jnp.exp(theirs) * (theirs - ours)).sum(-1)


def binary_divergence(student: jax.Array, teacher: jax.Array, *, temperature: float) -> jax.Array:
    """The same of sigmoids, each a choice of two: logits `[*] -> [*]`."""
    pair = [jnp.stack([x, jnp.zeros_like(x)], axis=-1) for x in (student, teacher)]
    return divergence(*pair, temperature=temperature)


def box_error(student: jax.Array, teacher: jax.Array, strides: np.ndarray) -> jax.Array:
    """Mean squared difference of corners, in strides: `[* p 4]` twice -> `[* p]`."""
    return (((student - teacher) / strides[:, None]) ** 2).mean(-1)


def hint(student: jax.Array, teacher: jax.Array) -> jax.Array:
    """Mean squared difference of features `[* c] -> [*]` (FitNets, Romero et al. 2015, eq. 3)."""
    difference = student.astype(jnp.float32) - teacher.astype(jnp.float32)
    return (difference**2).mean(-1)
