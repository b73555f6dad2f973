"""What `checks.py` checks: every operation, form and option, with its reference."""

import dataclasses
import functools
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jaxvision_kernels import (
    bidirectional_scan,
    causal_conv1d,
    quasiseparable_scan,
    selective_scan,
    selective_state_update,
    ssd,
)
from programs import OURS, arrays
from shapes import NARROW, hydra_operands, normals, operands

DTYPES = ("float32", "bfloat16", "float16")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes:
    shape: tuple[int, ...] = (2, 197, 96, 16)  # b l d n
    long: tuple[int, ...] = (1, 2500, 40, 16)  # split in 8; 40 channels fill no two blocks
    states: tuple[int, ...] = (1, 3, 64, 256)
    heads: tuple[int, ...] = (2, 130, 4, 16, 16)  # b l h p n


TINY = Sizes(shape=(2, 9, 8, 4), long=(1, 20, 6, 3), states=(1, 3), heads=(2, 70, 4, 4, 4))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """An operation in its backends. `terms`: as many of a gradient are rounded, then added up."""

    name: str
    ours: dict[str, Callable]  # of the operands by name: y, or y and the last state
    reference: Callable
    x: dict[str, jax.Array]
    terms: int = 1
    products: bool = False  # of operands that are rounded to bfloat16


