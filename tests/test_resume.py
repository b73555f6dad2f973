"""A run that is broken off continues bit for bit, whatever broke it off."""

import dataclasses
import os
import random
import signal
import time

import jax
import numpy as np
import pytest
import toy
from processes import output

from jaxvision import loop
from jaxvision.agreement import Interrupt
from jaxvision.checkpoint import Checkpoints, load
from jaxvision.sharding import make_mesh
from jaxvision.writer import RunWriter, Silent

pytestmark = pytest.mark.usefixtures("compiles_once")
OPTIMISED = True
MESH = make_mesh({"data": 1}, jax.devices()[:1])
# Everything that a run carries along: parameters, Adam's moments, averages, batch statistics.
STAGE = dataclasses.replace(toy.member(0), name="ssl", steps=8, save_every=3, ema=0.9, accumulate=2)


def fit(workdir, stage=STAGE, **options):
    return loop.fit(stage, workdir, MESH, **options)


def at_step(wanted, action):
    """A hook that acts when `wanted` steps are done, and never ends the stage."""
    return lambda step, *_: bool(action() if step == wanted else False)


def assert_same(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, compiles_once):
    return fit(tmp_path_factory.mktemp("unbroken"))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_ended_by_a_hook_continues(unbroken, tmp_path, workers):
    stopped = fit(tmp_path, hooks=[lambda step, *_: step == 5])
    assert int(stopped.step) == 5
    assert_same(fit(tmp_path, workers=workers), unbroken)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_stops_and_says_how_to_continue(unbroken, tmp_path, number, capsys):
    before = signal.getsignal(number)
    hook = at_step(5, lambda: os.kill(os.getpid(), number))
    with RunWriter(tmp_path) as writer, Interrupt(writer.say) as interrupt:
        stopped = fit(tmp_path, hooks=[hook], writer=writer, interrupt=interrupt)
    assert interrupt.reason == number.name and int(stopped.step) == 5
    assert signal.getsignal(number) is before
    told = capsys.readouterr().out
    assert f"stopped after step 5 ({number.name}) and saved {tmp_path}/ssl/checkpoints/5" in told
    assert "the same command continues from there" in told
    assert_same(fit(tmp_path), unbroken)


def test_a_second_ctrl_c_aborts_at_once(tmp_path):
    def twice():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)  # Python delivers signals between bytecodes
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)

    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, hooks=[at_step(5, twice)])
    assert Checkpoints(tmp_path / "ssl" / "checkpoints").steps() == [3]


def test_a_checkpoint_that_was_cut_short_is_named_and_the_one_before_continued(unbroken, tmp_path):
    fit(tmp_path, hooks=[lambda step, *_: step == 7])
    damaged = tmp_path / "ssl" / "checkpoints" / "7"
    file = max((p for p in damaged.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    with file.open("r+b") as stream:
        stream.truncate(file.stat().st_size // 2)
    said = []
    writer = Silent()
    writer.say = said.append
    assert_same(fit(tmp_path, writer=writer), unbroken)
    assert any(f"checkpoint {damaged} is damaged" in line for line in said)
    assert any("continues from" in line and line.endswith("checkpoints/6") for line in said)


def test_metrics_of_steps_made_again_are_written_once(tmp_path):
    def killed():
        raise RuntimeError("power cut")

    for hook in (at_step(5, killed), at_step(9, killed)):
        try:
            with RunWriter(tmp_path) as writer:
                fit(tmp_path, writer=writer, hooks=[hook], log_every=1)
        except RuntimeError:
            continue
    steps = [line.split(",")[1] for line in (tmp_path / "metrics.csv").read_text().splitlines()]
    assert steps == ["step", "1", "2", "3", "4", "5", "6", "7", "8"]


def test_another_batch_size_continues_at_the_same_example(tmp_path):
    fit(tmp_path, hooks=[lambda step, *_: step == 3])
    at = Checkpoints(tmp_path / "ssl" / "checkpoints").record(3)
    assert (at.examples, at.batch) == (48, 16)
    stream = loop.training_batches(toy.with_batch(STAGE, 8), at, 0)
    np.testing.assert_array_equal(next(stream)["x"], toy.data("train", batch=8)[6]["x"])
    stream.close()
    fit(tmp_path, toy.with_batch(STAGE, 8), hooks=[lambda step, *_: step == 5])
    at = Checkpoints(tmp_path / "ssl" / "checkpoints").record(5)
    assert (at.examples, at.batch) == (64, 8)


def kill_and_finish(start, workdir, seconds):
    """Kills a run with SIGKILL some time after its first checkpoint, and lets another end it."""
    arguments = (workdir, "--steps", 40, "--save-every", 2)
    process = start("train_toy.py", *arguments, "--slow", 0.05)
    while "step 3" not in process.stdout.readline():
        assert process.poll() is None, process.stderr.read()
    time.sleep(seconds)
    process.kill()
    process.wait()
    assert Checkpoints(workdir / "ssl" / "checkpoints").latest() < 40
    assert "ended" in output(start("train_toy.py", *arguments))
    return load(workdir / "ssl", ("params", "opt_state", "model_state"), prefer="latest")


@pytest.fixture(scope="module")
def forty(tmp_path_factory, compiles_once):
    workdir = tmp_path_factory.mktemp("forty")
    fit(workdir, dataclasses.replace(toy.SSL, steps=40))
    return load(workdir / "ssl", ("params", "opt_state", "model_state"), prefer="latest")


def test_kill_9_leaves_nothing_that_changes_the_end(start, forty, tmp_path):
    ended = kill_and_finish(start, tmp_path, random.random())
    assert ended["opt_state"]
    assert_same(ended, forty)


@pytest.mark.slow
@pytest.mark.parametrize("attempt", range(3))
def test_kill_9_again_and_again(start, forty, tmp_path, attempt):
    assert_same(kill_and_finish(start, tmp_path, random.uniform(0, 1.5)), forty)
