"""What NVIDIA's assembler makes of the Pallas kernels, where the triton package is installed."""

import importlib
import importlib.util
import re
import sys
from pathlib import Path

import pytest
from jaxvision_kernels import pallas_triton

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def ptxas(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    return importlib.import_module("ptxas")


def test_offsets_into_large_arrays_are_64_bits_wide(ptxas, monkeypatch):
    """17 GB a row of channels, which 32 bits cannot count; a small array keeps the cheaper form."""
    for shape, wide in (((8, 2**18, 4096), True), ((8, 4096, 1536), False)):
        monkeypatch.setitem(ptxas.SHAPES, "full", shape)
        modules = ptxas.triton_modules(pallas_triton.choose(*shape, 16), "bfloat16", 16, "full")
        assert [bool(re.search(r"tt\.addptr .*i64", m)) for m in modules] == [wide] * len(modules)


@pytest.mark.slow
@pytest.mark.skipif(
    not importlib.util.find_spec("triton"), reason="needs triton: uv run --with triton"
)
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_default_tilings_spill_no_register(dtype, ptxas):
    tiling = pallas_triton.choose(8, 4096, 1536, 16)
    rows = list(ptxas.table([tiling], dtype, 16))
    assert {row["kernel"] for row in rows} >= {"forward_kernel", "backward_kernel"}
    for row in rows:
        assert (row["spill_stores"], row["spill_loads"]) == (0, 0), row
