"""What the stages of CNN-AV1 learn by, through models small enough to be quick."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from ml_collections import ConfigDict

from jaxvision.cnn_av1.levels import LEVELS
from jaxvision.cnn_av1.loss import (
    LossConfig,
    all_costs,
    multitask_loss,
    stage_loss,
    temperature_loss,
)
from jaxvision.cnn_av1.model import BackboneConfig
from jaxvision.cnn_av1.pipeline import MultiTask
from jaxvision.cnn_av1.stage_model import ModelConfig, StageModel
from jaxvision.cnn_av1.stages import levelled, made_of
from jaxvision.nn.resnet import ResNetConfig
from jaxvision.step import INFERENCE

RESNET = ResNetConfig(width=8, blocks=(1,), stem="half")
CFG = ModelConfig(
    backbone=BackboneConfig(resnet=RESNET, dropout=(0.0,), features=8), hidden=8, centers=True
)
TYPE = np.array([0, 1, 2, 3, 4, 5, 8, 9])


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    return {
        "block": rng.integers(0, 1024, (8, 16, 16)).astype(np.uint16),
        "qp": rng.integers(20, 200, 8).astype(np.int32),
        "type": TYPE.astype(np.int32),
        "level": np.zeros(8, np.int32),
        "costs": np.full((8, 4), np.nan, np.float32),
    }


def value(loss, model, batch):
    """Loss and gradient at a fixed key."""
    batch = jax.tree.map(jnp.asarray, batch)
    graph, params, rest = nnx.split(model, nnx.Param, ...)

    def run(params):
        return loss(nnx.merge(graph, params, rest, copy=True), batch, nnx.Rngs(0))[0]

    return jax.jit(jax.value_and_grad(run))(params)


COUNTS = {"binary": 2, "macro": 3, "rect": 4, "ab": 4, "types": 10}  # classes
PLAIN = LossConfig(symmetry="none")


@pytest.mark.parametrize(
    "stage, cfg",
    [
        ("binary", LossConfig(form="focal", alpha=0.25, mining=3.0)),
        ("macro", LossConfig(form="balanced_focal", mixup=0.2)),
        ("rect", LossConfig(form="focal", symmetry="all")),
        ("ab", LossConfig(form="focal", cutmix=1.0, center=0.1)),
    ],
)
def test_every_form_has_a_finite_gradient(stage, cfg, batch):
    counts = dict(binary=[9, 5], macro=[3, 9, 1], rect=[4] * 4, ab=[2] * 4)[stage]
    model = StageModel(stage, CFG, rngs=nnx.Rngs(0))
    found, gradient = value(stage_loss(stage, cfg, counts=np.array(counts)), model, batch)
    assert np.isfinite(found) and found > 0
    leaves = jax.tree.leaves(gradient)
    assert all(np.isfinite(x).all() for x in leaves)
    assert sum(float(jnp.abs(x).sum()) for x in leaves) > 0


def test_blocks_of_other_stages_do_not_count(batch):
    model = StageModel("rect", CFG, rngs=nnx.Rngs(0))
    counts = np.array([1] * 4)
    found, _ = value(stage_loss("rect", PLAIN, counts=counts), model, batch)
    own = {key: x[[1, 2, 6, 7]] for key, x in batch.items()}
    frozen = nnx.view(model, use_running_average=True, raise_if_not_found=False)
    whole, _ = value(stage_loss("rect", PLAIN, counts=counts), frozen, batch)
    part, _ = value(stage_loss("rect", PLAIN, counts=counts), frozen, own)
    np.testing.assert_allclose(whole, part, rtol=1e-5)
    assert np.isfinite(found)
    none = batch | {"type": np.zeros(8, np.int32)}
    assert value(stage_loss("rect", PLAIN, counts=counts), frozen, none)[0] == 0


def test_a_temperature_is_fitted_without_dropout(batch):
    drops = dataclasses.replace(CFG, dropout=0.5)
    model = StageModel("binary", drops, rngs=nnx.Rngs(0))
    found, gradient = value(temperature_loss("binary"), model, batch)
    again, _ = value(temperature_loss("binary"), nnx.view(model, **INFERENCE), batch)
    np.testing.assert_allclose(found, again, rtol=1e-6)
    assert float(jnp.abs(gradient["head"]["temperature"][...])) > 0


def test_an_error_is_dear_as_the_encoder_says(batch):
    costs = jnp.array([[1.0, 1.5, 2.0, jnp.nan], [jnp.nan] * 4, [1.2, 1.1, 1.3, 1.4]])
    types = jnp.array([0, 3, 7])
    found = all_costs(costs, types)
    expected = np.full((3, 10), np.nan)
    expected[0, :3] = 1, 1.5, 2
    expected[2, :4], expected[2, 7] = [1.2, 1.1, 1.3, 1.4], 1
    np.testing.assert_allclose(found, expected)


def test_one_net_learns_all_tasks_and_the_regret(batch):
    cfg = levelled(CFG)
    assert cfg.backbone.levels == len(LEVELS) and cfg.backbone.resnet.channels == 2
    model = MultiTask(cfg, rngs=nnx.Rngs(0))
    rows = batch | {
        "block": np.stack([batch["block"], batch["block"]], -1).astype(np.float32),
        "level": np.array([0, 1, 2, 3, 0, 1, 2, 0], np.int32),
    }
    counts = {stage: np.full(n, 9) for stage, n in COUNTS.items()}
    plain, gradient = value(multitask_loss(PLAIN, counts=counts), model, rows)
    heads = {key: sum(float(jnp.abs(x).sum()) for x in jax.tree.leaves(part))
             for key, part in gradient["heads"].items()}  # fmt: skip
    assert set(heads) == {"binary", "macro", "rect", "ab", "types"}
    assert min(heads.values()) > 0
    dear = rows | {"costs": np.tile(np.float32([3, 1, 3, 3]), (8, 1))}
    with_regret = multitask_loss(dataclasses.replace(PLAIN, regret=1.0), counts=counts)
    assert value(with_regret, model, dear)[0] > plain
    assert value(with_regret, model, rows)[0] == pytest.approx(float(plain), rel=1e-5)
    balanced = dataclasses.replace(PLAIN, form="balanced_focal", gamma=0.0)
    alike = value(multitask_loss(balanced, counts=counts), model, rows)[0]
    assert alike == pytest.approx(float(plain), rel=1e-5)
    rare = counts | {"types": np.array([9000, *[9] * 9])}
    assert abs(value(multitask_loss(balanced, counts=rare), model, rows)[0] - plain) > 0.01


def test_a_stage_knows_what_its_model_is_made_of():
    def made(**fields):
        plain = dict(kind="stage", task="binary", adapters=0)
        return made_of(ConfigDict(plain | fields), dataclasses.replace(CFG, centers=False))

    assert made(task="ab").centers and made(kind="pipeline").centers and not made().centers
    assert made(adapters=4).adapters == 4
    many = made(kind="multitask")
    assert many.backbone.levels == len(LEVELS) and not many.centers


def test_wrong_settings_are_named():
    for fields, message in (
        (dict(form="hinge"), "form 'hinge'"),
        (dict(symmetry="turn"), "symmetry 'turn'"),
        (dict(gamma=-1.0), "gamma=-1.0"),
        (dict(alpha=1.0), "alpha=1.0"),
        (dict(mixup=0.1, cutmix=0.1), "alternatives"),
    ):
        with pytest.raises(ValueError, match=message):
            LossConfig(**fields)
    with pytest.raises(ValueError, match="2 counts for 3 classes"):
        stage_loss("macro", PLAIN, counts=np.array([1, 2]))
    with pytest.raises(ValueError, match="alpha=0.25 is for two classes, not 3"):
        stage_loss("macro", LossConfig(form="focal", alpha=0.25), counts=np.array([1, 2, 3]))
