"""Heads on decoded latents: shapes, boxes and actions, what they learn from, that they learn."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxvision.metrics.detection import CocoDetection
from jaxvision.stage import Objective, Stage
from jaxvision.step import INFERENCE, build, split
from jaxvision.wavenet_mv.heads import loss
from jaxvision.wavenet_mv.heads.assign import assign
from jaxvision.wavenet_mv.heads.detect import Cells, boxes_of, cell_centres, detections
from jaxvision.wavenet_mv.heads.loss import HeadsLossConfig, heads_loss
from jaxvision.wavenet_mv.heads.model import AIHeads, HeadsConfig, predictions
from jaxvision.wavenet_mv.heads.stem import ChannelNorm

detection_losses = jax.jit(loss.detection_losses)
CHANNELS, GRID = 8, (5, 7)
CANVAS = (40, 56)
BOTH = HeadsConfig(detect_classes=2, actions=2, width=16, depth=1)
ALL = HeadsConfig(detect_classes=2, segment_classes=3, actions=2, width=16, depth=1)


@pytest.fixture(scope="module")
def toy():
    """Six scenes of one object, which two channels of the latents tell in its cells."""
    rng = np.random.default_rng(0)
    features = rng.normal(0, 0.02, (6, *GRID, CHANNELS)).astype(np.float32)
    boxes = np.zeros((6, 3, 4), np.float32)
    labels = np.full((6, 3), -1, np.int32)
    for i in range(6):
        y, x, kind = i % 3, i % 4 + 1, i % 2
        features[i, y : y + 2, x : x + 2, kind] += 5
        boxes[i, 0], labels[i, 0] = (8 * x, 8 * y, 8 * x + 16, 8 * y + 16), kind
    return {
        "features": features,
        "boxes": boxes,
        "labels": labels,
        "crowd": np.zeros((6, 3), bool),
        "segments": np.zeros((6, *CANVAS), np.uint8),
        "action": labels[:, 0],
    }


def loss_of(heads, batch, rngs):
    del rngs
    return heads_loss(heads(batch["features"]), batch, HeadsLossConfig())


@pytest.fixture(scope="module")
def trained(toy):
    """What heads say of the scenes after 150 steps on them, and the losses on the way."""
    stage = Stage(
        name="heads",
        model=lambda rngs: AIHeads(CHANNELS, BOTH, rngs=rngs),
        data=lambda split: None,
        objectives={"heads": Objective(loss=loss_of, optimizer=optax.adam(1e-2))},
        steps=150,
    )
    program = build(stage)
    state, step, losses = jax.jit(program.init)(jax.random.key(0)), jax.jit(program.step), []
    for _ in range(stage.steps):
        state, logs = step(state, toy, jax.random.key(1))
        losses.append(float(logs["heads/loss"]))
    say = jax.jit(lambda state, x: predictions(program.apply(state)(x), CANVAS, top=5))
    return say(state, toy["features"]), losses


def test_heads_learn_what_the_latents_tell(toy, trained):
    found, losses = trained
    assert losses[-1] < 0.3 * losses[0]
    np.testing.assert_array_equal(found["action"], toy["action"])
    np.testing.assert_array_equal(found["labels"][:, 0], toy["labels"][:, 0])
    scale = np.float32(CANVAS[::-1] * 2)
    # A cell is 8 pixels: nearer than half of one, where the grid alone would be out by more.
    np.testing.assert_allclose(found["boxes"][:, 0] * scale, toy["boxes"][:, 0], atol=4)


def test_a_clip_is_pooled_over_its_frames_in_any_order(toy):
    heads = AIHeads(CHANNELS, HeadsConfig(actions=2, width=16, depth=1), rngs=nnx.Rngs(0))
    graph, *state = nnx.split(nnx.view(heads, **INFERENCE), nnx.Param, ...)
    say = jax.jit(lambda x: nnx.merge(graph, *state)(x).action)
    clip = toy["features"].reshape(2, 3, *GRID, CHANNELS)
    action = say(clip)
    assert action.shape == (2, 2)
    # Sums in another order, of numbers of about 1.
    np.testing.assert_allclose(say(clip[:, ::-1]), action, atol=1e-5)
    still = say(np.repeat(clip[:, :1], 3, axis=1))
    np.testing.assert_allclose(still, say(clip[:, 0]), atol=1e-5)
    assert abs(still - action).max() > 1e-3


def test_there_are_the_heads_that_the_config_asks_for_in_float32(toy):
    features = jax.ShapeDtypeStruct(toy["features"].shape, jnp.float32)
    some = HeadsConfig(detect_classes=4, actions=3, width=16, dtype="bfloat16")
    out = nnx.eval_shape(lambda x: AIHeads(CHANNELS, some, rngs=nnx.Rngs(0))(x), features)
    cells = 10 * 14 + 5 * 7 + 3 * 4
    assert out.cells.logits.shape == (6, cells, 4) and out.cells.boxes.shape == (6, cells, 4)
    assert len(out.cells.centres) == len(out.cells.strides) == cells
    assert out.segments is None and out.action.shape == (6, 3)
    assert {x.dtype for x in (out.cells.logits, out.action)} == {np.dtype("float32")}
    out = nnx.eval_shape(lambda x: AIHeads(CHANNELS, ALL, rngs=nnx.Rngs(0))(x), features)
    assert out.segments.shape == (6, 10, 14, 3)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(), "none of detect_classes, segment_classes, actions is above 0"),
        (dict(actions=-1), "heads.actions=-1 must be 0 or more"),
        (dict(segment_classes=256), "heads.segment_classes=256"),
        (dict(actions=2, width=20), "heads.width=20 must be a multiple of 16"),
        (dict(actions=2, depth=0), "heads.depth=0"),
        (dict(actions=2, stride=5), "heads.stride=5 must be even"),
        (dict(actions=2, dtype="float16"), "heads.dtype='float16'"),
    ],
)
def test_configs_that_make_no_heads_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        HeadsConfig(**fields)


def test_what_does_not_fit_the_heads_is_refused(toy):
    heads = nnx.eval_shape(lambda: AIHeads(CHANNELS, ALL, rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match=r"must be \[b h w 8\]"):
        heads(jnp.zeros((1, *GRID, 3)))
    out = nnx.eval_shape(lambda x: AIHeads(CHANNELS, ALL, rngs=nnx.Rngs(0))(x), toy["features"])
    for field in ("labels", "segments", "action"):
        batch = {k: v for k, v in toy.items() if k != field}
        with pytest.raises(ValueError, match=f"the batch has no {field}"):
            jax.eval_shape(lambda o, b=batch: heads_loss(o, b, HeadsLossConfig()), out)
    with pytest.raises(ValueError, match="loss.boxes=-1"):
        HeadsLossConfig(boxes=-1)


def test_channels_of_any_scale_come_out_alike_and_statistics_stay_in_use():
    rng = np.random.default_rng(1)
    scales = np.float32([1e3, 1, 0.05])
    batches = [rng.normal(0.5, 1, (n, 4, 4, 3)).astype(np.float32) * scales for n in (2, 6, 4)]
    norm = ChannelNorm(3)
    outs = [np.asarray(norm(jnp.asarray(x))) for x in batches]
    means = np.mean([x.mean((0, 1, 2)) for x in batches], axis=0)
    np.testing.assert_allclose(norm.mean[...], means, rtol=1e-5)
    spread = outs[-1].std((0, 1, 2))
    np.testing.assert_allclose(spread, 0.75, atol=0.15)  # that of asinh of a normal variable
    before = split(norm)[1]
    in_use = nnx.view(norm, **INFERENCE)
    np.testing.assert_allclose(in_use(batches[0])[:1], in_use(batches[0][:1]), rtol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, split(in_use)[1], before)
    assert abs(in_use(jnp.zeros((1, 3)))).max() < 1


def test_a_channel_that_is_never_coded_stays_quiet():
    tiny = 1e-4 * np.random.default_rng(2).normal(size=(2, 3, 3, 1)).astype(np.float32)
    assert abs(ChannelNorm(1)(tiny)).max() < 0.05


def some_cells(rng, *, batch=1, classes=3):
    """Cells of two grids, with boxes about them."""
    sizes, strides = ((6, 6), (3, 3)), (8, 16)
    centres = np.concatenate(
        [cell_centres(*size) * s for size, s in zip(sizes, strides, strict=True)]
    )
    spread = np.repeat(np.float32(strides), [36, 9])
    middle = centres + rng.normal(0, 3, (batch, 45, 2)).astype(np.float32)
    half = rng.uniform(6, 16, (batch, 45, 2)).astype(np.float32)
    boxes = np.concatenate([middle - half, middle + half], axis=-1)
    logits = rng.normal(0, 3, (batch, 45, classes)).astype(np.float32)
    return Cells(jnp.asarray(logits), jnp.asarray(boxes), centres, spread)


def iou64(a, b):
    a, b = np.float64(a), np.float64(b)
    sides = np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0)
    union = (a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - sides.prod()
    return sides.prod() / union


def assigned_by_loops(cells, boxes, labels):
    """SimOTA an object and a cell at a time."""
    logits, predicted = np.float64(cells.logits[0]), np.asarray(cells.boxes[0])
    best = [(np.inf, -1)] * len(predicted)
    for n, (box, label) in enumerate(zip(boxes, labels, strict=True)):
        if label < 0:
            continue
        costs, overlaps = {}, []
        for p, (x, y) in enumerate(cells.centres):
            reach = 2.5 * cells.strides[p]
            in_box = box[0] < x < box[2] and box[1] < y < box[3]
            near = max(abs(x - (box[0] + box[2]) / 2), abs(y - (box[1] + box[3]) / 2)) < reach
            if not (in_box or near):
                continue
            overlap = iou64(box, predicted[p])
            p_class = 1 / (1 + np.exp(-logits[p]))
            cost = -np.log(p_class[label]) - np.log(1 - np.delete(p_class, label)).sum()
            costs[p] = cost - 3 * np.log(overlap + 1e-8) + (0 if in_box and near else 1000)
            overlaps.append(overlap)
        count = int(np.clip(sum(sorted(overlaps)[-10:]), 1, 10))
        for p in sorted(costs, key=costs.get)[:count]:
            best[p] = min(best[p], (costs[p], n))
    return [owner for _, owner in best]


@pytest.mark.parametrize("seed", (0, 3))
def test_assignment_is_that_of_loops(seed):
    rng = np.random.default_rng(seed)
    cells = some_cells(rng)
    low = rng.uniform(0, 20, (5, 2))
    boxes = np.concatenate([low, low + rng.uniform(16, 30, (5, 2))], axis=1).astype(np.float32)
    labels = np.array([0, 2, 1, -1, 0])
    owners = jax.jit(assign)(cells, boxes[None], labels[None], labels[None] >= 0)[0]
    expected = assigned_by_loops(cells, boxes, labels)
    assert sum(owner >= 0 for owner in expected) > 8  # more than one a piece
    np.testing.assert_array_equal(owners, expected)


def test_empty_rows_and_crowd_regions_teach_nothing():
    cells = some_cells(np.random.default_rng(3))
    box = np.float32([[[8, 8, 24, 24]]])
    one, none = np.zeros((1, 1), np.int32), np.zeros((1, 1), bool)
    alone = detection_losses(cells, box, one, none)
    padded = detection_losses(
        cells,
        np.concatenate([box, np.zeros((1, 2, 4), np.float32)], axis=1),
        np.int32([[0, -1, -1]]),
        np.zeros((1, 3), bool),
    )
    jax.tree.map(np.testing.assert_array_equal, alone, padded)
    crowd = detection_losses(cells, box, one, ~none)
    inside = ((cells.centres > 8) & (cells.centres < 24)).all(-1)
    assert not crowd["positive"].any() and not crowd["classes"][0, inside].any()
    assert (crowd["classes"][0, ~inside] > 0).all() and alone["positive"].any()


def test_a_box_where_it_should_be_has_no_loss_and_teaches_a_score_of_one():
    cells = some_cells(np.random.default_rng(4))
    box = np.float32([[[8, 8, 24, 24]]])
    cells = cells._replace(boxes=jnp.broadcast_to(box, cells.boxes.shape))
    label, none = np.array([[1]]), np.zeros((1, 1), bool)
    found = detection_losses(cells, box, label, none)
    assert found["positive"].any() and abs(found["boxes"]).max() < 1e-5
    sure = jnp.where(found["positive"][..., None], jnp.array([-20.0, 20, -20]), -20)
    assert detection_losses(cells._replace(logits=sure), box, label, none)["classes"].max() < 1e-5


def test_boxes_are_centred_on_cells_and_two_strides_wide_at_first():
    centres = cell_centres(2, 3) * 8
    np.testing.assert_array_equal(centres[[0, 1, 3]], [[4, 4], [12, 4], [4, 12]])
    plain = boxes_of(jnp.zeros((1, 6, 4)), centres, 8)
    np.testing.assert_allclose(plain[0, 1], [4, -4, 20, 12])
    moved = boxes_of(jnp.array([[[0.5, 1, np.log(2), 0]]]), centres[:1], 8)
    np.testing.assert_allclose(moved[0, 0], [-8, 4, 24, 20], rtol=1e-6)


def test_detections_are_what_the_coco_metrics_read():
    truth = np.float32([[4, 4, 20, 20], [30, 10, 50, 38]])
    shifts = np.float32([[0], [1], [0]])  # a second one of the first object, for NMS
    boxes = truth[[0, 0, 1]] + shifts
    logits = np.float32([[4, -9], [3, -9], [-9, 5]])
    cells = Cells(jnp.asarray(logits[None]), jnp.asarray(boxes[None]), None, None)
    found = detections(cells, CANVAS, top=5)
    annotations = [
        {"id": i + 1, "image_id": 1, "category_id": i + 1, "bbox": [*b[:2], *(b[2:] - b[:2])]}
        for i, b in enumerate(truth.astype(float))
    ]
    metric = CocoDetection(
        {
            "images": [{"id": 1, "file_name": "a", "height": CANVAS[0], "width": CANVAS[1]}],
            "categories": [{"id": 1, "name": "bird"}, {"id": 2, "name": "drone"}],
            "annotations": annotations,
        }
    )
    batch = dict(
        index=np.array([0]),
        image=np.zeros((1, *CANVAS, 3)),
        letterbox=np.float32([[1, 0, 0]]),
        size=np.array([CANVAS]),
    )
    metric.add(batch, found)
    assert int((np.asarray(found["scores"]) > 0.1).sum()) == 2
    assert metric.result()["mAP"] == pytest.approx(1)
