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
import warnings

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu

from jaxvision_kernels.layout import group_count
from jaxvision_kernels.operands import step_sizes
from jaxvision_kernels.pallas_kernels import (
    advance_kernel,
    backward_kernel,
    forward_kernel,
    retreat_kernel,
)
from jaxvision_kernels.partitioned import partitioned

# Newer JAX says so at every lowering; the README of this package says it once.
warnings.filterwarnings("ignore", "The Pallas Triton backend is deprecated", DeprecationWarning)


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
class Options:
    """What a scan is asked for, besides its operands."""

    softplus: bool
    reverse: bool
    dtype: jnp.dtype  # of y
    tiling: Tiling | None  # chosen from the shapes, on each device its own, if None
    interpret: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Problem:
    """What a kernel is compiled for, besides shapes."""

    options: Options
    tiling: Tiling
    length: int
    states: int
    groups: int  # of channels that share B and C
    width: int  # channels of a group

    @property
    def blocks(self) -> int:
        """Programs that share the channels of a group."""
        return -(-self.width // self.tiling.channels)

    @property
    def chunks(self) -> int:
        """Runs of `outer` steps in one split."""
        return -(-self.length // (self.tiling.outer * self.tiling.splits))

    @property
    def kept(self) -> int:
        """States that the forward pass keeps: one a chunk."""
        return -(-self.length // self.tiling.outer)

    @classmethod
    def of(cls, options: Options, x: dict) -> "Problem":
        b, length, d = x["u"].shape
        n = x["A"].shape[1]
        groups = group_count(x["B"], x["C"])
        tiling = options.tiling or choose(b, length, d, n)
        sizes = dict(length=length, states=n, groups=groups, width=d // groups)
        return cls(options=options, tiling=tiling, **sizes)


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
    B, C = (w[:, :, None] if w.ndim == 3 else w for w in (B, C))
    A, D, bias, h0 = (None if x is None else x.astype(jnp.float32) for x in (A, D, bias, h0))
    h0 = jnp.zeros((u.shape[0], *A.shape), jnp.float32) if h0 is None else h0
    named = dict(u=u, delta=delta, A=A, B=B, C=C, D=D, z=z, bias=bias, h0=h0, keep=keep)
    options = Options(
        softplus=softplus,
        reverse=reverse,
        dtype=jnp.dtype(u.dtype if dtype is None else dtype),
        tiling=tiling,
        interpret=interpret,
    )
    return _scan(options, {k: x for k, x in named.items() if x is not None})


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
def _scan(options, x):
    return _sharded(functools.partial(_forward, options), x, ("bld", "bdn"))


def _scan_forward(options, x):
    keeping = functools.partial(_forward, options, keep_states=True)
    y, last, states = _sharded(keeping, x, ("bld", "bdn", "bcdn"))
    return (y, last), x | {"states": states}


def _scan_backward(options, residuals, cotangents):
    x = residuals | dict(zip(("dy", "dlast"), cotangents, strict=True))
    names = [k for k in residuals if k not in ("states", "keep")]
    backward = functools.partial(_backward, options, names)
    letters = _letters(x)
    grads = _sharded(backward, x, tuple(letters[k] for k in names))
    nothing = {k: None for k in residuals if k == "keep"}
    return (dict(zip(names, grads, strict=True)) | nothing,)


_scan.defvjp(_scan_forward, _scan_backward)


def _letters(x: dict) -> dict[str, str]:
    """The axes of the operands, for `partitioned`."""
    letters = {"A": "dn", "D": "d", "bias": "d", "h0": "bdn", "keep": "bl", "states": "bcdn"}
    letters |= {k: "bld" for k in ("u", "delta", "z", "dy")} | {"dlast": "bdn"}
    letters |= {k: "dn" if x[k].ndim == 2 else f"bl{g}n" for k, g in (("B", "g"), ("C", "k"))}
    return {k: letters[k] for k in x}


def _sharded(function, x: dict, outputs: tuple[str, ...]):
    """`function` of the dict `x`, on each device's shards."""
    names = sorted(x, key=lambda k: k != "u")  # u first

    def run(*arrays):
        return function(dict(zip(names, arrays, strict=True)))

    letters = _letters(x)
    return partitioned(run, [letters[k] for k in names], outputs)(*(x[k] for k in names))


def _forward(options, x, *, keep_states=False):
    problem = Problem.of(options, x)
    b, _, d = x["u"].shape
    splits, n = problem.tiling.splits, problem.states
    inputs = {k: v for k, v in x.items() if k != "h0"}
    starts = x["h0"][:, None]
    each = jax.ShapeDtypeStruct((b, splits, d, n), jnp.float32)
    if splits > 1:  # the end of each split from a start of zeros, then its true start
        ends = _call(advance_kernel, problem, inputs, {"last": each})["last"]
        starts = _join(_decays(problem, x), ends, x["h0"], forward=True)
    outputs = {"y": jax.ShapeDtypeStruct(x["u"].shape, options.dtype), "last": each}
    if keep_states:
        outputs["states"] = jax.ShapeDtypeStruct((b, problem.kept, d, n), jnp.float32)
    out = _call(forward_kernel, problem, inputs | {"h0": starts}, outputs)
    y = out["y"], out["last"][:, -1]
    return (*y, out["states"]) if keep_states else y


def _backward(options, names, x):
    """The gradients of the operands `names`."""
    problem = Problem.of(options, x)
    b, length, d = x["u"].shape
    tiling, n = problem.tiling, problem.states
    splits = tiling.splits
    inputs = {k: v for k, v in x.items() if k not in ("h0", "dlast")}
    ends = x["dlast"][:, None]
    each = jax.ShapeDtypeStruct((b, splits, d, n), jnp.float32)
    if splits > 1:
        starts = _call(retreat_kernel, problem, inputs, {"dh0": each})["dh0"]
        ends = _join(_decays(problem, x), starts, x["dlast"], forward=False)
    parts = jax.ShapeDtypeStruct((b, problem.groups * problem.blocks, length, n), jnp.float32)
    sums = jax.ShapeDtypeStruct((b, splits, d), jnp.float32)
    shapes = {
        k: jax.ShapeDtypeStruct(x[k].shape, x[k].dtype) for k in ("u", "delta", "z") if k in x
    }
    shapes |= {k: each if x[k].ndim == 2 else parts for k in "BC"}
    shapes |= {"A": each, "h0": each, "D": sums, "bias": sums}
    outputs = {"d" + k: shapes[k] for k in names}
    if tiling.outer > tiling.inner:
        shape = (b, splits, tiling.outer // tiling.inner, d, n)
        outputs["scratch"] = jax.ShapeDtypeStruct(shape, jnp.float32)
    out = _call(backward_kernel, problem, inputs | {"dlast": ends}, outputs)

    def gradient(name):
        g = out["d" + name]
        if name == "h0":
            return g[:, 0]
        if name in "BC" and x[name].ndim == 4:
            g = g.reshape(b, x[name].shape[2], -1, length, n).sum(2).swapaxes(1, 2)
        elif name not in ("u", "delta", "z"):
            g = g.sum((0, 1))
        return g.astype(x[name].dtype)

    return tuple(map(gradient, names))


def _decays(problem, x):
    """How much of a state survives each split: `exp(A sum dt)`, `[b s d n]`; 0 past a clearing."""
    dt = step_sizes(x["delta"], x.get("bias"), problem.options.softplus)

    def by_split(x, value):
        x = x[:, ::-1] if problem.options.reverse else x
        steps = problem.chunks * problem.tiling.outer
        rest = problem.tiling.splits * steps - x.shape[1]
        x = jnp.pad(x, ((0, 0), (0, rest), *((0, 0),) * (x.ndim - 2)), constant_values=value)
        return x.reshape(x.shape[0], -1, steps, *x.shape[2:])

    decays = jnp.exp(by_split(dt, 0.0).sum(2)[..., None] * x["A"])
    if "keep" in x:
        decays = decays * by_split(x["keep"], 1.0).min(2)[..., None, None]
    return decays


def _join(decays, ends, first, *, forward):
    """Every split's h, `[b s d n]`: `h[s+1] = decays[s] h[s] + ends[s]`, and `first` to begin with.

    Not `forward`: from the last split down.
    """

    def step(h, x):
        decay, end = x
        return decay * h + end, h

    xs = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), (decays, ends))
    _, h = lax.scan(step, first, xs, reverse=not forward)
    return jnp.swapaxes(h, 0, 1)


def _call(kernel, problem, inputs, outputs):
    """Runs a kernel over `[b, groups blocks, splits]` programs on whole arrays, by their names."""

    def body(*refs):
        kernel(problem, dict(zip((*inputs, *outputs), refs, strict=True)))

    options = {}
    if not problem.options.interpret:
        tiling = problem.tiling
        options["compiler_params"] = plgpu.CompilerParams(num_warps=tiling.warps, num_stages=1)
    b = next(iter(outputs.values())).shape[0]
    out = pl.pallas_call(
        body,
        out_shape=tuple(outputs.values()),
        grid=(b, problem.groups * problem.blocks, problem.tiling.splits),
        interpret=problem.options.interpret,
        name=kernel.__name__,
        **options,
    )(*inputs.values())
    return dict(zip(outputs, out, strict=True))
