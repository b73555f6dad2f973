"""The dense head's targets and proposals on a few cells, against values worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fake_cofnet import focal, logit

from jaxvision.cofnet.dense import box_scale, dense_loss, proposals

# Two cells in a row, with centres (0.25, 0.5) and (0.75, 0.5). Both objects are near the first.
CELLS = [(1, 2)]
LARGE, SMALL = [0.2, 0.5, 0.3, 0.4], [0.22, 0.5, 0.2, 0.2]
CROWD = [0.75, 0.5, 0.5, 1.0]  # the second cell
P = np.array([[0.2, 0.3, 0.6], [0.1, 0.5, 0.7]])


def dense(boxes, *, order=(0, 1), crowd=False):
    """The loss of `boxes` for both cells; `order` is that of the large and the small object."""
    batch = {
        "boxes": np.float32([*np.array([LARGE, SMALL])[list(order)], CROWD])[None],
        "labels": np.array([*np.array([2, 1])[list(order)], 0])[None],
        "valid": np.array([[True, True, False]]),
        "crowd": np.array([[False, False, crowd]]),
    }
    return compiled(np.float32(boxes)[None], batch)


@jax.jit
def compiled(boxes, batch):
    head = {"boxes": boxes, "logits": jnp.asarray(logit(P)[None], jnp.float32)}
    return dense_loss(head, CELLS, (16, 32), batch)


def focal_of(cell, quality=0.0, label=0):
    return focal(P[cell], quality * np.eye(3)[label]).sum()


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_cell_learns_its_smallest_object(order):
    shift, overlap = 0.02, 0.18 / 0.22  # of a box 0.2 wide with itself moved by 0.02
    predicted = [[SMALL[0] + shift, *SMALL[1:]], [0.8, 0.5, 0.1, 0.1]]
    classification, regression = dense(predicted, order=order)
    np.testing.assert_allclose(regression, 5 * shift + 2 * (1 - overlap), rtol=1e-5)
    expected = focal_of(0, overlap, label=1) + focal_of(1)
    np.testing.assert_allclose(classification, expected, rtol=1e-5)


def test_a_cell_that_misses_its_object_still_learns_its_class():
    classification, _ = dense([[0.8, 0.5, 0.1, 0.1]] * 2)
    np.testing.assert_allclose(classification, focal_of(0, 0.1, label=1) + focal_of(1), rtol=1e-5)


def test_cells_in_a_crowd_are_no_negatives():
    predicted = [SMALL, [0.8, 0.5, 0.1, 0.1]]
    open_, same = dense(predicted)
    ignored, regression = dense(predicted, crowd=True)
    np.testing.assert_allclose(open_ - ignored, focal_of(1), rtol=1e-5)
    np.testing.assert_allclose(regression, same, rtol=1e-6)


def test_objects_belong_to_near_cells_of_the_level_of_their_size():
    shapes, canvas = [(4, 4), (2, 2)], (64, 64)  # levels for boxes of 16 and of 32 pixels
    small, large = [0.4, 0.4, 0.25, 0.25], [0.3, 0.6, 0.5, 0.5]
    batch = {
        "boxes": np.float32([[small], [large]]),
        "labels": np.zeros((2, 1), int),
        "valid": np.ones((2, 1), bool),
        "crowd": np.zeros((2, 1), bool),
    }

    @jax.jit
    @jax.grad
    def gradient(boxes):
        head = {"boxes": boxes, "logits": jnp.zeros((2, 20, 1))}
        return dense_loss(head, shapes, canvas, batch)[1]

    learns = np.asarray(gradient(jnp.full((2, 20, 4), 0.9))).any(-1)
    fine = np.zeros((4, 4), bool)
    fine[1:3, 1:3] = True  # centres 0.375 and 0.625 are within 0.25 of 0.4; 0.125 is not
    np.testing.assert_array_equal(learns[0], [*fine.ravel(), *[False] * 4])
    np.testing.assert_array_equal(learns[1], [*[False] * 16, *[True] * 4])


def test_an_image_without_objects_has_finite_losses():
    batch = {
        "boxes": np.zeros((1, 3, 4), np.float32),
        "labels": np.zeros((1, 3), int),
        "valid": np.zeros((1, 3), bool),
        "crowd": np.zeros((1, 3), bool),
    }
    classification, regression = compiled(np.full((1, 2, 4), 0.5, np.float32), batch)
    np.testing.assert_allclose(classification, focal_of(0) + focal_of(1), rtol=1e-5)
    assert regression == 0


def test_proposals_are_the_peaks_best_first():
    logits = np.full((1, 15, 2), -5.0, np.float32)
    logits[0, 5, 1], logits[0, 6, 1], logits[0, 9, 0] = 2.0, 1.0, 0.0
    boxes = jnp.arange(60.0).reshape(1, 15, 4)
    head = dict(logits=jnp.asarray(logits), boxes=boxes)
    found, scores = jax.jit(lambda head: proposals(head, [(3, 5)], 2))(head)
    np.testing.assert_array_equal(found[0], boxes[0, jnp.array([5, 9])])  # 6 neighbours 5
    np.testing.assert_allclose(scores[0].max(-1), jax.nn.sigmoid(jnp.array([2.0, 0.0])), rtol=1e-6)


def test_more_proposals_than_cells_are_refused():
    head = dict(logits=jnp.zeros((1, 15, 2)), boxes=jnp.zeros((1, 15, 4)))
    with pytest.raises(ValueError, match="16 proposals from 15 cells: lower sampler.slots"):
        proposals(head, [(3, 5)], 16)


def test_scale_of_a_box_is_its_level():
    sizes = jnp.array([16, 32, 64, 128, 4, 1000.0])[:, None] / jnp.array([[640.0, 320.0]])
    expected = [0, 1 / 3, 2 / 3, 1, 0, 1]
    np.testing.assert_allclose(box_scale(sizes, (320, 640), 4), expected, atol=1e-5)
