"""Inputs that the tests of the selective scan share, and what each backend makes of them."""

import contextlib
import dataclasses
import functools
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxvision_kernels import BACKENDS, pallas_mosaic, pallas_triton, selective_scan
from jaxvision_kernels.pallas_scan import Tiling

CHUNKED = ("scan", "xla")
TIMED = ("u", "delta", "B", "C")

# What a case has besides u, delta, A, B, C: sizes, forms of B and C, dtypes, options.
CASES = {
    "one_step": dict(length=1, extras=("h0",)),
    "one_state": dict(length=16, n=1, extras=("D",)),  # a multiple of the chunk, 4
    "grouped": dict(length=9, B="grouped 2", C="grouped 3", extras=("D", "h0")),
    "half": dict(length=9, low=True, softplus=True, extras=("z", "delta_bias")),
    "packed": dict(length=15, B="grouped 2", C="constant", ids=True, extras=("h0",)),
    "packed_groups": dict(
        length=7, B="grouped 2", C="grouped 3", reverse=True, ids=True, extras=("h0",)
    ),
    "all": dict(
        length=15,
        B="constant",
        reverse=True,
        ids=True,
        softplus=True,
        extras=("D", "z", "delta_bias", "h0"),
    ),
}

# The interpreted kernels take seconds to compile: a case or two hold most of what the others do.
INTERPRETED = {"pallas": ("grouped", "all"), "mosaic": ("packed_groups",)}
BY_BACKEND = [
    pytest.param(
        case,
        backend,
        marks=() if case in INTERPRETED.get(backend, CASES) else pytest.mark.slow,
    )
    for case in CASES
    for backend in BACKENDS
]

# Halves compile times; the golden vectors run the fast backend as users compile it.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
# What conftest.py turned off, where XLA knows it.
EMITTERS = {"xla_cpu_use_fusion_emitters": True} if jax.__version__.startswith("0.10.") else {}
users_jit = functools.partial(jax.jit, compiler_options=EMITTERS)


def make(*, length, n=4, B="vary", C="vary", extras=(), low=False, **options):
    """Returns a case's arrays by name, and its options."""
    rng = np.random.default_rng(length)
    b, d = 2, 6

    def weight(form):
        name, *groups = form.split()
        grouped = (b, length, *map(int, groups), n)
        return rng.standard_normal((d, n) if name == "constant" else grouped)

    shapes = {"D": (d,), "z": (b, length, d), "delta_bias": (d,), "h0": (b, d, n)}
    arrays = {"u": rng.standard_normal((b, length, d))}
    arrays |= {"delta": rng.uniform(0.01, 1.0, (b, length, d)), "A": -rng.uniform(0.2, 4.0, (d, n))}
    arrays |= {"B": weight(B), "C": weight(C)}
    arrays |= {name: rng.standard_normal(shapes[name]) for name in extras}
    dtypes = {"u": "bfloat16", "delta": "float16", "z": "float16", "B": "bfloat16"} if low else {}
    arrays = {k: jnp.asarray(x, dtypes.get(k, "float32")) for k, x in arrays.items()}
    ids = None
    if options.pop("ids", False):  # with segments of one step at either end of some row
        ids = np.sort(rng.integers(1, 4, (b, length)), axis=1)
        ids[0, 0], ids[-1, -1] = 0, 4
    return arrays, {"softplus": False, "reverse": False, "ids": ids, **options}


# Small enough that the cases have programs, splits and chunks to divide and to pad.
TILING = Tiling(channels=4, inner=2, outer=4, splits=2)


@contextlib.contextmanager
def interpreted(tiling=TILING):
    """Within it, the backends "pallas" and "mosaic" run on a CPU, by Pallas' interpreters."""
    with contextlib.ExitStack() as stack:
        for module, channels in ((pallas_triton, tiling.channels), (pallas_mosaic, 128)):
            cut = dataclasses.replace(tiling, channels=channels)
            scan = functools.partial(module.scan, tiling=cut, interpret=True)
            stack.enter_context(mock.patch.object(module, "scan", scan))
        yield


def run(arrays, options, backend):
    with interpreted():
        return _run(arrays, options, backend)


def _run(arrays, options, backend):
    return selective_scan(
        **arrays,
        delta_softplus=options["softplus"],
        reverse=options["reverse"],
        segment_ids=options["ids"],
        return_last_state=True,
        backend=backend,
        chunk=4 if backend in CHUNKED else None,
    )


def doubles(arrays):
    return {k: np.asarray(x, np.float64) for k, x in arrays.items()}


def weights_of_loss(arrays):
    rng = np.random.default_rng(0)
    b, _, d = arrays["u"].shape
    shapes = arrays["u"].shape, (b, d, arrays["A"].shape[1])
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


@functools.cache
def outcome(case, backend):
    """y, the last state, and the gradients of a weighted sum of both."""
    arrays, options = make(**CASES[case])
    wy, wh = weights_of_loss(arrays)

    def loss(arrays):
        y, state = run(arrays, options, backend)
        return (y.astype(jnp.float32) * wy).sum() + (state * wh).sum(), (y, state)

    (_, (y, state)), grads = quick_jit(jax.value_and_grad(loss, has_aux=True))(arrays)
    assert y.dtype == arrays["u"].dtype and state.dtype == jnp.float32
    assert {k: g.dtype for k, g in grads.items()} == {k: x.dtype for k, x in arrays.items()}
    return jax.tree.map(lambda x: np.asarray(x, np.float64), (y, state, grads))


def relative(actual, expected):
    return abs(np.asarray(actual, np.float64) - expected).max() / abs(expected).max()
