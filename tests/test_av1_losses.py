"""CNN-AV1's losses against plain NumPy, what they ignore, and their gradients at extremes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.losses.balanced import class_balanced_focal_loss, class_balanced_weights
from jaxvision.losses.center import center_loss
from jaxvision.losses.focal import binary_focal_loss, focal_loss
from jaxvision.losses.mining import hard_negatives
from jaxvision.losses.mixing import cutmix, mixed_loss, mixup
from jaxvision.losses.regret import regret_loss

RANDOM = np.random.RandomState(0)
LOGITS = (3 * RANDOM.standard_normal((7, 4))).astype(np.float32)
LABELS = np.array([0, 1, 2, 3, -1, 2, 0])
COSTS = RANDOM.uniform(50, 400, (7, 4)).astype(np.float32)
COSTS[1, 2] = COSTS[3, 0] = COSTS[3, 3] = np.nan
COSTS[2, 1] = np.inf
COSTS[4] = np.nan
COSTS[5, 1:] = np.nan


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def plain_focal(logits, labels, gamma, weights):
    p = softmax(logits.astype(np.float64))
    return [
        0 if y < 0 else -weights[y] * (1 - row[y]) ** gamma * np.log(row[y])
        for row, y in zip(p, labels, strict=True)
    ]


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 2.5])
@pytest.mark.parametrize("weights", [None, np.array([0.25, 1, 2, 0.5])])
def test_focal_loss_has_its_formula(gamma, weights):
    expected = plain_focal(LOGITS, LABELS, gamma, np.ones(4) if weights is None else weights)
    found = focal_loss(LOGITS, LABELS, gamma=gamma, weights=weights)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("alpha", [0.25, None])
def test_binary_focal_loss_is_that_of_two_classes(alpha):
    z = LOGITS[:, 0]
    labels = np.array([0, 1, 1, 0, -1, 1, 0])
    weights = None if alpha is None else np.array([1 - alpha, alpha])
    two = focal_loss(np.stack([0 * z, z], -1), labels, weights=weights)
    found = binary_focal_loss(z, labels, alpha=alpha)
    np.testing.assert_allclose(found, two, rtol=1e-5, atol=1e-7)
    assert found[4] == 0 and (found[labels >= 0] > 0).all()


def test_an_example_that_is_nearly_right_keeps_its_digits():
    # p_t = 1 - e^-20 / (1 + e^-20), which float32 rounds to 1: the loss is about e^-60.
    expected = np.exp(-60.0)
    found = focal_loss(jnp.array([[20.0, 0.0]]), jnp.array([0]))
    np.testing.assert_allclose(found, [expected], rtol=1e-4)
    binary = binary_focal_loss(jnp.array(20.0), jnp.array(1), alpha=None)
    np.testing.assert_allclose(binary, expected, rtol=1e-4)


def test_labels_of_no_class_are_not_a_number():
    assert np.isnan(focal_loss(LOGITS[:1], np.array([4]))).all()


EXTREME = np.array([[80, -80, 0], [-80, 80, 0], [80, 80, 80], [0, -80, -80.0]], np.float32)


@pytest.mark.parametrize("label", [0, 1, -1])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_gradients_are_finite_at_extremes(label, gamma):
    labels = np.full(len(EXTREME), label)
    weights = class_balanced_weights([10, 1_000_000, 3])
    costs = np.array([[1, 1e6, np.nan]] * len(EXTREME), np.float32)

    def losses(z):
        many = focal_loss(z, labels, gamma=gamma, weights=weights)
        binary = binary_focal_loss(z[:, 0], labels, gamma=gamma)
        return many + binary, regret_loss(z, costs)

    value = np.stack(losses(EXTREME))
    gradient = jax.grad(lambda z: sum(x.sum() for x in losses(z)))(EXTREME)
    assert np.isfinite(value).all() and np.isfinite(gradient).all()
    first = jax.grad(lambda z: losses(z)[0].sum())(EXTREME)
    assert np.any(first) == (label >= 0)


def test_class_balanced_weights_have_their_formula():
    counts = [6285, 2440, 538, 0]
    beta = 0.9999
    plain = np.array([(1 - beta) / (1 - beta**n) for n in counts[:3]])
    expected = [*(plain / plain.sum() * 3), 0]
    found = class_balanced_weights(counts)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_array_equal(class_balanced_weights([5, 900], beta=0), [1, 1])
    loss = class_balanced_focal_loss(LOGITS, LABELS, counts=counts, gamma=1.5)
    expected = plain_focal(LOGITS, LABELS, 1.5, found)
    np.testing.assert_allclose(loss, expected, rtol=1e-4, atol=1e-6)
    for wrong, named in (
        (dict(counts=[1, 2], beta=1), "beta=1 must"),
        (dict(counts=[1, -2]), r"counts \[1.0, -2.0\]"),
        (dict(counts=[0, 0]), "one above 0"),
    ):
        with pytest.raises(ValueError, match=named):
            class_balanced_weights(**wrong)
    with pytest.raises(ValueError, match="2 counts for logits of 4 classes"):
        class_balanced_focal_loss(LOGITS, LABELS, counts=[1, 2])


def test_the_hardest_negatives_are_kept_and_no_others():
    labels = np.array([1, 0, 0, 0, -1, 0, 0])
    losses = np.array([0.1, 0.5, 0.9, 0.2, 9.0, 0.7, 0.0], np.float32)
    np.testing.assert_array_equal(hard_negatives(losses, labels, ratio=2), [1, 0, 1, 0, 0, 1, 0])
    np.testing.assert_array_equal(hard_negatives(losses, labels, ratio=9), labels >= 0)
    # Without positives, the hardest alone; without anything, nothing.
    np.testing.assert_array_equal(
        hard_negatives(losses, np.minimum(labels, 0)), [0, 0, 1, 0, 0, 0, 0]
    )
    assert not np.any(hard_negatives(losses, np.full(7, -1)))
    # Equal losses: as many as are due, whichever.
    assert hard_negatives(np.ones(7, np.float32), labels, ratio=2).sum() == 3
    gradient = jax.grad(lambda z: (z * hard_negatives(z, labels, ratio=2)).sum())(losses)
    np.testing.assert_array_equal(gradient, [1, 0, 1, 0, 0, 1, 0])


def test_center_loss_has_its_formula():
    centers = RANDOM.standard_normal((4, 3)).astype(np.float32)
    x = RANDOM.standard_normal((7, 3)).astype(np.float32)
    expected = [
        0 if y < 0 else ((row - centers[y]) ** 2).sum() / 2
        for row, y in zip(x, LABELS, strict=True)
    ]
    np.testing.assert_allclose(center_loss(x, LABELS, centers), expected, rtol=1e-5)
    moved = jax.grad(lambda c: center_loss(x, LABELS, c).sum())(centers)
    np.testing.assert_allclose(moved[1], centers[1] - x[1], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(moved[0], 2 * centers[0] - x[0] - x[6], rtol=1e-4, atol=1e-6)


BLOCKS = RANDOM.randint(0, 1024, (64, 8, 8)).astype(np.uint16)
KINDS = np.arange(64)


@pytest.mark.parametrize("mix", [mixup, cutmix])
def test_mixtures_are_of_two_rows_in_the_shares_they_tell(mix):
    mixed = jax.jit(lambda key: mix(key, BLOCKS, KINDS))(jax.random.key(0))
    order, lam = np.array(mixed.order), np.array(mixed.lam)
    np.testing.assert_array_equal(np.sort(order), KINDS)
    np.testing.assert_array_equal(mixed.labels, KINDS)
    np.testing.assert_array_equal(mixed.others, order)
    assert mixed.blocks.dtype == jnp.float32 and lam.min() >= 0 and lam.max() <= 1
    assert len(np.unique(lam)) > 10  # a draw for every row
    own, other = BLOCKS.astype(np.float64), BLOCKS[order].astype(np.float64)
    if mix is mixup:
        share = lam[:, None, None]
        np.testing.assert_allclose(mixed.blocks, share * own + (1 - share) * other, rtol=1e-5)
        return
    pasted = np.array(mixed.blocks) != own
    assert (np.array(mixed.blocks)[pasted] == other[pasted]).all()
    assert ((0.2 < lam) & (lam < 0.8)).any()
    for i in range(64):
        if order[i] == i:
            continue
        rows, columns = np.where(pasted[i])
        size = 0 if not len(rows) else np.ptp(rows) + 1, 0 if not len(rows) else np.ptp(columns) + 1
        # Equal pixels of two blocks are rare, so that what differs spans the square.
        assert abs(1 - size[0] * size[1] / 64 - lam[i]) < 1e-6


def test_a_mixed_loss_is_of_both_labels():
    lam = np.array([1.0, 0.0, 0.25])
    found = mixed_loss(np.array([1.0, 2, 4]), np.array([3.0, 5, 8]), lam)
    np.testing.assert_allclose(found, [1, 5, 7])


def test_mixtures_name_what_is_wrong():
    with pytest.raises(ValueError, match="alpha=0 must"):
        mixup(jax.random.key(0), BLOCKS, KINDS, alpha=0)
    with pytest.raises(ValueError, match=r"blocks \(64, 8, 8\) are not .* with 3 labels"):
        cutmix(jax.random.key(0), BLOCKS, KINDS[:3])


def test_regret_has_its_formula():
    expected = []
    for z, costs in zip(LOGITS.astype(np.float64), COSTS, strict=True):
        known = np.isfinite(costs)
        if known.sum() < 2:
            expected.append(0)
            continue
        least = costs[known].min()
        expected.append((softmax(z[known]) * (costs[known] - least) / least).sum())
    found = regret_loss(LOGITS, COSTS)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert expected[4] == expected[5] == 0 and min(expected[:4]) > 0
    gradient = jax.grad(lambda z: regret_loss(z, COSTS).sum())(LOGITS)
    assert not gradient[~np.isfinite(COSTS)].any() and not gradient[4:6].any()
    assert np.isfinite(gradient).all()
    with pytest.raises(ValueError, match=r"costs of shape \(7, 2\).*give NaN"):
        regret_loss(LOGITS, COSTS[:, :2])


def test_regret_falls_to_nothing_where_the_cheapest_is_certain():
    cheapest = np.nanargmin(np.where(np.isfinite(COSTS), COSTS, np.nan)[:4], axis=-1)
    certain = 60 * np.eye(4, dtype=np.float32)[cheapest]
    np.testing.assert_allclose(regret_loss(certain, COSTS[:4]), 0, atol=1e-6)
