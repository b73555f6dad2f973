"""Adapters: the few parameters by which a stage bends a backbone that stays as it is.

Stages of a hierarchy want other features: fine-tuning the first stage's for the second loses more
than it gains. With the backbone frozen, nothing is lost, and each stage has adapters of its own.
"""

import jax
from flax import nnx


class Adapter(nnx.Module):
    """A residual bottleneck of 1×1 convolutions: `[b h w c] -> [b h w c]`.

    Rebuffi et al. 2017, section 3.2, with the bottleneck of Houlsby et al. 2019, section 2.1. The
    way up starts at zero, the adapter as the identity.
    """

    def __init__(self, channels: int, hidden: int, *, dtype, rngs: nnx.Rngs):
        self.down = nnx.Linear(channels, hidden, dtype=dtype, rngs=rngs)
        self.up = nnx.Linear(
            hidden, channels, kernel_init=nnx.initializers.zeros, dtype=dtype, rngs=rngs
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        return x + self.up(nnx.gelu(self.down(x)))


class Adapters(nnx.Module):
    """One adapter for each stage of a backbone, of `widths[i]` channels and `hidden` between."""

    def __init__(self, widths: tuple[int, ...], hidden: int, *, dtype, rngs: nnx.Rngs):
        if hidden < 1:
            raise ValueError(f"adapters of {hidden} hidden channels: 1 or more")
        self.stages = nnx.List([Adapter(width, hidden, dtype=dtype, rngs=rngs) for width in widths])

    def __call__(self, x: jax.Array, stage: int) -> jax.Array:
        return self.stages[stage](x)
