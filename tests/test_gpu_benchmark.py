"""What `benchmarks/scan_gpu` does on a GPU, as far as a CPU goes: its checks, its failures."""

import functools
import importlib
import json
import sys
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax._src.mesh import AbstractDevice  # no public name yet

FOLDER = Path(__file__).parents[1] / "benchmarks" / "scan_gpu"
NAMES = ("cases", "ceilings", "checks", "clock", "peers", "programs")


@pytest.fixture(scope="module")
def gpu():
    """The benchmark's modules, which lie in no package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(FOLDER), *sys.path])
        yield types.SimpleNamespace(**{k: importlib.import_module(k) for k in NAMES})


@pytest.mark.parametrize("name", ["split, reverse, packed, h0 bfloat16", "mixed dtypes"])
def test_checks_pass_and_refuse_what_is_two_hundredths_off(gpu, name):
    case = next(c for c in gpu.cases.cases(gpu.cases.TINY) if c.name == name)
    jobs = {
        "ours": (functools.partial(gpu.checks.outcome, case.ours["pallas"]), (case.x,)),
        "reference": (
            functools.partial(gpu.checks.outcome, case.reference),
            (jax.tree.map(gpu.checks.widened, case.x),),
        ),
    }
    with gpu.programs.pallas(interpret=True):
        programs = gpu.programs.compiled(jobs)
    right = gpu.checks.judged(case, **programs)
    assert not right["wrong"] and set(right["errors"]) >= {"y", *("d" + k for k in case.x)}
    assert "right, nearest its limit" in gpu.checks.line({"case": name, "backend": "x"} | right)

    out = programs["ours"](case.x)
    for k, value in out.items():
        for bad in (value * jnp.asarray(1.02, value.dtype), value * jnp.nan):
            row = gpu.checks.judged(case, lambda _, k=k, v=bad: out | {k: v}, programs["reference"])
            assert row["wrong"] == [k]
            assert gpu.checks.failures([row | {"backend": "mosaic"}])


def test_a_second_backend_need_not_run_but_must_not_be_wrong(gpu):
    rows = [{"backend": b, "failed": "NotImplementedError: no"} for b in ("pallas", "mosaic")]
    assert gpu.checks.failures(rows) == rows[:1]


def test_contestants_that_fail_leave_the_others_their_times(gpu, monkeypatch):
    def refuses(x):
        raise NotImplementedError("not on this device\nmore")

    def fails_later(x):
        def raises(x):
            raise ValueError("out of memory")

        return jax.pure_callback(raises, x, x)

    functions = {"good": jnp.sin, "refuses": refuses, "late": fails_later}
    x = jnp.ones(64)
    rows = gpu.programs.measured(functions, x, rounds=3)
    assert rows["good"]["ms"] > 0 and rows["good"]["memory_mib"] >= x.nbytes / 2**20
    assert rows["refuses"] == {"not measured": "NotImplementedError: not on this device"}
    assert (
        "out of memory" in rows["late"]["not measured"]
        or "callback" in rows["late"]["not measured"]
    )

    device = types.SimpleNamespace(memory_stats=lambda: {"bytes_limit": 550})  # 512 bytes are asked
    monkeypatch.setattr(gpu.programs.jax, "devices", lambda: [device])
    (row,) = gpu.programs.measured({"large": jnp.sin}, x).values()
    assert "GiB that JAX may take" in row["not measured"]


def test_peers_are_read_from_their_last_json_line(gpu, tmp_path):
    python = tmp_path / "python"

    def found(script, limit=20.0):
        python.write_text("#!/bin/sh\n" + script)
        python.chmod(0o755)
        return gpu.peers.measure_peer("mamba_ssm", str(python), ["Vim-S"], tiny=True, limit=limit)

    row = {"scan": {"Vim-S": {}}}
    assert found(f"echo '{{}}'; echo '{json.dumps(row)}'; echo done") == row
    assert found("echo 'no such library' >&2; exit 1") == {"not measured": "no such library"}
    cut = row | {"ended early": "it took more than 1 s"}
    assert found(f"echo '{json.dumps(row)}'; exec sleep 60", limit=0.1) == cut
    assert found("exec sleep 60", limit=0.1) == {"not measured": "it took more than 1 s"}
    assert (
        "No such file"
        in gpu.peers.measure_peer("mamba_ssm", "/none", [], tiny=True, limit=9)["not measured"]
    )


def test_the_exponentials_lower_for_cuda_and_are_what_they_say(gpu):
    y = gpu.ceilings.exponentials(2, 1, interpret=True)
    x = np.arange(len(y)) % gpu.ceilings.ELEMENTS + np.arange(len(y)) // gpu.ceilings.ELEMENTS
    x = x / len(y)
    for _ in range(gpu.ceilings.UNROLLED):
        x = np.exp2(-x)
    np.testing.assert_allclose(y, x, rtol=1e-5)

    device = AbstractDevice(device_kind="NVIDIA H200", num_cores=132, platform="gpu")
    with jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((), (), abstract_device=device)):
        checks = [export.DisabledSafetyCheck.custom_call("__gpu$xla.gpu.triton")]
        exporting = export.export(
            jax.jit(lambda: gpu.ceilings.exponentials(2**14, 128)),
            platforms=["cuda"],
            disabled_checks=checks,
        )
        assert "__gpu$xla.gpu.triton" in exporting().mlir_module()
