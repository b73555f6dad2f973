"""The selective scan for NVIDIA GPUs: Pallas kernels in the subset that lowers to Triton.

A program walks over time with the states of a few channels, `[p n]`, in registers: a state never
goes to memory but once in `Tiling.outer` steps. Step size, softplus, skip and gate are part of it,
so u, delta, B, C, z are read once and y is written once.

The backward pass (Gu and Dao 2023, section 3.3.2, recompute instead of store) starts from a kept
state, redoes `outer` steps to leave a state in scratch memory at every `inner`, then goes back
through these: it redoes `inner` steps with their states in registers, and undoes them. Gradients of
B and C are sums over channels; every program writes its own, and XLA adds them: no atomics, so the
same numbers each time.

Triton wants sizes of powers of two and no indexing of values: hence the masks, and the Python loops
over the `inner` steps. JAX intends to drop this backend; all that depends on it is here and in
`pallas_kernels`.
"""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu

from jaxvision_kernels.pallas_kernels import (
    advance_kernel,
    backward_kernel,
    forward_kernel,
    retreat_kernel,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tiling:
    """How a scan is cut up: channels of a program, steps, warps."""

    channels: int = 32
    inner: int = 8
    outer: int = 64
    warps: int = 4
    splits: int = 1  # parts of the sequence, scanned side by side

    def __post_init__(self):
        for name in ("channels", "inner", "outer", "warps"):
            value = getattr(self, name)
            if value < 1 or value & (value - 1):
                raise ValueError(f"Tiling.{name}={value} must be a power of two")
        if self.outer % self.inner:
            raise ValueError(f"Tiling.outer={self.outer} is no multiple of inner={self.inner}")
        if self.splits < 1:
            raise ValueError(f"Tiling.splits={self.splits} must be at least 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Problem:
    """What a kernel is compiled for, besides shapes."""

    length: int
    states: int
    groups: int  # of channels that share B and C
    width: int  # channels of a group
    softplus: bool
    reverse: bool
    dtype: jnp.dtype  # of y
    tiling: Tiling
    interpret: bool

    @property
    def blocks(self) -> int:
        """Programs that share the channels of a group."""
        return -(-self.width // self.tiling.channels)

    @property
    def chunks(self) -> int:
        """Runs of `outer` steps in one split."""
        return -(-self.length // (self.tiling.outer * self.tiling.splits))

    @property
    def grid(self):
        return self.groups * self.blocks, self.tiling.splits


def scan(
    u,
    delta,
    A,
    B,
    C,
    D,
    z,
    bias,
    h0,
    keep,
    *,
    softplus,
    reverse,
    dtype=None,
    tiling=None,
    interpret=False,
):
    """y `[b l d]` in `dtype`, by default u's, and the last state `[b d n]`.

    Arguments are those of `selective_scan`, checked, and keep `[b l]` of `segments.kept`.
    """
    if jnp.iscomplexobj(A):
        raise ValueError("backend='pallas' has no complex A; backend='xla' has")
    b, length, d = u.shape
    groups = math.lcm(*(w.shape[2] if w.ndim == 4 else 1 for w in (B, C)))
    B, C = (w[:, :, None] if w.ndim == 3 else w for w in (B, C))
    tiling = choose(b, length, d, A.shape[1]) if tiling is None else tiling
    problem = Problem(
        length=length,
        states=A.shape[1],
        groups=groups,
        width=d // groups,
        softplus=softplus,
        reverse=reverse,
        dtype=jnp.dtype(u.dtype if dtype is None else dtype),
        tiling=tiling,
        interpret=interpret,
    )
    A, D, bias, h0 = (None if x is None else x.astype(jnp.float32) for x in (A, D, bias, h0))
    h0 = jnp.zeros((b, d, A.shape[1]), jnp.float32) if h0 is None else h0
    return _scan(problem, u, delta, A, B, C, D, z, bias, h0, keep)


def choose(b: int, length: int, d: int, n: int) -> Tiling:
    """A tiling that gives a large GPU enough to do without more registers than it has."""
    padded = pl.next_power_of_2(n)
    channels = max(1, min(32, 512 // padded, pl.next_power_of_2(d)))
    programs = b * -(-d // channels)
    splits = 1
    while programs * splits < 512 and length >= 512 * splits:
        splits *= 2
    return Tiling(channels=channels, inner=4, splits=splits)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _scan(problem, u, delta, A, B, C, D, z, bias, h0, keep):
    y, last, _ = _forward(problem, u, delta, A, B, C, D, z, bias, h0, keep, keep_states=False)
    return y, last


def _scan_forward(problem, u, delta, A, B, C, D, z, bias, h0, keep):
    y, last, states = _forward(problem, u, delta, A, B, C, D, z, bias, h0, keep, keep_states=True)
    return (y, last), (u, delta, A, B, C, D, z, bias, keep, states)


def _forward(problem, u, delta, A, B, C, D, z, bias, h0, keep, *, keep_states):
    b, _, d = u.shape
    splits, n = problem.tiling.splits, problem.states
    inputs = {"u": u, "delta": delta, "A": A, "B": B, "bias": bias, "keep": keep}
    starts = h0[:, None]
    each = jax.ShapeDtypeStruct((b, splits, d, n), jnp.float32)
    if splits > 1:  # the end of each split from a start of zeros, then its true start
        ends = _call(advance_kernel, problem, inputs, {"last": each})["last"]
        starts, _ = _join(problem, _decays(problem, delta, A, bias, keep), ends, h0, forward=True)
    outputs = {"y": jax.ShapeDtypeStruct(u.shape, problem.dtype), "last": each}
    if keep_states:
        shape = (b, splits * problem.chunks, d, n)
        outputs["states"] = jax.ShapeDtypeStruct(shape, jnp.float32)
    inputs |= {"C": C, "D": D, "z": z, "h0": starts}
    out = _call(forward_kernel, problem, inputs, outputs)
    return out["y"], out["last"][:, -1], out.get("states")


def _scan_backward(problem, residuals, cotangents):
    u, delta, A, B, C, D, z, bias, keep, states = residuals
    dy, dlast = cotangents
    b, length, d = u.shape
    tiling, n = problem.tiling, problem.states
    splits = tiling.splits
    inputs = {"delta": delta, "A": A, "C": C, "z": z, "bias": bias, "keep": keep, "dy": dy}
    ends = dlast[:, None]
    each = jax.ShapeDtypeStruct((b, splits, d, n), jnp.float32)
    if splits > 1:
        starts = _call(retreat_kernel, problem, inputs, {"dh0": each})["dh0"]
        decays = _decays(problem, delta, A, bias, keep)
        ends, _ = _join(problem, decays, starts, dlast, forward=False)
    parts = jax.ShapeDtypeStruct((b, problem.groups * problem.blocks, length, n), jnp.float32)
    sums = jax.ShapeDtypeStruct((b, splits, d), jnp.float32)
    outputs = {"dh0": each, "dA": each}
    outputs |= {"du": _like(u), "ddelta": _like(delta)}
    outputs |= {"dB": each if B.ndim == 2 else parts, "dC": each if C.ndim == 2 else parts}
    outputs |= {} if D is None else {"dD": sums}
    outputs |= {} if z is None else {"dz": _like(z)}
    outputs |= {} if bias is None else {"dbias": sums}
    if tiling.outer > tiling.inner:
        shape = (b, splits, tiling.outer // tiling.inner, d, n)
        outputs["scratch"] = jax.ShapeDtypeStruct(shape, jnp.float32)
    inputs |= {"u": u, "B": B, "D": D, "states": states, "dlast": ends}
    out = _call(backward_kernel, problem, inputs, outputs)

    def weight(name, w):
        x = out["d" + name]
        if w.ndim == 2:
            return x.sum((0, 1)).astype(w.dtype)
        x = x.reshape(b, w.shape[2], -1, length, n).sum(2)
        return jnp.swapaxes(x, 1, 2).astype(w.dtype)

    dA = out["dA"].sum((0, 1))
    dD, dbias = (out[k].sum((0, 1)) if k in out else None for k in ("dD", "dbias"))
    return (
        out["du"],
        out["ddelta"],
        dA,
        weight("B", B),
        weight("C", C),
        dD,
        out.get("dz"),
        dbias,
        out["dh0"][:, 0],
        None,
    )


_scan.defvjp(_scan_forward, _scan_backward)


def _like(x):
    return jax.ShapeDtypeStruct(x.shape, x.dtype)


def _decays(problem, delta, A, bias, keep):
    """How much of a state survives each split: `exp(A sum dt)`, `[b s d n]`; 0 past a clearing."""
    dt = delta.astype(jnp.float32) if bias is None else delta.astype(jnp.float32) + bias
    dt = jax.nn.softplus(dt) if problem.softplus else dt

    def by_split(x, value):
        x = x[:, ::-1] if problem.reverse else x
        steps = problem.chunks * problem.tiling.outer
        rest = problem.tiling.splits * steps - x.shape[1]
        x = jnp.pad(x, ((0, 0), (0, rest), *((0, 0),) * (x.ndim - 2)), constant_values=value)
        return x.reshape(x.shape[0], -1, steps, *x.shape[2:])

    decays = jnp.exp(by_split(dt, 0.0).sum(2)[..., None] * A)
    if keep is not None:
        decays = decays * by_split(keep, 1.0).min(2)[..., None, None]
    return decays


def _join(problem, decays, ends, first, *, forward):
    """`h[s+1] = decays[s] h[s] + ends[s]` from `first`: every split's h, `[b s d n]`, and the last.

    Not `forward`: from the last split down.
    """

    def step(h, x):
        decay, end = x
        return decay * h + end, h

    xs = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), (decays, ends))
    last, h = lax.scan(step, first, xs, reverse=not forward)
    return jnp.swapaxes(h, 0, 1), last


def _call(kernel, problem, inputs, outputs):
    """Runs a kernel over `[b, groups blocks, splits]` programs on whole arrays, by their names."""
    inputs = {k: x for k, x in inputs.items() if x is not None}

    def body(*refs):
        kernel(problem, dict(zip((*inputs, *outputs), refs, strict=True)))

    options = {}
    if not problem.interpret:
        tiling = problem.tiling
        options["compiler_params"] = plgpu.CompilerParams(num_warps=tiling.warps, num_stages=1)
    b = next(iter(outputs.values())).shape[0]
    out = pl.pallas_call(
        body,
        out_shape=tuple(outputs.values()),
        grid=(b, *problem.grid),
        interpret=problem.interpret,
        name=kernel.__name__,
        **options,
    )(*inputs.values())
    return dict(zip(outputs, out, strict=True))
