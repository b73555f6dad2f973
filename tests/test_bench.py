"""Speed measurements: their arithmetic, what they hold, how they read."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from toy_task import build as toy_build
from toy_task import toy_system  # noqa: F401 - a fixture

from jaxvision import bench, launch
from jaxvision.config import base
from jaxvision.sharding import make_mesh

pytestmark = pytest.mark.usefixtures("compiles_once")


@pytest.fixture
def short(monkeypatch):
    """Measurements of a moment."""
    monkeypatch.setattr(bench, "SECONDS", 0.01)
    monkeypatch.setattr(bench, "LOADER_SECONDS", 0.05)


@pytest.fixture
def experiment():
    config = base(system="toy", preset="tiny")
    config.run = ("ssl", "finetune")
    config.model.classes = 2
    config.data.names = ()
    config.stages = {name: dict(steps=4, batch=16, lr=1e-2) for name in config.run}
    return toy_build(config)


def test_compiling_tells_flops_and_memory():
    x = jnp.ones((64, 64))
    compiled, about = bench.compile_timed(jax.jit(lambda x: x @ x), x)
    np.testing.assert_array_equal(compiled(x), x @ x)
    assert about["flops"] == 2 * 64**3
    arrays = 2 * x.nbytes  # argument and result
    assert about["memory_bytes"] >= arrays and about["bytes"] >= arrays
    assert about["trace_seconds"] > 0 and about["compile_seconds"] > 0


def test_rates_are_those_of_the_median_block():
    found = bench.rates({"flops": 6e12}, [2.0, 1.0, 9.0], rows=8, peak=1e13)
    assert found["steps_per_s"] == 0.5 and found["examples_per_s"] == 4.0
    assert found["flops_per_s"] == 3e12 and found["utilisation"] == pytest.approx(0.3)
    assert found["spread"] == 4.0
    unknown = bench.rates({"flops": None}, [2.0], rows=8, peak=None)
    assert unknown["flops_per_s"] is None and unknown["utilisation"] is None


def test_blocks_take_turns():
    calls = []
    runs = {name: lambda name=name: calls.append(name) or jnp.zeros(()) for name in "ab"}
    taken = bench.interleaved(runs, repeats=3, seconds=0.0)
    assert calls == [*"aabb", *"ababab"]  # warm up and count, then block by block
    assert {name: len(seconds) for name, seconds in taken.items()} == {"a": 3, "b": 3}


@pytest.mark.parametrize(
    "kind, dtype, teraflops",
    [
        ("NVIDIA H200", "bfloat16", 989),
        ("NVIDIA H100 PCIe", "bfloat16", 756),
        ("NVIDIA H100 80GB HBM3", "float32", 495),
        ("NVIDIA A100-SXM4-80GB", "bfloat16", 312),
        ("NVIDIA A10G", "bfloat16", 70),
        ("NVIDIA L40S", "bfloat16", 362),
        ("NVIDIA L4", "float32", 60),
        ("Tesla T4", "float32", 8.1),
        ("Tesla T4", "bfloat16", None),
        ("cpu", "float32", None),
    ],
)
def test_peaks_are_found_by_the_longest_name(kind, dtype, teraflops):
    expected = teraflops and teraflops * 1e12
    assert bench.peak_flops(kind, dtype) == pytest.approx(expected)


@pytest.mark.usefixtures("short")
def test_a_stage_is_measured_whole(experiment):
    stage = experiment.stages["finetune"]
    result = bench.measure(experiment, stage, make_mesh({"data": 1}, jax.devices()[:1]))
    assert result["batch"] == 16 and result["devices"] == 1 and result["stage"] == "finetune"
    assert result["jax"] == jax.__version__ and "cores" in result["hardware"]
    for name in ("train", "forward"):
        assert result[name]["examples_per_s"] == pytest.approx(16 * result[name]["steps_per_s"])
        assert result[name]["flops"] > 0 and result[name]["memory_bytes"] > 0
        assert result[name]["utilisation"] is None  # a CPU's peak is not known
    assert result["train"]["flops"] > result["forward"]["flops"]
    assert result["loader"]["examples_per_s"] > 0


@pytest.mark.usefixtures("short")
def test_a_stage_without_objectives_is_measured_without_training(experiment):
    stage = dataclasses.replace(toy.PIPELINE, init_from=())
    assert "train" not in bench.measure(
        experiment, stage, make_mesh({"data": 1}, jax.devices()[:1])
    )


def test_the_table_says_what_is_not_known():
    program = {
        "trace_seconds": 1.0,
        "compile_seconds": 2.0,
        "steps_per_s": 4.0,
        "examples_per_s": 32.0,
        "flops": 5e9,
        "bytes": 1e9,
        "flops_per_s": 2e10,
        "utilisation": 0.25,
        "memory_bytes": 2**21,
    }
    about = {"hardware": "X", "devices": 2, "jax": "1.0", "dtype": "bfloat16", "batch": 8}
    other = {**program, "utilisation": None}
    loader = {"examples_per_s": 7.0, "workers": 0}
    text = bench.table({**about, "train": program, "forward": other, "loader": loader})
    lines = {line.split("  ")[0]: line.split() for line in text.splitlines()}
    assert lines["utilisation"][1:] == ["25.0%", "unknown"]
    assert lines["memory a device"][3:] == ["2", "MiB", "2", "MiB"]
    assert "X × 2, JAX 1.0, bfloat16, batch 8" in text and "7 examples/s" in text
    assert "peak" not in text
    gpu = {**about, "forward": other, "loader": loader, "peak_memory_bytes": 2**30}
    assert "peak device memory 1024 MiB" in bench.table(gpu) and "train" not in bench.table(gpu)


@pytest.mark.usefixtures("short")
def test_the_verb_writes_what_it_prints(toy_system, capsys):
    command = ["bench", "--config=configs/toy.py:tiny", "--stage=ssl", "--output=out/here.json"]
    assert launch.main(command) == 0
    said = capsys.readouterr().out
    result = json.loads((toy_system / "out" / "here.json").read_text())
    assert (result["system"], result["preset"], result["stage"]) == ("toy", "tiny", "ssl")
    assert result["hardware"] in said and "steps/s" in said and "out/here.json" in said
