"""CNN-AV1's networks: what they see, how they start, and how one stage of them learns."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from av1_models import BACKBONE, BLOCKS, CFG, LEVELS, QPS, TINY, drawn, inference
from flax import nnx
from modules import made, run

from jaxvision.cnn_av1 import classes
from jaxvision.cnn_av1.adapters import Adapters
from jaxvision.cnn_av1.model import Backbone, BackboneConfig
from jaxvision.cnn_av1.stage_model import StageModel
from jaxvision.cnn_av1.views import INDICES, STEPS, see, step_size
from jaxvision.losses.focal import focal_loss
from jaxvision.names import flatten
from jaxvision.stage import Objective, Stage
from jaxvision.step import build, split
from jaxvision.streams import streams


@pytest.fixture(scope="module")
def backbone():
    return drawn(lambda: Backbone(BACKBONE, rngs=nnx.Rngs(0)))


def test_steps_are_those_of_the_standard():
    np.testing.assert_allclose(step_size(np.array(INDICES)), np.array(STEPS) / 8)
    # AV1 specification, 7.12.2, Ac_Qlookup for 10 bits, at indices between those that are listed.
    between = np.array([20, 48, 80, 108, 128, 156, 180, 204, 226, 246])
    table = np.array([71, 195, 337, 498, 688, 1138, 1759, 2755, 4184, 6148])
    np.testing.assert_allclose(step_size(between) * 8, table, rtol=0.05)


@pytest.mark.parametrize("kind", ["plain", "imagenet", "contrast", "both"])
def test_views_have_their_formulas(kind):
    luma = BLOCKS.astype(np.float64)
    standard = (luma / 1023 - 0.449) / 0.226
    step = np.array([71, 337, 688, 7312]) / 8
    rest = luma - luma.mean((1, 2), keepdims=True)
    contrast = np.arcsinh(rest / step[:, None, None])
    expected = {
        "plain": [luma / 1023],
        "imagenet": [standard],
        "contrast": [contrast],
        "both": [standard, contrast],
    }[kind]
    found = see(BLOCKS, QPS, kind)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, np.stack(expected, -1), rtol=0.05, atol=0.05)


def test_contrast_knows_no_brightness_and_fades_with_the_step():
    low = see(BLOCKS // 2, QPS, "contrast")
    np.testing.assert_allclose(see(BLOCKS // 2 + 300, QPS, "contrast"), low, atol=1e-4)
    size = abs(np.array(see(np.repeat(BLOCKS[:1], 4, axis=0), QPS, "contrast"))).mean((1, 2, 3))
    assert (np.diff(size) < 0).all()


def test_a_backbone_starts_as_one_that_is_not_told_the_quantiser():
    """By the view that does not depend on it, and with the same parameters otherwise."""
    cfg = dataclasses.replace(BACKBONE, input="plain")
    told = inference(made(lambda: Backbone(cfg, rngs=streams(0))))
    found = run(told, BLOCKS, QPS)
    assert found.shape == (4, 16) and found.dtype == jnp.float32
    untold = dataclasses.replace(cfg, qp_conditioning=False)
    plain = inference(nnx.eval_shape(lambda: Backbone(untold, rngs=nnx.Rngs(0))))
    shared = [{k: v for k, v in part.items() if k != "conditioning"} for part in split(told)]
    plain = nnx.merge(nnx.graphdef(plain), *shared)
    np.testing.assert_allclose(run(plain, BLOCKS, QPS), found, atol=1e-6)
    np.testing.assert_allclose(run(told, BLOCKS, QPS[::-1]), found, atol=1e-6)
    other = inference(drawn(lambda: Backbone(cfg, rngs=nnx.Rngs(0))))
    assert abs(run(other, BLOCKS, QPS[::-1]) - run(other, BLOCKS, QPS)).max() > 1e-3


def test_features_of_another_length_are_projected():
    for features in (16, 24):
        cfg = dataclasses.replace(BACKBONE, features=features)
        net = nnx.eval_shape(lambda c=cfg: Backbone(c, rngs=nnx.Rngs(0)))
        assert (net.project is None) == (features == 16)
        assert nnx.eval_shape(lambda m: m(BLOCKS, QPS), inference(net)).shape == (4, features)


def test_the_seeds_size():
    """ResNet-18's 11.2 million, of which 6,272 are its first convolution."""
    cfg = BackboneConfig(input="plain", qp_conditioning=False)
    net = nnx.eval_shape(lambda: Backbone(cfg, rngs=nnx.Rngs(0)))
    sizes = {k: x.size for k, x in flatten(split(net)[0]).items()}
    trunk = sum(n for k, n in sizes.items() if k.startswith("trunk/"))
    assert trunk == 11_689_512 - 513_000 - 2 * 3136  # torchvision's, less fc, less two of RGB
    assert nnx.eval_shape(lambda m: m(BLOCKS, QPS), inference(net)).shape == (4, 512)


