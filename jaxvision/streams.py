"""The random keys that a model is made from."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.extend import random as extended

_GOLDEN, _OTHER = np.uint32(0x9E3779B9), np.uint32(0x85EBCA6B)  # apart from each other in all bits


class _Counted(nnx.RngStream):
    """A stream of the same keys as its parent's, whose count is a number of Python's."""

    drawn = 0

    def __call__(self) -> jax.Array:
        key = jax.random.fold_in(self.key[...], self.drawn)
        self.drawn += 1
        return key


def streams(key: jax.Array | int) -> nnx.Rngs:
    """`nnx.Rngs(key)` for a model's first parameters, fast to trace and to compile.

    JAX's own generator, Threefry, is a loop for every parameter, of which compilers make something
    for a third of a second each; here a number is a hash of its place and the key, a few operations
    that fuse with what is made of it. Flax' traced count is asked for its sharding at each key, and
    JAX 0.10 answers with a message that it searches the whole trace for.
    """
    if isinstance(key, int):
        key = jax.random.key(key)
    rngs = nnx.Rngs(0)
    hashed = jax.random.wrap_key_data(jax.random.key_data(key).reshape(-1)[-2:], impl=HASH)
    rngs.default = _Counted(hashed, tag="default")
    return rngs


def _mixed(x: jax.Array) -> jax.Array:
    """A bijection of uint32 that changes half of the bits for every bit of its argument.

    Multiply and xorshift in turn, with the constants that Wellons 2018 ("Prospecting for hash
    functions") found to have the least bias of their kind.
    """
    x = (x ^ (x >> 16)) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * np.uint32(0x846CA68B)
    return x ^ (x >> 16)


def _seed(seed: jax.Array) -> jax.Array:
    low = jnp.asarray(seed).astype(jnp.uint32)
    return jnp.stack([_mixed(low), _mixed(low + _GOLDEN)])


def _derived(key: jax.Array, number: jax.Array) -> jax.Array:
    number = jnp.asarray(number).astype(jnp.uint32)
    first, second = key[0] + _mixed(number), key[1] ^ _mixed(number + _OTHER)
    return jnp.stack([_mixed(first), _mixed(second)], axis=-1)


def _split(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    places = jnp.arange(int(np.prod(shape)), dtype=jnp.uint32) + _GOLDEN
    return _derived(key, places).reshape(*shape, 2)


def _bits(key: jax.Array, width: int, shape: tuple[int, ...]) -> jax.Array:
    if width != 32:
        raise ValueError(f"{width} bits a number: these streams have 32")
    places = jnp.arange(int(np.prod(shape)), dtype=jnp.uint32)
    return _mixed(_mixed(places + key[0]) ^ key[1]).reshape(shape)


HASH = extended.define_prng_impl(
    key_shape=(2,), seed=_seed, split=_split, random_bits=_bits, fold_in=_derived, name="hash"
)
