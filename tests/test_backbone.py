import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jaxvision_kernels import inverse_order, scan_order, selective_scan
from modules import made, run

from jaxvision.cofnet.backbone import BackboneConfig, MambaBackbone
from jaxvision.nn.conv import DepthwiseConv
from jaxvision.nn.embed import Siren, fourier_features, sinusoidal
from jaxvision.nn.ssm import CrossScanMixer, ScanConfig, ScanMixer, from_orders, to_orders

ORDERS = ("row", "column", "row_reversed", "column_reversed")


def test_backbone_gives_the_four_maps_of_the_seed():
    backbone = nnx.eval_shape(lambda: MambaBackbone(BackboneConfig(), rngs=nnx.Rngs(0)))
    maps = jax.eval_shape(lambda m, x: m(x), backbone, jax.ShapeDtypeStruct((2, 640, 640, 3), "f4"))
    assert [m.shape for m in maps] == [
        (2, 160, 160, 96), (2, 80, 80, 192), (2, 40, 40, 384), (2, 20, 20, 768),
    ]  # fmt: skip


def small(dtype=jnp.float32, **changes):
    fields = dict(
        dims=(8, 12), depths=(1, 1), mixers=("conv", "scan"), scan=ScanConfig(state=2, expand=1)
    )
    cfg = BackboneConfig(**(fields | changes))
    return made(lambda: MambaBackbone(cfg, dtype=dtype, rngs=nnx.Rngs(0)))


@pytest.mark.parametrize("stem", ["conv", "patch"])
def test_both_stems_have_the_same_strides(stem):
    maps = run(small(stem=stem), jnp.zeros((1, 16, 24, 3)))
    assert [m.shape for m in maps] == [(1, 4, 6, 8), (1, 2, 3, 12)]


def test_a_size_that_does_not_divide_is_named():
    with pytest.raises(ValueError, match="20×24 is not a multiple of 8"):
        small()(jnp.zeros((1, 20, 24, 3)))


def test_remat_changes_no_value():
    images = jax.random.normal(jax.random.key(0), (1, 16, 16, 3))

    def gradient(remat):
        graph, params = nnx.split(small(remat=remat))
        loss = lambda p: sum((m**2).sum() for m in nnx.merge(graph, p)(images))  # noqa: E731
        return jax.tree.leaves(jax.jit(jax.grad(loss))(params))

    for a, b in zip(gradient(False), gradient(True), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_bfloat16_compute_keeps_float32_parameters():
    backbone = small(dtype=jnp.bfloat16)
    assert {x.dtype for x in jax.tree.leaves(nnx.state(backbone))} == {jnp.dtype("float32")}
    assert run(backbone, jnp.zeros((1, 16, 16, 3)))[0].dtype == jnp.bfloat16


def test_config_names_what_is_wrong():
    with pytest.raises(ValueError, match="'mamba' is neither"):
        BackboneConfig(mixers=("mamba",) * 4)
    for wrong in (dict(dims=(8, 0, 8, 8)), dict(depths=(1, -1, 1, 1)), dict(mlp=0)):
        with pytest.raises(ValueError, match="must be 1 or more"):
            BackboneConfig(**wrong)
    with pytest.raises(ValueError, match="at least one"):
        BackboneConfig(dims=(), depths=(), mixers=())


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        (dict(state=0), "scan.state=0"),
        (dict(expand=0), "scan.expand=0"),
        (dict(orders=()), "scan.orders is empty"),
        (dict(orders=("row", "diagnoal")), "diagnoal"),
        (dict(backend="cuda"), "'cuda' is none of"),
    ],
)
def test_scan_config_names_what_is_wrong(fields, named):
    with pytest.raises(ValueError, match=named):
        ScanConfig(**fields)


