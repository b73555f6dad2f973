import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from modules import made

from jaxvision.cofnet.backbone import BackboneConfig
from jaxvision.cofnet.dense import box_scale, dense_loss, proposals
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


@pytest.mark.parametrize("objective", ["x0", "eps"])
def test_loss_reaches_every_parameter_and_is_finite(batch, objective):
    graph, params = parts(objective)

    @jax.jit
    def gradient(params):
        loss = lambda p: detection_loss(nnx.merge(graph, p), batch, nnx.Rngs(1), cfg=LOSS)  # noqa: E731
        return jax.value_and_grad(loss, has_aux=True)(params)

    (loss, logs), gradients = gradient(params)
    assert np.isfinite(loss) and all(np.isfinite(v) for v in logs.values())
    names = [
        "/".join(str(getattr(k, "key", k)) for k in path)
        for path, g in jax.tree_util.tree_leaves_with_path(gradients)
        if not np.isfinite(g).all()
    ]
    assert not names
    dead = sum(not np.abs(g).any() for g in jax.tree.leaves(gradients))
    # Zero-initialised gates hold back what lies behind them; the last rounds' box deltas of eps are
    # used.
    assert dead <= 0.2 * len(jax.tree.leaves(gradients))


def test_crowds_are_no_negatives_and_the_dense_head_may_learn_alone(batch):
    model = nnx.merge(*parts())
    crowd = dict(
        batch,
        boxes=batch["boxes"].at[:, 3].set(jnp.array([0.5, 0.5, 1.0, 1.0])),
        crowd=batch["crowd"].at[:, 3].set(True),
    )
    loss = jax.jit(lambda batch: detection_loss(model, batch, nnx.Rngs(1), cfg=LOSS)[1])
    assert loss(crowd)["class"] < loss(batch)["class"]
    alone = dataclasses.replace(LOSS, refine=0.0)
    value, logs = detection_loss(model, batch, nnx.Rngs(1), cfg=alone)
    np.testing.assert_allclose(value, 2 * logs["dense_class"] + logs["dense_box"], rtol=1e-6)
    assert "class" not in logs


def test_loss_falls_when_trained_on_one_batch(batch):
    graph, params = parts()
    tx = optax.adam(3e-3)

    @jax.jit
    def step(params, state, key):
        loss = lambda p: detection_loss(nnx.merge(graph, p), batch, nnx.Rngs(key), cfg=LOSS)[0]  # noqa: E731
        value, gradients = jax.value_and_grad(loss)(params)
        updates, state = tx.update(gradients, state)
        return optax.apply_updates(params, updates), state, value

    state, losses = tx.init(params), []
    for i in range(60):
        params, state, value = step(params, state, jax.random.key(i))
        losses.append(float(value))
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])


def test_noised_ground_truth_is_hidden_from_all_other_slots(batch):
    graph, params = parts()
    mask = attention_mask(LOSS.slots)
    x = jax.random.normal(jax.random.key(0), (2, 8, 4))

    @jax.jit
    def logits(params, x):
        model = nnx.merge(graph, params)
        fields, t = model.encode(batch["image"]), jnp.full((2,), 9)
        return [model.denoise(fields, x, t, m).logits[-1] for m in (mask, None)]

    before, after = logits(params, x), logits(params, x.at[:, 0].set(1.0))
    masked, open_ = (jnp.abs(a - b).max((0, 2)) for a, b in zip(before, after, strict=True))
    assert masked[0] > 0 and (masked[1:] == 0).all()
    assert (open_ > 0).all()


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


def test_dense_loss_finds_every_object_and_ignores_crowds(batch):
    model = nnx.merge(*parts())
    shapes = model.shapes
    cells = sum(h * w for h, w in shapes)
    head = dict(logits=jnp.full((2, cells, 3), 2.0), boxes=jnp.full((2, cells, 4), 0.3))
    loss = jax.jit(lambda batch: dense_loss(head, shapes, SIZE, batch))
    classification, regression = loss(batch)
    assert regression > 0
    everywhere = dict(
        batch,
        boxes=batch["boxes"].at[:, 3].set(jnp.array([0.5, 0.5, 1.0, 1.0])),
        crowd=batch["crowd"].at[:, 3].set(True),
    )
    ignored, same = loss(everywhere)
    assert ignored < 0.2 * classification  # confident negatives under the crowd no longer count
    np.testing.assert_allclose(same, regression, rtol=1e-6)


def test_proposals_are_the_peaks_best_first():
    logits = np.full((1, 15, 2), -5.0, np.float32)
    logits[0, 5, 1], logits[0, 6, 1], logits[0, 9, 0] = 2.0, 1.0, 0.0
    boxes = jnp.arange(60.0).reshape(1, 15, 4)
    found, scores = proposals(dict(logits=jnp.asarray(logits), boxes=boxes), [(3, 5)], 2)
    np.testing.assert_array_equal(found[0], boxes[0, jnp.array([5, 9])])  # 6 neighbours 5
    np.testing.assert_allclose(scores[0].max(-1), jax.nn.sigmoid(jnp.array([2.0, 0.0])), rtol=1e-6)


def test_scale_of_a_box_is_its_level():
    sizes = jnp.array([16, 32, 64, 128, 4, 1000.0])[:, None] / jnp.array([[640.0, 320.0]])
    expected = [0, 1 / 3, 2 / 3, 1, 0, 1]
    np.testing.assert_allclose(box_scale(sizes, (320, 640), 4), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        (dict(neck="fnp"), "'fnp' is none of"),
        (dict(objective="v"), "'v' is neither"),
        (dict(schedule="quadratic"), "'quadratic' is none of"),
        (dict(classes=0), "classes=0"),
        (dict(rounds=0), "rounds=0 must be above 0"),
        (dict(width=100), "width=100 must be even and divide among 3 heads"),
        (dict(tower=-1), "tower=-1"),
        (dict(size=(30, 48)), "must divide by"),
    ],
)
def test_model_config_names_what_is_wrong(fields, named):
    with pytest.raises(ValueError, match=named):
        dataclasses.replace(MODEL, **fields)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        (dict(proposals="lerned"), "'lerned' is none of"),
        (dict(steps=-1), "steps=-1"),
        (dict(nms=1.5), "nms=1.5 must be from 0 to 1"),
        (dict(top=0), "top=0"),
        (dict(restart=True), "set sampler.proposals=random"),
    ],
)
def test_sampler_config_names_what_is_wrong(fields, named):
    with pytest.raises(ValueError, match=named):
        SamplerConfig(**fields)


def test_more_proposals_than_cells_are_refused():
    head = dict(logits=jnp.zeros((1, 15, 2)), boxes=jnp.zeros((1, 15, 4)))
    with pytest.raises(ValueError, match="16 proposals from 15 cells: lower sampler.slots"):
        proposals(head, [(3, 5)], 16)


def test_an_image_of_another_size_is_refused():
    with pytest.raises(ValueError, match="are not"):
        nnx.merge(*parts()).encode(jnp.zeros((1, 32, 32, 3), jnp.uint8))