def cases(sizes: Sizes) -> Iterator[Case]:
    """The commonest first: what a deadline leaves out is the rest."""
    b, length, d, n = sizes.shape
    x = operands(sizes.shape)
    ids = segments(b, length)
    for dtype in DTYPES:
        yield scan(f"selective_scan {dtype}", arrays(x, NARROW, dtype))
        long = arrays(with_state(operands(sizes.long)), NARROW, dtype)
        options = dict(reverse=True, segment_ids=segments(*sizes.long[:2]), return_last_state=True)
        yield scan(f"split, reverse, packed, h0 {dtype}", long, **options)
    yield scan("split, last state", long, return_last_state=True)
    yield from others(sizes)
    half = arrays(x, NARROW)
    yield scan("reverse", half, reverse=True)
    yield scan("packed", half, segment_ids=ids)
    for states in sizes.states:
        few = (b, length // 3, d // 4, states)
        yield scan(f"n = {states}", arrays(operands(few), NARROW))
    one = with_state(operands((b, 1, d, n)))  # whose A has no gradient without a state
    yield scan("one step", arrays(one, NARROW), return_last_state=True)
    bare = {k: half[k] for k in ("u", "A", "B", "C")} | {"delta": abs(half["delta"]) / 8}
    yield scan("no options", bare, softplus=False)
    mixed = arrays(x, ()) | {"u": half["u"], "z": jnp.asarray(x["z"], "float16")}
    yield scan("mixed dtypes", mixed | {"B": jnp.asarray(x["B"], "float16")})
    rng = np.random.default_rng(1)
    forms = {g: normals(rng, (b, length, g, n)) for g in (2, 4)}
    forms["constant"] = normals(rng, (d, n))
    for B, C in ((2, 4), ("constant", "constant"), ("constant", 2), (4, "constant")):
        y = half | {k: jnp.asarray(forms[f], "bfloat16") for k, f in (("B", B), ("C", C))}
        yield scan(f"B {B}, C {C}", y, segment_ids=ids)


def others(sizes: Sizes) -> Iterator[Case]:
    """Operations that are built on the scan, or beside it."""
    b, length, d, n = sizes.shape
    x = operands(sizes.shape)
    for dtype in ("bfloat16", "float32"):
        y = arrays(x, NARROW, dtype)
        # A scan each way and the skip each round their part of a gradient.
        yield scan(f"bidirectional_scan {dtype}", y, operation=bidirectional_scan, terms=3)
        yield scan(f"quasiseparable_scan {dtype}", y, operation=quasiseparable_scan, terms=3)
        yield heads(f"ssd {dtype}", sizes, dtype)
    ids = segments(*sizes.heads[:2])
    yield heads("ssd packed", sizes, "bfloat16", segment_ids=ids, return_last_state=True)
    yield heads("ssd reverse, packed", sizes, "float32", segment_ids=ids, reverse=True)
    half = arrays(x, NARROW)
    reference = functools.partial(decoded, backend="reference", cut=length)
    ours = {k: functools.partial(decoded, backend=k, cut=length - 5) for k in OURS}
    yield Case(name="selective_state_update", ours=ours, reference=reference, x=half)
    yield scan("on XLA", half, backends=("xla",))
    wave = {k: jnp.asarray(v) for k, v in x.items()}
    wave |= {k: wave[k] * jnp.exp(1j * jnp.arange(float(n))) for k in "BC"}
    wave["A"] = wave["A"] * (1 + 0.5j)
    yield scan("complex A on XLA", wave, backends=("xla",))
    taps = {"x": half["u"], "weight": wave["A"].real.T[:4] / 4, "bias": wave["D"]}
    conv = {"xla": functools.partial(causal_conv1d, activation="silu")}
    yield Case(name="causal_conv1d", ours=conv, reference=convolved, x=taps)


def scan(name, x, *, operation=selective_scan, backends=OURS, terms=1, softplus=True, **options):
    f = functools.partial(operation, delta_softplus=softplus, **options)
    ours = {k: functools.partial(f, backend=k) for k in backends}
    reference = functools.partial(f, backend="reference")
    return Case(name=name, ours=ours, reference=reference, x=x, terms=terms)


def heads(name, sizes, dtype, **options):
    b, length, h, p, n = sizes.heads
    rng = np.random.default_rng(2)
    x = hydra_operands(sizes.heads) | {"D": normals(rng, (h,)), "h0": normals(rng, (b, h, p, n))}
    x["z"] = normals(rng, x["u"].shape)
    f = functools.partial(ssd, delta_softplus=True, **options)
    reference = functools.partial(f, backend="reference")
    x = arrays(x, NARROW, dtype)
    return Case(name=name, ours={"xla": f}, reference=reference, x=x, products=dtype == "bfloat16")


def segments(b: int, length: int) -> jax.Array:
    """Integers `[b l]`, with a segment of a single step at either end."""
    ids = np.sort(np.random.default_rng(0).integers(1, 5, (b, length)), axis=1)
    ids[:, 0], ids[:, -1] = 0, 5
    return jnp.asarray(ids)


def with_state(x: dict) -> dict:
    return x | {"h0": normals(np.random.default_rng(1), (x["u"].shape[0], *x["A"].shape))}


def decoded(u, delta, A, B, C, D, z, delta_bias, *, backend, cut):
    """A scan of the first `cut` steps, single updates for two more, one update for the rest."""

    def rest(*at):
        return (u[at], delta[at], A, B[at], C[at], D, z[at], delta_bias)

    def first(x):
        return x[:, :cut]

    given = dict(D=D, z=first(z), delta_bias=delta_bias, delta_softplus=True)
    given |= dict(backend=backend, return_last_state=True)
    y, state = selective_scan(first(u), first(delta), A, first(B), first(C), **given)
    ys = [y]
    for t in range(cut, min(cut + 2, u.shape[1])):
        y, state = selective_state_update(state, *rest(slice(None), t), delta_softplus=True)
        ys.append(y[:, None])
    if cut + 2 < u.shape[1]:
        remaining = rest(slice(None), slice(cut + 2, None))
        y, state = selective_state_update(state, *remaining, delta_softplus=True)
        ys.append(y)
    return jnp.concatenate(ys, axis=1), state


def convolved(x, weight, bias):
    """The convolution by its windows, gathered; XLA's own may take narrower products."""
    steps, width = x.shape[1], len(weight)
    x = jnp.pad(x.astype(jnp.float32), ((0, 0), (width - 1, 0), (0, 0)))
    windows = x[:, jnp.arange(steps)[:, None] + jnp.arange(width)]  # [b l w d]
    return jax.nn.silu((windows * weight).sum(2) + bias)
