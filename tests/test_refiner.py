"""The refiner over a field whose values tell where and at which scale it was read."""

import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.cofnet.refiner import LEFT, MARGIN, MIN_VIEW, REACH, BoxRefiner, RefinerHead, move

WIDTH = 8
CANVAS = (128, 256)

# A neck whose features are the x, y and scale of the query.
ECHO = SimpleNamespace(
    query=lambda levels, points, scales: jnp.concatenate([points, scales[..., None]], axis=-1)
)


def look(boxes, spread):
    """x, y and scale of the points that a head of 2 × 2 points reads."""
    own = functools.partial(RefinerHead.look, SimpleNamespace(points=2))
    read = jax.jit(lambda boxes, spread: own(boxes, spread, ECHO, [None] * 3, CANVAS))
    return np.asarray(read(boxes, spread))


def test_a_box_is_read_at_a_grid_over_it_and_at_the_scale_of_its_size():
    # 16 and 32 pixels wide and high: levels 0 and 1 of three, so scales 0 and 1/2.
    boxes = np.float32([[[0.5, 0.25, 16 / 256, 16 / 128], [0.4, 0.5, 32 / 256, 32 / 128]]])
    read = look(boxes, np.zeros((1, 1, 1), np.float32))
    assert read.shape == (1, 2, 4, 3)
    np.testing.assert_allclose(read[0, 0, :, 2], 0, atol=1e-6)
    np.testing.assert_allclose(read[0, 1, :, 2], 0.5, atol=1e-6)
    corners = np.array([[-1, -1], [1, -1], [-1, 1], [1, 1]]) / 4  # two points a side
    for box, points in zip(boxes[0], read[0, ..., :2], strict=True):
        view = box[2:] * MARGIN
        np.testing.assert_allclose(points, box[:2] + corners * view, atol=1e-6)


def test_a_small_box_sees_some_of_its_surroundings():
    boxes = np.float32([[[0.5, 0.25, 0.01, 0.01]]])
    read = look(boxes, np.zeros((1, 1, 1), np.float32))
    assert 0.01 * MARGIN < MIN_VIEW
    np.testing.assert_allclose(np.ptp(read[0, 0, :, :2], axis=0), MIN_VIEW / 2, atol=1e-6)


def test_a_box_looks_as_far_as_noise_may_have_moved_it_and_as_coarsely():
    boxes = np.float32([[[0.5, 0.5, 0.125, 0.25]]] * 2)  # 32 pixels: level 1 of three
    read = look(boxes, np.float32([0, 0.05])[:, None, None])
    beside = look(np.concatenate([boxes[:1], boxes[1:]], 1), np.float32([0, 0.05])[None, :, None])
    np.testing.assert_array_equal(beside[0], read[:, 0])  # each box by its own noise
    wide, high = 0.125 * MARGIN + 0.2, 0.25 * MARGIN + 0.2
    np.testing.assert_allclose(np.ptp(read[1, 0, :, :2], axis=0), [wide / 2, high / 2], atol=1e-6)
    level = np.log2(np.sqrt(wide * 256 * high * 128) / MARGIN / 16)
    np.testing.assert_allclose(read[:, 0, 0, 2], [0.5, level / 2], atol=1e-6)


def test_a_box_moves_by_its_size_and_stays_in_the_image():
    boxes = np.float32([[0.5, 0.5, 0.2, 0.01], [0.9, 0.1, 0.4, 0.4], [0.5, 0.5, 0.2, 0.2]])
    delta = np.float32([[0.3, -0.5, 0.1, 0.2], [9, -9, 9, -9], [0, 0, 0, 0]])
    tanh = np.tanh([0.3, -0.5])
    expected = [
        [0.5 + 0.2 * tanh[0], 0.5 + REACH * tanh[1], 0.2 * np.exp(0.1), 0.01 * np.exp(0.2)],
        [1, 0, 1, 0.4 * np.exp(-2)],
        [0.5, 0.5, 0.2, 0.2],
    ]
    np.testing.assert_allclose(jax.jit(move)(boxes, delta, 0.0), expected, rtol=1e-5)
    far = jax.jit(move)(boxes, delta, 0.05)
    np.testing.assert_allclose(far[0, 0], 0.5 + (0.2 + 0.1) * tanh[0], rtol=1e-5)
    np.testing.assert_array_equal(far[:, 2:], jax.jit(move)(boxes, delta, 0.0)[:, 2:])


BOXES = np.random.default_rng(0).uniform(0.3, 0.6, (2, 3, 4)).astype(np.float32)
SPREAD = np.linspace(0.01, 0.06, 6, dtype=np.float32).reshape(2, 3, 1)
LEVELS = [np.random.default_rng(1).normal(size=(2, 2, 2, WIDTH)).astype(np.float32)]


def test_a_round_starts_from_the_boxes_of_the_last_whose_gradient_stops_there():
    same, spreads = lambda x: x, []

    def rounds(deltas):
        def head(slots, boxes, spread, *_, i):
            spreads.append(spread)
            return slots, deltas[i], boxes

        heads = [functools.partial(head, i=i) for i in range(2)]
        fake = SimpleNamespace(time=same, context=same, width=WIDTH, heads=heads)
        return BoxRefiner.__call__(fake, BOXES, SPREAD, jnp.zeros((2, 3)), None, LEVELS, CANVAS)

    @jax.jit
    def run(deltas):
        total = lambda deltas, i: rounds(deltas)[0][i].sum()  # noqa: E731
        return rounds(deltas), [jax.grad(total)(deltas, i) for i in range(2)]

    deltas = np.full((2, *BOXES.shape), 0.1, np.float32)
    (boxes, (start, again), last), gradients = run(deltas)
    np.testing.assert_array_equal(start, BOXES)
    np.testing.assert_array_equal(again, boxes[0])
    np.testing.assert_array_equal(last, deltas[1])
    np.testing.assert_allclose(boxes[1], jax.jit(move)(boxes[0], deltas[1], SPREAD / 3), rtol=1e-6)
    np.testing.assert_array_equal(spreads[:2], [SPREAD, SPREAD * LEFT])
    learns = [[bool(g[j].any()) for j in range(2)] for g in gradients]
    assert learns == [[True, False], [False, True]]  # each round from its own boxes alone
