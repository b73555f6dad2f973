"""ResNet-18 against torchvision's, its convolutions on small maps, and attention."""

import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from modules import made, run

from jaxvision.nn.attention import SpatialAttention, SqueezeExcite
from jaxvision.nn.resnet import PaddedConv, ResNet, ResNetConfig
from jaxvision.nn.resnet_weights import LUMA_STD, STD, fold_rgb, load_resnet18
from jaxvision.step import INFERENCE

GOLDEN = Path(__file__).parent / "golden"
SMALL = dict(width=8, blocks=(1, 1))


def maker():
    spec = importlib.util.spec_from_file_location("make_resnet18", GOLDEN / "make_resnet18.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def weights():
    return maker().state_dict()


def trunk(**fields):
    return made(lambda: ResNet(ResNetConfig(**fields), rngs=nnx.Rngs(0)))


def inference(module):
    return nnx.view(module, **INFERENCE)


def filled(weights, *, fold=True, **fields):
    """A trunk of these weights, whose first ones are never made."""
    net = nnx.eval_shape(lambda: ResNet(ResNetConfig(**fields), rngs=nnx.Rngs(0)))
    load_resnet18(net, weights, fold=fold)
    return net


@pytest.fixture(scope="module")
def loaded(weights):
    return filled(weights)


@pytest.mark.parametrize("size", [16, 64])
def test_folded_weights_do_what_torchvision_does_on_grey_pictures(loaded, size):
    expected = np.load(GOLDEN / "resnet18.npz")[f"map{size}"]
    found = run(inference(loaded), maker().luma(size)[..., None])
    assert found.shape == expected.shape
    # 18 layers of float32 sums of up to 4608 products, in another order.
    assert abs(found - expected).max() / abs(expected).max() < 1e-4


def test_unfolded_weights_and_added_channels_do_the_same(loaded, weights):
    luma = maker().luma(16)[..., None]
    expected = run(inference(loaded.stem), luma)
    rgb = filled(weights, channels=3, fold=False)
    grey = (luma * (LUMA_STD / STD)).astype(np.float32)
    # float32 sums of 147 products of about 0.3
    np.testing.assert_allclose(run(inference(rgb.stem), grey), expected, atol=2e-5)
    two = filled(weights, channels=2)
    both = np.concatenate([luma, np.ones_like(luma)], axis=-1)
    np.testing.assert_allclose(run(inference(two.stem), both), expected, atol=2e-5)


def test_a_fold_keeps_the_answer_to_grey():
    kernel = np.random.RandomState(0).standard_normal((7, 7, 3, 4))
    luma = np.random.RandomState(1).standard_normal((7, 7))
    grey = luma[..., None] * (LUMA_STD / STD)
    np.testing.assert_allclose(
        np.einsum("hw,hwo->o", luma, fold_rgb(kernel)[:, :, 0]),
        np.einsum("hwc,hwco->o", grey, kernel),
    )


def test_weights_that_do_not_fit_are_named_and_change_nothing(loaded, weights):
    before = np.array(loaded.stem.conv.kernel[...])
    wrong = dict(weights)
    del wrong["layer2.0.downsample.1.running_var"]
    with pytest.raises(ValueError, match="lack layer2.0.downsample.1.running_var"):
        load_resnet18(loaded, wrong)
    with pytest.raises(ValueError, match="no place for layer1.2.conv1.weight"):
        load_resnet18(loaded, weights | {"layer1.2.conv1.weight": np.zeros((64, 64, 3, 3))})
    other = {"layer4.1.bn2.bias": np.zeros(8), "conv1.weight": weights["conv1.weight"] + 1}
    with pytest.raises(ValueError, match=r"layer4.1.bn2.bias of shape \(8,\)"):
        load_resnet18(loaded, weights | other)
    with pytest.raises(ValueError, match=r"conv1.weight of shape \(64, 3, 7, 7\).*wants"):
        load_resnet18(loaded, weights, fold=False)
    np.testing.assert_array_equal(loaded.stem.conv.kernel[...], before)
    counters = {"bn1.num_batches_tracked": np.array(7)}
    load_resnet18(loaded, weights | counters)
    for fields in (dict(norm="group"), dict(stem="small")):
        net = nnx.eval_shape(lambda f=fields: ResNet(ResNetConfig(**f), rngs=nnx.Rngs(0)))
        with pytest.raises(ValueError, match="use norm 'batch' and stem 'imagenet'"):
            load_resnet18(net, weights)


@pytest.mark.parametrize(
    ("stem", "size", "expected"),
    [("imagenet", 64, 8), ("imagenet", 16, 2), ("half", 32, 8), ("small", 16, 8), ("small", 3, 2)],
)
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_stems_divide_the_resolution(stem, size, expected, norm):
    net = nnx.eval_shape(
        lambda: ResNet(ResNetConfig(**SMALL, stem=stem, norm=norm), rngs=nnx.Rngs(0))
    )
    found = nnx.eval_shape(lambda m, x: m(x), net, jnp.zeros((2, size, size, 1)))
    assert found.shape == (2, expected, expected, 16)


def test_what_comes_after_a_stage_changes_the_next():
    net = inference(trunk(**SMALL))
    x = jax.random.normal(jax.random.key(0), (1, 16, 16, 1))
    seen = []

    def zero(x):
        seen.append(x.shape)
        return 0 * x

    assert np.any(run(net, x))
    assert not np.any(jax.jit(lambda m, x: m(x, (lambda y: y, zero)))(net, x))
    assert seen == [(1, 2, 2, 16)]


def test_batch_norm_keeps_running_statistics_as_torchvision_does():
    net = trunk(**SMALL)
    x = jax.random.normal(jax.random.key(0), (4, 16, 16, 1))

    @jax.jit
    def step(net, x):
        y = net.stem.conv(x)
        net(x)
        return y, net.stem.norm.mean[...], net.stem.norm.var[...]

    y, mean, var = step(net, x)
    y = np.asarray(y, np.float64)
    np.testing.assert_allclose(mean, 0.1 * y.mean((0, 1, 2)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(var, 0.9 + 0.1 * y.var((0, 1, 2)), rtol=1e-4)


@pytest.mark.parametrize("kernel", [1, 3, 7])
def test_small_maps_are_convolved_like_large_ones(kernel):
    cases = [(1, s) for s in ((1, 1), (2, 2), (1, 4), (3, 1))]
    cases += [(2, s) for s in ((1, 1), (2, 2), (3, 3), (4, 4), (1, 7))]
    convs = [
        PaddedConv(3, 5, kernel, stride=stride, dtype="float32", rngs=nnx.Rngs(0))
        for stride, _ in cases
    ]
    keys = jax.random.split(jax.random.key(1), len(cases))
    xs = [jax.random.normal(k, (2, *s, 3)) for k, (_, s) in zip(keys, cases, strict=True)]

    def plain(conv, x):
        return jax.lax.conv_general_dilated(
            x, conv.kernel[...], (conv.stride,) * 2, [(kernel // 2, kernel // 2)] * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )  # fmt: skip

    def both(convs, xs):
        return [(conv(x), plain(conv, x)) for conv, x in zip(convs, xs, strict=True)]

    for found, expected in jax.jit(both)(convs, xs):
        assert found.shape == expected.shape and expected[0, ..., 0].size <= 4
        # float32 sums of up to 147 products of about 1
        np.testing.assert_allclose(found, expected, atol=2e-5)


def test_squeeze_and_excitation_has_its_formula():
    gate = SqueezeExcite(32, reduction=4, rngs=nnx.Rngs(0))
    assert gate.squeeze.kernel.shape == (32, 8)
    assert SqueezeExcite(16, reduction=16, rngs=nnx.Rngs(0)).squeeze.kernel.shape == (16, 4)
    x = np.random.RandomState(0).standard_normal((2, 3, 4, 32)).astype(np.float32)
    down, up = gate.squeeze.kernel[...], gate.excite.kernel[...]
    hidden = np.maximum(x.mean((1, 2)) @ down, 0)
    expected = x / (1 + np.exp(-hidden @ up))[:, None, None]
    np.testing.assert_allclose(run(gate, x), expected, atol=1e-5)


def test_spatial_attention_has_its_formula():
    gate = SpatialAttention(kernel=3, rngs=nnx.Rngs(0))
    gate.conv.bias[...] = jnp.array([0.3])
    x = np.random.RandomState(0).standard_normal((1, 4, 5, 6)).astype(np.float32)
    told = np.pad(np.stack([x.mean(-1), x.max(-1)], -1), ((0, 0), (1, 1), (1, 1), (0, 0)))
    kernel = np.asarray(gate.conv.kernel[..., 0])
    expected = np.empty_like(x)
    for i in range(4):
        for j in range(5):
            z = (told[0, i : i + 3, j : j + 3] * kernel).sum() + 0.3
            expected[0, i, j] = x[0, i, j] / (1 + np.exp(-z))
    np.testing.assert_allclose(run(gate, x), expected, atol=1e-5)
    with pytest.raises(ValueError, match="kernel=4 must be odd"):
        SpatialAttention(kernel=4, rngs=nnx.Rngs(0))


def test_configs_name_what_is_wrong():
    for fields, named in (
        (dict(width=0), "width=0"),
        (dict(blocks=()), "at least one"),
        (dict(blocks=(2, 0)), r"blocks \(2, 0\)"),
        (dict(channels=0), "channels=0"),
        (dict(stem="tiny"), "stem 'tiny' is none of imagenet, small, half"),
        (dict(norm="layer"), "'layer' is neither"),
        (dict(norm="group", width=12), "width=12 must be a multiple of 8"),
        (dict(dtype="float16"), "dtype 'float16'"),
    ):
        with pytest.raises(ValueError, match=named):
            ResNetConfig(**fields)


def test_the_gradient_of_spatial_attention_is_that_of_its_maximum():
    gate = SpatialAttention(kernel=1, rngs=nnx.Rngs(0))
    gate.conv.kernel[...] = jnp.array([0.0, 1.0])[None, None, :, None]
    x = np.array([[[[1.0, 3, 3, 2]]]], np.float32)  # of equal ones the first is meant
    gradient = np.array(jax.grad(lambda x: gate(x)[..., 0].sum())(x))[0, 0, 0]
    s = 1 / (1 + np.exp(-3.0))
    np.testing.assert_allclose(gradient, [s, s * (1 - s), 0, 0], rtol=1e-5)


def test_bfloat16_compute_keeps_float32_parameters():
    net = trunk(**SMALL, dtype="bfloat16")
    assert {x.dtype for x in jax.tree.leaves(nnx.state(net))} == {np.dtype("float32")}
    assert run(inference(net), jnp.zeros((1, 16, 16, 1))).dtype == jnp.bfloat16
