"""A class for a picture or a clip: what is there, anywhere and at any time."""

import jax
import jax.numpy as jnp
from flax import nnx


class ActionHead(nnx.Module):
    """`[b h w width]` or `[b t h w width]` -> class logits `[b k]` float32.

    Mean, maximum and a learned attention over all positions and times: the mean tells the scene,
    the others an object of a few cells.
    """

    def __init__(self, width: int, classes: int, *, dtype, rngs: nnx.Rngs):
        self.enter = nnx.Linear(width, width, dtype=dtype, rngs=rngs)
        self.attention = nnx.Linear(width, 1, dtype=dtype, rngs=rngs)
        self.norm = nnx.LayerNorm(3 * width, dtype=dtype, rngs=rngs)
        self.hidden = nnx.Linear(3 * width, width, dtype=dtype, rngs=rngs)
        self.logits = nnx.Linear(width, classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x.reshape(x.shape[0], -1, x.shape[-1])
        x = nnx.gelu(self.enter(x))
        weights = nnx.softmax(self.attention(x).astype(jnp.float32), axis=1)
        attended = (x * weights).sum(1)
        pooled = jnp.concatenate([x.mean(1), x.max(1), attended], axis=-1)
        return self.logits(nnx.gelu(self.hidden(self.norm(pooled)))).astype(jnp.float32)
