"""The refiner over a field whose values tell where and at which scale it was read."""

import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.cofnet.refiner import MARGIN, MIN_VIEW, REACH, BoxRefiner, RefinerHead, move

WIDTH = 8
CANVAS = (128, 256)

# A neck whose features are the x, y and scale of the query.
ECHO = SimpleNamespace(
    query=lambda levels, points, scales: jnp.concatenate([points, scales[..., None]], axis=-1)
)


def test_a_box_is_read_at_a_grid_over_it_and_at_the_scale_of_its_size():
    # 16 and 32 pixels wide and high: levels 0 and 1 of three, so scales 0 and 1/2.
    boxes = np.float32([[[0.5, 0.25, 16 / 256, 16 / 128], [0.4, 0.5, 32 / 256, 32 / 128]]])
    look = functools.partial(RefinerHead.look, SimpleNamespace(points=2))
    read = np.asarray(jax.jit(lambda boxes: look(boxes, ECHO, [None] * 3, CANVAS))(boxes))
    assert read.shape == (1, 2, 4, 3)
    np.testing.assert_allclose(read[0, 0, :, 2], 0, atol=1e-6)
    np.testing.assert_allclose(read[0, 1, :, 2], 0.5, atol=1e-6)
    corners = np.array([[-1, -1], [1, -1], [-1, 1], [1, 1]]) / 4  # two points a side
    for box, points in zip(boxes[0], read[0, ..., :2], strict=True):
        view = np.maximum(box[2:] * MARGIN, MIN_VIEW)
        np.testing.assert_allclose(points, box[:2] + corners * view, atol=1e-6)
    assert boxes[0, 0, 2] * MARGIN < MIN_VIEW < boxes[0, 1, 2] * MARGIN  # both cases are here


def test_a_box_moves_by_its_size_and_stays_in_the_image():
    boxes = np.float32([[0.5, 0.5, 0.2, 0.01], [0.9, 0.1, 0.4, 0.4], [0.5, 0.5, 0.2, 0.2]])
    delta = np.float32([[0.3, -0.5, 0.1, 0.2], [9, -9, 9, -9], [0, 0, 0, 0]])
    tanh = np.tanh([0.3, -0.5])
    expected = [
        [0.5 + 0.2 * tanh[0], 0.5 + REACH * tanh[1], 0.2 * np.exp(0.1), 0.01 * np.exp(0.2)],
        [1, 0, 1, 0.4 * np.exp(-2)],
        [0.5, 0.5, 0.2, 0.2],
    ]
    np.testing.assert_allclose(jax.jit(move)(boxes, delta), expected, rtol=1e-5)


BOXES = np.random.default_rng(0).uniform(0.3, 0.6, (2, 3, 4)).astype(np.float32)
LEVELS = [np.random.default_rng(1).normal(size=(2, 2, 2, WIDTH)).astype(np.float32)]


def test_a_round_starts_from_the_boxes_of_the_last_whose_gradient_stops_there():
    same = lambda x: x  # noqa: E731

    def rounds(deltas):
        heads = [lambda slots, boxes, *_, i=i: (slots, deltas[i], boxes) for i in range(2)]
        fake = SimpleNamespace(time=same, context=same, width=WIDTH, heads=heads)
        return BoxRefiner.__call__(fake, BOXES, jnp.zeros(2), None, LEVELS, CANVAS)

    @jax.jit
    def run(deltas):
        total = lambda deltas, i: rounds(deltas)[0][i].sum()  # noqa: E731
        return rounds(deltas), [jax.grad(total)(deltas, i) for i in range(2)]

    deltas = np.full((2, *BOXES.shape), 0.1, np.float32)
    (boxes, (start, again), last), gradients = run(deltas)
    np.testing.assert_array_equal(start, BOXES)
    np.testing.assert_array_equal(again, boxes[0])
    np.testing.assert_array_equal(last, deltas[1])
    np.testing.assert_allclose(boxes[1], jax.jit(move)(boxes[0], deltas[1]), rtol=1e-6)
    learns = [[bool(g[j].any()) for j in range(2)] for g in gradients]
    assert learns == [[True, False], [False, True]]  # each round from its own boxes alone