def test_each_group_of_channels_has_its_own_order():
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 4, 5)).astype(np.float32)
    there = jax.jit(to_orders, static_argnums=1)(x, ORDERS)
    flat = x.reshape(2, 12, 4, 5)
    np.testing.assert_array_equal(there[:, :, 0], flat[:, :, 0])
    np.testing.assert_array_equal(there[:, :3, 1], x[:, :, 0, 1])
    np.testing.assert_array_equal(there[:, :, 2], flat[:, ::-1, 2])
    back = jax.jit(from_orders, static_argnums=(1, 2))(there, ORDERS, (3, 4))
    np.testing.assert_array_equal(back, x)


def test_scan_mixer_lets_every_position_reach_every_other():
    mixer = made(lambda: ScanMixer(8, ScanConfig(state=2, expand=1), rngs=nnx.Rngs(0)))
    x = jax.random.normal(jax.random.key(0), (1, 4, 5, 8))
    reach = jax.jit(jax.grad(lambda x, i, j: mixer(x)[0, i, j].sum()))
    for i, j in ((0, 0), (2, 3), (3, 4)):
        assert (np.abs(reach(x, i, j)[0]).sum(-1) > 0).all()


def test_depthwise_conv_equals_the_grouped_convolution():
    conv = DepthwiseConv(6, 5, rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(0), (2, 7, 9, 6))
    expected = jax.lax.conv_general_dilated(
        x, conv.kernel[...][:, :, None], (1, 1), "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=6,
    )  # fmt: skip
    np.testing.assert_allclose(run(conv, x), expected, atol=1e-5)
    with pytest.raises(ValueError, match="kernel=4 must be odd"):
        DepthwiseConv(6, 4, rngs=nnx.Rngs(0))


def test_embeddings_have_their_formula():
    x = jnp.array([[0.25, -0.5]])
    out = fourier_features(x, 2)
    expected = []
    for v in (0.25, -0.5):
        angles = np.pi * np.array([1, 2]) * v
        expected += [*np.sin(angles), *np.cos(angles)]
    np.testing.assert_allclose(out[0], expected, atol=1e-6)
    time = sinusoidal(jnp.array([0, 3]), 4)
    np.testing.assert_allclose(time[0], [0, 0, 1, 1], atol=1e-6)
    np.testing.assert_allclose(time[1, :2], np.sin([3, 0.03]), atol=1e-6)


def test_siren_starts_with_outputs_spread_over_its_range():
    siren = Siren(1, 256, layers=3, w0=30.0, rngs=nnx.Rngs(0))
    out = siren(jnp.linspace(-1, 1, 512)[:, None])
    assert 0.5 < float(out.std()) < 0.75  # the sine of a unit normal has 0.66


def test_cross_scan_sums_a_scan_of_its_own_in_every_order():
    """Against flips and index maps, which the mixer does without."""
    cfg = ScanConfig(state=3, expand=1, orders=("row", "column_reversed", "hilbert"))
    mixer = made(lambda: CrossScanMixer(4, cfg, rngs=nnx.Rngs(0)))
    x = jax.random.normal(jax.random.key(0), (2, 3, 5, 4))
    values, gate = jnp.split(mixer.project_in(x), 2, axis=-1)
    values = jax.nn.silu(mixer.conv(values)).reshape(2, 15, 4)
    selected = mixer.project_scan(values).reshape(2, 15, 3, -1)
    y = 0.0
    for i, name in enumerate(cfg.orders):
        order, back = scan_order(name, 3, 5), inverse_order(name, 3, 5)
        delta, B, C = jnp.split(selected[:, order, i], (1, 4), axis=-1)
        y += selective_scan(
            values[:, order],
            delta @ mixer.delta_kernel[i],
            -jnp.exp(mixer.log_decay[i]),
            B,
            C,
            mixer.skip[i],
            delta_bias=mixer.delta_bias[i],
            delta_softplus=True,
            backend="reference",
        )[:, back]
    y = mixer.norm(y).reshape(2, 3, 5, 4) * jax.nn.silu(gate)
    np.testing.assert_allclose(run(mixer, x), mixer.project_out(y), rtol=1e-4, atol=1e-5)
