"""Networks of whole numbers in float32: the same bits on every machine, in any order of addition.

A decoder must find the very table index that the encoder used, and ordinary float networks differ
in the last place between machines. Here weights and activations are integers held in float32, few
enough bits each that every partial sum stays below 2^24, where float32 is exact; the rescaling
between layers is by powers of two. Then summation order, fused multiply-add, TF32 or bfloat16
operands (up to 256 in size) make no difference. The same functions train the network: rounding
passes its gradient through.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

EXACT = 1 << 24  # float32 holds every integer up to here


def exact_conv(x: jax.Array, weight: jax.Array, bias: jax.Array | None = None) -> jax.Array:
    """Convolution of stride 1, zeros around: `x [b h w i]`, `weight [kh kw i o]`, odd sizes.

    On other platforms than CPUs one matrix product for each of the kernel's places: the libraries'
    convolutions there may go by Winograd or Fourier transforms, whose intermediate values are not
    whole. XLA's on CPUs adds products. Accumulates in float32.
    """
    if x.ndim != 4 or weight.ndim != 4 or x.shape[3] != weight.shape[2]:
        raise ValueError(f"x {x.shape}, weight {weight.shape} are not [b h w i], [kh kw i o]")
    if weight.shape[0] % 2 == 0 or weight.shape[1] % 2 == 0:
        raise ValueError(f"weight {weight.shape} has an even size")
    out = _exact_conv(x, weight)
    return out if bias is None else out + bias.astype(jnp.float32)


@jax.custom_vjp
def _exact_conv(x, weight):
    return lax.platform_dependent(x, weight, cpu=_convolution, default=_products)


def _forward(x, weight):
    return _exact_conv(x, weight), (x, weight)


def _backward(saved, gradient):  # which need not be exact
    return jax.vjp(_convolution, *saved)[1](gradient)


_exact_conv.defvjp(_forward, _backward)


def _convolution(x, weight):
    return lax.conv_general_dilated(
        x,
        weight,
        (1, 1),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=lax.Precision.HIGHEST,
        preferred_element_type=jnp.float32,
    )


def _products(x, weight):
    (rows, columns), (height, width) = weight.shape[:2], x.shape[1:3]
    x = jnp.pad(x, ((0, 0), (rows // 2,) * 2, (columns // 2,) * 2, (0, 0)))
    total = jnp.zeros((), jnp.float32)
    for i in range(rows):
        for j in range(columns):
            total = total + lax.dot_general(
                x[:, i : i + height, j : j + width],
                weight[i, j],
                (((3,), (0,)), ((), ())),
                precision=lax.Precision.HIGHEST,
                preferred_element_type=jnp.float32,
            )
    return total


def rescale(x: jax.Array, shift: jax.Array | int, *, low: int, high: int) -> jax.Array:
    """`clip(floor(x / 2^shift), low, high)`: whole sums to whole activations.

    The gradient is that of a clipped `x / 2^shift`. Bounds are whole.
    """
    # Clipped first: after the floor many values lie on a bound, where a clip halves the gradient.
    return floor_through(jnp.clip(x * power_of_two(-shift), low, high))


def power_of_two(exponent: jax.Array | int) -> jax.Array:
    """`2^exponent` in float32, exact, for exponents -126 … 127; some exp2 are not."""
    if isinstance(exponent, int) and not -126 <= exponent <= 127:
        raise ValueError(f"exponent={exponent} lies outside -126 … 127")
    bits = (jnp.asarray(exponent, jnp.int32) + 127) << 23
    return lax.bitcast_convert_type(bits, jnp.float32)


def floor_through(x: jax.Array) -> jax.Array:
    """`floor(x)` with the gradient of `x`."""
    return lax.stop_gradient(jnp.floor(x)) + (x - lax.stop_gradient(x))


def round_through(x: jax.Array) -> jax.Array:
    """`round(x)` with the gradient of `x`."""
    return lax.stop_gradient(jnp.round(x)) + (x - lax.stop_gradient(x))


def quantize_weight(weight: jax.Array, bits: int = 8) -> tuple[jax.Array, jax.Array]:
    """Whole numbers within `2^(bits - 1) - 1` in size, and the shift, int32, that made them.

    `weight` is about `whole / 2^shift`, with the largest shift at which none overflows. The whole
    numbers pass their gradient to `weight`.
    """
    if not 2 <= bits <= 9:  # bfloat16 holds every integer up to 256, no further
        raise ValueError(f"bits={bits} lies outside 2 … 9")
    most = (1 << bits - 1) - 1
    largest = jnp.max(abs(lax.stop_gradient(weight)))
    # largest = f 2^e with 1 <= f < 2, e read off its bits; of no weight but 0 any shift is right.
    exponent = (lax.bitcast_convert_type(largest, jnp.int32) >> 23) - 127
    shift = jnp.clip(bits - 2 - exponent, -30, 30)
    shift = shift - (largest * power_of_two(shift) > most)
    return round_through(weight * power_of_two(shift)), shift


def quantize_bias(bias: jax.Array, shift: jax.Array | int) -> jax.Array:
    """Whole numbers about `bias 2^shift`; `shift` is the weight's plus that of the input."""
    return round_through(bias * power_of_two(shift))


def check_budget(weight: jax.Array, bias: jax.Array | None = None, *, most: float) -> float:
    """The share of 2^24 that a layer's sums can take, of inputs up to `most` in size.

    ValueError if it is not below 1, or if a weight or bias is not whole: such a layer must not
    leave for another machine. `weight [… i o]`, `bias [o]`.
    """
    if not 0 <= most < EXACT:
        raise ValueError(f"most={most} is not the size of a whole input")
    weight = np.asarray(weight, np.float64)
    bias = np.zeros(weight.shape[-1]) if bias is None else np.asarray(bias, np.float64)
    for name, array in (("weight", weight), ("bias", bias)):
        broken = array != np.rint(array)  # NaN is not equal to itself
        if broken.any():
            raise ValueError(f"{name} holds {array[broken][0]}, which is no whole number")
    sums = abs(weight).sum(tuple(range(weight.ndim - 1))) * most + abs(bias)
    worst = int(sums.argmax())
    if not sums[worst] < EXACT:
        raise ValueError(
            f"output channel {worst} can reach {sums[worst]:.0f}, not below 2^24; take fewer bits"
        )
    return float(sums[worst] / EXACT)
