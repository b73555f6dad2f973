"""The losses of the denoiser on three slots, against values worked out by hand."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fake_cofnet import SIGNAL, FakeCOFNet, alpha_bar, focal, logit
from flax import nnx

from jaxvision.cofnet import loss
from jaxvision.cofnet.loss import (
    LossConfig,
    detection_loss,
    noise_loss,
    refine_loss,
    starting_boxes,
)
from jaxvision.cofnet.model import Denoised
from jaxvision.cofnet.slots import SlotConfig, attention_mask

OBJECTS = np.array([[0.3, 0.3, 0.2, 0.2], [0.7, 0.7, 0.2, 0.4]], np.float32)
CROWD = np.array([0.25, 0.5, 0.5, 1.0], np.float32)  # the left half
EMPTY = [[0.2, 0.4, 0.2, 0.2], [0.3, 0.6, 0.2, 0.2], [0.8, 0.5, 0.2, 0.2]]
BATCH = {  # the second image has no objects but a crowd, which holds its first two slots
    "image": np.zeros((2, 1, 1, 3), np.uint8),
    "boxes": np.stack([[*OBJECTS, np.zeros(4)], [*np.zeros((2, 4)), CROWD]]).astype(np.float32),
    "labels": np.array([[2, 1, 0], [0, 0, 0]]),
    "valid": np.array([[True, True, False], [False, False, False]]),
    "crowd": np.array([[False, False, False], [False, False, True]]),
}
ROWS = np.array([[0, 1], [0, 0]])
SLOTS = SlotConfig(count=3, aligned=2 / 3, learned=0.0)
P = np.array([0.2, 0.3, 0.6])  # every slot's scores
LOGITS = np.broadcast_to(np.float32(logit(P)), (2, 3, 3))
RTOL = 1e-5  # sums of some twenty float32 terms


def answered(*shifts):
    """Slots 0, 1 and 2 of the first image: objects 0, 1 and 1, moved right by `shifts`."""
    boxes = OBJECTS[[0, 1, 1]] + np.array(shifts)[:, None] * [1, 0, 0, 0]
    return np.stack([boxes, EMPTY]).astype(np.float32)


def overlap(shift, width=0.2):
    """IoU of a box with itself moved by `shift`; the hull is the union, so GIoU is the same."""
    return (width - shift) / (width + shift)


def box(shift):
    return 5 * shift + 2 * (1 - overlap(shift))


def focal_of(quality=0.0, label=0):
    return focal(P, quality * np.eye(3)[label]).sum()


# Slot 1 has its object, but overlaps it by a third: its class target is 0, its box is learnt. Slot
# 2 finds object 1 in the first round, nothing in the second.
ROUNDS = [answered(0.02, 0.1, 0.04), answered(0.02, 0.1, 0.1)]
FIRST = focal_of(overlap(0.02), 2) + focal_of() + focal_of(overlap(0.04), 1)
SECOND = focal_of(overlap(0.02), 2) + 2 * focal_of()
EXPECTED = {
    "box": ((box(0.02) + box(0.1) + box(0.04)) / 3 + (box(0.02) + box(0.1)) / 2) / 2,
    "class": ((FIRST + focal_of()) / 3 + (SECOND + focal_of()) / 2) / 2,  # one slot past the crowd
    "iou": (overlap(0.02) + overlap(0.1)) / 2,
}


@functools.cache
def refined(share):
    cfg = LossConfig(slots=SLOTS, classification=3.0, noise=0.5)
    return compiled_refine(cfg)(alpha_bars(share))


def alpha_bars(share):
    """`[b n 1]`: `share` for the aligned slots, another for the last."""
    return jnp.broadcast_to(jnp.array([share, share, 0.5])[:, None], (2, 3, 1))


@functools.cache
def compiled_refine(cfg):
    model = fake(ROUNDS[0])
    x0 = np.zeros((2, 3, 4), np.float32)
    x0[0, :2] = (2 * OBJECTS - 1) * SIGNAL

    @jax.jit
    def evaluate(alpha_bar):
        out = Denoised(list(map(jnp.asarray, ROUNDS)), [jnp.asarray(LOGITS)] * 2, None)
        state = {"x0": jnp.asarray(x0), "alpha_bar": alpha_bar}
        return refine_loss(model, out, state, ROWS, jax.tree.map(jnp.asarray, BATCH), cfg)

    return evaluate


def fake(boxes, **fields):
    return FakeCOFNet(
        boxes, LOGITS, cells=[[[0.2] * 4, [0.4] * 4]] * 2, cell_logits=np.zeros((2, 2, 3)), **fields
    )


@pytest.mark.parametrize("part", EXPECTED)
def test_refine_loss_by_hand(part):
    _, logs = refined(0.9)
    np.testing.assert_allclose(logs[part], EXPECTED[part], rtol=RTOL)


def test_a_smaller_overlap_lets_poorer_boxes_learn_and_score():
    cfg = dataclasses.replace(SLOTS, overlap=0.3)
    _, logs = compiled_refine(LossConfig(slots=cfg))(alpha_bars(0.9))
    boxes = [box(0.02) + 2 * box(0.1), box(0.02) + box(0.1) + box(0.04)]  # by round
    np.testing.assert_allclose(logs["box"], sum(boxes) / 3 / 2, rtol=RTOL)
    third = focal_of(overlap(0.1), 1)  # slot 1 in both rounds, slot 2 in the second
    both = 2 * focal_of(overlap(0.02), 2) + 3 * third + focal_of(overlap(0.04), 1)
    np.testing.assert_allclose(logs["class"], (both + 2 * focal_of()) / 3 / 2, rtol=RTOL)


@pytest.mark.parametrize(("share", "weight"), [(0.9, 5), (0.25, 1 / 3)])
def test_the_noise_loss_of_x0_weighs_by_the_capped_signal_to_noise_ratio(share, weight):
    # A state is off by 2 · SIGNAL · shift in one coordinate of four.
    error = ((2 * SIGNAL * np.array([0.02, 0.1])) ** 2 / 4).mean()
    value, logs = refined(share)
    np.testing.assert_allclose(logs["noise"], weight * error, rtol=RTOL)
    total = EXPECTED["box"] + 3 * EXPECTED["class"] + 0.5 * weight * error
    np.testing.assert_allclose(value, total, rtol=RTOL)


@pytest.mark.parametrize("name", ["dense", "classification", "noise", "min_snr"])
def test_negative_weights_are_refused(name):
    with pytest.raises(ValueError, match=f"loss.{name}=-1.0 must be 0 or more"):
        LossConfig(**{name: -1.0})


def test_noise_loss_by_hand():
    off = np.full((2, 3, 4), 7.0, np.float32)  # but for the two aligned slots with an object
    off[0, :2] = [[0.5] * 4, [0.1, 0.1, 0.3, 0.3]]

    @jax.jit
    def evaluate(noise):
        out = Denoised([jnp.asarray(ROUNDS[0])], [jnp.asarray(LOGITS)], noise + off)
        batch = jax.tree.map(jnp.asarray, BATCH)
        return noise_loss(None, out, {"noise": noise}, ROWS, batch, LossConfig(slots=SLOTS))

    value, logs = evaluate(jnp.ones((2, 3, 4)))
    np.testing.assert_allclose(logs["noise"], (0.25 + 0.05) / 2, rtol=RTOL)
    expected = (FIRST + focal_of()) / 2  # here slots 0 and 2 alone find an object
    np.testing.assert_allclose(logs["class"], expected, rtol=RTOL)
    np.testing.assert_allclose(value, 0.15 + 2 * expected, rtol=RTOL)


@pytest.fixture
def parts_are_known(monkeypatch):
    state = {"x": ROUNDS[0], "t": np.array([[9] * 3, [99] * 3])}
    monkeypatch.setattr(loss, "dense_loss", lambda *_: (2.0, 3.0))
    monkeypatch.setattr(loss, "starting_boxes", lambda *_: (state, ROWS))
    monkeypatch.setattr(loss, "refine_loss", lambda *_: (5.0, {"box": 1.0}))
    monkeypatch.setattr(loss, "noise_loss", lambda *_: (7.0, {"noise": 1.0}))
    return state


@pytest.mark.parametrize(("objective", "part"), [("x0", 5.0), ("eps", 7.0)])
def test_detection_loss_asks_the_denoiser_with_the_mask(parts_are_known, objective, part):
    cfg = LossConfig(slots=SLOTS, dense=0.5, refine=3.0, classification=4.0)
    model = fake(ROUNDS[0], objective=objective)
    value, _ = detection_loss(model, BATCH, nnx.Rngs(0), cfg=cfg)
    jax.effects_barrier()
    ((x, t),) = model.asked
    np.testing.assert_array_equal(x, parts_are_known["x"])
    np.testing.assert_array_equal(t, parts_are_known["t"])
    np.testing.assert_array_equal(model.mask, attention_mask(SLOTS))
    assert value == 0.5 * (4 * 2 + 3) + 3 * part


def test_without_the_refiner_the_dense_head_learns_alone(parts_are_known):
    cfg = LossConfig(slots=SLOTS, refine=0.0)
    model = fake(ROUNDS[0])
    value, logs = detection_loss(model, BATCH, nnx.Rngs(0), cfg=cfg)
    assert value == 2 * 2 + 3 and logs == {"dense_class": 2.0, "dense_box": 3.0}
    assert not model.asked


MIXED = SlotConfig(count=5, aligned=0.4, learned=0.2, start=0.5)
KINDS = {"aligned": slice(0, 2), "learned": slice(2, 3), "gaussian": slice(3, 5)}
MANY = {name: np.concatenate([value[:1]] * 6) for name, value in BATCH.items()}


@functools.cache
def start_of(skew, objective):
    model = fake(ROUNDS[0], objective=objective)
    cfg = dataclasses.replace(MIXED, skew=skew)
    fields = jax.tree.map(lambda x: np.concatenate([x[:1]] * 6), model.fields)
    start = jax.jit(lambda batch, key: starting_boxes(model, fields, batch, key, cfg))
    return jax.tree.map(np.asarray, start(MANY, jax.random.key(3)))


def test_slots_start_from_objects_then_proposals_then_noise():
    state, rows = start_of(1.0, "x0")
    assert {tuple(row) for row in rows.tolist()} == {(0, 1), (1, 0)}  # begun with either
    boxes = (state["x0"] / SIGNAL + 1) / 2
    np.testing.assert_allclose(boxes[:, :2], OBJECTS[rows], atol=1e-6)
    np.testing.assert_allclose(boxes[:, 2], [[0.2] * 4] * 6, atol=1e-6)
    assert (boxes[0, 3:] != boxes[1, 3:]).all()


@pytest.mark.parametrize(
    ("skew", "objective", "limit"), [(1.0, "x0", SIGNAL), (2.0, "eps", np.inf)]
)
def test_slots_are_noised_to_their_times(skew, objective, limit):
    state, _ = start_of(skew, objective)
    assert (state["t"][:, KINDS["learned"]] < 500).all() and state["t"].max() >= 500
    share = alpha_bar(state["t"])[..., None]
    x = np.sqrt(share) * state["x0"] + np.sqrt(1 - share) * state["noise"]
    assert np.abs(x).max() > SIGNAL
    np.testing.assert_allclose(state["x"], np.clip(x, -limit, limit), atol=1e-5)


@functools.cache
def times(**fields):
    t = loss.slot_times(jax.random.key(3), 6, dataclasses.replace(MIXED, **fields))
    return {kind: np.asarray(t)[:, of] for kind, of in KINDS.items()}


def test_proposals_have_one_time_an_image_and_other_slots_another():
    found = times()
    np.testing.assert_array_equal(found["aligned"][:, 0], found["gaussian"][:, 0])
    assert (found["aligned"][:, 0] != found["learned"][:, 0]).any()
    for t in found.values():
        assert (t == t[:, :1]).all() and len(set(t[:, 0])) > 3
        assert (t >= 0).all() and (t < 1000).all()


def test_skew_is_the_power_of_the_uniform_share_of_the_schedule():
    even, skewed = (times(skew=skew)["aligned"] / 1000 for skew in (1.0, 2.0))
    # Times are rounded down: the share of the first lies within 1/1000 above it.
    assert (skewed > even**2 - 0.001).all() and (skewed <= (even + 0.001) ** 2).all()


def test_proposals_are_noised_up_to_their_start():
    whole, tenth = (times(start=start) for start in (1.0, 0.1))
    assert whole["learned"].max() > 100
    np.testing.assert_array_equal(tenth["learned"], [[t // 10] for t in whole["learned"][:, 0]])
    np.testing.assert_array_equal(tenth["aligned"], whole["aligned"])
    assert (times(start=0.002)["learned"] < 2).all()
