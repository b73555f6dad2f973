"""CNN-AV1's heads, and how the stages are put together to one of ten types."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from av1_models import BLOCKS, CFG, LEVELS, QPS, drawn, inference
from flax import nnx
from modules import run

from jaxvision.cnn_av1 import classes, decide
from jaxvision.cnn_av1.heads import ABHead, BinaryHead
from jaxvision.cnn_av1.pipeline import MultiTask, Pipeline
from jaxvision.cnn_av1.stage_model import STAGES, ModelConfig, make_head
from jaxvision.cnn_av1.views import see
from jaxvision.losses.focal import focal_loss
from jaxvision.names import flatten
from jaxvision.step import split


@pytest.mark.parametrize("name", [*STAGES, "types"])
def test_a_temperature_is_found_by_its_path_and_changes_no_choice(name):
    head = drawn(lambda: make_head(name, CFG, rngs=nnx.Rngs(0)))
    assert [k for k in flatten(split(head)[0]) if k.endswith("temperature")] == ["temperature"]
    head.temperature.set_value(jnp.array(1.0))
    features = np.random.RandomState(0).standard_normal((4, 16)).astype(np.float32)
    before = run(inference(head), features)
    assert before.shape[0] == 4 and before.dtype == jnp.float32
    head.temperature.set_value(jnp.array(2.0))
    np.testing.assert_allclose(2 * run(inference(head), features), before, rtol=1e-5)


def test_a_binary_head_has_one_logit():
    head = inference(BinaryHead(16, hidden=8, rngs=nnx.Rngs(0)))
    logits = head(jnp.ones((3, 16)))
    assert logits.shape == (3, 2) and not logits[:, 0].any() and logits[:, 1].all()


def test_an_ab_heads_logits_are_scaled_cosines():
    head = inference(ABHead(16, hidden=8, centers=True, rngs=nnx.Rngs(0)))
    embedding = np.array(head.embed(jax.random.normal(jax.random.key(0), (5, 16))))
    np.testing.assert_allclose((embedding**2).sum(-1), 1, rtol=1e-5)
    directions = np.array(head.directions[...])
    lengths = np.linalg.norm(directions, axis=-1)
    found = head.classify(embedding)
    np.testing.assert_allclose(found, 10 * embedding @ (directions / lengths[:, None]).T, atol=1e-5)
    assert head.centers.shape == (4, 4)
    np.testing.assert_allclose((head.centers[...] ** 2).sum(-1), 1, rtol=1e-5)
    zero = jax.grad(lambda x: head.embed(x).sum())(jnp.zeros((1, 16)))
    assert np.isfinite(zero).all()


def test_the_sizes_that_docstrings_tell():
    told = dict(binary=131_585, macro=132_099, rect=132_356, types=133_898, ab=164_738 - 1)
    for name, count in told.items():
        head = nnx.eval_shape(lambda n=name: make_head(n, ModelConfig(), rngs=nnx.Rngs(0)))
        assert sum(x.size for x in jax.tree.leaves(split(head)[0])) == count + 1


@pytest.fixture(scope="module")
def pipeline():
    return drawn(lambda: Pipeline(CFG, rngs=nnx.Rngs(0)))


def test_a_pipelines_parts_have_the_names_that_grafts_use(pipeline):
    names = set(flatten(split(pipeline)[0]))
    parts = ("stage1", "stage2", "rect", "ab0", "ab1", "ab2")
    assert {k.split("/")[0] for k in names} == set(parts)
    for part, kind in zip(parts, (*STAGES, "ab", "ab"), strict=True):
        alone = nnx.eval_shape(lambda k=kind: make_head(k, CFG, rngs=nnx.Rngs(0)))
        assert {f"{part}/head/{k}" for k in flatten(split(alone)[0])} <= names
        assert f"{part}/backbone/trunk/stem/conv/kernel" in names


def check(found, rect=4):
    shapes = dict(binary=(4,), macro=(4, 3), rect=(4, rect), vote=(4,), types=(4, 10))
    assert {k: found[k].shape for k in shapes} == shapes
    assert found["hard"].shape == (4,) and found["hard"].dtype == jnp.int32
    for name in ("macro", "rect", "types"):
        np.testing.assert_allclose(found[name].sum(-1), 1, atol=1e-5)


def test_a_pipeline_is_the_product_of_its_stages(pipeline):
    net = inference(pipeline)
    found = run(net, BLOCKS, QPS)
    check(found)
    one = jax.nn.softmax(run(net.stage1, BLOCKS, QPS))[:, 1]
    np.testing.assert_allclose(found["binary"], one, atol=1e-5)
    two = jax.nn.softmax(run(net.stage2, BLOCKS, QPS))
    np.testing.assert_allclose(found["types"][:, classes.SPLIT], one * two[:, 0], atol=1e-5)
    members = jnp.stack([run(member, BLOCKS, QPS) for member in (net.ab0, net.ab1, net.ab2)])
    assert abs(members[0] - members[2]).max() > 1e-3  # members differ from the start
    np.testing.assert_array_equal(found["vote"], classes.vote(members))
    mean = jax.nn.softmax(members).mean(0)
    np.testing.assert_allclose(
        found["types"][:, jnp.array(classes.AB_TYPES)], (one * two[:, 2])[:, None] * mean, atol=1e-5
    )
    without = jax.jit(lambda m: m(BLOCKS, QPS, threshold=1.1))(net)
    np.testing.assert_array_equal(without["hard"], classes.NONE)


def test_without_four_way_types_rect_has_two():
    head = make_head("rect", dataclasses.replace(CFG, four_way=False), rngs=nnx.Rngs(0))
    assert head.out.kernel.shape == (8, 2)
    logits = dict(binary=np.zeros((4, 2)), macro=np.zeros((4, 3)), rect=np.zeros((4, 2)))
    found = decide.probabilities(logits | {"ab": np.zeros((3, 4, 4))})
    check(found, rect=2)
    assert not found["types"][:, 8:].any()


@pytest.mark.parametrize("kind", range(10))
def test_certain_stages_decide_every_type(kind):
    sure = {}
    for name in STAGES:
        label = int(classes.stage_labels(np.array(kind), name))
        count = len(classes.names(name))
        sure[name] = 50.0 * np.eye(count)[max(label, 0)][None].astype(np.float32)
    sure["ab"] = np.stack([sure["ab"]] * 3)
    found = decide.probabilities(sure)
    assert found["hard"].tolist() == found["types"].argmax(-1).tolist() == [kind]


def test_a_threshold_is_met_by_its_own_value():
    logits = {"macro": [[9.0, 0, 0]] * 3, "rect": [[9.0, 0]] * 3, "ab": np.zeros((3, 3, 4))}
    logits["binary"] = np.log([[0.75, 0.25], [0.5, 0.5], [0.25, 0.75]])
    logits = {key: np.array(x, np.float32) for key, x in logits.items()}
    found = decide.probabilities(logits, threshold=0.5)
    assert found["hard"].tolist() == [classes.NONE, classes.SPLIT, classes.SPLIT]
    assert found["parts"].tolist() == [classes.SPLIT] * 3


def test_one_net_for_all_levels_never_gives_what_a_level_lacks():
    net = inference(drawn(lambda: MultiTask(LEVELS, rngs=nnx.Rngs(0))))
    at = np.array([0, 1, 2, 3])
    same, qps = np.repeat(BLOCKS[:1], 4, axis=0), np.repeat(QPS[:1], 4)
    found = run(net, same, qps, at)
    check(found)
    for name in ("types", "assembled"):
        assert found[name].shape == (4, 10)
        np.testing.assert_array_equal(found[name][3, 4:], 0)
        np.testing.assert_allclose(found[name].sum(-1), 1, atol=1e-5)
        assert (np.array(found[name])[:3] > 0).all()
    assert found["hard"][3] < 4
    assert len({round(float(x), 6) for x in found["types"][:, 0]}) == 4  # each level is told
    logits = jax.jit(lambda m: m.logits(same, qps, at))(net)
    gradient = jax.grad(lambda z: focal_loss(z, np.array([0, 4, 9, 3])).sum())(logits["types"])
    assert np.isfinite(gradient).all()
    names = {k.split("/")[1] for k in flatten(split(net)[0]) if k.startswith("heads/")}
    assert names == {"binary", "macro", "rect", "ab", "types"}


def test_model_configs_name_what_is_wrong():
    for change, named in (
        (dict(hidden=1), "hidden=1"),
        (dict(adapters=-1), "adapters=-1"),
        (dict(dropout=1.0), "dropout=1.0"),
    ):
        with pytest.raises(ValueError, match=named):
            dataclasses.replace(CFG, **change)
    with pytest.raises(ValueError, match="stage 'reckt' is none of binary"):
        make_head("reckt", CFG, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="adapters=4: one net"):
        MultiTask(dataclasses.replace(CFG, adapters=4), rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="input 'luma'"):
        see(BLOCKS, QPS, "luma")
