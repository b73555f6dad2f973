import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from modules import made, perturbed

from jaxvision.cofnet.backbone import BackboneConfig
from jaxvision.cofnet.loss import LossConfig, detection_loss
from jaxvision.cofnet.model import COFNet, CofnetConfig
from jaxvision.cofnet.sampler import SamplerConfig, detect
from jaxvision.cofnet.slots import SlotConfig, attention_mask
from jaxvision.nn.ssm import ScanConfig

pytestmark = pytest.mark.usefixtures("compiles_once")

SIZE = (32, 48)
MODEL = CofnetConfig(
    classes=3,
    size=SIZE,
    backbone=BackboneConfig(
        dims=(8, 8), depths=(1, 1), mixers=("conv", "scan"), stem="patch",
        scan=ScanConfig(state=2, expand=1),
    ),
    width=32,
    tower=0,
    rounds=1,
    points=2,
)  # fmt: skip
LOSS = LossConfig(slots=SlotConfig(count=8))


def make_batch(rng, count=2):
    """Bright squares on grey, one to two an image; the first image is empty."""
    images = np.full((count, *SIZE, 3), 90, np.uint8)
    boxes, labels = np.zeros((count, 4, 4), np.float32), np.zeros((count, 4), np.int32)
    valid = np.zeros((count, 4), bool)
    for i in range(1, count):
        for j in range(rng.integers(1, 3)):
            side, label = 12, int(rng.integers(3))
            x, y = rng.integers(0, SIZE[1] - side), rng.integers(0, SIZE[0] - side)
            images[i, y : y + side, x : x + side, label] = 255
            boxes[i, j] = (
                (x + side / 2) / SIZE[1], (y + side / 2) / SIZE[0], side / SIZE[1], side / SIZE[0],
            )  # fmt: skip
            labels[i, j], valid[i, j] = label, True
    return dict(image=images, boxes=boxes, labels=labels, valid=valid, crowd=np.zeros_like(valid))


@pytest.fixture(scope="module")
def batch():
    return jax.tree.map(jnp.asarray, make_batch(np.random.default_rng(0)))


@functools.cache
def parts(objective="x0"):
    cfg = dataclasses.replace(MODEL, objective=objective)
    return nnx.split(made(lambda: COFNet(cfg, rngs=nnx.Rngs(0))))


SHIFTS = [  # a bias of keys moves all logits of a query alike, which softmax does not see
    "refiner/heads/0/cross/key/bias",
    "refiner/heads/0/self_attention/key/bias",
]
UNTRAINED = {
    "x0": SHIFTS,
    "eps": [
        *SHIFTS,
        "classifier/cross/key/bias",
        "classifier/self_attention/key/bias",
        "classifier/delta/kernel",  # it tells classes alone
        "classifier/delta/bias",
        "classifier/time/kernel",  # of boxes without noise, whose time is 0
        "refiner/heads/0/classes/kernel",  # and the refiner none
        "refiner/heads/0/classes/bias",
    ],
}


@functools.cache
def gradient(objective="x0"):
    """The loss and its parts, and the gradient in the parameters; compiled."""
    graph, _ = parts(objective)

    def loss(params, batch, key):
        return detection_loss(nnx.merge(graph, params), batch, nnx.Rngs(key), cfg=LOSS)

    return jax.jit(jax.value_and_grad(loss, has_aux=True))


@pytest.mark.parametrize("objective", ["x0", "eps"])
def test_loss_reaches_every_parameter_and_is_finite(batch, objective):
    params = perturbed(parts(objective)[1])
    (loss, logs), gradients = gradient(objective)(params, batch, jax.random.key(1))
    assert np.isfinite(loss) and all(np.isfinite(v) for v in logs.values())
    largest = {
        "/".join(str(getattr(k, "key", k)) for k in path[:-1]): np.abs(g).max()
        for path, g in jax.tree_util.tree_leaves_with_path(gradients)
    }
    assert np.isfinite(list(largest.values())).all()
    # Float32 rounding leaves up to 2e-8 of what cancels; the smallest true gradient is over 1e-6.
    assert {name for name, value in largest.items() if value < 1e-7} == set(UNTRAINED[objective])


def test_loss_falls_when_trained_on_one_batch(batch):
    _, params = parts()
    tx = optax.adam(3e-3)

    @jax.jit
    def update(params, state, gradients):
        updates, state = tx.update(gradients, state)
        return optax.apply_updates(params, updates), state

    state, losses = jax.jit(tx.init)(params), []
    for i in range(60):
        (value, _), gradients = gradient()(params, batch, jax.random.key(i))
        params, state = update(params, state, gradients)
        losses.append(float(value))
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])


@functools.cache
def denoised():
    """Logits of eight slots with training's mask and without, compiled."""
    graph, params = parts()
    params = perturbed(params)  # the gates of time start closed

    @jax.jit
    def logits(params, images, x, t):
        model = nnx.merge(graph, params)
        fields = model.encode(images)
        masks = attention_mask(LOSS.slots), None
        return [model.denoise(fields, x, t, mask).logits[-1] for mask in masks]

    return functools.partial(logits, params)


X = np.random.default_rng(0).normal(size=(2, 8, 4)).astype(np.float32)


def test_noised_ground_truth_is_hidden_from_all_other_slots(batch):
    moved = X.copy()
    moved[:, 0] = 1
    before, after = (denoised()(batch["image"], x, jnp.full((2, 8), 9)) for x in (X, moved))
    masked, open_ = (jnp.abs(a - b).max((0, 2)) for a, b in zip(before, after, strict=True))
    assert masked[0] > 0 and (masked[1:] == 0).all()
    assert (open_ > 0).all()


def test_logits_depend_on_the_time_of_their_slot(batch):
    early = np.full((2, 8), 9)
    late = early.copy()
    late[1, 0] = 500  # an aligned slot, whom nobody else sees
    before, after = (denoised()(batch["image"], X, t)[0] for t in (early, late))
    np.testing.assert_array_equal(before[0], after[0])
    np.testing.assert_array_equal(before[1, 1:], after[1, 1:])
    assert (before[1, 0] != after[1, 0]).all()


SAMPLERS = {
    "dense": SamplerConfig(steps=0, slots=6, top=5),
    "learned": SamplerConfig(steps=3, slots=6, top=5),
    "random": SamplerConfig(
        steps=2, slots=6, top=5, proposals="random", eta=1.0, renewal=0.5, ensemble=True
    ),
    "restart": SamplerConfig(steps=2, slots=6, top=5, restart=True, proposals="random"),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_detections_keep_the_contract_and_depend_on_the_key_alone(batch, name):
    graph, params = parts()
    run = jax.jit(
        lambda p, images, key: detect(nnx.merge(graph, p), images, key, cfg=SAMPLERS[name])
    )
    out = run(params, batch["image"], jax.random.key(0))
    assert out["boxes"].shape == (2, 5, 4) and out["labels"].dtype == jnp.int32
    assert (out["boxes"] >= 0).all() and (out["boxes"] <= 1).all()
    assert (jnp.diff(out["scores"], axis=1) <= 0).all()
    again = run(params, batch["image"], jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, out, again)
    swapped = run(params, batch["image"][::-1], jax.random.key(0))
    for key, value in swapped.items():  # a row's result does not depend on which row it is
        np.testing.assert_allclose(value[::-1], out[key], atol=1e-4)
    if name == "random":
        other = run(params, batch["image"], jax.random.key(1))
        assert (other["boxes"] != out["boxes"]).any()
    assert run._cache_size() == 1  # neither a key nor an image compiles anew
