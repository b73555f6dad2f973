"""What the types of a mesh's axes ask of kernels that loop: explicit ones, and manual ones.

The type of an array says over which explicit axes it is sharded and over which manual axes it
varies, and a loop refuses a carry whose type changes, as that of a start of zeros would.
"""

import jax
from jax import lax
from jax.sharding import NamedSharding, auto_axes
from jax.sharding import PartitionSpec as P


def run(function, operands, *outputs: P):
    """`function(*operands)`, operands being arrays or None, on axes of whatever type.

    Explicit axes are automatic ones within, and the outputs have the shardings `outputs` over them.
    Within `jax.shard_map` operands vary over whatever axes any of them varies over.
    """
    given = [x for x in operands if x is not None]
    axes = frozenset().union(*map(varying, given))
    operands = [None if x is None else _vary(x, axes) for x in operands]
    meshes = (jax.typeof(x).sharding.mesh for x in given)
    mesh = next((mesh for mesh in meshes if mesh.explicit_axes), None)
    if mesh is None:
        return function(*operands)
    shardings = tuple(NamedSharding(mesh, spec) for spec in outputs)
    return auto_axes(function, axes=mesh.explicit_axes, out_sharding=shardings)(*operands)


def spec(x: jax.Array, axes: str, wanted: str) -> P:
    """The explicit sharding of x, whose axes are the letters `axes`, for the axes `wanted`."""
    names = dict(zip(axes, jax.typeof(x).sharding.spec, strict=True))
    return P(*(names.get(letter) for letter in wanted))


def varying(x: jax.Array) -> frozenset[str]:
    """The manual axes that x varies over; none where `jax.shard_map` does not keep account."""
    return jax.typeof(x).manual_axis_type.varying


def _vary(x, axes):
    missing = tuple(sorted(axes - varying(x)))
    return lax.pcast(x, missing, to="varying") if missing else x
