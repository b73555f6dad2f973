"""What fails beside the training: refused before the first step, or with the steps saved."""

import dataclasses
import os
import signal

import jax
import pytest
import toy

from jaxvision import loop
from jaxvision.agreement import Interrupt
from jaxvision.checkpoint import Checkpoints
from jaxvision.sharding import make_mesh
from jaxvision.stage import Eval

pytestmark = pytest.mark.usefixtures("compiles_once")
MESH = make_mesh({"data": 1}, jax.devices()[:1])
STAGE = dataclasses.replace(toy.member(0), save_every=10**9)


class Judge:
    """A host metric that acts before it gives its score."""

    def __init__(self, act):
        self._act = act

    def add(self, batch, predictions): ...

    def result(self):
        self._act()
        return {"score": 1.0}


def judged(act, **changes):
    """The stage with an eval that calls `act`, every second step."""
    ev = Eval(split="val", predict=toy.predict, host=lambda directory: [Judge(act)], every=2)
    return dataclasses.replace(STAGE, evals={"val": ev}, best="val/score", **changes)


def fail():
    raise RuntimeError("no font")


def test_a_split_that_is_missing_is_refused_before_the_first_step(tmp_path):
    def data(split):
        if split == "val":
            raise FileNotFoundError("val.json: no such file")
        return toy.data(split)

    steps = []
    evals = {"val": dataclasses.replace(toy.VAL, every=10**9)}
    with pytest.raises(FileNotFoundError, match=r"val\.json"):
        loop.fit(
            dataclasses.replace(STAGE, data=data, evals=evals),
            tmp_path,
            MESH,
            hooks=[lambda step, *_: steps.append(step)],
        )
    assert steps == []


def test_an_evaluation_that_fails_loses_no_step(tmp_path):
    with pytest.raises(RuntimeError, match="no font"):
        loop.fit(judged(fail), tmp_path, MESH)
    found = Checkpoints(tmp_path / "member0" / "checkpoints", best="val/score")
    assert found.steps() == [2] and found.record(2).metrics == {}
    loop.fit(judged(lambda: None), tmp_path, MESH)
    assert found.steps() == [2, 4] and found.best_step() == 2  # measured after all
    assert found.record(4).metrics == {"val/score": 1.0}


def test_a_metric_that_the_best_needs_and_the_evaluation_lacks_is_named(tmp_path):
    stage = dataclasses.replace(judged(lambda: None), best="val/ap")
    with pytest.raises(ValueError, match=r"chosen by 'val/ap'.*it has \['val/score'\]"):
        loop.fit(stage, tmp_path, MESH)
    assert Checkpoints(tmp_path / "member0" / "checkpoints").steps() == [2]


def test_a_run_that_is_stopped_within_its_last_evaluation_has_not_ended(tmp_path):
    stage = judged(lambda: os.kill(os.getpid(), signal.SIGTERM), steps=2)
    recorder = toy.Recorder()
    with Interrupt(recorder.say) as interrupt:
        loop.fit(stage, tmp_path, MESH, writer=recorder, interrupt=interrupt)
    assert "stopped after step 2 (SIGTERM) and saved" in recorder.said[-1]
    assert "the same command continues" in recorder.said[-1]


def test_logging_every_zero_steps_is_refused(tmp_path):
    with pytest.raises(ValueError, match="log_every=0 must be >= 1"):
        loop.fit(STAGE, tmp_path, MESH, log_every=0)
