"""One training step of COFNet on a CPU: jaxvision and PyTorch, same architecture, in one run.

    uv run --with torch --with mambapy python benchmarks/train_step.py
    python benchmarks/train_step.py --threads 1    # where torch and mambapy are installed

Neither torch nor mambapy is a dependency of the project; without mambapy (mamba.py, MIT) its
`pscan` does not take part. Model and optimizer are those of `configs/cofnet.py` on a CPU, the batch
is random. A step is forward, backward, clipping, AdamW and the average of the parameters, from a
NumPy batch. Before anything is timed, both get the same weights and the same random draws, and
their outputs, losses, gradients and updates are compared (train_step_parity.py).

PyTorch runs eagerly with each scan (a step loop with a gradient of its own, `pscan`) in each layout
of convolutions; the fastest is its figure. torch.compile is left out: with the graph breaks at
scans and at the choice of positive cells it compiled for two minutes and was no faster. Contestants
take turns, each turn an untimed step and some timed ones, so that other load falls on all alike.
All have the same cores and number of threads.
"""

import argparse
import functools
import importlib.util
import itertools
import json
import os
import runpy
import statistics
import time
from pathlib import Path

import jax
import numpy as np
import torch
from ml_collections import ConfigDict
from scan_cpu import hardware
from torch_backbone import StepLoop
from torch_cofnet import COFNet as TorchCOFNet
from torch_cofnet import convert
from torch_step import torch_trainer, torch_updater
from train_step_parity import differences, reference, refuse

from jaxvision import config as configs
from jaxvision import sharding
from jaxvision.cofnet.loss import LossConfig, detection_loss
from jaxvision.cofnet.model import COFNet, CofnetConfig
from jaxvision.data.skywatch.looks import CLASSES
from jaxvision.loop import compiled
from jaxvision.stage import Objective, Stage
from jaxvision.step import build

HERE = Path(__file__).parent
MAX_BOXES = 40  # rows for objects in a batch
LAYOUTS = {"channels last": torch.channels_last, "channels first": torch.contiguous_format}


