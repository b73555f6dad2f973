"""What the Pallas kernels promise beyond the values: masks, splits, transforms, CUDA code."""

import dataclasses
import functools
import importlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jaxvision_kernels import pallas_mosaic, pallas_triton, selective_scan
from jaxvision_kernels.pallas_scan import Tiling
from scan_cases import interpreted, make, outcome, quick_jit, relative, run, weights_of_loss

MODULES = {"pallas": pallas_triton, "mosaic": pallas_mosaic}
CUSTOM_CALLS = {"pallas": ["__gpu$xla.gpu.triton"], "mosaic": ["mosaic_gpu", "mosaic_gpu_v2"]}


def gradients(arrays, options, tiling):
    wy, wh = weights_of_loss(arrays)

    def loss(arrays):
        with interpreted(tiling):
            y, state = selective_scan(
                **arrays,
                delta_softplus=options["softplus"],
                reverse=options["reverse"],
                segment_ids=options["ids"],
                return_last_state=True,
                backend="pallas",
            )
        return (y * wy).sum() + (state * wh).sum(), (y, state)

    return quick_jit(jax.value_and_grad(loss, has_aux=True))(arrays)


@pytest.mark.slow
@pytest.mark.parametrize(
    "tiling",
    [
        Tiling(channels=8, inner=4, outer=4),  # no scratch memory; more channels than there are
        Tiling(channels=2, inner=1, outer=2, splits=5),
    ],
    ids=str,
)
def test_every_tiling_computes_the_same(tiling):
    from scan_cases import CASES

    arrays, options = make(**CASES["all"])
    (_, (y, state)), grads = gradients(arrays, options, tiling)
    expected, last, exact = outcome("all", "reference")
    assert relative(y, expected) < 1e-6
    assert relative(state, last) < 1e-6
    for k, g in grads.items():
        assert relative(g, exact[k]) < 5e-6, k


def test_what_lies_past_the_end_of_an_array_is_not_read():
    """The interpreter pads with NaN; 3 channels, 3 states and 5 steps all need padding."""
    arrays, options = make(length=5, n=3, extras=("D", "z", "delta_bias"), softplus=True)
    arrays = {
        k: x[..., :3] if k in ("u", "delta", "z", "D", "delta_bias") else x
        for k, x in arrays.items()
    }
    arrays["A"] = arrays["A"][:3]
    (_, out), grads = gradients(arrays, options, Tiling(channels=4, inner=2, outer=4))
    for x in (*out, *grads.values()):
        assert np.isfinite(x).all()


@pytest.mark.slow
def test_gradients_are_the_same_each_time():
    arrays, options = make(length=11, extras=("D",))
    run_once = functools.partial(gradients, arrays, options, Tiling(channels=2, inner=2, outer=4))
    for a, b in zip(jax.tree.leaves(run_once()), jax.tree.leaves(run_once()), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_vmap_of_the_gradient():
    arrays, options = make(length=5)
    many = jnp.stack([arrays["u"], -arrays["u"]])

    def grad(u):
        return jax.grad(lambda u: (run({**arrays, "u": u}, options, "pallas")[0] ** 2).sum())(u)

    mapped = quick_jit(jax.vmap(grad))(many)
    for x, y in zip(mapped, map(quick_jit(grad), many), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)


def lower(backend, device: str, cores: int, dtype, n, splits):
    """StableHLO of a gradient for a GPU that need not be there."""
    from jax._src.mesh import AbstractDevice  # no public name yet

    b, length, d = 2, 300, 96
    x = {"u": (b, length, d), "delta": (b, length, d), "z": (b, length, d)}
    x = {k: jax.ShapeDtypeStruct(s, dtype) for k, s in x.items()}
    x |= {k: jax.ShapeDtypeStruct((b, length, n), dtype) for k in "BC"}
    x |= {k: jax.ShapeDtypeStruct((d,), jnp.float32) for k in ("D", "delta_bias")}
    x["A"] = jax.ShapeDtypeStruct((d, n), jnp.float32)
    ids = np.arange(b * length).reshape(b, length) // 50

    def loss(x):
        module = MODULES[backend]
        tiling = dataclasses.replace(module.choose(b, length, d, n), splits=splits)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "choose", lambda *_: tiling)
            y = selective_scan(**x, delta_softplus=True, segment_ids=ids, backend=backend)
        return y.astype(jnp.float32).sum()

    device = AbstractDevice(device_kind=device, num_cores=cores, platform="gpu")
    mesh = jax.sharding.AbstractMesh((), (), abstract_device=device)
    with jax.sharding.use_abstract_mesh(mesh):
        checks = [export.DisabledSafetyCheck.custom_call(x) for x in CUSTOM_CALLS[backend]]
        exported = export.export(
            jax.jit(jax.grad(loss)), platforms=["cuda"], disabled_checks=checks
        )
        return exported(x).mlir_module()


