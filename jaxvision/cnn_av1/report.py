"""What a run has found: tables, pictures and models in its folder."""

import csv
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from jaxvision.cnn_av1 import comparison, predictor, thresholds
from jaxvision.cnn_av1.classes import TYPES, names, stage_labels
from jaxvision.cnn_av1.data import PartitionData
from jaxvision.cnn_av1.evaluation import draw, type_scores
from jaxvision.cnn_av1.exports import export_stage
from jaxvision.cnn_av1.levels import LEVELS
from jaxvision.cnn_av1.pipeline import MultiTask
from jaxvision.cnn_av1.stage_model import STAGES, model_config
from jaxvision.cnn_av1.stages import made_of
from jaxvision.metrics import classes
from jaxvision.metrics.class_figures import reliability_figure
from jaxvision.stage import Stage
from jaxvision.start import restore_model
from jaxvision.written import whole_file

# What the seed reports of its own: F1 of the stage, on other data (blocks of 4K video).
SEED = {"binary": 0.723, "macro": 0.465, "rect": 0.684, "ab": 0.245}


def write_report(
    model: nnx.Module,
    workdir: Path,
    output: Path,
    say: Callable[[str], None],
    *,
    stages: Mapping[str, Stage],
    config: ConfigDict,
    data: PartitionData,
) -> dict[str, float]:
    """Writes RESULTS.md, pipeline.csv, pictures, each stage's files and `model.npz`.

    The table has every trained pipeline and multi-task net of the run, the most frequent type and
    boosted trees. `model` is the last stage's.
    """
    made = model_config(config)
    nets: dict[str, nnx.Module] = {}
    for name, stage in stages.items():
        kind, about = config.stages[name].kind, made_of(config.stages[name], made)
        if kind != "pipeline":
            export_stage(stage, workdir, output, dataclasses.asdict(about))
        if kind in ("pipeline", "multitask") and data.cfg.size in LEVELS:
            nets[name] = restore_model(stage, workdir)[0]
    for name, net in nets.items():
        if isinstance(net, MultiTask):
            about = made_of(config.stages[name], made)
            predictor.save(output / "model.npz", net, about)
    if not nets:
        return {}
    return _compared(nets, output, say, config=config, data=data)


def _compared(nets, output, say, *, config, data) -> dict[str, float]:
    train, val, test = (data.typed_blocks(split) for split in ("train", "val", "test"))
    threshold = 0.5
    if "pipeline" in nets:
        held = comparison.run(nets["pipeline"], val)
        rows = thresholds.sweep(held["binary"], held["parts"], val.labels)
        thresholds.write(output, rows)
        threshold = thresholds.best(rows)
    say(f"report: boosted trees on {len(train)} blocks")
    answers = comparison.baselines(train, val, test, seed=config.seed)
    sets = (train, val, test)
    found, outputs = comparison.networks(nets, *sets, threshold=threshold, say=say)
    answers |= found
    rows = comparison.table(answers, test, seed=config.seed)
    parts = {name: stage_scores(out, test.labels, data) for name, out in outputs.items()}
    _write_csv(output / "pipeline.csv", rows)
    for name in found:
        scores, _ = type_scores(answers[name].types, answers[name].hard, test.labels)
        draw(output / f"confusion_{_file(name)}.png", scores, TYPES, title=name)
    curves = {
        name: classes.calibration(answer.types, test.labels)
        for name, answer in answers.items()
        if name in nets or name == comparison.TREES
    }
    with whole_file(output / "reliability.png") as part:
        reliability_figure(part, curves, title="Confidence of the likeliest type")
    text = markdown(rows, parts, train=train.counts(), test=test.counts())
    with whole_file(output / "RESULTS.md") as part:
        part.write_text(text, encoding="utf-8")
    say(text)
    say(f"report: {output}/RESULTS.md, pipeline.csv, confusion_*.png, reliability.png")
    return {f"{row['system']}/{key}": float(row[key]) for row in rows for key in comparison.BOUNDED}


def stage_scores(
    out: Mapping[str, np.ndarray], labels: np.ndarray, data: PartitionData
) -> dict[str, float]:
    """Macro-F1 of each stage by itself, on the blocks that are its own; NaN if there are none."""
    four_way, found = data.cfg.four_way, {}
    chosen = {"binary": out["binary"] >= 0.5, "macro": out["macro"].argmax(-1)}
    chosen |= {"rect": out["rect"].argmax(-1), "ab": out["vote"]}
    for stage in STAGES:
        truth = stage_labels(labels, stage, four_way=four_way)
        count = len(names(stage, four_way=four_way))
        table = classes.confusion(truth, chosen[stage].astype(np.int64), count)
        found[stage] = classes.scores(table).macro_f1 if table.sum() else float("nan")
    return found


def markdown(
    rows: Sequence[Mapping],
    parts: Mapping[str, Mapping[str, float]],
    *,
    train: Mapping,
    test: Mapping,
) -> str:
    """The tables of a run, for people."""
    lines = ["# CNN-AV1", "", f"{sum(test.values())} test blocks, of photographs never trained on;"]
    lines += ["intervals hold 95 % of a bootstrap over clips.", ""]
    lines += ["| system | accuracy | macro-F1, 10 | macro-F1, 8 | top-3 | calibration error |"]
    lines += ["| --- | --- | --- | --- | --- | --- |"]
    for row in rows:
        cells = [_interval(row, key) for key in ("accuracy", "macro_f1")]
        cells += [f"{row['macro_f1_8']:.3f}", _interval(row, "top3")]
        lines.append(f"| {row['system']} | {' | '.join(cells)} | {row['calibration_error']:.3f} |")
    gains = [row for row in rows if "accuracy_gain" in row and row["system"] != comparison.TREES]
    if gains:
        lines += ["", f"Differences to {comparison.TREES}, of the same draws:", ""]
        lines += ["| system | accuracy | macro-F1, 10 | top-3 |", "| --- | --- | --- | --- |"]
        for row in gains:
            cells = [_interval(row, f"{key}_gain", "+") for key in comparison.BOUNDED]
            lines.append(f"| {row['system']} | {' | '.join(cells)} |")
    lines += ["", "Macro-F1 of each stage on its own blocks:", ""]
    lines += [f"| | {' | '.join(STAGES)} |", f"| --- | {' | '.join(['---'] * len(STAGES))} |"]
    for name, found in {**parts, "the seed's, on other data": SEED}.items():
        lines.append(f"| {name} | {' | '.join(f'{found[stage]:.3f}' for stage in STAGES)} |")
    lines += ["", "| type | training | test |", "| --- | --- | --- |"]
    lines += [f"| {name} | {train[name]} | {test[name]} |" for name in TYPES]
    return "\n".join(lines) + "\n"


def _interval(row: Mapping, key: str, sign: str = "") -> str:
    value, low, high = (f"{row[name]:{sign}.3f}" for name in (key, f"{key}_low", f"{key}_high"))
    return f"{value} [{low}, {high}]"


def _write_csv(path: Path, rows: Sequence[Mapping]) -> None:
    with whole_file(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        for row in rows:
            shown = {k: f"{v:.4f}" if isinstance(v, float) else v for k, v in row.items()}
            writer.writerow(shown)


def _file(name: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in name)
