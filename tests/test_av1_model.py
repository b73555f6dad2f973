"""CNN-AV1's networks: what they see, how they start, and how the stages are put together."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from modules import made

from jaxvision.cnn_av1 import classes, decide
from jaxvision.cnn_av1.adapters import Adapters
from jaxvision.cnn_av1.heads import ABHead, BinaryHead
from jaxvision.cnn_av1.model import Backbone, BackboneConfig
from jaxvision.cnn_av1.pipeline import MultiTask, Pipeline
from jaxvision.cnn_av1.stage_model import STAGES, ModelConfig, StageModel, make_head
from jaxvision.cnn_av1.views import INDICES, STEPS, see, step_size
from jaxvision.losses.focal import focal_loss
from jaxvision.names import flatten
from jaxvision.nn.resnet import ResNetConfig
from jaxvision.stage import Objective, Stage
from jaxvision.step import INFERENCE, build, split
from jaxvision.streams import streams

TINY = ResNetConfig(width=8, blocks=(1, 1), stem="half")
BACKBONE = BackboneConfig(resnet=TINY, dropout=(0.1, 0.2), features=16)
CFG = ModelConfig(backbone=BACKBONE, hidden=8)
LEVELS = dataclasses.replace(CFG, backbone=dataclasses.replace(BACKBONE, levels=4))
BLOCKS = np.random.RandomState(0).randint(0, 1024, (4, 16, 16)).astype(np.uint16)
QPS = np.array([20, 80, 128, 255], np.uint8)


def inference(model):
    return nnx.view(model, **INFERENCE)


def drawn(make):
    """`make()` with random parameters, none of them zero, and without running its first ones."""
    model, random = nnx.eval_shape(make), np.random.RandomState(0)
    for path, variable in nnx.to_flat_state(nnx.state(model)):
        value = 0.1 * random.standard_normal(variable.shape)
        ones = path[-1] in ("scale", "var", "temperature")
        variable.set_value(jnp.asarray(value + ones, jnp.float32))
    return model


@pytest.fixture(scope="module")
def backbone():
    return drawn(lambda: Backbone(BACKBONE, rngs=nnx.Rngs(0)))


run = jax.jit(lambda model, *inputs: model(*inputs))


def test_steps_are_those_of_the_standard():
    np.testing.assert_allclose(step_size(np.array(INDICES)), np.array(STEPS) / 8)
    # AV1 specification, 7.12.2, Ac_Qlookup for 10 bits, at indices between those that are listed.
    between = np.array([20, 48, 80, 108, 128, 156, 180, 204, 226, 246])
    table = np.array([71, 195, 337, 498, 688, 1138, 1759, 2755, 4184, 6148])
    np.testing.assert_allclose(step_size(between) * 8, table, rtol=0.05)


@pytest.mark.parametrize("kind", ["plain", "imagenet", "contrast", "both"])
def test_views_have_their_formulas(kind):
    luma = BLOCKS.astype(np.float64)
    standard = (luma / 1023 - 0.449) / 0.226
    step = np.array([71, 337, 688, 7312]) / 8
    rest = luma - luma.mean((1, 2), keepdims=True)
    contrast = np.arcsinh(rest / step[:, None, None])
    expected = {
        "plain": [luma / 1023],
        "imagenet": [standard],
        "contrast": [contrast],
        "both": [standard, contrast],
    }[kind]
    found = see(BLOCKS, QPS, kind)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, np.stack(expected, -1), rtol=0.05, atol=0.05)


def test_contrast_knows_no_brightness_and_fades_with_the_step():
    low = see(BLOCKS // 2, QPS, "contrast")
    np.testing.assert_allclose(see(BLOCKS // 2 + 300, QPS, "contrast"), low, atol=1e-4)
    size = abs(np.array(see(np.repeat(BLOCKS[:1], 4, axis=0), QPS, "contrast"))).mean((1, 2, 3))
    assert (np.diff(size) < 0).all()


def test_a_backbone_starts_as_one_that_is_not_told_the_quantiser():
    """By the view that does not depend on it, and with the same parameters otherwise."""
    cfg = dataclasses.replace(BACKBONE, input="plain")
    told = inference(made(lambda: Backbone(cfg, rngs=streams(0))))
    found = run(told, BLOCKS, QPS)
    assert found.shape == (4, 16) and found.dtype == jnp.float32
    untold = dataclasses.replace(cfg, qp_conditioning=False)
    plain = inference(nnx.eval_shape(lambda: Backbone(untold, rngs=nnx.Rngs(0))))
    shared = [{k: v for k, v in part.items() if k != "conditioning"} for part in split(told)]
    plain = nnx.merge(nnx.graphdef(plain), *shared)
    np.testing.assert_allclose(run(plain, BLOCKS, QPS), found, atol=1e-6)
    np.testing.assert_allclose(run(told, BLOCKS, QPS[::-1]), found, atol=1e-6)
    other = inference(drawn(lambda: Backbone(cfg, rngs=nnx.Rngs(0))))
    assert abs(run(other, BLOCKS, QPS[::-1]) - run(other, BLOCKS, QPS)).max() > 1e-3


def test_features_of_another_length_are_projected():
    for features in (16, 24):
        cfg = dataclasses.replace(BACKBONE, features=features)
        net = nnx.eval_shape(lambda c=cfg: Backbone(c, rngs=nnx.Rngs(0)))
        assert (net.project is None) == (features == 16)
        assert nnx.eval_shape(lambda m: m(BLOCKS, QPS), inference(net)).shape == (4, features)


def test_the_seeds_size():
    """ResNet-18's 11.2 million, of which 6,272 are its first convolution."""
    cfg = BackboneConfig(input="plain", qp_conditioning=False)
    net = nnx.eval_shape(lambda: Backbone(cfg, rngs=nnx.Rngs(0)))
    sizes = {k: x.size for k, x in flatten(split(net)[0]).items()}
    trunk = sum(n for k, n in sizes.items() if k.startswith("trunk/"))
    assert trunk == 11_689_512 - 513_000 - 2 * 3136  # torchvision's, less fc, less two of RGB
    assert nnx.eval_shape(lambda m: m(BLOCKS, QPS), inference(net)).shape == (4, 512)


