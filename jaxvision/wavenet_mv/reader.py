"""Heads beside a codec: what they learn by, and what they say of what a decoder has."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from jaxvision.wavenet_mv.heads.distill import Teacher, distillation_loss
from jaxvision.wavenet_mv.heads.loss import HeadsLossConfig, heads_loss
from jaxvision.wavenet_mv.heads.model import AIHeads, HeadsConfig, predictions
from jaxvision.wavenet_mv.model import WavenetMV, WavenetMvConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Names:
    """What the heads tell apart: of boxes, of pixels, of pictures. () is no such head."""

    classes: tuple[str, ...] = ()
    segments: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()


class Reader(nnx.Module):
    """A codec, heads that read its decoded latents, and perhaps a teacher that sees pixels."""

    def __init__(
        self, codec: WavenetMvConfig, heads: HeadsConfig, *, teacher: bool = False, rngs: nnx.Rngs
    ):
        if codec.wavelet.mode == "literal":
            raise ValueError("wavelet.mode='literal': heads need latents on a coarser grid")
        self.codec = WavenetMV(codec, rngs=rngs)
        if heads.stride != self.codec.cell:
            raise ValueError(
                f"heads.stride={heads.stride} must be {self.codec.cell}: model.wavelet.levels is "
                f"{codec.wavelet.levels}"
            )
        self.heads = AIHeads(codec.compressor.latents, heads, rngs=rngs)
        if teacher:
            self.teacher = Teacher(codec.compressor.latents, heads, rngs=rngs)

    def coded(self, image: jax.Array, quality: jax.Array) -> tuple[list[jax.Array], jax.Array]:
        """Symbols of pictures uint8 `[b h w 3]` at qualities `[b]`, and what heads read of them."""
        codec = self.codec
        latents = codec.analyse(image.astype(jnp.float32) / 255)
        symbols = codec.compressor.symbols(latents, quality)
        return symbols, self.read(symbols, quality)

    def read(self, symbols: list[jax.Array], quality: jax.Array) -> jax.Array:
        """The features `[b h/8 w/8 k]` of a file's symbols: no pixel is made on the way."""
        return self.codec.features(self.codec.decoded(symbols, quality))


def reading_loss(cfg: HeadsLossConfig) -> Callable:
    """The objective of `heads`: each picture at a quality drawn for it; the codec stays."""

    def loss(model: Reader, batch, rngs: nnx.Rngs):
        last = len(model.codec.cfg.compressor.lambdas) - 1
        image = batch["image"]
        quality = jax.random.uniform(rngs.sample(), image.shape[:1], maxval=max(last, 1e-6))
        output = model.heads(jax.lax.stop_gradient(model.coded(image, quality)[1]))
        total, parts = heads_loss(output, batch, cfg)
        if cfg.distil or cfg.hint:
            more, of_teacher = distillation_loss(output, model.teacher(image), cfg)
            total, parts = total + more, parts | of_teacher
        return total, parts

    return loss


def pixel_loss(cfg: HeadsLossConfig) -> Callable:
    """The objective of `teacher`: the same heads on pixels."""

    def loss(model: Teacher, batch, rngs: nnx.Rngs):
        return heads_loss(model(batch["image"]), batch, cfg)

    return loss


def answers(model: Reader, image: jax.Array) -> dict[str, jax.Array]:
    """What the heads say of pictures uint8 `[b h w 3]` at each lambda, for `tasks.TaskReport`.

    As `heads.model.predictions`, `[b k …]` over the k lambdas, with `bpp` `[b k]` and `shown`
    uint8 `[b h w 3]`, what the middle quality decodes to.
    """
    count = len(model.codec.cfg.compressor.lambdas)
    pixels = image.shape[1] * image.shape[2]

    def at(quality):
        quality = jnp.full(image.shape[:1], quality)
        symbols, features = model.coded(image, quality)
        bpp = sum(model.codec.compressor.bits(symbols)) / pixels
        shown = model.codec.pixels(model.codec.decoded(symbols, quality))
        found = predictions(model.heads(features), image.shape[1:3])
        return found | {"bpp": bpp, "shown": shown}

    found = jax.lax.map(at, jnp.arange(count, dtype=jnp.float32))  # a loop: compiled once
    shown = found.pop("shown")[count // 2]
    return {name: jnp.moveaxis(x, 0, 1) for name, x in found.items()} | {"shown": shown}


def teacher_answers(model: Teacher, image: jax.Array) -> dict[str, jax.Array]:
    """The same of a teacher: one column, of the pixels, which take 24 bits."""
    found = predictions(model(image), image.shape[1:3])
    found["bpp"] = jnp.full(image.shape[:1], 24.0)
    return {name: x[:, None] for name, x in found.items()} | {"shown": image}
