"""A trained COFNet under every sampler: DDIM of 1 to 8 steps, its controls, and the dense head.

    uv run python benchmarks/samplers.py --workdir=runs/cofnet-base [--config.data.…=… …]

All on the run's own validation images (or those that the overrides name) with one checkpoint.
`K` steps start from proposals at the latest time that these were trained at (loss.slots.start),
`random` from Gaussian boxes at the last time; `restart` draws fresh ones at each step. Prints mAP,
mAP50, mAP75, small-object mAP and AP50 of each class; writes
benchmarks/results/samplers-<name of the workdir>.json.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from jaxvision import loop, settings, sharding
from jaxvision.bench import hardware
from jaxvision.cofnet.task import build
from jaxvision.step import build as build_program

RESULTS = Path(__file__).parent / "results"
METRICS = ("mAP", "mAP50", "mAP75", "mAP_small")


def samplers(config: ConfigDict) -> dict[str, dict[str, Any]]:
    """Changes of `config.sampler` by name."""
    far, random = {"start": config.loss.slots.start}, {"proposals": "random"}
    return {
        "dense head": {"steps": 0},
        "as configured": {},
        **{f"K={k}": {"steps": k, **far} for k in (1, 2, 4, 8)},
        **{f"random K={k}": {"steps": k, **random} for k in (1, 2, 4, 8)},
        **{f"restart K={k}": {"steps": k, **random, "restart": True} for k in (2, 4, 8)},
    }


def measure(config: ConfigDict, workdir: Path, changes: Mapping[str, Any]) -> dict[str, float]:
    """COCO metrics of the best checkpoint in `workdir`, with `changes` to the sampler."""
    config = config.copy_and_resolve_references()
    config.unlock()
    for name, value in changes.items():
        config.sampler[name] = value
    stage = build(config).stages["detect"]
    program, mesh = build_program(stage), sharding.make_mesh({"data": -1})
    state = loop.restore_state(stage, workdir)
    name = "-".join(f"{k}={v}" for k, v in changes.items()) or "as-configured"
    found = loop.evaluate(
        stage, "val", program, state, mesh, directory=workdir / "samplers" / name
    )  # fmt: skip
    return {k.removeprefix("val/"): float(v) for k, v in found.items()}


def table(rows: Mapping[str, Mapping[str, float]]) -> str:
    """Markdown, in hundredths."""
    first = next(iter(rows.values()))
    columns = [m for m in METRICS if m in first] + [k for k in first if k.startswith("AP50/")]
    lines = ["| sampler | " + " | ".join(columns) + " |", "| --- |" + " ---: |" * len(columns)]
    for name, row in rows.items():
        lines.append(f"| {name} | " + " | ".join(f"{100 * row[c]:.1f}" for c in columns) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, required=True)
    args, overrides = parser.parse_known_args()
    config = settings.override(settings.read(args.workdir), overrides)
    rows = {}
    for name, changes in samplers(config).items():
        rows[name] = measure(config, args.workdir, changes)
        print(name, f"mAP {rows[name]['mAP']:.3f}  mAP50 {rows[name]['mAP50']:.3f}", flush=True)
    print(table(rows))
    record = {"hardware": hardware(jax.devices()[0]), "overrides": overrides, "results": rows}
    RESULTS.mkdir(exist_ok=True)
    out = RESULTS / f"samplers-{args.workdir.resolve().name}.json"
    out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"written to {out}")


if __name__ == "__main__":
    main()
