"""Whole stages: grafts, evaluation, the best checkpoint, what is written, what stops a run."""

import csv
import dataclasses
import io
import os
import re
import signal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toy
from flax import nnx

from jaxvision import checkpoint, loop
from jaxvision.agreement import Interrupt
from jaxvision.hooks import time_budget
from jaxvision.sharding import make_mesh
from jaxvision.stage import Eval, Objective
from jaxvision.step import build
from jaxvision.writer import RunWriter

pytestmark = pytest.mark.usefixtures("compiles_once")
MESH = make_mesh({"data": 1}, jax.devices()[:1])


def same(a, b):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.array_equal(x, y) for x, y in pairs)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def states(workdir, compiles_once):
    """The end of every toy stage, in one run."""
    stages = (toy.SSL, toy.FINETUNE, toy.GAN, toy.member(0), toy.member(1), toy.PIPELINE)
    with RunWriter(workdir, stream=io.StringIO()) as writer:
        return {
            stage.name: loop.fit(stage, workdir, MESH, writer=writer, log_every=2)
            for stage in stages
        }


def test_a_frozen_graft_ends_as_it_began(states, workdir):
    donor = checkpoint.load(workdir / "ssl")
    encoder = checkpoint.flatten(states["finetune"].params["encoder"])
    assert encoder
    for name, leaf in encoder.items():
        np.testing.assert_array_equal(leaf, donor["params"][f"backbone/{name}"])
    for name, leaf in checkpoint.flatten(states["finetune"].model_state["encoder"]).items():
        np.testing.assert_array_equal(leaf, donor["model_state"][f"backbone/{name}"])


def test_both_objectives_of_the_gan_have_trained(states, workdir):
    donor = checkpoint.load(workdir / "ssl")["params"]
    moved = states["gan"].params["gen"]["decoder"]["kernel"]
    assert not np.array_equal(moved, donor["decoder/kernel"])
    fresh = build(toy.GAN).init(jax.random.key(0)).params["disc"]["kernel"]
    assert not np.array_equal(states["gan"].params["disc"]["kernel"], fresh)


def test_a_stage_without_steps_assembles_evaluates_and_saves(states, workdir):
    members = states["pipeline"].params["members"]
    for i in range(2):
        assert same(members[i], states[f"member{i}"].params)
    model, step = loop.restore_model(toy.PIPELINE, workdir)
    assert step == 0
    found = checkpoint.Checkpoints(workdir / "pipeline" / "checkpoints").record(0).metrics
    right = []
    for i in range(len(toy.data("val"))):
        batch = toy.data("val")[i]
        answers = np.asarray(model(batch["x"])).argmax(-1) == batch["y"]
        right += list(answers[batch["mask"]])
    assert len(right) == 50
    assert found == {"val/accuracy": pytest.approx(np.mean(right))}


def test_the_log_of_a_run_tells_its_story(states, workdir):
    log = (workdir / "log.txt").read_text()
    assert "finetune: graft from" in log and "encoder/a (2), encoder/b (2)" in log
    assert "xent 34, frozen 448" in log
    assert re.search(r"head/kernel +\[16, 2\] +float32 +32 +xent", log)
    assert "finetune  8/8  loss" in log
    assert "val after step 8: accuracy" in log
    with (workdir / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(r["stage"], r["step"]) for r in rows[:6]] == [
        *(("ssl", str(i)) for i in (2, 4, 6, 8)),
        *(("finetune", str(i)) for i in (2, 4)),
    ]
    assert float(rows[5]["train/xent/loss"]) > 0 and float(rows[5]["val/accuracy"]) > 0
    assert rows[0]["val/accuracy"] == ""
    assert list((workdir / "tensorboard" / "finetune").glob("events.*"))


