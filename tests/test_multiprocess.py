"""Two processes that train together learn what one does, and read its checkpoints."""

import dataclasses
import signal
import socket

import jax
import pytest
import toy
from processes import output
from test_sharding import relative_difference, scores

from jaxvision import loop
from jaxvision.checkpoint import Checkpoints, load
from jaxvision.sharding import make_mesh

pytestmark = pytest.mark.usefixtures("compiles_once")
OPTIMISED = True
STAGE = toy.PARALLEL


def free_port():
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]


def start_two(start, workdir, *arguments):
    port = free_port()
    common = (workdir, "--parallel", "--steps", 40, "--save-every", 20, "--port", port)
    return [start("train_toy.py", *common, "--process", i, *arguments) for i in range(2)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory, compiles_once):
    """The checkpoints of one process at the steps 20 and 40."""
    workdir = tmp_path_factory.mktemp("alone")
    loop.fit(STAGE, workdir, make_mesh({"data": 1}, jax.devices()[:1]))
    return workdir


def test_two_processes_learn_what_one_does_and_read_each_others_checkpoints(start, alone, tmp_path):
    """They continue what one process has begun, are stopped by a signal to one, and go on."""
    one = make_mesh({"data": 1}, jax.devices()[:1])
    loop.fit(STAGE, tmp_path, one, hooks=[lambda step, *_: step == 10])
    processes = start_two(start, tmp_path, "--slow", 0.2)
    while "step 12" not in processes[1].stdout.readline():
        assert processes[1].poll() is None, processes[1].stderr.read()
    processes[1].send_signal(signal.SIGINT)
    for process in processes:
        assert "ended" in output(process)
    stopped = Checkpoints(tmp_path / "parallel" / "checkpoints").latest()
    assert 12 <= stopped < 40
    loop.fit(dataclasses.replace(STAGE, steps=30), tmp_path, one)
    for process in start_two(start, tmp_path):
        assert "ended" in output(process)
    ours, theirs = (
        load(d / "parallel", ("params", "model_state", "step")) for d in (alone, tmp_path)
    )
    assert theirs["step"][""] == 40
    # As for eight devices: the order of sums, through 40 steps of SGD.
    assert relative_difference(ours["params"], theirs["params"]) <= 1e-5
    assert relative_difference(ours["model_state"], theirs["model_state"]) <= 1e-5
    assert scores(tmp_path) == scores(alone)  # also of the host's metric
