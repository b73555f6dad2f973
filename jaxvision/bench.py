"""How fast a stage trains and infers here, and how much of the device that is."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from jaxvision import loop, sharding
from jaxvision.data.pipeline import iterate
from jaxvision.stage import Experiment, Stage
from jaxvision.step import build

REPEATS = 5  # blocks of each program, in turns, so that a busy moment does not fall on one of them
SECONDS = 1.0  # that a block takes, about
LOADER_SECONDS = 5.0

# Peak dense TFLOP/s of matrix products, from the makers' data sheets: (bfloat16, TensorFloat-32 or
# float32 where there is none). T4 has no bfloat16; its float16 rate would not be a fair peak.
PEAKS = {
    "A100": (312, 156),
    "H100 PCIe": (756, 378),
    "H100": (989, 495),
    "H200": (989, 495),
    "GH200": (989, 495),
    "B200": (2250, 1100),
    "A10G": (70, 35),
    "A10": (125, 62.5),
    "A40": (150, 75),
    "A6000": (155, 77),
    "L40S": (362, 183),
    "L40": (181, 91),
    "L4": (121, 60),
    "T4": (None, 8.1),
    "V100": (None, 15.7),
    "RTX 4090": (165, 83),
    "TPU v4": (275, None),
    "TPU v5 lite": (197, None),
    "TPU v5p": (459, None),
    "TPU v6 lite": (918, None),
}


def measure(
    experiment: Experiment,
    stage: Stage,
    mesh: Mesh,
    *,
    rules: sharding.Rules = (),
    workers: int = 0,
    dtype: str = "float32",
) -> dict[str, Any]:
    """Measures the training step and `experiment.forward`, both on one batch of the stage's data.

    FLOPs and bytes are XLA's own count for one device, recomputation included, a loop's body
    counted once; so the utilisation of a model that scans is a lower bound.
    """
    device = mesh.devices.flat[0]
    peak = peak_flops(device.device_kind, dtype)
    first = next(iter(stage.data("train")))
    rows = loop.global_rows(first)
    result = {
        "hardware": hardware(device),
        "devices": mesh.size,
        "jax": jax.__version__,
        "stage": stage.name,
        "dtype": dtype,
        "batch": rows,
        "peak_flops": peak,
    }
    runs: dict[str, Callable[[], Any]] = {}
    programs: dict[str, dict[str, Any]] = {}
    with jax.set_mesh(mesh):
        if stage.objectives:
            runs["train"], programs["train"] = training(stage, mesh, first, rules)
        runs["forward"], programs["forward"] = inference(experiment, stage, mesh, rows)
        for name, seconds in interleaved(runs, repeats=REPEATS, seconds=SECONDS).items():
            programs[name] |= rates(programs[name], seconds, rows, peak)
    result |= programs
    rate = loader_rate(stage, workers, seconds=LOADER_SECONDS)
    result["loader"] = {"examples_per_s": rate, "workers": workers}
    if stats := device.memory_stats():
        result["peak_memory_bytes"] = stats.get("peak_bytes_in_use")
    return result


def training(stage: Stage, mesh: Mesh, batch: Mapping[str, np.ndarray], rules: sharding.Rules):
    """The compiled training step as a function that runs it once, and what compiling has told."""
    program = build(stage)
    key = jax.random.key(stage.seed)
    placed = sharding.infer(mesh, jax.eval_shape(program.init, key), rules)
    state = jax.jit(program.init, out_shardings=placed)(key)
    step, key = loop.compiled(stage, program, mesh, placed)
    there = sharding.put(batch, mesh, accumulate=stage.accumulate)
    compiled, about = compile_timed(step, state, there, key)

    def run():
        nonlocal state
        state, logs = compiled(state, there, key)
        return logs

    return run, about


def inference(experiment: Experiment, stage: Stage, mesh: Mesh, rows: int):
    """`experiment.forward` of an untrained model on `rows` copies of the example, likewise."""
    program = build(stage)
    model = program.apply(jax.jit(program.init)(jax.random.key(stage.seed)))
    graph, state = nnx.split(model)
    state = jax.device_put(state, sharding.replicated(mesh))
    share = rows // jax.process_count()
    batch = {k: np.repeat(np.asarray(x)[:1], share, axis=0) for k, x in experiment.example.items()}
    there = sharding.put(batch, mesh)
    forward = jax.jit(lambda state, batch: experiment.forward(nnx.merge(graph, state), batch))
    compiled, about = compile_timed(forward, state, there)
    return lambda: compiled(state, there), about


def compile_timed(function: Callable, *args: Any) -> tuple[Callable, dict[str, Any]]:
    """Compiles; says how long it took, and what XLA expects of the program on one device."""
    begun = time.perf_counter()
    lowered = function.lower(*args)
    traced = time.perf_counter()
    compiled = lowered.compile()
    about: dict[str, Any] = {
        "trace_seconds": traced - begun,
        "compile_seconds": time.perf_counter() - traced,
    }
    cost = compiled.cost_analysis() or {}
    about["flops"], about["bytes"] = cost.get("flops"), cost.get("bytes accessed")
    memory = compiled.memory_analysis()
    if memory is not None:
        about["memory_bytes"] = (
            memory.temp_size_in_bytes
            + memory.argument_size_in_bytes
            + memory.output_size_in_bytes
            - memory.alias_size_in_bytes
        )
    return compiled, about


def interleaved(
    runs: Mapping[str, Callable[[], Any]], *, repeats: int, seconds: float
) -> dict[str, list[float]]:
    """Seconds a call, of `repeats` blocks of calls, the functions taking turns."""
    counts = {}
    for name, run in runs.items():
        jax.block_until_ready(run())
        begun = time.perf_counter()
        jax.block_until_ready(run())
        counts[name] = max(1, int(seconds / (time.perf_counter() - begun)))
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            begun = time.perf_counter()
            for _ in range(counts[name]):
                out = run()
            jax.block_until_ready(out)
            taken[name].append((time.perf_counter() - begun) / counts[name])
    return taken


def rates(
    about: Mapping[str, Any], seconds: list[float], rows: int, peak: float | None
) -> dict[str, Any]:
    """Steps and examples a second at the median, and the share of the peak that the FLOPs make."""
    median = statistics.median(seconds)
    flops = about["flops"]
    return {
        "steps_per_s": 1 / median,
        "examples_per_s": rows / median,
        "spread": (max(seconds) - min(seconds)) / median,
        "flops_per_s": flops / median if flops else None,
        "utilisation": flops / median / peak if flops and peak else None,
    }


def loader_rate(stage: Stage, workers: int, *, seconds: float) -> float:
    """Examples a second that the stage's training data gives by itself, in all processes."""
    batches = iterate(stage.data("train"), workers=workers)
    try:
        next(batches)  # workers start, caches fill
        begun, examples = time.perf_counter(), 0
        while time.perf_counter() - begun < seconds:
            examples += loop.global_rows(next(batches))
        return examples / (time.perf_counter() - begun)
    finally:
        batches.close()