def test_adapters_begin_as_the_identity_and_bend_a_backbone_that_stays(backbone):
    adapters = made(lambda: Adapters(TINY.widths, 3, dtype="float32", rngs=nnx.Rngs(1)))
    fixed = inference(backbone)
    use = jax.jit(lambda m, a: m(BLOCKS, QPS, adapters=a))
    before = run(fixed, BLOCKS, QPS)
    np.testing.assert_allclose(use(fixed, adapters), before, atol=1e-5)
    other = drawn(lambda: Adapters(TINY.widths, 3, dtype="float32", rngs=nnx.Rngs(1)))
    assert abs(use(fixed, other) - before).max() > 1e-3
    with pytest.raises(ValueError, match="adapters of 0 hidden"):
        Adapters(TINY.widths, 0, dtype="float32", rngs=nnx.Rngs(0))


def stage(params, cfg=CFG, rate=3e-3):
    def loss(model, batch, rngs):
        logits = model(batch["blocks"], batch["qps"], rngs=rngs)
        return focal_loss(logits, batch["labels"]).mean(), {}

    return Stage(
        name="macro",
        model=lambda rngs: StageModel("macro", cfg, rngs=rngs),
        data=lambda split: None,
        objectives={"focal": Objective(loss=loss, optimizer=optax.adam(rate), params=params)},
        steps=1,
    )


BATCH = dict(blocks=BLOCKS, qps=QPS, labels=np.array([0, 1, 2, classes.IGNORED]))


def trained(params, steps, cfg=CFG, rate=3e-3):
    program = build(stage(params, cfg, rate))
    state, step = jax.jit(program.init)(jax.random.key(0)), jax.jit(program.step)
    first, losses = jax.device_get(state), []
    for _ in range(steps):
        state, logs = step(state, BATCH, jax.random.key(1))
        losses.append(float(logs["focal/loss"]))
    return first, jax.device_get(state), losses


def changed(a, b):
    a, b = flatten(a), flatten(b)
    return {k for k in a if np.any(a[k] != b[k])}


def test_adapters_and_head_learn_on_a_frozen_backbone():
    """In inference mode: neither its parameters nor its statistics move, nor does it drop."""
    cfg = dataclasses.replace(CFG, adapters=4)
    first, last, losses = trained("^(adapters|head)/(?!temperature)", 25, cfg, rate=0.03)
    assert losses[-1] < 0.5 * losses[0]
    names = changed(first.params, last.params)
    assert {name.split("/")[0] for name in names} == {"adapters", "head"}
    assert "head/temperature" not in names and not changed(first.model_state, last.model_state)


def test_a_whole_stage_learns_with_dropout_and_batch_statistics():
    first, last, losses = trained(".*(?<!temperature)$", 25)
    assert np.mean(losses[-5:]) < 0.7 * losses[0]
    assert any(k.endswith("norm/mean") for k in changed(first.model_state, last.model_state))


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


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (dict(input="luma"), "input 'luma' is none of plain"),
        (dict(input="both"), "'both' has 2 channels, not resnet.channels=1"),
        (dict(dropout=(0.1,)), r"dropout \(0.1,\) and resnet.blocks \(1, 1\) differ"),
        (dict(dropout=(0.1, 1.0)), "from 0 to below 1"),
        (dict(squeeze=0), "squeeze=0"),
        (dict(levels=3), "levels=3 must be 1, or 4"),
        (dict(levels=4, qp_conditioning=False), "levels=4 needs qp_conditioning"),
    ],
)
def test_backbone_configs_name_what_is_wrong(change, named):
    with pytest.raises(ValueError, match=named):
        dataclasses.replace(BACKBONE, **change)


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


def test_inputs_that_do_not_fit_are_refused(backbone):
    with pytest.raises(ValueError, match=r"blocks of shape \(4, 16, 8\) are not"):
        backbone(BLOCKS[:, :, :8], QPS)
    with pytest.raises(ValueError, match=r"qps of shape \(3,\) for 4 blocks"):
        backbone(BLOCKS, QPS[:3])
    net = nnx.eval_shape(lambda: Backbone(LEVELS.backbone, rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match="levels of shape None for 4 blocks"):
        net(BLOCKS, QPS)
