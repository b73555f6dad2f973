"""The compiled programs of a codec, one for each step that a file is made or read in."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxvision.wavenet_mv.model import WavenetMV

Features = jax.Array | None
Known = Sequence[jax.Array | np.ndarray | None] | None


class Programs:
    """Arrays in, NumPy arrays out; each size of picture or tile compiles once."""

    def __init__(self, model: WavenetMV):
        graph, self.state = nnx.split(model)

        def analysis(state, image):
            return nnx.merge(graph, state).analyse(image.astype(jnp.float32) / 255)

        def in_steps(state, latents, quality):
            return nnx.merge(graph, state).compressor.in_steps(latents, quality)

        def chosen(state, numbers):
            return nnx.merge(graph, state).compressor.chosen(numbers)

        def rows(state, symbols):
            return nnx.merge(graph, state).compressor.indexes(_floats(symbols))

        def first(state, i, known, shape):
            """`known` is the side information, or features and symbols of the plane before."""
            compressor = nnx.merge(graph, state).compressor
            if known is not None:
                known = _floats(known)
                known = compressor.onward(*known) if i else compressor.start(*known)
            return compressor.first_index(i, known, shape)

        def second(state, i, features, symbols):
            compressor = nnx.merge(graph, state).compressor
            return compressor.second_index(i, features, *_floats([symbols]))

        def side(state, shape):
            return nnx.merge(graph, state).compressor.index_of_side(shape)

        def latents(state, planes, quality):
            return nnx.merge(graph, state).compressor.latents(_floats(planes), quality)

        def picture(state, latents):
            return nnx.merge(graph, state).pixels(latents)

        self._analysis, self._in_steps, self._chosen, self._rows = map(
            jax.jit, (analysis, in_steps, chosen, rows)
        )
        self._first = jax.jit(first, static_argnums=(1, 3))
        self._second = jax.jit(second, static_argnums=1)
        self._side = jax.jit(side, static_argnums=1)
        self._latents, self._picture = jax.jit(latents), jax.jit(picture)

    def analysis(self, image: np.ndarray) -> list[np.ndarray]:
        """uint8 `[h w 3]` of whole multiples -> latents, float32 `[1 h w k]`."""
        return list(map(np.asarray, self._analysis(self.state, image[None])))

    def in_steps(self, latents: Sequence[np.ndarray], quality: float) -> list[np.ndarray]:
        """float32: the side information if there is any, and the planes, not whole yet."""
        return list(map(np.asarray, self._in_steps(self.state, list(latents), _of(quality))))

    def symbols(self, numbers: Sequence[np.ndarray]) -> list[np.ndarray]:
        """int32, of those `in_steps` of a picture or a tile, coarse to fine."""
        found = self._chosen(self.state, list(numbers))
        return [np.asarray(x, np.int32) for x in found]

    def rows(self, symbols: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Table rows int32 of all symbols of a picture at once."""
        return list(map(np.asarray, self._rows(self.state, list(symbols))))

    def side_rows(self, shape: tuple[int, ...]) -> np.ndarray:
        """Table rows of the side information."""
        return np.asarray(self._side(self.state, tuple(shape)))

    def first_rows(
        self, i: int, known: Known, shape: tuple[int, ...]
    ) -> tuple[Features, np.ndarray]:
        """Plane i's features, and table rows of its first pass.

        `known` is (side information,) for the coarsest plane, then (features, symbols) of the one
        before; None of a model without side information.
        """
        features, rows = self._first(self.state, i, known, tuple(shape))
        return features, np.asarray(rows)

    def second_rows(self, i: int, features: Features, symbols: np.ndarray) -> np.ndarray:
        """Table rows of plane i's second pass, of symbols that have the first."""
        return np.asarray(self._second(self.state, i, features, symbols))

    def latents(self, planes: Sequence[np.ndarray], quality: float) -> list[np.ndarray]:
        """What the symbols of some whole planes stand for."""
        return list(map(np.asarray, self._latents(self.state, list(planes), _of(quality))))

    def picture(self, latents: Sequence[np.ndarray]) -> np.ndarray:
        """uint8 `[h w 3]`; of fewer latents a smaller one."""
        return np.asarray(self._picture(self.state, list(latents)))[0]


def _floats(arrays):
    return [None if x is None else x.astype(jnp.float32) for x in arrays]


def _of(quality):
    return np.full((1,), quality, np.float32)
