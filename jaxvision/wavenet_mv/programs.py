"""The compiled programs of a codec, one for each step that a file is made or read in."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxvision.wavenet_mv.model import WavenetMV


class Programs:
    """Arrays in, NumPy arrays out; each size of picture or tile compiles once."""

    def __init__(self, model: WavenetMV):
        graph, self.state = nnx.split(model)
        side = model.cfg.compressor.sigma == "hyper"

        def analysis(state, image):
            return nnx.merge(graph, state).analyse(image.astype(jnp.float32) / 255)

        def symbols(state, latents, quality):
            return nnx.merge(graph, state).compressor.symbols(latents, quality)

        def rows(state, known, i, shape):
            compressor = nnx.merge(graph, state).compressor
            if i == 0 and side:
                return compressor.side_index(shape)
            return compressor.index([x.astype(jnp.float32) for x in known], shape)

        def latents(state, symbols, quality):
            model = nnx.merge(graph, state)
            return model.decoded([x.astype(jnp.float32) for x in symbols], quality)

        def picture(state, latents):
            image = jnp.clip(nnx.merge(graph, state).synthesise(latents), 0, 1)
            return jnp.round(255 * image).astype(jnp.uint8)

        self._analysis, self._symbols = jax.jit(analysis), jax.jit(symbols)
        self._rows = jax.jit(rows, static_argnums=(2, 3))
        self._latents, self._picture = jax.jit(latents), jax.jit(picture)

    def analysis(self, image: np.ndarray) -> list[np.ndarray]:
        """uint8 `[h w 3]` of whole multiples -> latents by group, float32 `[1 h w k]`."""
        return list(map(np.asarray, self._analysis(self.state, image[None])))

    def symbols(self, latents: Sequence[np.ndarray], quality: float) -> list[np.ndarray]:
        """int32, in the order of the substreams."""
        found = self._symbols(self.state, list(latents), _of(quality))
        return [np.asarray(x, np.int32) for x in found]

    def rows(self, known: Sequence[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
        """Table rows of the substream after those known, int32 `shape`."""
        return np.asarray(self._rows(self.state, tuple(known), len(known), tuple(shape)))

    def latents(self, symbols: Sequence[np.ndarray], quality: float) -> list[np.ndarray]:
        """What the symbols of some whole levels stand for."""
        return list(map(np.asarray, self._latents(self.state, list(symbols), _of(quality))))

    def picture(self, latents: Sequence[np.ndarray]) -> np.ndarray:
        """uint8 `[h w 3]`; of fewer groups a smaller one."""
        return np.asarray(self._picture(self.state, list(latents)))[0]


def _of(quality):
    return np.full((1,), quality, np.float32)
