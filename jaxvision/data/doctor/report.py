"""The examination of a data set, and how it is told."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from jaxvision.data.doctor import boxes, pictures, splits, twins
from jaxvision.data.doctor.finding import ERROR, WARN, Finding
from jaxvision.data.doctor.table import Table, read

SMALL, MEDIUM, TINY = 32.0, 96.0, 16.0  # COCO's bounds of size, roots of areas; and a smaller one


@dataclasses.dataclass(frozen=True)
class Report:
    """Findings by split; those about all splits under "all"."""

    tables: tuple[Table, ...]
    findings: Mapping[str, list[Finding]]

    def count(self, level: str) -> int:
        return sum(f.level == level for found in self.findings.values() for f in found)

    def as_dict(self) -> dict:
        """Plain data for JSON."""
        return dict(
            errors=self.count(ERROR),
            warnings=self.count(WARN),
            splits={t.name: summary(t) for t in self.tables},
            findings=[
                dict(split=split, **dataclasses.asdict(f))
                for split, found in self.findings.items()
                for f in found
            ],
        )

    def text(self) -> str:
        lines = []
        tables = {t.name: t for t in self.tables}
        for split, found in self.findings.items():
            if split in tables:
                lines += [f"{split}: {tables[split].file}", *_table(summary(tables[split]))]
            else:
                lines.append(f"{split}:")
            for f in found:
                lines.append(f"  {f.level:5s} {f.check}: {f.text}")
                lines += [f"        mend: {f.mend}"] if f.mend else []
            lines.append("")
        errors, warnings = self.count(ERROR), self.count(WARN)
        verdict = "do not train on this yet" if errors else "fit to train on"
        return "\n".join([*lines, f"{errors} errors, {warnings} warnings: {verdict}"])


def examine(
    root: Path | None,
    *,
    images: Path | None = None,
    annotations: Path | None = None,
    train: str = "train",
    val: str = "val",
    holdout: tuple = (),
    size: tuple[int, int] = (640, 640),
    stride: int = 4,
    sample: int = 0,
    workers: int = 2,
) -> Report:
    """Examines all splits of the folder `root`, or the one that `images` and `annotations` make.

    Args:
        train, val, holdout: as in the `data` of a config, what a training would take.
        size, stride: (h, w) of the model's input and stride of its finest features.
        sample: opens this many image files a split, all for 0.
    """
    if (images is None) != (annotations is None):
        raise ValueError("give --images and --annotations together")
    if min(size) < 1 or stride < 1 or sample < 0 or workers < 1:
        raise ValueError(
            f"size={size}, stride={stride}, sample={sample}, workers={workers}: too small"
        )
    if annotations is not None:
        if not images.is_dir():
            raise ValueError(f"{images} is not a folder; --images names the folder of the pictures")
        places, general = [(annotations.stem.removeprefix("instances_"), images, annotations)], []
    else:
        if root is None or not root.is_dir():
            raise ValueError(f"{root} is not a folder; name the data set's folder")
        places, general = splits.discover(root)
        general += splits.asked_for(root, train=train, val=val, rule=holdout) if places else []
    found: dict[str, list[Finding]] = {}
    tables, seen = [], {}
    for name, folder, file in places:
        table, found[name] = read(name, folder, file)
        if table is None:
            continue
        tables.append(table)
        found[name].append(splits.as_in_training(folder, file))
        found[name] += boxes.check(table, size=size, stride=stride)
        seen[name], more = pictures.look(table, sample=sample, workers=workers)
        found[name] += more
    general = [*general, *splits.compare(tables), *(twins.check(tables, seen) if seen else [])]
    return Report(tuple(tables), found | {"all": general})


def summary(table: Table) -> dict:
    """Counts of a split: images, boxes, sizes, classes."""
    extent = np.maximum(table.boxes[:, 2:], 0)
    side = np.sqrt(extent.prod(axis=1))
    classes = []
    for index, category in enumerate(sorted(table.categories)):
        count = int((table.category == category).sum())
        name = table.categories[category]
        classes.append(dict(id=category, index=index, name=name, boxes=count))
    return dict(
        file=str(table.file),
        images=len(table.files),
        boxes=len(table.boxes),
        empty=len(table.files) - len(np.unique(table.image)),
        crowd=int(table.crowd.sum()),
        small=int((side < SMALL).sum()),
        medium=int(((side >= SMALL) & (side < MEDIUM)).sum()),
        large=int((side >= MEDIUM).sum()),
        under_16_px=round(float((side < TINY).mean()), 4) if len(side) else 0.0,
        median_side=round(float(np.median(side)), 2) if len(side) else 0.0,
        classes=classes,
    )


def _table(counts: dict) -> list[str]:
    lines = [
        f"  {counts['images']} images ({counts['empty']} without a box), {counts['boxes']} boxes "
        f"({counts['crowd']} crowd): {counts['small']} small (< 32 px), {counts['medium']} medium, "
        f"{counts['large']} large; {counts['under_16_px']:.0%} under 16 px, median "
        f"{counts['median_side']:.0f} px",
        f"  {'id':>5s} {'index':>5s} {'boxes':>7s}  class",
    ]
    used = [c for c in counts["classes"] if c["boxes"]]
    lines += [f"  {c['id']:5d} {c['index']:5d} {c['boxes']:7d}  {c['name']}" for c in used]
    idle = len(counts["classes"]) - len(used)
    return [*lines, *([f"  and {idle} classes without a box"] if idle else [])]
