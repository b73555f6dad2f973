"""Kernels on meshes of every type of axis: traced on one device, which is where types are checked.

`test_shards.py` runs them on eight.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxvision_kernels import (
    BACKENDS,
    SSD_BACKENDS,
    causal_conv1d,
    quasiseparable_scan,
    selective_scan,
    selective_state_update,
    sequence_parallel_scan,
    ssd,
)
from scan_cases import TIMED, make, quick_jit, run

KERNELS = ("pallas", "mosaic")
IDS = np.zeros((2, 6), np.int32)
ARRAYS, OPTIONS = make(length=6, extras=("D", "z", "h0"))
WITHOUT_STATE = {k: x for k, x in ARRAYS.items() if k != "h0"}
HEADS = {"u": ARRAYS["u"].reshape(2, 6, 2, 3), "delta": ARRAYS["delta"][..., :2]}
HEADS |= {"A": -jnp.ones(2), "B": ARRAYS["B"], "C": ARRAYS["C"]}
STEP = {k: x[:, 0] if k in (*TIMED, "z") else x for k, x in ARRAYS.items()}


def scan(backend):
    return lambda x, ids: run(x, OPTIONS | {"ids": ids}, backend)


def ssd_by(backend):
    return lambda x, ids: ssd(**x, segment_ids=ids, return_last_state=True, backend=backend)


def convolve(x, ids):
    options = dict(activation="silu", segment_ids=ids, return_final_state=True)
    return causal_conv1d(x["u"], jnp.ones((3, 6)), **options)


def both(x, ids):
    return (quasiseparable_scan(**x, segment_ids=ids),)


def update(x, ids):
    x = dict(x)
    return selective_state_update(x.pop("h0"), **x, indices=jnp.arange(2))


CASES = {backend: (scan(backend), ARRAYS) for backend in BACKENDS}
CASES |= {f"ssd {backend}": (ssd_by(backend), HEADS) for backend in SSD_BACKENDS}
CASES |= {"convolution": (convolve, {"u": ARRAYS["u"]}), "both": (both, WITHOUT_STATE)}
CASES |= {"update": (update, STEP)}


def gradients(f):
    def loss(x, ids):
        out = f(x, ids)
        return sum((y**2).sum() for y in out), out

    return jax.value_and_grad(loss, has_aux=True)


def specs(arrays):
    """The batch is sharded, of what has one."""
    weights = ("A", "D")
    return {k: P() if k in weights else P("data") for k in arrays}


@pytest.mark.parametrize("case", CASES)
def test_explicit_axes_shard_the_outputs_as_the_inputs(case):
    f, arrays = CASES[case]
    mesh = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Explicit,))

    def put(x, spec):
        return jax.device_put(x, NamedSharding(mesh, spec))

    x = {k: put(x, specs(arrays)[k]) for k, x in arrays.items()}
    with jax.set_mesh(mesh):
        (_, out), grads = jax.jit(gradients(f)).trace(x, put(IDS, P("data"))).out_info
    for y in out:
        assert y.sharding.spec == P("data", *[None] * (y.ndim - 1))
    for k, g in grads.items():
        assert g.sharding.spec == jax.typeof(x[k]).sharding.spec, k


@pytest.mark.parametrize("case", [k for k in CASES if k not in KERNELS])
def test_shard_map_keeps_account_of_what_varies(case):
    f, arrays = CASES[case]
    mesh = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,))
    spec = specs(arrays)
    by_parts = jax.shard_map(f, mesh=mesh, in_specs=(spec, P("data")), out_specs=P("data"))
    jax.eval_shape(gradients(by_parts), arrays, IDS)


@pytest.mark.parametrize("extra", [(), ("h0",)])
def test_the_last_state_of_a_parallel_scan_varies_over_no_axis(extra):
    arrays, _ = make(length=6, extras=extra)
    mesh = jax.make_mesh((1,), ("seq",), axis_types=(AxisType.Auto,))
    steps = {k: P(None, "seq") if k in TIMED else P() for k in arrays}

    def part(x, ids):
        options = dict(axis_name="seq", segment_ids=ids, return_last_state=True)
        return sequence_parallel_scan(**x, **options)

    in_specs, out_specs = (steps, P(None, "seq")), (P(None, "seq"), P())
    by_parts = jax.shard_map(part, mesh=mesh, in_specs=in_specs, out_specs=out_specs)
    jax.eval_shape(gradients(by_parts), arrays, IDS)


def test_segments_of_a_parallel_scan_are_blind_to_what_is_not_finite_beside_them():
    """Under `jax.vmap`, whose axis stands for that of a mesh."""
    arrays, _ = make(length=8)
    ids = jnp.asarray(np.array([[0, 0, 1, 1, 2, 2, 2, 2]] * 2).reshape(2, 4, 2))
    good = np.r_[:2, 4:8]

    def f(arrays):
        parts = {k: x.reshape(2, 4, 2, -1) if k in TIMED else x for k, x in arrays.items()}
        axes = ({k: 1 if k in TIMED else None for k in arrays}, 1)

        def part(x, ids):
            return sequence_parallel_scan(
                **x, axis_name="seq", segment_ids=ids, backend="reference"
            )

        y = jax.vmap(part, in_axes=axes, out_axes=1, axis_name="seq")(parts, ids)
        y = y.reshape(2, 8, -1)[:, good]
        return (y**2).sum(), y

    g = quick_jit(jax.value_and_grad(f, has_aux=True))
    poisoned = arrays | {k: arrays[k].at[:, 2:4].set(jnp.nan) for k in ("u", "delta")}
    ((_, y), grads), ((_, expected), exact) = g(poisoned), g(arrays)
    np.testing.assert_array_equal(y, expected)
    for k in TIMED:
        np.testing.assert_array_equal(grads[k][:, good], exact[k][:, good])


def test_a_parallel_scan_names_what_is_wrong():
    with pytest.raises(ValueError, match="axis_name='seq' is no axis"):
        sequence_parallel_scan(**ARRAYS, axis_name="seq")
    with pytest.raises(ValueError, match=r"h0 has shape \(6, 4\)"):
        sequence_parallel_scan(**ARRAYS | {"h0": ARRAYS["h0"][0]}, axis_name="seq")


@pytest.mark.parametrize("backend", KERNELS)
def test_pallas_says_what_it_needs_of_shard_map(backend):
    mesh = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,))
    f = jax.shard_map(
        lambda x: selective_scan(**x, backend=backend),
        mesh=mesh,
        in_specs=(specs(ARRAYS),),
        out_specs=P("data"),
    )
    with pytest.raises(ValueError, match="check_vma=False"):
        jax.eval_shape(f, ARRAYS)


def test_mapped_scans_are_partitioned_too():
    mapped = jax.vmap(jax.vmap(lambda u: selective_scan(**WITHOUT_STATE | {"u": u}, backend="xla")))
    jaxpr = jax.make_jaxpr(mapped)(jnp.ones((2, 3, *ARRAYS["u"].shape)))
    assert "custom_partitioning" in str(jaxpr)
