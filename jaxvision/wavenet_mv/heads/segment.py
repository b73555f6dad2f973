"""SegFormer-lite: attention on three coarser grids, and an MLP that reads them all."""

import jax
import jax.numpy as jnp
from flax import nnx

from jaxvision.nn.conv import DepthwiseConv
from jaxvision.wavenet_mv.heads.stem import depth_to_space

REDUCTIONS = (4, 2, 1)  # of keys and values, along each side, by stage
CHANNELS = 32  # of one attention head


class EfficientAttention(nnx.Module):
    """Self-attention whose keys and values come from a grid coarser by `reduction`: `[b h w c]`.

    Xie et al. 2021 (SegFormer), eq. 2: a strided convolution shortens the sequence by reduction².
    """

    def __init__(self, channels: int, reduction: int, *, dtype, rngs: nnx.Rngs):
        self.heads = max(1, channels // CHANNELS)
        self.query = nnx.Linear(channels, channels, dtype=dtype, rngs=rngs)
        self.key_value = nnx.Linear(channels, 2 * channels, dtype=dtype, rngs=rngs)
        self.out = nnx.Linear(channels, channels, dtype=dtype, rngs=rngs)
        self.reduction, size = reduction, (reduction, reduction)
        if reduction > 1:
            self.reduce = nnx.Conv(channels, channels, size, strides=size, dtype=dtype, rngs=rngs)
            self.norm = nnx.LayerNorm(channels, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        b, h, w, c = x.shape
        query = self.query(x)
        coarse = self.norm(self.reduce(x)) if self.reduction > 1 else x
        key, value = jnp.split(self.key_value(coarse), 2, axis=-1)
        query, key, value = (
            y.reshape(b, -1, self.heads, c // self.heads) for y in (query, key, value)
        )
        mixed = jax.nn.dot_product_attention(query, key, value)
        return self.out(mixed.reshape(b, h, w, c))


class MixFfn(nnx.Module):
    """MLP with a 3×3 depthwise convolution in it, which tells positions: `[b h w c] -> [b h w c]`.

    Xie et al. 2021, eq. 3.
    """

    def __init__(self, channels: int, ratio: int = 2, *, dtype, rngs: nnx.Rngs):
        self.widen = nnx.Linear(channels, ratio * channels, dtype=dtype, rngs=rngs)
        self.conv = DepthwiseConv(ratio * channels, 3, dtype=dtype, rngs=rngs)
        self.narrow = nnx.Linear(ratio * channels, channels, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.narrow(nnx.gelu(self.conv(self.widen(x))))


class Stage(nnx.Module):
    """Overlapping patches of the grid before, 3×3, then attention and Mix-FFN."""

    def __init__(
        self, channels: int, out: int, *, stride: int, reduction: int, dtype, rngs: nnx.Rngs
    ):
        kinds = dict(dtype=dtype, rngs=rngs)
        self.embed = nnx.Conv(channels, out, (3, 3), strides=stride, **kinds)
        self.norms = nnx.List([nnx.LayerNorm(out, **kinds) for _ in range(4)])
        self.attention = EfficientAttention(out, reduction, **kinds)
        self.ffn = MixFfn(out, **kinds)

    def __call__(self, x: jax.Array) -> jax.Array:
        embedded, before_attention, before_ffn, after = self.norms
        x = embedded(self.embed(x))
        x = x + self.attention(before_attention(x))
        return after(x + self.ffn(before_ffn(x)))


class SegmentHead(nnx.Module):
    """`[b h w width]` -> class logits of the cells' quarters, `[b 2h 2w k]` float32.

    Stages at one, two and four times the grid's stride; the decoder is linear layers alone, on the
    stages brought to one size (Xie et al. 2021, eq. 4).
    """

    def __init__(self, width: int, classes: int, *, dtype, rngs: nnx.Rngs):
        kinds = dict(dtype=dtype, rngs=rngs)
        self.stages = nnx.List(
            [
                Stage(width, width, stride=stride, reduction=reduction, **kinds)
                for stride, reduction in zip((1, 2, 2), REDUCTIONS, strict=True)
            ]
        )
        self.unify = nnx.List([nnx.Linear(width, width, **kinds) for _ in REDUCTIONS])
        self.fuse = nnx.Linear(len(REDUCTIONS) * width, width, **kinds)
        self.norm = nnx.LayerNorm(width, **kinds)
        self.spread = nnx.Linear(width, 2 * width, **kinds)  # half the channels at each quarter
        self.logits = nnx.Linear(width // 2, classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        size, maps = x.shape[1:3], []
        for stage, unify in zip(self.stages, self.unify, strict=True):
            x = stage(x)
            maps.append(upsampled(unify(x), size))
        x = nnx.gelu(self.norm(self.fuse(jnp.concatenate(maps, axis=-1))))
        return self.logits(nnx.gelu(depth_to_space(self.spread(x)))).astype(jnp.float32)


def upsampled(x: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Bilinear, to height and width: `[b h w c] -> [b *size c]`."""
    return jax.image.resize(x, (x.shape[0], *size, x.shape[3]), "bilinear")


def segments(logits: jax.Array, canvas: tuple[int, int]) -> jax.Array:
    """The likeliest class at every pixel: `[b h w k]` -> uint8 `[b *canvas]`."""

    def one(x):  # an image at a time: its logits at full size are large
        return upsampled(x[None], canvas)[0].argmax(-1).astype(jnp.uint8)

    return jax.lax.map(one, logits)
