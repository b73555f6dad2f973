"""mamba_ssm's kernels on the shapes of `scan_gpu`, which starts this and reads what it prints.

    python benchmarks/scan_gpu/peer_torch.py [--shapes …] [--tiny]

Prints a line of JSON after each measurement, the last with all. Operands, options, cotangents and
timing are those of `scan_gpu`, arrays in mamba_ssm's own layout, `[b d l]`. Memory is PyTorch's
peak beyond what was allocated before the call, outputs and gradients included.
"""

import argparse
import importlib.util
import json

from clock import reason, seconds
from shapes import (
    HYDRA,
    KINDS,
    NARROW,
    SHAPES,
    TINY_HYDRA,
    TINY_SHAPES,
    hydra_operands,
    operands,
)

DEVICE = "cuda"
CHUNK = 256  # of Mamba-2 and of Hydra


def selective_scan_of(shape):
    """A function of tensors, and these."""
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

    x = {k: v.swapaxes(1, 2) if v.ndim == 3 else v for k, v in operands(shape).items()}
    return (lambda x: selective_scan_fn(**x, delta_softplus=True)), tensors(x)


def hydra_of(shape):
    """Both directions as Hydra takes them: the flipped sequence beside the other, in the batch."""
    import torch
    from mamba_ssm.ops.triton.ssd_combined import mamba_chunk_scan_combined

    def run(x):
        u, delta, B, C = (torch.cat([x[k], x[k].flip(1)]) for k in ("u", "delta", "B", "C"))
        options = {"chunk_size": CHUNK, "dt_bias": x["delta_bias"], "dt_softplus": True}
        B, C = B.unsqueeze(2), C.unsqueeze(2)  # one group
        forward, backward = mamba_chunk_scan_combined(u, delta, x["A"], B, C, **options).chunk(2)
        return forward + backward.flip(1)

    return run, tensors(hydra_operands(shape))


def tensors(x: dict) -> dict:
    """NumPy's arrays on the device, with gradients."""
    import torch

    def moved(k, v):
        dtype = torch.bfloat16 if k in NARROW else torch.float32
        return torch.from_numpy(v).to(DEVICE, dtype).contiguous().requires_grad_()

    return {k: moved(k, v) for k, v in x.items()}


def measured(f, x: dict) -> dict[str, dict]:
    """Forward, and forward with backward: `ms` and `memory_mib`, or why they were not measured."""
    import torch

    with torch.no_grad():
        dy = torch.ones_like(f(x))

    def both():
        y = f(x)
        return y, torch.autograd.grad(y, tuple(x.values()), dy)

    def forward():
        with torch.no_grad():
            return f(x)

    def wait(_):
        torch.cuda.synchronize()

    rows = {}
    for kind, run in zip(KINDS, (forward, both), strict=True):
        time = seconds({kind: run}, wait)[kind]  # the first call compiles
        if isinstance(time, Exception):
            rows[kind] = {"not measured": reason(time)}
            continue
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        out = run()
        torch.cuda.synchronize()
        memory = torch.cuda.max_memory_allocated() - before
        del out
        rows[kind] = {"ms": 1e3 * time, "memory_mib": memory / 2**20}
    return rows


def attempt(build, shape) -> dict[str, dict]:
    try:
        return measured(*build(shape))
    except Exception as error:  # out of memory, a kernel that this build lacks
        return {kind: {"not measured": reason(error)} for kind in KINDS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--tiny", action="store_true", help="tiny sizes, of a dry run")
    args = parser.parse_args()
    for module in ("torch", "mamba_ssm"):
        if importlib.util.find_spec(module) is None:
            print(json.dumps({"not measured": f"{module} is not installed here"}))
            return
    import torch

    if DEVICE == "cuda" and not torch.cuda.is_available():
        print(json.dumps({"not measured": "PyTorch sees no GPU here"}))
        return
    shapes, hydra = (TINY_SHAPES, TINY_HYDRA) if args.tiny else (SHAPES, HYDRA)
    record: dict = {"torch": torch.__version__, "scan": {}}
    try:
        record["mamba_ssm"] = __import__("mamba_ssm").__version__
    except Exception as error:  # its extension is built for one PyTorch
        print(json.dumps({"not measured": reason(error)}))
        return
    for name in (k for k in args.shapes if k in shapes):
        record["scan"][name] = attempt(selective_scan_of, shapes[name])
        print(json.dumps(record), flush=True)
    record["hydra"] = attempt(hydra_of, hydra)
    print(json.dumps(record), flush=True)


if __name__ == "__main__":
    main()