def cores() -> list[int]:
    """Those that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count()))


def example_batch(size: tuple[int, int], batch: int, rows: int) -> dict[str, np.ndarray]:
    """Random images with 3 to 12 boxes of 8 to 100 pixels, and a large crowd in the first."""
    rng = np.random.default_rng(0)
    count = rng.integers(3, 13, batch)
    valid = np.arange(rows) < count[:, None]
    crowd = np.zeros_like(valid)
    crowd[0, count[0]] = True
    pixels = np.exp(rng.uniform(np.log(8), np.log(100), (batch, rows, 1)))
    side = pixels * np.exp(rng.uniform(-0.4, 0.4, (batch, rows, 2))) / size[::-1]
    side = np.where(crowd[..., None], 0.7, np.minimum(side, 0.9))
    center = rng.uniform(side / 2, 1 - side / 2)
    boxes = np.concatenate([center, side], -1) * (valid | crowd)[..., None]
    return {
        "image": rng.integers(0, 256, (batch, *size, 3), np.uint8),
        "boxes": boxes.astype(np.float32),
        "labels": rng.integers(0, len(CLASSES), (batch, rows)).astype(np.int32) * valid,
        "valid": valid,
        "crowd": crowd,
    }


def jax_trainer(stage_cfg: ConfigDict, cfg: CofnetConfig, loss: LossConfig, batch):
    """The step as `fit` runs it, and the initial parameters on the host."""
    objective = Objective(
        loss=functools.partial(detection_loss, cfg=loss), optimizer=configs.optimizer(stage_cfg)
    )
    stage = Stage(
        name="detect",
        model=lambda rngs: COFNet(cfg, rngs=rngs),
        data=lambda split: None,
        objectives={"detect": objective},
        steps=stage_cfg.steps,
        ema=stage_cfg.ema,
    )
    mesh = sharding.make_mesh({"data": 1}, jax.devices()[:1])
    program = build(stage)
    placed = sharding.infer(mesh, jax.eval_shape(program.init, jax.random.key(0)))
    state = jax.jit(program.init, out_shardings=placed)(jax.random.key(0))
    params = jax.device_get(state.params)
    step, key = compiled(stage, program, mesh, placed)

    def train():
        nonlocal state
        with jax.set_mesh(mesh):
            state, logs = step(state, sharding.put(batch, mesh), key)
        jax.block_until_ready((state, logs))

    return train, params


def fastest(result: dict) -> str:
    """The PyTorch contestant with the least median time."""
    return min((k for k in result if k != "jaxvision"), key=lambda k: result[k]["wall_ms"])


def turns(trainers: dict, rounds: int, steps: int) -> dict:
    """Median and least wall milliseconds, and median CPU milliseconds, of a step of each."""
    times = {name: [] for name in trainers}
    for i in range(rounds + 2):
        for name, train in trainers.items():
            train()
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in range(steps):
                train()
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            if i >= 2:
                times[name].append((1e3 * wall / steps, 1e3 * cpu / steps))
    result = {}
    for name, pairs in times.items():
        wall, cpu = zip(*pairs, strict=True)
        figures = (statistics.median(wall), min(wall), statistics.median(cpu))
        names = ("wall_ms", "least_wall_ms", "cpu_ms")
        result[name] = {k: round(x, 2) for k, x in zip(names, figures, strict=True)}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=3, help="timed steps of a turn")
    parser.add_argument("--threads", type=int, default=len(cores()))
    parser.add_argument("--out", default=HERE / "results" / "train_step.json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if hasattr(os, "sched_setaffinity"):  # XLA starts as many threads as it sees cores
        os.sched_setaffinity(0, cores()[: args.threads])
    os.environ["JAX_PLATFORMS"] = "cpu"  # what the config looks at
    jax.config.update("jax_platforms", "cpu")

    config = runpy.run_path(str(HERE.parent / "configs" / "cofnet.py"))["get_config"]()
    config.model.size = (args.size, args.size)
    cfg = configs.from_config(CofnetConfig, config.model, classes=len(CLASSES))
    loss = configs.from_config(LossConfig, config.loss)
    batch = example_batch(cfg.size, args.batch, MAX_BOXES)
    stage = config.stages.detect
    train, params = jax_trainer(stage, cfg, loss, batch)

    scans = {"step loop": StepLoop.apply}
    if importlib.util.find_spec("mambapy"):
        from mambapy.pscan import pscan

        scans["pscan"] = pscan
    steady = ConfigDict(stage.to_dict() | {"schedule": "constant", "warmup": 0})
    expected = reference(cfg, loss, params, batch, configs.optimizer(steady))
    trainers, models = {"jaxvision": train}, {}
    for (scan, function), (layout, form) in itertools.product(scans.items(), LAYOUTS.items()):
        name = f"torch, {scan}, {layout}"
        models[name] = model = TorchCOFNet(cfg, scan=function, layout=form)
        found = differences(expected, model, loss, batch, torch_updater(model, stage))
        print(f"{name}: differs by", ", ".join(f"{k} {v:.1e}" for k, v in found.items()))
        refuse(found)
        model.load_state_dict(convert(params))
        trainers[name] = torch_trainer(model, stage, loss, batch)

    result = turns(trainers, args.rounds, args.steps)
    counts = {
        "jaxvision": sum(x.size for x in jax.tree.leaves(params)),
        "torch": sum(p.numel() for p in models[name].parameters()),
    }
    if len(set(counts.values())) > 1:
        raise SystemExit(f"error: parameters differ in number: {counts}")
    best, ours = fastest(result), result["jaxvision"]
    ratios = {k: round(result[best][k] / ours[k], 2) for k in ours}
    versions = {"jax": jax.__version__, "torch": torch.__version__}
    print(
        f"\n{args.size} px, batch {args.batch}, {counts['jaxvision']:,} parameters each, "
        f"{hardware()}, {args.threads} threads, {versions}; ms a step, {args.rounds} rounds"
    )
    print(f"{'':40}{'wall':>9}{'least':>9}{'CPU':>9}")
    for name, times in result.items():
        print(f"{name:40}" + "".join(f"{x:9.1f}" for x in times.values()))
    print(f"{best!r} takes {ratios['wall_ms']} times jaxvision's time")
    record = {
        "size": args.size,
        "batch": args.batch,
        "parameters": counts,
        "hardware": hardware(),
        "threads": args.threads,
        "versions": versions,
        "rounds": args.rounds,
        "steps_a_round": args.steps,
        "ms_a_step": result,
        "fastest_peer": best,
        "peer_over_jaxvision": ratios,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(record, indent=2) + "\n")
    print(f"written to {args.out}")


if __name__ == "__main__":
    main()
