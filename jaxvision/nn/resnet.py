"""ResNet-18 as torchvision builds it, in any width, channels last."""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import nnx

STEMS = ("imagenet", "small", "half")
DTYPES = ("float32", "bfloat16")
GROUPS = 8  # of GroupNorm: two channels or more, from a width of 16
KERNEL_INIT = nnx.initializers.variance_scaling(2.0, "fan_out", "normal")
SMALL = 4  # positions of a map up to which a convolution is a product of matrices


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResNetConfig:
    """`blocks[i]` residual blocks of `width`·2^i channels, at half the resolution from one i on.

    `stem` "imagenet" is the original's 7×7 of stride 2 and 3×3 maximum of stride 2; "small" is one
    3×3 that keeps the resolution, for blocks of 16 pixels; "half" is one 3×3 of stride 2. `norm`
    "batch" is torchvision's; "group" (Wu and He 2018) keeps no statistics of the data, so that
    tasks which share a trunk do not disturb one another's.
    """

    width: int = 64
    blocks: tuple[int, ...] = (2, 2, 2, 2)
    channels: int = 1
    stem: str = "imagenet"
    norm: str = "batch"
    dtype: str = "float32"

    def __post_init__(self):
        if not self.blocks or min(self.width, self.channels, *self.blocks) < 1:
            raise ValueError(
                f"resnet.width={self.width}, channels={self.channels} and blocks {self.blocks} "
                "must be 1 or more, and the blocks at least one"
            )
        if self.stem not in STEMS:
            raise ValueError(f"resnet.stem {self.stem!r} is none of {', '.join(STEMS)}")
        if self.norm not in ("batch", "group"):
            raise ValueError(f"resnet.norm {self.norm!r} is neither 'batch' nor 'group'")
        if self.norm == "group" and self.width % GROUPS:
            raise ValueError(
                f"resnet.width={self.width} must be a multiple of {GROUPS} with norm 'group'"
            )
        if self.dtype not in DTYPES:
            raise ValueError(f"resnet.dtype {self.dtype!r} is none of {DTYPES}")

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each stage's map."""
        return tuple(self.width * 2**i for i in range(len(self.blocks)))


class PaddedConv(nnx.Module):
    """Convolution without bias, `kernel // 2` zeros on each side as in torch: `[b h w c]`.

    SAME pads strided convolutions otherwise. On maps of up to four positions XLA's convolution on
    CPU is 30 to 90 times slower than a product of matrices, forward and backward.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, dtype, rngs: nnx.Rngs
    ):
        shape = (kernel, kernel, inputs, outputs)
        self.kernel = nnx.Param(KERNEL_INIT(rngs.params(), shape, jnp.float32))
        self.stride = stride
        self.dtype = dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        kernel, x = self.kernel[...].astype(self.dtype), x.astype(self.dtype)
        height, width = (-(-side // self.stride) for side in x.shape[1:3])
        if height * width <= SMALL:
            return _product(x, kernel, self.stride, (height, width))
        return jax.lax.conv_general_dilated(
            x,
            kernel,
            (self.stride, self.stride),
            [(kernel.shape[0] // 2,) * 2] * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )


def _product(x, kernel, stride, shape):
    """The same by one product; taps that meet nothing but padding are left out."""
    reach = kernel.shape[0] // 2
    rows, columns = (_taps(side, reach, stride) for side in x.shape[1:3])
    padded = jnp.pad(x, ((0, 0), (reach, reach), (reach, reach), (0, 0)))
    taps = [
        padded[:, i : i + x.shape[1] : stride, j : j + x.shape[2] : stride]
        for i in rows
        for j in columns
    ]
    seen = kernel[rows.start : rows.stop, columns.start : columns.stop]
    out = jnp.concatenate(taps, -1).reshape(-1, len(taps) * x.shape[-1])
    return (out @ seen.reshape(out.shape[1], -1)).reshape(x.shape[0], *shape, -1)


def _max_pool(x):
    """Maxima of 3×3 at a stride of 2, one pixel of nothing on each side; XLA's are slow on CPU."""
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-jnp.inf)
    rows, columns = (range(0, side - 2, 2) for side in x.shape[1:3])
    x = functools.reduce(jnp.maximum, [x[:, i : i + 2 * len(rows) : 2] for i in range(3)])
    return functools.reduce(jnp.maximum, [x[:, :, j : j + 2 * len(columns) : 2] for j in range(3)])