@pytest.mark.parametrize(
    ("dtype", "n", "splits"), [("float32", 16, 2), ("bfloat16", 16, 1), ("float16", 3, 1)]
)
@pytest.mark.parametrize(
    ("backend", "device"),
    [
        ("pallas", ("NVIDIA A100-SXM4-80GB", 108)),
        ("pallas", ("NVIDIA H100", 132)),
        ("mosaic", ("NVIDIA H100", 132)),  # lowers for it whatever it is told
    ],
)
def test_lowers_for_cuda_without_a_gpu(backend, device, dtype, n, splits):
    text = lower(backend, *device, dtype, n, splits)
    kernels = ["forward_kernel", "backward_kernel"]
    kernels += ["advance_kernel", "retreat_kernel"] if splits > 1 else []
    calls = [f'custom_call @"?{re.escape(x)}"?\\(' for x in CUSTOM_CALLS[backend]]
    assert len(re.findall("|".join(calls), text)) == len(kernels)
    for name in kernels:
        assert name in text


def test_default_tilings():
    for b, length, d, n in [
        (1, 65536, 384, 16),
        (64, 197, 768, 16),
        (2, 10, 3, 1),
        (1, 9, 64, 256),
    ]:
        tiling = pallas_triton.choose(b, length, d, n)
        assert tiling.channels * n <= 512 or tiling.channels == 1
        assert tiling.splits == 1 or length // tiling.splits >= 256
    assert pallas_triton.choose(1, 65536, 384, 16).splits > 1
    assert pallas_triton.choose(64, 197, 768, 16).splits == 1


BAD = {"channels=24": dict(channels=24), "inner=0": dict(inner=0), "splits=0": dict(splits=0)}


@pytest.mark.parametrize("message", BAD)
def test_bad_tilings_are_named(message):
    with pytest.raises(ValueError, match=message):
        Tiling(**BAD[message])
    with pytest.raises(ValueError, match="outer=4 is no multiple of inner=8"):
        Tiling(outer=4)


@dataclasses.dataclass(frozen=True)
class Device:
    platform: str
    compute_capability: str | None = None


@pytest.mark.parametrize(
    ("device", "states", "dtype", "there", "choice"),
    [
        (Device("cpu"), 16, "f4", ("triton", "mosaic_gpu"), "xla"),
        (Device("gpu", "7.5"), 16, "f4", ("triton", "mosaic_gpu"), "xla"),
        (Device("gpu"), 16, "f4", ("triton", "mosaic_gpu"), "xla"),  # not NVIDIA's
        (Device("gpu", "8.0"), 16, "f4", ("triton", "mosaic_gpu"), "pallas"),
        (Device("gpu", "9.0"), 16, "c8", ("triton", "mosaic_gpu"), "xla"),
        (Device("gpu", "9.0"), 16, "f4", ("mosaic_gpu",), "mosaic"),
        (Device("gpu", "9.0"), 64, "f4", ("mosaic_gpu",), "xla"),
        (Device("gpu", "8.0"), 16, "f4", ("mosaic_gpu",), "xla"),
    ],
)
def test_what_auto_means(device, states, dtype, there, choice, monkeypatch, caplog):
    module = importlib.import_module("jaxvision_kernels.selective_scan")
    monkeypatch.setattr(module, "_found", lambda backend: backend in there)
    monkeypatch.setattr(module.jax, "devices", lambda *_: [device])
    module._automatic.cache_clear()
    A = np.zeros((4, states), dtype)
    with caplog.at_level("INFO"):
        assert module.automatic(A) == module.automatic(A) == choice
    assert caplog.text.count(f"backend='auto' means '{choice}'") == 1  # said once
    module._automatic.cache_clear()


@pytest.mark.parametrize(("backend", "capability"), [("pallas", "7.5"), ("mosaic", "8.0")])
def test_a_gpu_that_is_too_old_is_named(backend, capability, monkeypatch):
    module = importlib.import_module("jaxvision_kernels.selective_scan")
    monkeypatch.setattr(module.jax, "devices", lambda *_: [Device("gpu", capability)])
    arrays, _ = make(length=3)
    with pytest.raises(ValueError, match=f"{backend}' needs .* has {capability}: use backend='xla"):
        selective_scan(**arrays, backend=backend)


@pytest.mark.parametrize("backend", ["pallas", pytest.param("mosaic", marks=pytest.mark.slow)])
def test_splits_keep_what_is_not_finite_in_its_segment(backend):
    """Segments end and begin within splits of four steps, the first of which hold a NaN."""
    arrays, options = make(length=16)
    options |= {"ids": np.array([[0] * 6 + [1] * 10] * 2)}
    tiling = Tiling(channels=8, inner=2, outer=4, splits=4)
    wy, _ = weights_of_loss(arrays)

    def outcome_of(arrays):
        def loss(arrays):
            with interpreted(tiling):
                y, state = selective_scan(
                    **arrays, segment_ids=options["ids"], return_last_state=True, backend=backend
                )
            return (y[:, 6:] * wy[:, 6:]).sum() + state.sum(), (y[:, 6:], state)

        (_, out), grads = quick_jit(jax.value_and_grad(loss, has_aux=True))(arrays)
        return *out, *(grads[k][:, 6:] for k in ("u", "delta", "B", "C"))

    good = outcome_of(arrays)
    for name in ("u", "delta"):
        bad = outcome_of(arrays | {name: arrays[name].at[:, 2].set(jnp.nan)})
        for x, y in zip(bad, good, strict=True):
            np.testing.assert_array_equal(x, y)
