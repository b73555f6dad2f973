"""Short depthwise convolutions over time, channels last, with state for decoding."""

import jax
import jax.numpy as jnp

from jaxvision_kernels import meshes, pages, segments
from jaxvision_kernels.operands import arrays, arrays_or_none, expect, expect_float

PADDINGS = ("causal", "anticausal", "centred")
ACTIVATIONS = (None, "silu")


def causal_conv1d(
    x: jax.Array,
    weight: jax.Array,
    bias: jax.Array | None = None,
    *,
    padding: str = "causal",
    activation: str | None = None,
    initial_state: jax.Array | None = None,
    return_final_state: bool = False,
    segment_ids: jax.Array | None = None,
) -> jax.Array | tuple[jax.Array, jax.Array]:
    """Convolves every channel with its own few taps: `y[t] = sum_k weight[k] x[t - (w - 1) + k]`.

    The operation of Dao's causal-conv1d. Sums are float32 whatever the inputs are; everything but
    the ids is differentiable, in forward mode too. The backward pass keeps x and recomputes the
    rest. A sum of shifted products, which XLA fuses into one pass over x on a CPU and on a GPU.

    Args:
      x: `[b l d]`, float32, bfloat16 or float16.
      weight: `[w d]`, the last tap at the newest step. PyTorch's `[d 1 w]` is `weight[:, 0].T`.
      bias: `[d]`.
      padding: "causal" sees the past; "anticausal" the future, and equals a causal convolution of
        the flipped x, flipped back; "centred" sees `(w - 1) // 2` steps of the past.
      activation: None or "silu".
      initial_state: `[b w-1 d]`, the steps before the first, oldest first; zeros if None. If
        anticausal, the steps after the last, the farthest first. A centred one has none.
      return_final_state: return `(y, state)`, the initial state of what follows.
      segment_ids: integers `[b l]`; taps that reach over a change of id see zeros. The initial
        state belongs to the segment scanned first.

    Returns:
      `[b l d]` in the dtype of x; the state has that of initial_state, or of x.
    """
    x, weight = arrays(x=x, weight=weight)
    bias, initial_state, segment_ids = arrays_or_none(
        bias=bias, initial_state=initial_state, segment_ids=segment_ids
    )
    _check(x, weight, bias, padding, activation, initial_state, return_final_state, segment_ids)
    reach = weight.shape[0] - 1
    offsets = [k - (reach // 2 if padding == "centred" else reach) for k in range(reach + 1)]
    if padding == "anticausal":
        offsets = [-k for k in offsets]

    def convolve(x, state, weight, bias, same):
        x, state, weight = (a.astype(jnp.float32) for a in (x, state, weight))
        length, before, after = x.shape[1], max(0, -min(offsets)), max(0, max(offsets))
        if padding == "causal":
            x = jnp.concatenate([state, x], axis=1)
        elif padding == "anticausal":
            x = jnp.concatenate([x, state[:, ::-1]], axis=1)
        else:
            x = jnp.pad(x, ((0, 0), (before, after), (0, 0)))
        y = 0.0 if bias is None else bias.astype(jnp.float32)
        for k, offset in enumerate(offsets):
            tap = weight[k] * x[:, before + offset : before + offset + length]
            y = y + (tap if same is None else jnp.where(same[k][..., None], tap, 0.0))
        return jax.nn.silu(y) if activation == "silu" else y

    if activation is not None:
        convolve = jax.checkpoint(convolve)  # else its input, in float32, is kept

    def run(x, weight, bias, state, segment_ids):
        same = None
        if state is None:
            state = jnp.zeros_like(x, shape=(x.shape[0], reach, x.shape[2]))
        if segment_ids is not None:
            number = segments.numbers(segment_ids)
            same = [segments.same(number, k) for k in offsets]
        y = convolve(x, state, weight, bias, same).astype(x.dtype)
        if not return_final_state:
            return (y,)
        return y, _final_state(x, state, padding == "anticausal", segment_ids)

    given = x, weight, bias, initial_state, segment_ids
    outputs = ("bld", "bwd") if return_final_state else ("bld",)
    y, *state = meshes.run(run, given, *(meshes.spec(x, "bld", axes) for axes in outputs))
    return (y, *state) if return_final_state else y


def causal_conv1d_update(
    x: jax.Array,
    state: jax.Array,
    weight: jax.Array,
    bias: jax.Array | None = None,
    *,
    activation: str | None = None,
    indices: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Takes the next step or steps of a causal convolution; returns the output and the new state.

    Args:
      x: `[b d]`, one step, or `[b k d]`.
      state: `[b w-1 d]`, the steps before, oldest first; with `indices`, `[slots w-1 d]`.
      weight, bias, activation: as in `causal_conv1d`.
      indices: integers `[b]`, the slot of each row, none twice. A negative one marks a row of
        padding: its output is zero and no state changes. So it is under `jax.jit` with one past the
        last slot, which elsewhere is an error.

    Returns:
      y, of the shape and dtype of x, and the states, of the shape and dtype of `state`.
    """
    x, state = arrays(x=x, state=state)
    if x.ndim not in (2, 3):
        raise ValueError(f"x has shape {x.shape}; an update takes [b d] or [b k d]")
    rows = pages.read(state, indices, x.shape[0], "state")
    steps = x[:, None] if x.ndim == 2 else x
    y, rows = causal_conv1d(
        steps, weight, bias, activation=activation, initial_state=rows, return_final_state=True
    )
    y, state = pages.write(y, rows, state, indices)
    return y.reshape(x.shape), state


def _final_state(x, state, backwards, segment_ids):
    """The last steps scanned, and zeros for those of segments before the last."""
    reach = state.shape[1]
    steps = jnp.concatenate([state, (x[:, ::-1] if backwards else x).astype(state.dtype)], axis=1)
    steps = steps[:, x.shape[1] :]
    if segment_ids is None or not reach:
        return steps
    number = segments.numbers(segment_ids[:, ::-1] if backwards else segment_ids)
    number = jnp.pad(number, ((0, 0), (reach, 0)))[:, -reach:]  # the state is of the first, 0
    return jnp.where((number == number[:, -1:])[..., None], steps, 0)


def _check(x, weight, bias, padding, activation, state, return_final_state, segment_ids):
    if padding not in PADDINGS:
        raise ValueError(f"padding={padding!r} is none of {PADDINGS}")
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation={activation!r} is none of {ACTIVATIONS}")
    if x.ndim != 3 or x.shape[1] == 0:
        raise ValueError(f"x has shape {x.shape}; causal_conv1d takes [b l d], l 1 or more")
    b, length, d = x.shape
    if weight.ndim != 2 or weight.shape[1] != d or weight.shape[0] == 0:
        raise ValueError(f"weight has shape {weight.shape}; with x {x.shape} it must be [w {d}]")
    if padding == "centred" and (state is not None or return_final_state):
        raise ValueError("a centred convolution has no state to start from or to return")
    expect("bias", bias, {"[d]": (d,)})
    expect("initial_state", state, {"[b w-1 d]": (b, weight.shape[0] - 1, d)})
    expect_float({"x": x, "weight": weight, "bias": bias, "initial_state": state})
    segments.check(segment_ids, (b, length))