def test_adapters_begin_as_the_identity_and_bend_a_backbone_that_stays(backbone):
    adapters = made(lambda: Adapters(TINY.widths, 3, dtype="float32", rngs=nnx.Rngs(1)))
    fixed = inference(backbone)
    use = jax.jit(lambda m, a: m(BLOCKS, QPS, adapters=a))
    before = run(fixed, BLOCKS, QPS)
    np.testing.assert_allclose(use(fixed, adapters), before, atol=1e-5)
    other = drawn(lambda: Adapters(TINY.widths, 3, dtype="float32", rngs=nnx.Rngs(1)))
    assert abs(use(fixed, other) - before).max() > 1e-3
    with pytest.raises(ValueError, match="adapters of 0 hidden"):
        Adapters(TINY.widths, 0, dtype="float32", rngs=nnx.Rngs(0))


def stage(params, cfg=CFG, rate=3e-3):
    def loss(model, batch, rngs):
        logits = model(batch["blocks"], batch["qps"], rngs=rngs)
        return focal_loss(logits, batch["labels"]).mean(), {}

    return Stage(
        name="macro",
        model=lambda rngs: StageModel("macro", cfg, rngs=rngs),
        data=lambda split: None,
        objectives={"focal": Objective(loss=loss, optimizer=optax.adam(rate), params=params)},
        steps=1,
    )


BATCH = dict(blocks=BLOCKS, qps=QPS, labels=np.array([0, 1, 2, classes.IGNORED]))


def trained(params, steps, cfg=CFG, rate=3e-3):
    program = build(stage(params, cfg, rate))
    state, step = jax.jit(program.init)(jax.random.key(0)), jax.jit(program.step)
    first, losses = jax.device_get(state), []
    for _ in range(steps):
        state, logs = step(state, BATCH, jax.random.key(1))
        losses.append(float(logs["focal/loss"]))
    return first, jax.device_get(state), losses


def changed(a, b):
    a, b = flatten(a), flatten(b)
    return {k for k in a if np.any(a[k] != b[k])}


def test_adapters_and_head_learn_on_a_frozen_backbone():
    """In inference mode: neither its parameters nor its statistics move, nor does it drop."""
    cfg = dataclasses.replace(CFG, adapters=4)
    first, last, losses = trained("^(adapters|head)/(?!temperature)", 25, cfg, rate=0.03)
    assert losses[-1] < 0.5 * losses[0]
    names = changed(first.params, last.params)
    assert {name.split("/")[0] for name in names} == {"adapters", "head"}
    assert "head/temperature" not in names and not changed(first.model_state, last.model_state)


def test_a_whole_stage_learns_with_dropout_and_batch_statistics():
    first, last, losses = trained(".*(?<!temperature)$", 25)
    assert np.mean(losses[-5:]) < 0.7 * losses[0]
    assert any(k.endswith("norm/mean") for k in changed(first.model_state, last.model_state))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (dict(input="luma"), "input 'luma' is none of plain"),
        (dict(input="both"), "'both' has 2 channels, not resnet.channels=1"),
        (dict(dropout=(0.1,)), r"dropout \(0.1,\) and resnet.blocks \(1, 1\) differ"),
        (dict(dropout=(0.1, 1.0)), "from 0 to below 1"),
        (dict(squeeze=0), "squeeze=0"),
        (dict(levels=3), "levels=3 must be 1, or 4"),
        (dict(levels=4, qp_conditioning=False), "levels=4 needs qp_conditioning"),
    ],
)
def test_backbone_configs_name_what_is_wrong(change, named):
    with pytest.raises(ValueError, match=named):
        dataclasses.replace(BACKBONE, **change)


def test_inputs_that_do_not_fit_are_refused(backbone):
    with pytest.raises(ValueError, match=r"blocks of shape \(4, 16, 8\) are not"):
        backbone(BLOCKS[:, :, :8], QPS)
    with pytest.raises(ValueError, match=r"qps of shape \(3,\) for 4 blocks"):
        backbone(BLOCKS, QPS[:3])
    net = nnx.eval_shape(lambda: Backbone(LEVELS.backbone, rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match="levels of shape None for 4 blocks"):
        net(BLOCKS, QPS)
