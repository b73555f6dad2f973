import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.losses import boxes as B
from jaxvision.losses.classification import quality_focal_loss
from jaxvision.nn.nms import nms_keep, select


def random_corners(rng, n, scale=1.0):
    low = rng.uniform(0, 0.7, (n, 2))
    return np.concatenate([low, low + rng.uniform(0.05, 0.3, (n, 2))], 1).astype(np.float32) * scale


def iou64(a, b):
    a, b = np.float64(a), np.float64(b)
    size = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    inter = max(size[0], 0) * max(size[1], 0)
    areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return inter / (areas - inter)


def test_corners_lie_half_a_side_from_the_center():
    np.testing.assert_array_equal(B.to_corners(jnp.array([4.0, 5, 2, 6])), [3, 2, 5, 8])


def test_pairwise_iou_matches_float64():
    rng = np.random.default_rng(1)
    a, b = random_corners(rng, 6), random_corners(rng, 9)
    expected = [[iou64(x, y) for y in b] for x in a]
    np.testing.assert_allclose(B.pairwise_iou(a, b), expected, atol=1e-5)


def test_giou_of_known_pairs():
    a = jnp.array([0.0, 0.0, 1.0, 1.0])
    np.testing.assert_allclose(B.giou(a, a), 1, atol=1e-6)
    np.testing.assert_allclose(B.giou(a, jnp.array([2.0, 0.0, 3.0, 1.0])), -1 / 3, atol=1e-6)


def test_boxes_of_no_area_have_finite_losses_and_gradients():
    point = jnp.array([0.5, 0.5, 0.0, 0.0])
    for target in (point, jnp.array([0.2, 0.2, 0.1, 0.1])):
        value, gradient = jax.value_and_grad(lambda p, t=target: B.box_loss(p, t))(point)
        assert np.isfinite(value) and np.isfinite(gradient).all()


def test_quality_focal_loss_is_least_at_the_quality():
    q = 0.7
    logits = jnp.linspace(-4, 4, 801)
    best = logits[quality_focal_loss(logits, jnp.full_like(logits, q)).argmin()]
    np.testing.assert_allclose(jax.nn.sigmoid(best), q, atol=0.01)


def greedy_nms(boxes, scores, labels, threshold):
    keep = []
    for i in range(len(boxes)):
        rivals = (j for j in keep if labels[j] == labels[i])
        if scores[i] > 0 and all(iou64(boxes[i], boxes[j]) <= threshold for j in rivals):
            keep.append(i)
    return keep


@pytest.mark.parametrize("seed", range(4))
def test_nms_is_the_greedy_one(seed):
    rng = np.random.default_rng(seed)
    boxes = random_corners(rng, 40, scale=0.6)
    scores = np.sort(rng.uniform(0, 1, 40))[::-1].astype(np.float32)
    scores[35:] = 0
    labels = rng.integers(0, 3, 40)
    keep = nms_keep(jnp.asarray(boxes), jnp.asarray(scores), jnp.asarray(labels), 0.4)
    assert list(np.flatnonzero(keep)) == greedy_nms(boxes, scores, labels, 0.4)


def test_select_sorts_fills_with_zero_scores_and_takes_a_box_once_a_class():
    boxes = jnp.array([[[0, 0, 0.5, 0.5], [0, 0, 0.5, 0.49], [0.6, 0.6, 1, 1]]])
    scores = jnp.array([[[0.9, 0.8], [0.7, 0.1], [0.0, 0.3]]])
    out = select(boxes, scores, top=6, threshold=0.5, candidates=300)
    np.testing.assert_allclose(out["scores"][0], [0.9, 0.8, 0.3, 0, 0, 0])
    np.testing.assert_array_equal(out["labels"][0, :3], [0, 1, 1])
    np.testing.assert_allclose(out["boxes"][0, 2], boxes[0, 2])
