"""What an evaluation of a detector leaves behind: a table, COCO results, curves, worst images."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import numpy as np
from PIL import Image

from jaxvision.draw import draw_boxes, grid
from jaxvision.metrics.detection import CocoDetection, CocoScores, scalars
from jaxvision.metrics.figures import report_figure
from jaxvision.metrics.matching import FALSE, Matches, confusion, match

GREEN, ORANGE, BLUE, RED = (0, 200, 0), (255, 160, 0), (60, 160, 255), (255, 40, 40)
CELL = 640  # pixels of one of the worst images
COLUMNS = 3


class DetectionReport:
    """COCO metrics of an evaluation, written to `directory` when the result is asked for.

    `metrics.json`, `table.md`, `detections.json` (COCO results), `report.png` (precision-recall
    curves, confusion matrix, AP by size) and `worst.png` (most misses and false alarms).

    Args:
        source: a `CocoSource`; the worst images are read from it.
        score: detections below it count neither in the confusion matrix nor among the worst.
        worst: number of images in `worst.png`, which is not written where there is no error.
        measurements: more scalars for the table and `metrics.json`, such as "images/s" and
            "peak memory (GiB)"; read when the result is asked for.
        echo: what is done with the table besides writing it.
    """

    def __init__(
        self,
        source,
        directory: Path,
        *,
        score: float = 0.3,
        worst: int = 12,
        measurements: Mapping[str, float] | None = None,
        echo: Callable[[str], None] = print,
    ):
        self.source = source
        self.directory = Path(directory)
        self.score = score
        self.worst = worst
        self.measurements = {} if measurements is None else measurements
        self.echo = echo
        self.detection = CocoDetection(source)

    def add(self, batch: Mapping, predictions: Mapping) -> None:
        self.detection.add(batch, predictions)

    def result(self) -> dict[str, float]:
        """The scalars of `CocoDetection`; the first process writes the files."""
        truth, detections = self.detection.truth, self.detection.detections
        scores = self.detection.scores()
        if jax.process_index() == 0:
            counts = confusion(truth, detections, score=self.score)
            text = table(
                scores,
                truth.names,
                counts,
                images=len(detections),
                score=self.score,
                measurements=self.measurements,
            )
            self.directory.mkdir(parents=True, exist_ok=True)
            (self.directory / "table.md").write_text(text, encoding="utf-8")
            self._write_json(scores)
            report_figure(
                self.directory / "report.png", scores, truth.names, counts, score=self.score
            )
            self._write_worst()
            self.echo(text)
        return scalars(scores, truth.names)

    def _write_json(self, scores: CocoScores) -> None:
        truth, detections = self.detection.truth, self.detection.detections
        absent = [n for n, ap in zip(truth.names, scores.ap, strict=True) if np.isnan(ap)]
        content = {
            "images": len(detections),
            "detections": sum(len(d.scores) for d in detections.values()),
            "metrics": scalars(scores, truth.names),
            "absent": absent,
            "measurements": dict(self.measurements),
        }
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
        (self.directory / "metrics.json").write_text(text + "\n", encoding="utf-8")
        results = self.detection.coco_results()
        for r in results:  # a thousandth of a pixel, a millionth of a score: a third of the size
            r["bbox"] = [round(v, 3) for v in r["bbox"]]
            r["score"] = round(r["score"], 6)
        (self.directory / "detections.json").write_text(json.dumps(results), encoding="utf-8")

    def _write_worst(self) -> None:
        truth = self.detection.truth
        errors = {}
        for row, found in self.detection.detections.items():
            matches = match(truth, row, found, score=self.score, iou=0.5)
            wrong = len(matches.missed) + int(
                _false(matches, truth.labels[row], found.labels).sum()
            )
            if wrong:
                errors[row] = (wrong, matches)
        worst = sorted(errors, key=lambda row: (-errors[row][0], row))[: self.worst]
        if worst:
            pictures = [self._picture(row, errors[row][1]) for row in worst]
            titles = [f"{truth.images[row]['file_name']}: {errors[row][0]} errors" for row in worst]
            sheet = grid(pictures, COLUMNS, CELL, titles)
            Image.fromarray(sheet).save(self.directory / "worst.png")

    def _picture(self, row: int, matches: Matches) -> np.ndarray:
        """Ground truth green, or orange where missed; detections blue, or red where false."""
        truth, found = self.detection.truth, self.detection.detections[row]
        real = np.flatnonzero(~truth.crowd[row])
        missed = np.isin(real, matches.missed)
        false = _false(matches, truth.labels[row], found.labels)
        boxes = np.concatenate([found.boxes[matches.detections], truth.boxes[row][real]])
        labels = np.concatenate([found.labels[matches.detections], truth.labels[row][real]])
        colours = [RED if wrong else BLUE for wrong in false]
        colours += [ORANGE if lost else GREEN for lost in missed]
        captions = [
            f"{'false ' if wrong else ''}{truth.names[found.labels[d]]} {found.scores[d]:.2f}"
            for d, wrong in zip(matches.detections, false, strict=True)
        ]
        captions += [
            f"missed {truth.names[truth.labels[row][o]]}" if lost else ""
            for o, lost in zip(real, missed, strict=True)
        ]
        image = np.asarray(self.source[row]["image"])
        return draw_boxes(image, boxes, labels, truth.names, colours=colours, captions=captions)


def table(
    scores: CocoScores,
    names: tuple[str, ...],
    counts: np.ndarray,
    *,
    images: int,
    score: float,
    measurements: Mapping[str, float],
) -> str:
    """The numbers in Markdown: the COCO summary, what was measured besides, one row a class."""
    summary = scores.summary
    objects, right = counts[:-1].sum(axis=1), counts.diagonal()[:-1]
    predicted = counts[:, :-1].sum(axis=0)
    lines = [
        _row(summary),
        _row("---:" for _ in summary),
        _row(_number(value) for value in summary.values()),
        "",
        _row(("class", "objects", "AP", "AP50", f"precision@{score:g}", f"recall@{score:g}")),
        _row((":---", "---:", "---:", "---:", "---:", "---:")),
    ]
    for k in np.flatnonzero(objects):
        precision = right[k] / predicted[k] if predicted[k] else np.nan
        numbers = (scores.ap[k], scores.ap50[k], precision, right[k] / objects[k])
        lines.append(_row((names[k], objects[k], *map(_number, numbers))))
    lines += ["", f"{images} images, {objects.sum()} objects"]
    if not objects.all():
        lines += [f"no objects of: {', '.join(names[k] for k in np.flatnonzero(objects == 0))}"]
    lines += [f"{name}: {value:.4g}" for name, value in measurements.items()]
    return "\n".join(lines) + "\n"


def _row(cells) -> str:
    return f"| {' | '.join(str(cell).replace('|', '/') for cell in cells)} |"


def _number(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.3f}"


def _false(matches: Matches, true_labels: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Which of the matched detections are false alarms or name the wrong class: `[n]` bool."""
    wrong = matches.objects == FALSE
    paired = matches.objects >= 0
    wrong[paired] = true_labels[matches.objects[paired]] != labels[matches.detections[paired]]
    return wrong
