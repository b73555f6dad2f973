"""The step: who is trained by what, and that nothing else moves."""

import dataclasses
import functools

import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toy
from flax import nnx

from jaxvision.stage import Objective, Stage
from jaxvision.step import TrainState, build, split

pytestmark = pytest.mark.usefixtures("compiles_once")
KEY = jax.random.key(0)


def run(stage, steps, *, batch=16, state=None):
    """`steps` jitted steps of `stage` on its own data."""
    program = build(stage)
    step = jax.jit(program.step)
    state = jax.jit(program.init)(KEY) if state is None else state
    for i in range(steps):
        state, logs = step(state, toy.data("train", batch=batch)[i], KEY)
    return program, state, logs


def assert_same(a, b):
    """Bit for bit, with the sign of zero."""
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x.view(np.uint8), y.view(np.uint8))


def host(tree):
    return jax.tree.map(np.array, tree)


def test_frozen_parameters_and_statistics_stay_bit_identical():
    program = build(toy.FINETUNE)
    start = jax.jit(program.init)(KEY)
    # Negative zero: an optimizer that adds zero turns it into positive zero.
    start.params["encoder"]["a"]["bias"] = -jnp.zeros(toy.WIDTH)
    before = host(start)
    _, state, logs = run(toy.FINETUNE, 50, state=start)
    assert_same(host(state.params["encoder"]), before.params["encoder"])
    assert_same(host(state.model_state["encoder"]), before.model_state["encoder"])
    assert np.any(state.params["head"]["kernel"] != before.params["head"]["kernel"])
    assert logs["xent/accuracy"] > 0.6


def test_frozen_modules_are_in_inference_mode_and_the_others_are_not():
    seen = {}

    def loss(model, batch, rngs):
        seen["norm"] = model.encoder.norm.use_running_average
        seen["drop"] = model.encoder.drop.deterministic
        return toy.classify(model, batch, rngs)

    for params, expected in (("^head/", True), (".*", False)):
        objective = Objective(loss=loss, optimizer=optax.sgd(0.1), params=params)
        program = build(dataclasses.replace(toy.FINETUNE, objectives={"xent": objective}))
        start = jax.eval_shape(program.init, KEY)
        jax.eval_shape(program.step, start, toy.data("train")[0], KEY)
        assert seen == {"norm": expected, "drop": expected}