def test_restored_models_are_averaged_and_the_best(states, workdir):
    checkpoints = checkpoint.Checkpoints(workdir / "finetune" / "checkpoints", best="val/accuracy")
    model, step = loop.restore_model(toy.FINETUNE, workdir)
    assert step == checkpoints.best_step()
    ema = checkpoints.load(step, ["ema"])["ema"]
    assert set(ema) == {"head/kernel", "head/bias"}
    np.testing.assert_array_equal(model.head.kernel[...], ema["head/kernel"])
    assert model.encoder.drop.deterministic and model.encoder.norm.use_running_average
    _, step = loop.restore_model(toy.FINETUNE, workdir, prefer="latest")
    assert step == 8
    other = dataclasses.replace(toy.FINETUNE, model=lambda r: toy.Classifier(3, rngs=r))
    with pytest.raises(ValueError, match=r"another model: params: head/bias is float32\[2\] there"):
        loop.restore_model(other, workdir)


def test_a_checkpoint_of_another_model_is_not_continued(states, workdir):
    other = dataclasses.replace(toy.FINETUNE, model=lambda r: toy.Classifier(3, rngs=r))
    with pytest.raises(ValueError, match="checkpoints/8 is of another model"):
        loop.fit(other, workdir, MESH)


def test_a_finished_stage_is_not_trained_again(states, workdir):
    recorder = toy.Recorder()
    again = loop.fit(toy.FINETUNE, workdir, MESH, writer=recorder)
    assert same(again, states["finetune"])
    assert recorder.rows == {}  # nor evaluated


def test_a_graft_may_come_from_another_run(states, workdir, tmp_path):
    graft = dataclasses.replace(toy.FINETUNE.init_from[0], source=str(workdir / "ssl"))
    stage = dataclasses.replace(toy.FINETUNE, steps=1, init_from=(graft,), evals={}, best=None)
    state = loop.fit(stage, tmp_path, MESH)
    assert same(state.params["encoder"], states["ssl"].params["backbone"])


def test_the_best_checkpoint_is_saved_at_the_very_step_of_its_metric(tmp_path):
    """The eval is better at step 2 than ever after, and no save is due there."""

    class Peak:
        def __init__(self, directory):
            self.step = int(directory.name)

        def add(self, batch, predictions): ...

        def result(self):
            return {"score": -abs(self.step - 2)}

    peak = Eval(split="val", predict=toy.predict, host=lambda d: [Peak(d)], every=1)
    stage = dataclasses.replace(toy.SSL, steps=6, evals={"val": peak}, best="val/score")
    stage = dataclasses.replace(
        stage, evals={"val": dataclasses.replace(peak, predict=lambda m, b, r: {"y": m(b["x"])})}
    )
    loop.fit(stage, tmp_path, MESH)
    found = checkpoint.Checkpoints(tmp_path / "ssl" / "checkpoints", best="val/score")
    assert found.best_step() == 2
    assert found.record(2).metrics == {"val/score": 0}
    assert loop.restore_model(stage, tmp_path)[1] == 2
    assert found.load(2, ["step"])["step"][""] == 2


def exploding(at):
    """A loss that is not a number from step `at` on (counted from 1)."""

    class Counting(nnx.Module):
        def __init__(self, *, rngs):
            self.layer = nnx.Linear(8, 8, rngs=rngs)
            self.seen = nnx.BatchStat(jnp.zeros(()))

    def loss(model, batch, rngs):
        model.seen[...] += 1
        bad = jnp.where(model.seen[...] >= at, jnp.nan, 1.0)
        return jnp.mean(model.layer(batch["x"]) ** 2), {"helper": bad}

    return dataclasses.replace(
        toy.SSL,
        model=lambda rngs: Counting(rngs=rngs),
        objectives={"recon": Objective(loss=loss, optimizer=optax.sgd(0.1))},
    )


def test_the_first_non_finite_log_stops_the_run_and_is_named(tmp_path):
    with pytest.raises(FloatingPointError) as error:
        loop.fit(exploding(at=6), tmp_path, MESH, log_every=1000)
    assert "step 6 is not finite: recon/helper = nan" in str(error.value)
    assert f"last good checkpoint: {tmp_path}/ssl/checkpoints/4" in str(error.value)
    assert checkpoint.Checkpoints(tmp_path / "ssl" / "checkpoints").steps() == [4]


