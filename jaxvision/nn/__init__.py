"""Building blocks that the systems share, as `flax.nnx` modules."""