def peak_flops(kind: str, dtype: str) -> float | None:
    """Peak FLOP/s of a device for matrix products in `dtype`; None if it is not known."""
    name = next((n for n in sorted(PEAKS, key=len, reverse=True) if n in kind), None)
    if name is None:
        return None
    half, single = PEAKS[name]
    teraflops = half if dtype == "bfloat16" else single
    return teraflops * 1e12 if teraflops else None


def hardware(device: jax.Device) -> str:
    """The device's name; of a CPU, the processor's and the number of cores."""
    if device.platform != "cpu":
        return device.device_kind
    name = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [
                line.split(":", 1)[1].strip() for line in file if line.startswith("model name")
            ]
        name = names[0] if names else name
    return f"{name}, {os.cpu_count()} cores"


def table(result: Mapping[str, Any]) -> str:
    """What `measure` returns, for people."""
    rows = [("", *(name for name in ("train", "forward") if name in result))]
    lines = {
        "trace": ("trace_seconds", "{:.1f} s", 1),
        "compile": ("compile_seconds", "{:.1f} s", 1),
        "steps/s": ("steps_per_s", "{:.3g}", 1),
        "examples/s": ("examples_per_s", "{:.3g}", 1),
        "GFLOP a step, device": ("flops", "{:.3g}", 1e-9),
        "GB a step, device": ("bytes", "{:.3g}", 1e-9),
        "TFLOP/s a device": ("flops_per_s", "{:.3g}", 1e-12),
        "utilisation": ("utilisation", "{:.1%}", 1),
        "memory a device": ("memory_bytes", "{:.0f} MiB", 2**-20),
    }
    for label, (key, form, scale) in lines.items():
        values = [result[name].get(key) for name in rows[0][1:]]
        rows.append((label, *("unknown" if v is None else form.format(v * scale) for v in values)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    text = []
    for label, *cells in rows:
        padded = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        text.append("  ".join([label.ljust(widths[0]), *padded]))
    head = (
        f"{result['hardware']} × {result['devices']}, JAX {result['jax']}, {result['dtype']}, "
        f"batch {result['batch']}"
    )
    peak = result.get("peak_memory_bytes")
    tail = f"data loader: {result['loader']['examples_per_s']:.3g} examples/s"
    tail += f"; peak device memory {peak / 2**20:.0f} MiB" if peak else ""
    return "\n".join([head, *text, tail])
