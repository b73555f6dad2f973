"""Scans over eight simulated devices: right, and without gathering what is sharded."""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
pytestmark = pytest.mark.slow  # a process of its own, and a dozen programs to compile
BACKENDS = ("xla", "pallas")
B, L, D, N = 8, 64, 16, 4  # of sharded.py


@functools.cache
def results():
    env = os.environ | {"PYTHONPATH": f"{HERE.parent}{os.pathsep}{HERE}", "JAX_PLATFORMS": "cpu"}
    env.pop("XLA_FLAGS", None)
    done = subprocess.run(
        [sys.executable, HERE / "sharded.py"], env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", ["sequence", "sequence reversed"])
def test_sequence_parallel(name):
    found = results()[name]
    assert found["error"] < 5e-6
    kinds = [kind for kind, *_ in found["collectives"]]
    # Forward: states and decays of the parts, and whether segments join. Backward: their gradients,
    # and those of what all devices share.
    assert set(kinds) <= {"all-gather", "collective-permute", "reduce-scatter", "all-reduce"}
    assert kinds.count("all-gather") <= 2
    largest = max(size(shape) for _, *shapes in found["collectives"] for shape in shapes)
    assert largest == 8 * B * D * N  # of eight states: no array over time


# Two groups: on a mesh of explicit axes.
@pytest.mark.parametrize(
    ("sharded", "groups"), [("batch", 1), ("batch and channels", 1), ("batch and channels", 2)]
)
@pytest.mark.parametrize("backend", BACKENDS)
def test_jit_on_sharded_inputs_only_adds_up(backend, sharded, groups):
    found = results()[f"{backend} {sharded} {groups}"]
    assert found["error"] < 5e-6
    shapes = {"all-reduce": [], "all-gather": []}
    for kind, *of_kind in found["collectives"]:
        shapes[kind] += of_kind
    # Sums over the batch: A, D, delta_bias. Over sharded channels: B and C, once, not once a step.
    over_time = [size(x) for x in shapes["all-reduce"] if size(x) > D * N]
    gathered = [size(x) for x in shapes["all-gather"]]
    local = B // 4 * L * N
    if sharded == "batch":
        assert (over_time, gathered) == ([], [])
    elif groups == 1:
        assert (over_time, gathered) == ([local, local], [])
    else:  # each device has the gradient of one group's B, and all of B, where B was whole
        assert (over_time, gathered) == ([local], [2 * local])


@pytest.mark.parametrize("name", ["mapped", "GSPMD"])
def test_batch_and_channels_stay_sharded(name):
    found = results()[name]
    assert found["error"] < 5e-6
    assert {kind for kind, *_ in found["collectives"]} == {"all-reduce"}


def size(shape):
    n = 1
    for x in filter(None, shape.split(",")):
        n *= int(x)
    return n
