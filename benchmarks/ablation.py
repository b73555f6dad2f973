"""COFNet's two claims, measured: scale field against FPN, diffusion against a one-shot head.

    uv run python benchmarks/ablation.py --data=FOLDER [--steps=1500] [--seeds=3]

Trains three arms for each seed with the same data, steps and batch, in interleaved order:
`csf` (the default), `fpn` (model.neck=fpn) and `oneshot` (the dense head alone, loss.refine=0).
Each is measured by samplers of benchmarks/samplers.py: as configured, with one to eight steps from
the dense head's proposals or from random boxes, and the dense head itself. Prints mAP, mAP50 and
small-object mAP, and paired differences with 95 % intervals over seeds (Student's t); writes
benchmarks/results/ablation.json. What is trained is not trained again: the command continues where
it was stopped.
"""

import argparse
import importlib.util
import json
from pathlib import Path

import jax
import numpy as np
from samplers import measure, samplers
from scipy import stats

from jaxvision import loop, sharding
from jaxvision.agreement import Interrupt
from jaxvision.bench import hardware
from jaxvision.cofnet.task import build
from jaxvision.writer import RunWriter

ROOT = Path(__file__).parent.parent
METRICS = ("mAP", "mAP50", "mAP_small")
ARMS = {
    "csf": {},
    "fpn": {"model.neck": "fpn"},
    "oneshot": {"loss.refine": 0.0},
}
MEASURED = {
    "csf": ("dense head", "as configured", "K=1", "K=4", "K=8", "random K=4", "restart K=4"),
    "fpn": ("dense head", "as configured"),
    "oneshot": ("dense head",),
}
PAIRS = (
    ("csf as configured", "fpn as configured"),
    ("csf dense head", "fpn dense head"),
    ("csf as configured", "oneshot dense head"),
    ("csf as configured", "csf dense head"),
    ("csf K=4", "oneshot dense head"),
    ("csf K=4", "csf K=1"),
    ("csf K=8", "csf K=1"),
    ("csf random K=4", "csf restart K=4"),
)


def config_of(args, seed: int, changes: dict):
    """The `skywatch` preset on the given data, with an arm's changes."""
    path = ROOT / "configs" / "cofnet.py"
    spec = importlib.util.spec_from_file_location("cofnet_config", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config("skywatch")
    config.seed = seed
    data = json.loads(args.data) if args.data.startswith("{") else {"root": args.data}
    settings = {f"data.{k}": v for k, v in data.items()} | {
        "stages.detect.steps": args.steps,
        "stages.detect.warmup": args.steps // 10,
        "stages.detect.eval_every": args.steps,
        "stages.detect.save_every": max(args.steps // 5, 1),
    }
    for name, value in (settings | changes).items():
        *path, last = name.split(".")
        node = config
        for part in path:
            node = node[part]
        if last not in node:
            raise ValueError(f"no setting {name!r}")
        node[last] = tuple(value) if isinstance(value, list) else value
    return config


def train(args, arm: str, seed: int, interrupt: Interrupt) -> Path:
    """Trains one arm, or finds it trained; returns its folder."""
    folder = Path(args.runs) / f"{arm}-{seed}"
    stage = build(config_of(args, seed, ARMS[arm])).stages["detect"]
    with RunWriter(folder) as writer:
        mesh = sharding.make_mesh({"data": -1})
        loop.fit(stage, folder, mesh, writer=writer, interrupt=interrupt)
    return folder


def difference(a: list[dict], b: list[dict], metric: str) -> str:
    """Mean of a - b over seeds, with its 95 % interval, in points of AP."""
    d = 100 * np.array([x[metric] - y[metric] for x, y in zip(a, b, strict=True)])
    if len(d) < 2:
        return f"{d.mean():+.1f}"
    half = stats.t.ppf(0.975, len(d) - 1) * d.std(ddof=1) / np.sqrt(len(d))
    return f"{d.mean():+.1f} [{d.mean() - half:+.1f}, {d.mean() + half:+.1f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder in COCO form, or JSON of data fields")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--runs", default="runs/ablation")
    args = parser.parse_args()
    results: dict[str, list[dict]] = {}
    with Interrupt(print) as interrupt:
        for seed in range(args.seeds):
            for arm in ARMS:
                folder = train(args, arm, seed, interrupt)
                if interrupt.reason:
                    print("stopped; the same command continues")
                    return
                config = config_of(args, seed, ARMS[arm])
                for name in MEASURED[arm]:
                    found = measure(config, folder, samplers(config)[name])
                    results.setdefault(f"{arm} {name}", []).append(found)
                    print(f"seed {seed}: {arm} {name}: mAP {found['mAP']:.3f}", flush=True)
    print("| arm | " + " | ".join(METRICS) + " |\n| --- |" + " ---: |" * len(METRICS))
    for name, rows in results.items():
        means = [100 * np.mean([row[m] for row in rows]) for m in METRICS]
        print(f"| {name} | " + " | ".join(f"{m:.1f}" for m in means) + " |")
    differences = {
        f"{a} - {b}": {m: difference(results[a], results[b], m) for m in METRICS} for a, b in PAIRS
    }
    for name, row in differences.items():
        print(name, row)
    record = dict(
        hardware=hardware(jax.devices()[0]), steps=args.steps, seeds=args.seeds,
        results=results, differences=differences,
    )  # fmt: skip
    out = ROOT / "benchmarks" / "results" / "ablation.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
