"""Heads that learn from a teacher which sees the pixels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxvision.wavenet_mv.heads.detect import Cells
from jaxvision.wavenet_mv.heads.distill import (
    PixelStem,
    Teacher,
    binary_divergence,
    distillation_loss,
    divergence,
)
from jaxvision.wavenet_mv.heads.loss import HeadsLossConfig
from jaxvision.wavenet_mv.heads.model import AIHeads, HeadsConfig, HeadsOutput

CONFIG = HeadsConfig(detect_classes=2, segment_classes=3, actions=2, width=16, depth=1)
LOSS = HeadsLossConfig(distil=1.0, hint=0.5)
compared = jax.jit(lambda student, teacher: distillation_loss(student, teacher, LOSS))


def output(seed):
    rng = np.random.default_rng(seed)
    normal = lambda *shape: jnp.asarray(rng.normal(0, 2, shape), jnp.float32)  # noqa: E731
    cells = Cells(normal(2, 6, 2), normal(2, 6, 4), np.zeros((6, 2)), np.full(6, 8.0))
    return HeadsOutput(normal(2, 2, 2, 4), cells, normal(2, 4, 4, 3), normal(2, 2))


def softmax64(x):
    e = np.exp(np.float64(x))
    return e / e.sum(-1, keepdims=True)


def test_divergence_is_the_textbook_one_at_a_temperature():
    student, teacher = output(0).action, output(1).action
    p, q = softmax64(teacher / 3), softmax64(student / 3)
    expected = 9 * (p * np.log(p / q)).sum(-1)
    # Differences of logarithms of about 1, times 9: some 1e-6 in float32.
    np.testing.assert_allclose(divergence(student, teacher, temperature=3), expected, atol=1e-5)
    p, q = 1 / (1 + np.exp(-np.float64(teacher) / 3)), 1 / (1 + np.exp(-np.float64(student) / 3))
    expected = 9 * (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q)))
    found = binary_divergence(student, teacher, temperature=3)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_student_that_says_the_same_has_nothing_to_learn():
    loss, parts = compared(output(0), output(0))
    assert abs(loss) < 1e-6 and set(parts) == {
        *("distil_classes", "distil_boxes", "distil_segments", "distil_action", "hint")
    }
    other, _ = compared(output(0), output(1))
    assert other > 1


def test_only_the_student_has_a_gradient():
    values = lambda o: (o.features, o.cells.logits, o.cells.boxes, o.segments, o.action)  # noqa: E731

    def loss(student, teacher):
        full = [
            HeadsOutput(v[0], output(0).cells._replace(logits=v[1], boxes=v[2]), v[3], v[4])
            for v in (student, teacher)
        ]
        return distillation_loss(*full, LOSS)[0]

    student, teacher = jax.jit(jax.grad(loss, argnums=(0, 1)))(values(output(0)), values(output(1)))
    assert all(abs(x).max() > 0 for x in student)
    assert not any(x.any() for x in teacher)


def test_boxes_are_learnt_where_the_teacher_is_sure():
    student, teacher = output(0), output(1)
    sure = jnp.full((2, 6, 2), -9.0).at[1, 4, 0].set(9)
    teacher = teacher._replace(cells=teacher.cells._replace(logits=sure))
    _, parts = compared(student, teacher)
    difference = (np.asarray(student.cells.boxes) - np.asarray(teacher.cells.boxes))[1, 4] / 8
    np.testing.assert_allclose(parts["distil_boxes"], (difference**2).mean(), rtol=1e-5)


def test_a_teacher_says_of_pixels_what_heads_say_of_latents():
    size = (20, 33)
    image = jax.ShapeDtypeStruct((2, *size, 3), jnp.uint8)
    latents = jax.ShapeDtypeStruct((2, -(-size[0] // 8), -(-size[1] // 8), 24), jnp.float32)
    theirs = nnx.eval_shape(lambda x: Teacher(24, CONFIG, rngs=nnx.Rngs(0))(x), image)
    ours = nnx.eval_shape(lambda x: AIHeads(24, CONFIG, rngs=nnx.Rngs(0))(x), latents)
    assert jax.tree.map(jnp.shape, theirs) == jax.tree.map(jnp.shape, ours)


def test_a_grid_that_no_halving_reaches_is_refused():
    with pytest.raises(ValueError, match="stride=6 is no power of two"):
        PixelStem(8, stride=6, dtype=jnp.float32, rngs=nnx.Rngs(0))