def test_nothing_that_is_not_finite_is_saved(tmp_path):
    """One update overflows: the loss and the gradient before it are finite, the parameters not."""
    huge = optax.chain(optax.scale(1e30), optax.scale(1e30))
    objective = Objective(loss=toy.reconstruct, optimizer=huge)
    stage = dataclasses.replace(toy.SSL, objectives={"recon": objective}, steps=1)
    with pytest.raises(FloatingPointError, match="step 1 is not finite: params/.*none yet"):
        loop.fit(stage, tmp_path, MESH)
    assert not list(tmp_path.glob("ssl/checkpoints/*"))


def test_a_time_budget_ends_the_stage_for_good(tmp_path):
    stage = dataclasses.replace(toy.SSL, steps=10**9, save_every=10**9)
    budget = time_budget(3.0)
    ended = loop.fit(stage, tmp_path, MESH, hooks=[budget])
    assert 0 < int(ended.step) < 10**9
    again = loop.fit(stage, tmp_path, MESH, hooks=[budget])
    assert int(again.step) == int(ended.step)


def test_a_stage_ends_when_its_best_metric_no_longer_rises(tmp_path):
    """With a rate of nothing every evaluation is the first one's equal."""
    still = Objective(loss=toy.classify, optimizer=optax.sgd(0.0))
    stage = dataclasses.replace(
        toy.FINETUNE, init_from=(), steps=100, objectives={"xent": still}, patience=8
    )
    writer = toy.Recorder()
    ended = loop.fit(stage, tmp_path, MESH, writer=writer)
    assert int(ended.step) == 12  # evaluated after 4, which stays the best, 8 and 12
    assert any("val/accuracy has not risen for 8 steps" in line for line in writer.said)
    assert int(loop.fit(stage, tmp_path, MESH).step) == 12
    longer = dataclasses.replace(stage, patience=12)
    assert int(loop.fit(longer, tmp_path, MESH).step) == 16


def test_all_hooks_are_asked_and_know_the_metrics(tmp_path):
    seen = []
    hooks = [lambda step, *_: step == 2, lambda step, state, metrics: seen.append((step, metrics))]
    loop.fit(toy.SSL, tmp_path, MESH, hooks=hooks)
    assert [step for step, _ in seen] == [0, 1, 2]
    assert all(metrics["seconds"] > 0 for _, metrics in seen)


def test_a_profile_is_written_for_tensorboard(tmp_path):
    recorder = toy.Recorder()
    loop.fit(toy.SSL, tmp_path, MESH, writer=recorder, profile={"start": 2, "steps": 2})
    assert list(tmp_path.glob("tensorboard/ssl/plugins/profile/*/*.xplane.pb"))
    assert any("profiler trace" in line for line in recorder.said)
    with pytest.raises(ValueError, match="profile has start >= 0 and steps >= 0"):
        loop.fit(toy.SSL, tmp_path, MESH, profile={"begin": 2})


def test_a_training_split_that_ends_is_refused(tmp_path):
    stage = dataclasses.replace(toy.SSL, data=lambda split: toy.data("val"))
    with pytest.raises(ValueError, match="the training split ends after 4 batches; let it repeat"):
        loop.fit(stage, tmp_path, MESH)


def test_an_interrupted_evaluation_is_made_up_for(tmp_path):
    """The signal comes within the evaluation of step 4: saved without it, evaluated on return."""
    asked = []

    def predict(model, batch, rngs):
        return toy.predict(model, batch, rngs)

    class Interrupting:
        def __init__(self, directory): ...

        def add(self, batch, predictions):
            if not asked:
                asked.append(os.kill(os.getpid(), signal.SIGTERM))

        def result(self):
            return {"score": 1.0}

    ev = Eval(split="val", predict=predict, host=lambda d: [Interrupting(d)], every=4)
    stage = dataclasses.replace(toy.member(0), steps=5, evals={"val": ev}, best="val/score")
    with Interrupt(lambda text: None) as interrupt:
        loop.fit(stage, tmp_path, MESH, interrupt=interrupt)
        assert interrupt.reason == "SIGTERM"
    found = checkpoint.Checkpoints(tmp_path / "member0" / "checkpoints", best="val/score")
    assert found.steps() == [4] and found.record(4).metrics == {}
    loop.fit(stage, tmp_path, MESH)
    assert found.record(4).metrics == {"val/score": 1.0} and found.best_step() == 4