def test_two_optimizers_train_their_own_parameters_at_the_same_point():
    rates = {"g": 0.1, "d": 0.01}
    objectives = {
        name: dataclasses.replace(objective, optimizer=optax.sgd(rates[name]))
        for name, objective in toy.GAN.objectives.items()
    }
    stage = dataclasses.replace(toy.GAN, objectives=objectives)
    program = build(stage)
    start = jax.jit(program.init)(KEY)
    batch = toy.data("train")[0]
    state, logs = jax.jit(program.step)(start, batch, KEY)

    graphdef = nnx.graphdef(stage.model(nnx.Rngs(0)))
    keys = jax.random.split(jax.random.fold_in(KEY, 0), 2)

    @functools.partial(jax.jit, static_argnums=0)
    def gradient(name, params, model_state, key):
        def loss(params):
            model = nnx.merge(graphdef, params, model_state)
            value, _ = objectives[name].loss(model, batch, nnx.Rngs(key))
            return value, split(model)[1]

        return jax.grad(loss, has_aux=True)(params)

    gradients_g, model_state = gradient("g", start.params, start.model_state, keys[0])
    gradients_d, _ = gradient("d", start.params, model_state, keys[1])
    for name, part, gradients in (("g", "gen", gradients_g), ("d", "disc", gradients_d)):
        moved = jax.tree.map(lambda a, b: a - b, start.params[part], state.params[part])
        for change, slope in zip(
            jax.tree.leaves(moved), jax.tree.leaves(gradients[part]), strict=True
        ):
            # The same arithmetic in another program, and the rounding of parameters near 1.
            np.testing.assert_allclose(change, rates[name] * slope, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(
            logs[f"{name}/grad_norm"], optax.tree.norm(gradients[part]), rtol=1e-5
        )


class Mean(nnx.Module):
    """A model without dropout or batch statistics, whose loss is a mean over rows."""

    def __init__(self, *, rngs):
        self.a = nnx.Linear(8, 8, rngs=rngs)
        self.frozen = nnx.Linear(8, 8, rngs=rngs)

    def __call__(self, x, rngs=None):
        return self.frozen(jnp.tanh(self.a(x)))


def test_accumulation_equals_the_big_batch():
    objective = Objective(loss=toy.reconstruct, optimizer=optax.sgd(0.5), params="^a/")
    stage = Stage(
        name="mean",
        model=lambda rngs: Mean(rngs=rngs),
        data=toy.data,
        objectives={"recon": objective},
        steps=4,
    )
    _, big, big_logs = run(stage, 4, batch=24)
    _, small, small_logs = run(dataclasses.replace(stage, accumulate=3), 4, batch=24)
    for a, b in zip(jax.tree.leaves(big.params), jax.tree.leaves(small.params), strict=True):
        # Sums in another order, a few float32 roundings a step.
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    for name in big_logs:
        np.testing.assert_allclose(big_logs[name], small_logs[name], rtol=1e-5)


def test_accumulation_threads_batch_statistics_through_the_micro_batches():
    program, state, _ = run(dataclasses.replace(toy.SSL, accumulate=2), 1)
    first = jax.jit(program.init)(KEY).params["backbone"]["a"]
    x = toy.data("train")[0]["x"]
    expected = np.zeros(toy.WIDTH)
    for rows in (x[0::2], x[1::2]):
        seen = (rows @ first["kernel"] + first["bias"]).mean(0)
        expected = 0.99 * expected + 0.01 * seen
    norm = state.model_state["backbone"]["norm"]["mean"]
    np.testing.assert_allclose(norm, expected, rtol=1e-4, atol=1e-7)


def test_average_follows_the_trained_parameters_only():
    stage = dataclasses.replace(toy.FINETUNE, ema=0.5)
    program, state, _ = run(stage, 1)
    assert state.ema["encoder"]["a"]["kernel"] is None
    start = jax.jit(program.init)(KEY)
    decay = 1 / 10  # min(0.5, (1 + 0) / (10 + 0)): short at first, or it would remember the start
    expected = decay * start.params["head"]["bias"] + (1 - decay) * state.params["head"]["bias"]
    np.testing.assert_allclose(state.ema["head"]["bias"], expected, rtol=1e-6)
    model = program.apply(state)
    np.testing.assert_array_equal(model.head.bias[...], state.ema["head"]["bias"])
    np.testing.assert_array_equal(
        model.encoder.a.kernel[...], state.params["encoder"]["a"]["kernel"]
    )


def test_average_of_a_stage_without_steps_is_its_parameters():
    program = build(dataclasses.replace(toy.PIPELINE, ema=0.9))
    state = program.init(KEY)
    assert jax.tree.leaves(state.ema) == []
    kernel = program.apply(state).members[0].head.kernel[...]
    np.testing.assert_array_equal(kernel, state.params["members"][0]["head"]["kernel"])


def test_randomness_is_of_the_step_and_the_seed_alone():
    program = build(toy.SSL)
    step = jax.jit(program.step)
    start = jax.jit(program.init)(KEY)
    batch = toy.data("train")[0]
    losses = [
        float(step(start.replace(step=jnp.int32(i)), batch, jax.random.key(seed))[1]["recon/loss"])
        for i, seed in ((0, 0), (0, 0), (1, 0), (0, 1))
    ]
    assert losses[0] == losses[1] and len(set(losses)) == 3


def plain(model, batch, rngs):
    return jnp.mean(model(batch["x"]) ** 2), {}


def one_layer(rngs):
    return nnx.Linear(8, 8, rngs=rngs)


def simple(model, **objective):
    objective = {"loss": toy.reconstruct, "optimizer": optax.sgd(0.1)} | objective
    return Stage(
        name="simple",
        model=model,
        data=lambda split: grain.MapDataset.range(1),
        objectives={"recon": Objective(**objective)},
        steps=1,
    )


def test_learning_rate_is_logged_where_the_optimizer_tells_it():
    told = optax.inject_hyperparams(optax.sgd)(learning_rate=optax.linear_schedule(1.0, 0.0, 4))
    stage = simple(one_layer, optimizer=told, loss=plain)
    _, _, logs = run(stage, 2)
    assert logs["recon/learning_rate"] == 0.75


def test_parameters_that_are_not_float32_are_refused():
    half = lambda rngs: nnx.Linear(8, 8, param_dtype=jnp.bfloat16, rngs=rngs)  # noqa: E731
    with pytest.raises(ValueError, match="parameter bias is bfloat16; keep parameters in float32"):
        build(simple(half))


def test_random_streams_in_the_model_are_refused():
    with pytest.raises(ValueError, match="keeps a random stream at .*pass rngs when calling"):
        build(simple(lambda rngs: nnx.Sequential(one_layer(rngs), nnx.Dropout(0.5, rngs=rngs))))


def test_an_objective_that_claims_nothing_is_refused():
    with pytest.raises(ValueError, match=r"\['recon'\] claim no parameter"):
        build(simple(one_layer, params="^haed/"))


def test_logs_that_are_not_scalars_are_refused():
    vector = lambda model, batch, rngs: (jnp.mean(model(batch["x"])), {"v": batch["x"]})  # noqa: E731
    program = build(simple(one_layer, loss=vector))
    with pytest.raises(ValueError, match=r"logs 'v' of shape \(16, 8\): logs are scalars"):
        jax.eval_shape(program.step, program.init(KEY), toy.data("train")[0], KEY)


class Drifting(nnx.Module):
    """Counts in float32 and forgets it once."""

    def __init__(self, *, rngs):
        self.a = nnx.Linear(8, 8, rngs=rngs)
        self.count = nnx.BatchStat(jnp.zeros(()))

    def __call__(self, x, rngs=None):
        self.count.set_value(self.count[...].astype(jnp.bfloat16) + 1)
        return self.a(x)


def test_a_step_that_changes_the_type_of_its_state_is_refused():
    program = build(simple(lambda rngs: Drifting(rngs=rngs)))
    with pytest.raises(TypeError, match="count float32.* -> bfloat16"):
        jax.eval_shape(program.step, program.init(KEY), toy.data("train")[0], KEY)


def test_the_state_is_arrays_only():
    _, state, _ = run(toy.FINETUNE, 1)
    assert isinstance(state, TrainState)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(state))
