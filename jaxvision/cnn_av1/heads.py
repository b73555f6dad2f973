"""The stages' heads: features `[b f]` -> an embedding `[b d]` -> class logits `[b k]` float32.

Every head divides its logits by `temperature`, 1 at first, and uses it for nothing else: a stage
that trains it alone calibrates the head without changing what it chooses (Guo et al. 2017,
section 4.2). A stage that trains the head should leave it be.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from jaxvision.cnn_av1 import classes

SCALE = 10.0  # of cosines at first: certainty up to about 1 - 4 exp(-20)


class Head(nnx.Module):
    """Linear `features -> hidden`, ReLU, dropout; linear `hidden -> outputs`."""

    def __init__(self, features: int, outputs: int, *, hidden: int, dropout: float, rngs: nnx.Rngs):
        self.hidden = nnx.Linear(features, hidden, rngs=rngs)
        self.drop = nnx.Dropout(dropout)
        self.out = nnx.Linear(hidden, outputs, rngs=rngs)
        self.temperature = nnx.Param(jnp.ones(()))

    def embed(self, features: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """What the classes are told from, `[b hidden]`."""
        hidden = nnx.relu(self.hidden(features.astype(jnp.float32)))
        return self.drop(hidden, rngs=rngs)

    def classify(self, embedding: jax.Array) -> jax.Array:
        """Logits of embeddings, over the temperature."""
        return self.out(embedding) / self.temperature[...]

    def __call__(self, features: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        return self.classify(self.embed(features, rngs=rngs))


class BinaryHead(Head):
    """NONE against PARTITION, `[b 2]`: one logit z as (0, z), so that softmax is sigmoid(z).

    256 hidden: 131,585 parameters from 512 features, and the temperature.
    """

    def __init__(self, features: int, *, hidden: int = 256, dropout: float = 0.0, rngs: nnx.Rngs):
        super().__init__(features, 1, hidden=hidden, dropout=dropout, rngs=rngs)

    def classify(self, embedding: jax.Array) -> jax.Array:
        z = super().classify(embedding)
        return jnp.concatenate([jnp.zeros_like(z), z], axis=-1)


class MacroHead(Head):
    """SPLIT, RECT or AB, `[b 3]`; 132,099 parameters from 512 features."""

    def __init__(self, features: int, *, hidden: int = 256, dropout: float = 0.0, rngs: nnx.Rngs):
        super().__init__(features, len(classes.MACRO), hidden=hidden, dropout=dropout, rngs=rngs)


class RectHead(Head):
    """HORZ, VERT and with `four_way` HORZ_4, VERT_4: `[b 4]` or `[b 2]`; 132,356 parameters."""

    def __init__(
        self,
        features: int,
        *,
        hidden: int = 256,
        dropout: float = 0.0,
        four_way: bool = True,
        rngs: nnx.Rngs,
    ):
        count = len(classes.names("rect", four_way=four_way))
        super().__init__(features, count, hidden=hidden, dropout=dropout, rngs=rngs)


class TypesHead(Head):
    """All ten types at once, `[b 10]`; 133,898 parameters from 512 features."""

    def __init__(self, features: int, *, hidden: int = 256, dropout: float = 0.0, rngs: nnx.Rngs):
        super().__init__(features, len(classes.TYPES), hidden=hidden, dropout=dropout, rngs=rngs)


class ABHead(nnx.Module):
    """HORZ_A, HORZ_B, VERT_A, VERT_B, `[b 4]`: a cosine classifier with a learned scale.

    Linear `features -> hidden`, ReLU, dropout, linear `hidden -> hidden / 2`, on the unit sphere;
    logits are scaled cosines to a vector for each class (Gidaris and Komodakis 2018, section 3.2):
    no class can win by the length of its vector, as frequent ones otherwise do. 164,738 parameters
    from 512 features. With `centers` there is a table `[4 hidden/2]` for the center loss.
    """

    def __init__(
        self,
        features: int,
        *,
        hidden: int = 256,
        dropout: float = 0.0,
        centers: bool = False,
        rngs: nnx.Rngs,
    ):
        shape = (len(classes.AB), hidden // 2)
        normal = nnx.initializers.normal(1.0)
        self.hidden = nnx.Linear(features, hidden, rngs=rngs)
        self.drop = nnx.Dropout(dropout)
        self.narrow = nnx.Linear(hidden, shape[1], rngs=rngs)
        self.directions = nnx.Param(normal(rngs.params(), shape, jnp.float32))
        self.scale = nnx.Param(jnp.array(SCALE))
        self.centers = (
            nnx.Param(_unit(normal(rngs.params(), shape, jnp.float32))) if centers else None
        )
        self.temperature = nnx.Param(jnp.ones(()))

    def embed(self, features: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Unit vectors `[b hidden/2]`, to be drawn to the centers of their classes."""
        hidden = self.drop(nnx.relu(self.hidden(features.astype(jnp.float32))), rngs=rngs)
        return _unit(self.narrow(hidden))

    def classify(self, embedding: jax.Array) -> jax.Array:
        """Logits of embeddings, over the temperature."""
        cosines = embedding @ _unit(self.directions[...]).T
        return self.scale[...] * cosines / self.temperature[...]

    def __call__(self, features: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        return self.classify(self.embed(features, rngs=rngs))


def _unit(x: jax.Array) -> jax.Array:
    """Vectors of length 1; of 0 where there is no direction, with a finite gradient."""
    return x * jax.lax.rsqrt((x**2).sum(-1, keepdims=True) + 1e-12)
