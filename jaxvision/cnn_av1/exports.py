"""The files that each trained stage leaves in the folder of its run, under the seed's names."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path

from jaxvision import model_file
from jaxvision.checkpoint import Checkpoints
from jaxvision.stage import Stage
from jaxvision.start import restore_model
from jaxvision.written import whole_file

METRICS = "metrics.csv"


def export_stage(stage: Stage, workdir: Path, output: Path, config: Mapping) -> None:
    """`<stage>_model_best.npz`, `_model_final.npz`, `_history.csv` and `_metrics.json`.

    `config` is what the model was made of. History is a row for each logged step.
    """
    for which, name in (("best", "best"), ("latest", "final")):
        model, step = restore_model(stage, workdir, prefer=which)
        about = {"stage": stage.name, "step": step, **config}
        path = output / f"{stage.name}_model_{name}.npz"
        model_file.save(path, model, kind=f"cnn_av1 {stage.name}", config=about)
    checkpoints = Checkpoints(workdir / stage.name / "checkpoints", best=stage.best)
    steps = checkpoints.steps()
    best = checkpoints.best_step() if stage.best else None
    found = {
        "final": {"step": steps[-1], **checkpoints.record(steps[-1]).metrics},
        "best": None if best is None else {"step": best, **checkpoints.record(best).metrics},
    }
    text = json.dumps(_plain(found), indent=1) + "\n"
    with whole_file(output / f"{stage.name}_metrics.json") as part:
        part.write_text(text, encoding="utf-8")
    write_history(stage.name, workdir / METRICS, output / f"{stage.name}_history.csv")


def write_history(stage: str, metrics: Path, path: Path) -> None:
    """The rows and columns of a run's `metrics.csv` that are of one stage."""
    if not metrics.is_file():
        return
    with metrics.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["stage"] == stage]
    columns = [name for name in (rows[0] if rows else {}) if any(row[name] for row in rows)]
    with whole_file(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def _plain(value):
    """NaN, which JSON lacks, as null."""
    if isinstance(value, Mapping):
        return {key: _plain(x) for key, x in value.items()}
    return None if isinstance(value, float) and value != value else value