def _taps(side, reach, stride):
    """Taps of a kernel, 0 to 2 reach, that meet a pixel at any of the positions of a side."""
    last = (side - 1) // stride * stride
    return range(max(reach - last, 0), min(reach + side, 2 * reach + 1))


def make_norm(channels: int, cfg: ResNetConfig, *, rngs: nnx.Rngs) -> nnx.Module:
    """torchvision's BatchNorm (its momentum 0.1 is 0.9 here), or GroupNorm."""
    if cfg.norm == "group":
        return nnx.GroupNorm(channels, num_groups=GROUPS, epsilon=1e-5, dtype=cfg.dtype, rngs=rngs)
    return nnx.BatchNorm(channels, momentum=0.9, epsilon=1e-5, dtype=cfg.dtype, rngs=rngs)


class ConvNorm(nnx.Module):
    """A convolution and its norm."""

    def __init__(self, inputs, outputs, kernel, cfg, *, stride: int = 1, rngs: nnx.Rngs):
        self.conv = PaddedConv(inputs, outputs, kernel, stride=stride, dtype=cfg.dtype, rngs=rngs)
        self.norm = make_norm(outputs, cfg, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.norm(self.conv(x))


class BasicBlock(nnx.Module):
    """Two 3×3 convolutions beside a shortcut (He et al. 2016, fig. 2): `[b h w c]`."""

    def __init__(self, inputs, outputs, cfg: ResNetConfig, *, stride: int = 1, rngs: nnx.Rngs):
        self.first = ConvNorm(inputs, outputs, 3, cfg, stride=stride, rngs=rngs)
        self.second = ConvNorm(outputs, outputs, 3, cfg, rngs=rngs)
        same = stride == 1 and inputs == outputs
        self.shortcut = (
            None if same else ConvNorm(inputs, outputs, 1, cfg, stride=stride, rngs=rngs)
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.second(nnx.relu(self.first(x)))
        return nnx.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class ResNet(nnx.Module):
    """`[b h w channels]` -> the last stage's map `[b h' w' width·2^(stages-1)]`.

    He et al. 2016, table 1, without the classifier. Paths: `stem`, `stages/i/j`.
    """

    def __init__(self, cfg: ResNetConfig, *, rngs: nnx.Rngs):
        self.cfg = cfg
        kernel, stride = {"imagenet": (7, 2), "small": (3, 1), "half": (3, 2)}[cfg.stem]
        self.stem = ConvNorm(cfg.channels, cfg.width, kernel, cfg, stride=stride, rngs=rngs)
        stages, inputs = [], cfg.width
        for i, (width, count) in enumerate(zip(cfg.widths, cfg.blocks, strict=True)):
            strides = [2 if i else 1] + [1] * (count - 1)
            stages.append(nnx.List([]))
            for stride in strides:
                stages[-1].append(BasicBlock(inputs, width, cfg, stride=stride, rngs=rngs))
                inputs = width
        self.stages = nnx.List(stages)

    def __call__(
        self, x: jax.Array, after: Sequence[Callable[[jax.Array], jax.Array]] = ()
    ) -> jax.Array:
        """`after[i]` is applied to the map of stage i, before the next."""
        x = nnx.relu(self.stem(x))
        if self.cfg.stem == "imagenet":
            x = _max_pool(x)
        for i, stage in enumerate(self.stages):
            for block in stage:
                x = block(x)
            x = after[i](x) if after else x
        return x
