"""What an evaluation of a stage, or of the ten types, finds, and the pictures it leaves."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from jaxvision.cnn_av1.classes import TYPES, names, stage_labels
from jaxvision.cnn_av1.levels import LEVELS
from jaxvision.metrics import classes
from jaxvision.metrics.class_figures import confusion_figure, reliability_figure
from jaxvision.metrics.classes import ClassScores
from jaxvision.written import whole_file

ROW = ("class", "precision", "recall", "f1", "examples")
BASIC = 8  # types without the four-way ones, which older data sets leave out


class StageReport:
    """A host metric of `probabilities [b k]` for the classes of one stage, at the rows it knows.

    Leaves `confusion.png` and `classes.csv` in `directory`.
    """

    def __init__(self, stage: str, directory: Path, *, four_way: bool = True):
        self._stage, self._directory, self._four_way = stage, Path(directory), four_way
        self._names = names(stage, four_way=four_way)
        self._truth: list[np.ndarray] = []
        self._found: list[np.ndarray] = []

    def add(self, batch: Mapping, predictions: Mapping) -> None:
        rows = np.asarray(batch["mask"], bool)
        types = np.asarray(batch["type"])[rows]
        self._truth.append(stage_labels(types, self._stage, four_way=self._four_way))
        self._found.append(np.asarray(predictions["probabilities"])[rows].argmax(-1))

    def result(self) -> Mapping[str, float]:
        truth, found = np.concatenate(self._truth), np.concatenate(self._found)
        scores = classes.scores(classes.confusion(truth, found, len(self._names)))
        draw(self._directory / "confusion.png", scores, self._names, title=self._stage)
        write_classes(self._directory / "classes.csv", scores, self._names)
        return classes.scalars(scores, self._names)


class TypesReport:
    """A host metric of the ten types: `types [b 10]` probabilities and decisions, `hard [b]`.

    With `flat`, decisions are the likeliest types. Leaves `confusion.png`, `classes.csv` and
    `reliability.png` in `directory`, their names after `prefix`.
    """

    def __init__(self, directory: Path, *, title: str, prefix: str = "", flat: bool = False):
        self._directory, self._title = Path(directory), title
        self._prefix, self._flat = prefix, flat
        self._truth: list[np.ndarray] = []
        self._types: list[np.ndarray] = []
        self._hard: list[np.ndarray] = []

    def add(self, batch: Mapping, predictions: Mapping) -> None:
        rows = np.asarray(batch["mask"], bool)
        types = np.asarray(predictions["types"])[rows]
        self._truth.append(np.asarray(batch["type"])[rows])
        self._types.append(types)
        hard = types.argmax(-1) if self._flat else np.asarray(predictions["hard"])[rows]
        self._hard.append(hard)

    def result(self) -> Mapping[str, float]:
        truth, hard = np.concatenate(self._truth), np.concatenate(self._hard)
        types = np.concatenate(self._types)
        scores, found = type_scores(types, hard, truth)
        draw(self._place("confusion.png"), scores, TYPES, title=self._title)
        write_classes(self._place("classes.csv"), scores, TYPES)
        curve = classes.calibration(types, truth)
        with whole_file(self._place("reliability.png")) as part:
            reliability_figure(part, {self._title: curve}, title="Confidence of the likeliest type")
        return found

    def _place(self, name: str) -> Path:
        return self._directory / f"{self._prefix}{name}"


class LevelReport:
    """A host metric: `TypesReport` for the rows of each size."""

    def __init__(self, folder: Path, split: str, sizes: Sequence[int]):
        self._parts = {
            LEVELS[size].number: (
                size,
                TypesReport(folder, title=f"{size} pixels", prefix=f"{split}_{size}_", flat=True),
            )
            for size in sizes
        }

    def add(self, batch: Mapping, predictions: Mapping) -> None:
        levels = np.asarray(batch["level"])
        for number, (_, report) in self._parts.items():
            mask = np.asarray(batch["mask"], bool) & (levels == number)
            if mask.any():
                report.add({**batch, "mask": mask}, predictions)

    def result(self) -> Mapping[str, float]:
        found, scores = {}, []
        for size, report in self._parts.values():
            part = report.result()
            scores.append(part["macro_f1"])
            found |= {f"{size}/{name}": value for name, value in part.items()}
        return {"score": float(np.mean(scores))} | found


def type_scores(
    types: np.ndarray, hard: np.ndarray, truth: np.ndarray
) -> tuple[ClassScores, dict[str, float]]:
    """Scores of the ten types, from probabilities `[n 10]`, decisions `[n]` and labels `[n]`.

    `macro_f1_8` leaves out the four-way types: the decision is then among the other eight.
    """
    scores = classes.scores(classes.confusion(truth, hard, len(TYPES)))
    few = truth < BASIC
    eight = classes.scores(
        classes.confusion(truth[few], types[few, :BASIC].argmax(-1), BASIC)
        if few.any()
        else scores.confusion
    )
    found = dict(classes.scalars(scores, TYPES))
    found |= {
        "macro_f1_8": eight.macro_f1,
        "top3": classes.top_k(types, truth, 3),
        "calibration_error": classes.calibration(types, truth).error,
        "log_loss": float(-np.log(np.maximum(types[np.arange(len(truth)), truth], 1e-7)).mean()),
    }
    return scores, found


TYPE_SCALARS = (
    *classes.scalar_names(TYPES),
    *("macro_f1_8", "top3", "calibration_error", "log_loss"),
)


def level_scalars() -> tuple[str, ...]:
    """The metrics of a `MultiTask`: those of each size, and `score`, their mean macro-F1."""
    return ("score", *(f"{size}/{name}" for size in LEVELS for name in TYPE_SCALARS))


def draw(path: Path, scores: ClassScores, shown: tuple[str, ...], *, title: str) -> None:
    with whole_file(path) as part:
        confusion_figure(part, scores, shown, title=title)


def write_classes(path: Path, scores: ClassScores, shown: tuple[str, ...]) -> None:
    """A row for each class: precision, recall, F1, and how many there are."""
    columns = (scores.precision, scores.recall, scores.f1)
    with whole_file(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(ROW)
        for k, name in enumerate(shown):
            cells = [f"{column[k]:.4f}" if column[k] == column[k] else "" for column in columns]
            writer.writerow([name, *cells, int(scores.confusion[k].sum())])
