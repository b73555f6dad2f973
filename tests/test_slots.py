import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from jaxvision.cofnet import slots
from jaxvision.cofnet.slots import SlotConfig

OBJECTS = {
    "boxes": jnp.array([[[0.2, 0.2, 0.1, 0.1], [0.7, 0.7, 0.2, 0.2], [0, 0, 0, 0]]]),
    "labels": jnp.array([[1, 0, 0]]),
    "valid": jnp.array([[True, True, False]]),
}


def test_ground_truth_is_repeated_in_turn_and_skips_padding():
    valid = jnp.array([[True, False, True], [False, False, False]])
    rows = slots.repeat_cyclically(valid, 5, jnp.array([[0.49], [0.9]]))
    np.testing.assert_array_equal(rows[0], [0, 2, 0, 2, 0])
    assert (rows[1] < 3).all()


def test_repetition_begins_with_any_object_so_that_all_have_their_turn():
    valid = jnp.array([[False, True, True, True, True]] * 5)
    begin = jnp.array([[0.0], [0.26], [0.51], [0.76], [0.99]])
    rows = slots.repeat_cyclically(valid, 3, begin)
    expected = [[1, 2, 3], [2, 3, 4], [3, 4, 1], [4, 1, 2], [4, 1, 2]]
    np.testing.assert_array_equal(rows, expected)


def test_aligned_slots_are_seen_by_themselves_alone_and_proposals_by_proposals():
    mask = slots.attention_mask(SlotConfig(count=6, aligned=1 / 3, learned=1 / 3))
    expected = [[1, 0, 0, 0, 1, 1], [0, 1, 0, 0, 1, 1]]  # aligned
    expected += [[0, 0, 1, 1, 0, 0]] * 2 + [[0, 0, 0, 0, 1, 1]] * 2
    np.testing.assert_array_equal(mask, np.array(expected, bool))


def test_rounded_shares_never_exceed_the_slots():
    cfg = SlotConfig(count=3, aligned=0.5, learned=0.5)
    np.testing.assert_array_equal(cfg.kinds, [0, 0, 1])
    np.testing.assert_array_equal(SlotConfig(count=4).kinds, [0, 0, 1, 2])


def test_iou_assigner_takes_the_object_that_is_half_covered():
    boxes = jnp.array([[[0.2, 0.2, 0.1, 0.1], [0.7, 0.72, 0.2, 0.2], [0.45, 0.45, 0.1, 0.1]]])
    owner, hit = slots.match("iou", boxes, jnp.zeros((1, 3, 2)), OBJECTS)
    np.testing.assert_array_equal(hit[0], [True, True, False])
    np.testing.assert_array_equal(owner[0, :2], [0, 1])
    least = float(
        slots.iou(slots.to_corners(boxes[0, 2]), slots.to_corners(OBJECTS["boxes"][0, 0]))
    )
    for margin, expected in ((-0.01, True), (0.01, False)):
        _, hit = slots.match("iou", boxes, jnp.zeros((1, 3, 2)), OBJECTS, least=least + margin)
        assert hit[0, 2] == expected


def test_hungarian_matches_scipy_and_leaves_padding_alone():
    rng = np.random.default_rng(0)
    boxes = jnp.asarray(rng.uniform(0.1, 0.9, (1, 12, 4)), jnp.float32)
    logits = jnp.asarray(rng.normal(size=(1, 12, 2)), jnp.float32)
    owner, hit = slots.match("hungarian", boxes, logits, OBJECTS)
    assert hit.sum() == 2
    pairs = {(int(i), int(owner[0, i])) for i in np.flatnonzero(hit[0])}
    cost = np.zeros((12, 2))
    for i, j in itertools.product(range(12), range(2)):
        box, target = boxes[0, i], OBJECTS["boxes"][0, j]
        p = jax.nn.sigmoid(logits[0, i, OBJECTS["labels"][0, j]])
        corners = slots.to_corners
        giou = slots.giou(corners(box), corners(target))
        cost[i, j] = 5 * np.abs(box - target).sum() - 2 * giou - 2 * np.log(p + 1e-6)
    assert pairs == set(zip(*map(list, linear_sum_assignment(cost)), strict=True))


@pytest.mark.parametrize("assigner", ["hungarian", "dynamic_k"])
def test_every_object_is_matched_though_padding_outnumbers_the_slots(assigner):
    rng = np.random.default_rng(1)
    boxes = jnp.asarray(rng.uniform(0.1, 0.9, (1, 4, 4)), jnp.float32)
    padded = {k: jnp.pad(v, [(0, 0), (0, 5)] + [(0, 0)] * (v.ndim - 2)) for k, v in OBJECTS.items()}
    owner, hit = slots.match(assigner, boxes, jnp.zeros((1, 4, 2)), padded)
    assert {0, 1} <= set(np.asarray(owner[0])[np.asarray(hit[0])].tolist()) <= {0, 1}


def test_boxes_by_half_in_a_crowd_are_told():
    boxes = jnp.array([[[0.2, 0.2, 0.1, 0.1], [0.3, 0.2, 0.3, 0.1], [0.7, 0.7, 0.2, 0.2]]])
    crowd = OBJECTS | {"crowd": jnp.array([[True, False, False]])}
    np.testing.assert_array_equal(slots.in_crowd(boxes, crowd)[0], [True, False, False])


def test_dynamic_k_gives_every_object_a_slot_and_good_ones_several():
    near = jnp.array([0.2, 0.2, 0.1, 0.1]) + 0.002 * jnp.arange(6)[:, None]
    far = jnp.full((4, 4), 0.45)
    boxes = jnp.concatenate([near, far])[None]
    owner, hit = slots.match("dynamic_k", boxes, jnp.zeros((1, 10, 2)), OBJECTS)
    taken = np.asarray(owner[0])[np.asarray(hit[0])]
    assert (taken == 0).sum() >= 3 and (taken == 1).sum() >= 1


def test_assignment_survives_costs_that_are_not_finite():
    boxes = jnp.full((1, 4, 4), jnp.nan)
    owner, hit = slots.match("hungarian", boxes, jnp.zeros((1, 4, 2)), OBJECTS)
    assert hit.sum() == 2 and (owner < 3).all()


def test_quality_is_the_iou_and_nothing_under_the_floor():
    target = jnp.array([0.5, 0.5, 0.2, 0.2])
    good, bad = target + jnp.array([0.02, 0, 0, 0]), target + jnp.array([0.15, 0, 0, 0])
    np.testing.assert_allclose(slots.quality(good, target), 0.18 / 0.22, rtol=1e-5)
    assert slots.quality(bad, target) == 0
    assert jax.grad(lambda b: slots.quality(b, target))(good).sum() == 0


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        (dict(assigner="greedy"), "greedy"),
        (dict(aligned=0.8, learned=0.4), "shares of at most 1 together"),
        (dict(aligned=-0.5), "aligned=-0.5"),
        (dict(aligned=1.0, learned=0.0, assigner="hungarian"), "all are aligned"),
        (dict(skew=0.0), "skew=0.0"),
        (dict(start=0.0), "start=0.0"),
        (dict(start=1.5), "start=1.5"),
        (dict(overlap=1.0), "overlap=1.0"),
    ],
)
def test_slot_config_names_what_is_wrong(fields, named):
    with pytest.raises(ValueError, match=named):
        SlotConfig(**fields)
