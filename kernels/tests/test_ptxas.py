"""What NVIDIA's assembler makes of the Pallas kernels, where the triton package is installed."""

import importlib.util
import sys
from pathlib import Path

import pytest
from jaxvision_kernels import pallas_triton

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.slow
@pytest.mark.skipif(
    not importlib.util.find_spec("triton"), reason="needs triton: uv run --with triton"
)
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_default_tilings_spill_no_register(dtype, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    import ptxas

    tiling = pallas_triton.choose(8, 4096, 1536, 16)
    rows = list(ptxas.table([tiling], dtype, 16))
    assert {row["kernel"] for row in rows} >= {"forward_kernel", "backward_kernel"}
    for row in rows:
        assert (row["spill_stores"], row["spill_loads"]) == (0, 0), row
