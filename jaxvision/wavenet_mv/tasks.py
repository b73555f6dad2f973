"""How well heads read what a decoder has, at each lambda: a table and a picture."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from jaxvision.draw import draw_boxes, grid
from jaxvision.metrics.detection import CocoDetection, scalars
from jaxvision.metrics.segmentation import MeanIoU
from jaxvision.metrics.top_one import TopOne
from jaxvision.wavenet_mv.reader import Names

FIELDS = ("lambda", "bpp", "mAP", "mAP50", "mIoU", "top1", "top1_mean")
TASKS = ("mAP", "mIoU", "top1")  # of which `score` is the mean
SCORE = 0.3  # of a box that is drawn
PICTURES, COLUMNS = 12, 4


class Scores:
    """mAP, mIoU and Top-1 of one decoder's pictures, as far as there are such heads.

    `source` is the truth for boxes, as `CocoDetection` takes it.
    """

    def __init__(self, names: Names, source):
        self.names = names
        self.detection = CocoDetection(source) if names.classes else None
        self.masks = MeanIoU(len(names.segments)) if names.segments else None
        self.actions = TopOne() if names.actions else None
        self._bpp: list[float] = []

    def add(self, batch: Mapping, predictions: Mapping) -> None:
        """`predictions` of `heads.model`, with `bpp` `[b]`."""
        for metric in (self.detection, self.masks, self.actions):
            if metric is not None:
                metric.add(batch, predictions)
        self._bpp += np.asarray(predictions["bpp"])[np.asarray(batch["mask"])].tolist()

    def result(self) -> dict[str, float]:
        found = {"bpp": float(np.mean(self._bpp))}
        if self.detection is not None:
            boxes = scalars(self.detection.scores(), self.names.classes)
            found |= {"mAP": boxes["mAP"], "mAP50": boxes["mAP50"]}
        if self.masks is not None:
            found["mIoU"] = self.masks.result()["mIoU"]
        if self.actions is not None:
            found |= self.actions.result()
        return found


class TaskReport:
    """A host metric of `reader.answers`: `tasks.csv` and `tasks.png` in `directory`.

    `score`, the higher the better, is the mean of mAP, mIoU and Top-1 over the lambdas.
    """

    def __init__(self, lambdas: Sequence[int], names: Names, source, directory: Path):
        self.lambdas, self.names, self.directory = lambdas, names, Path(directory)
        self.scores = [Scores(names, source) for _ in lambdas]
        self._pictures: list[np.ndarray] = []

    def add(self, batch: Mapping, predictions: Mapping) -> None:
        shown = predictions["shown"]
        for k, scores in enumerate(self.scores):
            own = {name: x[:, k] for name, x in predictions.items() if name != "shown"}
            scores.add(batch, own)
            if k == len(self.lambdas) // 2:
                self._draw(batch, own, shown)

    def result(self) -> dict[str, float]:
        rows = [scores.result() for scores in self.scores]
        with (self.directory / "tasks.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [f for f in FIELDS if f == "lambda" or f in rows[0]])
            writer.writeheader()
            named = zip(self.lambdas, rows, strict=True)
            writer.writerows({"lambda": weight, **row} for weight, row in named)
        if self._pictures:
            sheet = grid(self._pictures, COLUMNS, self._pictures[0].shape[:2])
            Image.fromarray(sheet).save(self.directory / "tasks.png")
        found = {
            f"{name}_{weight}": value
            for weight, row in zip(self.lambdas, rows, strict=True)
            for name, value in row.items()
        }
        means = [row[name] for row in rows for name in TASKS if name in row]
        return found | {"score": float(np.nanmean(means))}

    def _draw(self, batch, own, shown):
        for i in np.flatnonzero(batch["mask"]):
            if len(self._pictures) == PICTURES:
                return
            image = np.asarray(shown[i])
            if "segments" in own:
                image = tinted(image, np.asarray(own["segments"][i]))
            if "boxes" in own:
                sure = np.asarray(own["scores"][i]) >= SCORE
                size = np.float32(image.shape[1::-1] * 2)
                image = draw_boxes(
                    image,
                    np.asarray(own["boxes"][i])[sure] * size,
                    np.asarray(own["labels"][i])[sure],
                    self.names.classes,
                    np.asarray(own["scores"][i])[sure],
                )
            self._pictures.append(image)


def tinted(image: np.ndarray, segments: np.ndarray) -> np.ndarray:
    """A picture uint8 `[h w 3]` under half a tint of each class but the first, the background."""
    hues = np.random.default_rng(7).integers(40, 256, (256, 3))
    mixed = (image.astype(np.int32) + hues[segments]) // 2
    return np.where((segments > 0)[..., None], mixed, image).astype(np.uint8)


def scalar_names(lambdas: Sequence[int], names: Names) -> tuple[str, ...]:
    """What `TaskReport.result` holds."""
    having = {"bpp"}
    having |= {"mAP", "mAP50"} if names.classes else set()
    having |= {"mIoU"} if names.segments else set()
    having |= {"top1", "top1_mean"} if names.actions else set()
    fields = [f for f in FIELDS if f in having]
    return (*(f"{name}_{weight}" for weight in lambdas for name in fields), "score")
