"""SegFormer-lite on decoded latents: that it learns, what it counts, sizes that do not divide."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxvision.losses.classification import masked_cross_entropy
from jaxvision.stage import Objective, Stage
from jaxvision.step import build
from jaxvision.wavenet_mv.heads.loss import HeadsLossConfig, heads_loss
from jaxvision.wavenet_mv.heads.model import AIHeads, HeadsConfig, predictions
from jaxvision.wavenet_mv.heads.segment import EfficientAttention, segments

CHANNELS, GRID, CANVAS = 8, (5, 7), (40, 56)
CONFIG = HeadsConfig(segment_classes=3, width=16, depth=1)


@pytest.fixture(scope="module")
def toy():
    """Four scenes of one object, which two channels of the latents tell in its cells."""
    rng = np.random.default_rng(0)
    features = rng.normal(0, 0.02, (4, *GRID, CHANNELS)).astype(np.float32)
    masks = np.zeros((4, *CANVAS), np.uint8)
    for i in range(4):
        y, x, kind = i % 3, i + 1, i % 2
        features[i, y : y + 2, x : x + 2, kind] += 5
        masks[i, 8 * y : 8 * y + 16, 8 * x : 8 * x + 16] = 1 + kind
    masks[:, 32:] = 255
    return {"features": features, "segments": masks}


def test_masks_are_learnt(toy):
    def loss(heads, batch, rngs):
        del rngs
        return heads_loss(heads(batch["features"]), batch, HeadsLossConfig())

    stage = Stage(
        name="heads",
        model=lambda rngs: AIHeads(CHANNELS, CONFIG, rngs=rngs),
        data=lambda split: None,
        objectives={"heads": Objective(loss=loss, optimizer=optax.adam(1e-2))},
        steps=150,
    )
    program = build(stage)
    state, step = jax.jit(program.init)(jax.random.key(0)), jax.jit(program.step)
    for _ in range(stage.steps):
        state, _ = step(state, toy, jax.random.key(1))
    say = jax.jit(lambda state, x: predictions(program.apply(state)(x), CANVAS))
    found = np.asarray(say(state, toy["features"])["segments"])
    labelled = toy["segments"] != 255
    objects = labelled & (toy["segments"] > 0)
    assert (found == toy["segments"])[labelled].mean() > 0.95
    assert (found == toy["segments"])[objects].mean() > 0.8  # all sky would be right on most


def test_masks_have_the_size_of_the_picture():
    logits = np.zeros((1, 2, 2, 3), np.float32)
    logits[0, 0, 0, 2], logits[0, 1, 1, 1] = 9, 9
    found = segments(jnp.asarray(logits), (7, 9))
    assert found.shape == (1, 7, 9) and found.dtype == jnp.uint8
    assert found[0, 0, 0] == 2 and found[0, -1, -1] == 1 and found[0, 0, -1] == 0


def test_attention_reaches_across_a_grid_that_its_reduction_does_not_divide():
    attention = EfficientAttention(16, 4, dtype=jnp.float32, rngs=nnx.Rngs(0))
    x = np.random.default_rng(1).normal(size=(1, 5, 7, 16)).astype(np.float32)
    graph, state = nnx.split(attention)
    run = jax.jit(lambda x: nnx.merge(graph, state)(x))
    other = x.copy()
    other[0, -1, -1] += 5
    change = abs(run(other) - run(x))
    assert change.shape == (1, 5, 7, 16) and change[0, 0, 0].max() > 1e-4


def test_cross_entropy_leaves_out_what_is_not_labelled():
    logits = np.random.default_rng(5).normal(size=(4, 3)).astype(np.float32)
    labels = np.array([2, 255, 0, 7], np.uint8)
    losses, counted = masked_cross_entropy(jnp.asarray(logits), jnp.asarray(labels), ignore=255)
    log_p = logits - np.log(np.exp(np.float64(logits)).sum(-1, keepdims=True))
    np.testing.assert_allclose(losses[:3], [-log_p[0, 2], 0, -log_p[2, 0]], rtol=1e-5)
    assert np.isnan(losses[3])  # no such class
    np.testing.assert_array_equal(counted, [True, False, True, True])
