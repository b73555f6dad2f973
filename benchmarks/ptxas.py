"""What the Pallas scan kernels compile to for A100 and H100, without a GPU: registers and spills.

    uv run --with triton==3.6.0 python benchmarks/ptxas.py [--dtype=bfloat16] [--states=16]

JAX lowers the kernels to Triton's IR for a device that need not be there; the triton package turns
that into PTX, and its own ptxas compiles it and tells what a thread needs. The tilings listed are
the default's and its neighbours'. Writes benchmarks/results/ptxas.json.
"""

import argparse
import dataclasses
import itertools
import json
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jax._src.mesh import AbstractDevice
from jax._src.pallas.triton import lowering
from jaxvision_kernels import pallas_triton, selective_scan
from jaxvision_kernels.pallas_scan import Tiling

DEVICE = AbstractDevice(device_kind="NVIDIA A100-SXM4-80GB", num_cores=108, platform="gpu")
CHECKS = [export.DisabledSafetyCheck.custom_call("__gpu$xla.gpu.triton")]
ARCHITECTURES = {80: "sm_80", 90: "sm_90a"}
SHAPES = {  # b l d
    "full": (8, 4096, 1536),  # no step and no channel past the end
    "odd": (8, 4001, 1530),  # packed besides, so that everything is masked
}
TILINGS = (
    Tiling(inner=4, splits=2),  # the default's, with the kernels of a split sequence
    Tiling(inner=8),
    Tiling(channels=16, inner=4, warps=2),
    Tiling(channels=64, inner=4, warps=8),
)


def triton_modules(tiling: Tiling, dtype: str, n: int, sizes: str) -> list[str]:
    """Triton's IR of the kernels of one scan and its gradient, with bias, softplus, skip and gate.

    Of odd sizes with segments too, and with fewer states than a power of two.
    """
    found = []
    lower = lowering.lower_jaxpr_to_triton_module

    def listen(*args, **kwargs):
        result = lower(*args, **kwargs)
        found.append(result.module.operation.get_asm(use_local_scope=True))
        return result

    b, length, d = shape = SHAPES[sizes]
    odd = sizes == "odd"
    n = n - 1 if odd and n > 2 else n
    ids = np.zeros((b, length), np.int32) if odd else None
    x = {k: jax.ShapeDtypeStruct(shape, dtype) for k in ("u", "delta", "z")}
    x |= {k: jax.ShapeDtypeStruct((b, length, n), dtype) for k in "BC"}
    x |= {k: jax.ShapeDtypeStruct((d,), jnp.float32) for k in ("D", "delta_bias")}
    x["A"] = jax.ShapeDtypeStruct((d, n), jnp.float32)
    choose = pallas_triton.choose

    def loss(x):
        y = selective_scan(**x, delta_softplus=True, segment_ids=ids, backend="pallas")
        return y.astype(jnp.float32).sum()

    mesh = jax.sharding.AbstractMesh((), (), abstract_device=DEVICE)
    try:
        lowering.lower_jaxpr_to_triton_module = listen
        pallas_triton.choose = lambda *sizes: tiling
        with jax.sharding.use_abstract_mesh(mesh):
            jitted = jax.jit(jax.grad(loss))
            export.export(jitted, platforms=["cuda"], disabled_checks=CHECKS)(x)
    finally:
        lowering.lower_jaxpr_to_triton_module, pallas_triton.choose = lower, choose
    return found


def compiled(module: str, tiling: Tiling, capability: int) -> dict[str, int]:
    """Registers of a thread, bytes that spill from them, shared memory of a program."""
    import triton
    from triton.backends.compiler import GPUTarget

    ptxas = Path(triton.__file__).parent / "backends/nvidia/bin/ptxas"
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "kernel.ttir"
        source.write_text(module)
        target = GPUTarget("cuda", capability, 32)
        options = {"num_warps": tiling.warps, "num_stages": 1}
        kernel = triton.compile(str(source), target=target, options=options)
        ptx = Path(folder) / "kernel.ptx"
        ptx.write_text(kernel.asm["ptx"])
        command = [ptxas, "-v", f"-arch={ARCHITECTURES[capability]}", ptx, "-o", "/dev/null"]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    spilled = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", told)
    return {
        "registers": int(re.search(r"Used (\d+) registers", told)[1]),
        "spill_stores": int(spilled[1]),
        "spill_loads": int(spilled[2]),
        "shared_bytes": kernel.metadata.shared,
    }


def table(tilings, dtype: str, n: int) -> Iterator[dict]:
    for (i, tiling), sizes in itertools.product(enumerate(tilings), SHAPES):
        if i and sizes != "full":
            continue  # of the default's neighbours the best case alone
        for module in triton_modules(tiling, dtype, n, sizes):
            name = re.search(r"tt\.func (?:public )?@(\w+)", module)[1]
            for capability in ARCHITECTURES:
                about = {"kernel": name, "arch": ARCHITECTURES[capability], "dtype": dtype, "n": n}
                about |= {"sizes": sizes, "tiling": dataclasses.asdict(tiling)}
                yield about | compiled(module, tiling, capability)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--states", type=int, default=16)
    args = parser.parse_args()
    columns = f"{'kernel':16} {'arch':7} {'sizes':5} {'channels, inner, warps':24}"
    print(f"{columns} registers  spill shared")
    rows = []
    for row in table(TILINGS, args.dtype, args.states):
        t = row["tiling"]
        sizes = f"{t['channels']} {t['inner']} {t['warps']}"
        print(
            f"{row['kernel']:16} {row['arch']:7} {row['sizes']:5} {sizes:24} {row['registers']:9} "
            f"{row['spill_stores']:6} {row['shared_bytes']:6}",
            flush=True,
        )
        rows.append(row)
    out = Path(__file__).parent / "results" / "ptxas.json"
    record = {"jax": jax.__version__, "triton": __import__("triton").__version__, "rows": rows}
    out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"written to {out}")


if __name__ == "__main__":
    main()
