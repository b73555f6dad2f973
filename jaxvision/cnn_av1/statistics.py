"""What partition searches prune by: means, deviations and gradients of a block and of its parts.

The measures of libaom's own pruning networks and of boosted trees (Saldanha et al. 2022), in steps
of the quantiser, through a small network beside the convolutions. These find the same in pixels,
but need more blocks and more work for it.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxvision.cnn_av1.views import compressed
from jaxvision.data.av1.partitions import NODE_SIZES

GRIDS = ((1, 1), (2, 1), (1, 2), (2, 2), (4, 1), (1, 4), (4, 4))  # rows and columns of parts
AROUND = (4, 4)  # rows and columns of the surroundings
LEAST = 1e-6  # under a square root: its gradient at 0 is none
EIGHT = NODE_SIZES.index(8)


class Statistics(nnx.Module):
    """`[b p p c]`, contrasts in steps and deviations -> `[b features]` float32.

    The measures of the node, the middle square of `node` pixels, through two layers of `hidden` and
    one more. `surroundings`: whether there is something around it. `levels`: how many sizes of
    nodes there are.
    """

    def __init__(
        self,
        node: int,
        *,
        surroundings: bool,
        hidden: int,
        features: int,
        levels: int,
        dropout: float,
        rngs: nnx.Rngs,
    ):
        self.node, self.levels = node, levels
        side = 2 * node if surroundings else node
        count = jax.eval_shape(lambda x: measures(x, node), jnp.zeros((1, side, side, 1))).shape[1]
        self.norm = nnx.BatchNorm(count, momentum=0.9, rngs=rngs)
        self.first = nnx.Linear(count + 1 + levels, hidden, rngs=rngs)
        self.between = nnx.BatchNorm(hidden, momentum=0.9, rngs=rngs)
        self.second = nnx.Linear(hidden, hidden, rngs=rngs)
        self.drop = nnx.Dropout(dropout)
        self.out = nnx.Linear(hidden, features, rngs=rngs)

    def __call__(
        self,
        steps: jax.Array,
        qps: jax.Array,
        levels: jax.Array | None = None,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> jax.Array:
        """`qps [b]` are base indices, `levels [b]` numbers of sizes; `rngs` is for dropout."""
        several = levels if self.levels > 1 else None
        number = jnp.zeros_like(qps) if several is None else several
        told = [
            self.norm(measures(steps, self.node, several)),
            qps.astype(jnp.float32)[:, None] / 255,
            nnx.one_hot(number, self.levels),
        ]
        x = nnx.relu(self.between(self.first(jnp.concatenate(told, axis=-1))))
        return self.out(self.drop(nnx.relu(self.second(x)), rngs=rngs))


def measures(steps: jax.Array, node: int, levels: jax.Array | None = None) -> jax.Array:
    """Measures `[b f]` of `[b p p 1]`, contrasts in steps, or `[b p p 2]`, with deviations.

    Of the node in the middle, its halves, quarters, stripes and sixteenths: mean and deviation; of
    the squares among these also the mean step across and down; the steps across the lines that it
    may be cut along and its upper and left border; the largest steps. Of what is around it, if
    there is any: means and deviations of a grid. All by their order of magnitude. A node of 8
    pixels, where `levels [b]` says so, is measured as one of 16 is, each pixel twice.

    Raises:
      ValueError: for a node that is no multiple of 4 or not within, and sides that are none.
    """
    side = steps.shape[1]
    if node < 8 or node % 4 or side < node or side % 4:
        raise ValueError(
            f"a node of {node} pixels in a square of {side}: both must be multiples of 4, the node "
            "at least 8 and within"
        )
    contrast = steps[..., 0]
    within = steps[..., 1] ** 2 if steps.shape[-1] > 1 else jnp.zeros_like(contrast)
    near = _of_node(contrast, node, levels)
    centre = near[:, 1:, 1:].mean((1, 2), keepdims=True)
    block = near[:, 1:, 1:] - centre
    power = block**2 + _of_node(within, node, levels)[:, 1:, 1:]
    across = abs(near[:, 1:, 1:] - near[:, 1:, :-1])
    down = abs(near[:, 1:, 1:] - near[:, :-1, 1:])

    found = []
    for grid in GRIDS:
        mean, spread = _moments(block, power, grid)
        found += [jnp.log1p(spread)] if grid == (1, 1) else [compressed(mean), jnp.log1p(spread)]
        if grid[0] == grid[1]:
            found += [jnp.log1p(_pooled(across, grid)), jnp.log1p(_pooled(down, grid))]
    cuts = slice(None, None, node // 4)
    found += [jnp.log1p(across[:, :, cuts].mean(1)), jnp.log1p(down[:, cuts].mean(2))]
    found += [jnp.log1p(x.max((1, 2)))[:, None] for x in (across, down)]
    if side > node:
        rest = contrast - centre
        mean, spread = _moments(rest, rest**2 + within, AROUND)
        found += [compressed(mean), jnp.log1p(spread)]
    return jnp.concatenate(found, axis=-1)


def _of_node(plane: jax.Array, node: int, levels: jax.Array | None) -> jax.Array:
    """The node of a plane `[b p p]` and the row and column before it: `[b node+1 node+1]`."""
    start = (plane.shape[1] - node) // 2
    places = np.maximum(np.arange(start - 1, start + node), 0)
    found = plane[:, places][:, :, places]
    if levels is None:
        return found
    start += node // 4
    doubled = np.concatenate([[start - 1], np.repeat(np.arange(start, start + node // 2), 2)])
    eight = (levels == EIGHT)[:, None, None]
    return jnp.where(eight, plane[:, doubled][:, :, doubled], found)


def _moments(values, power, grid) -> tuple[jax.Array, jax.Array]:
    mean = _pooled(values, grid)
    return mean, jnp.sqrt(jnp.maximum(_pooled(power, grid) - mean**2, 0) + LEAST)


def _pooled(plane: jax.Array, grid: tuple[int, int]) -> jax.Array:
    """Means of a plane's parts, `[b rows·columns]`."""
    b, height, width = plane.shape
    rows, columns = grid
    parts = plane.reshape(b, rows, height // rows, columns, width // columns)
    return parts.mean((2, 4)).reshape(b, -1)
