"""COCO average precision and recall of boxes, computed on the host.

Lin et al. 2014, "Microsoft COCO: Common Objects in Context", by faster-coco-eval, whose numbers are
those of pycocotools.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster

AREAS = ("all", "small", "medium", "large")  # small < 32², large > 96² pixels of the original image
MAX_DETECTIONS = (1, 10, 100)
SUMMARY = (
    *("mAP", "mAP50", "mAP75"),
    *(f"mAP_{area}" for area in AREAS if area != "all"),
    *(f"AR{count}" for count in MAX_DETECTIONS),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GroundTruth:
    """The annotations of a split: everything in pixels of the original image, row i = image i.

    `names` and `category_ids` are indexed by class; `boxes[i]` is `[n 4]` xyxy; `labels[i]`,
    `crowd[i]` and `area[i]` (of the object's mask where the annotations have it) are `[n]`.
    """

    images: Sequence[Mapping]
    names: Sequence[str]
    category_ids: Sequence[int]
    boxes: Sequence[np.ndarray]
    labels: Sequence[np.ndarray]
    crowd: Sequence[np.ndarray]
    area: Sequence[np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Detections:
    """What was found in one image: `boxes [n 4]` xyxy in its pixels, `scores [n]`, `labels [n]`."""

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True)
class CocoScores:
    """The COCO numbers; what has no ground truth is NaN here and left out of every mean.

    `summary` holds the numbers that `SUMMARY` names. For each class: `ap [k]`, `ap50 [k]`,
    `curve [k 101]` (precision at IoU 0.5 over recalls 0, …, 1).
    """

    summary: Mapping[str, float]
    ap: np.ndarray
    ap50: np.ndarray
    curve: np.ndarray


class CocoDetection:
    """COCO box metrics as a host metric of an evaluation.

    `source` is a `CocoSource`, or a dict in COCO's annotation format whose images the batch's
    `index` counts. The metrics cover the images added, those without detections included.
    """

    def __init__(self, source):
        self.truth = source if isinstance(source, GroundTruth) else ground_truth(source)
        self.detections: dict[int, Detections] = {}

    def add(self, batch: Mapping, predictions: Mapping) -> None:
        """Takes predictions normalised to the canvas back to pixels of the original images."""
        rows = np.asarray(batch["index"])
        mask = np.asarray(batch.get("mask", np.ones(len(rows), bool)))
        canvas = np.shape(batch["image"])[1:3]
        boxes = np.asarray(predictions["boxes"], np.float64) * (canvas[::-1] * 2)
        scores = np.asarray(predictions["scores"], np.float64)
        labels = np.asarray(predictions["labels"])
        letterbox, size = np.asarray(batch["letterbox"]), np.asarray(batch["size"])
        for i in np.flatnonzero(mask):
            row = int(rows[i])
            if not 0 <= row < len(self.truth.images):
                raise ValueError(
                    f"batch index {row}: the source has {len(self.truth.images)} images"
                )
            name = self.truth.images[row]["file_name"]
            if row in self.detections:
                raise ValueError(f"image {name} (row {row}) was evaluated twice; mask the padding")
            real = scores[i] != 0  # 0 marks an empty slot; NaN stays and is refused
            found = Detections(boxes=boxes[i][real], scores=scores[i][real], labels=labels[i][real])
            if not (np.isfinite(found.boxes).all() and np.isfinite(found.scores).all()):
                raise ValueError(f"predictions for image {name} (row {row}) are not finite")
            if len(found.labels) and not (
                0 <= found.labels.min() and found.labels.max() < len(self.truth.names)
            ):
                raise ValueError(
                    f"predictions for image {name} (row {row}) have class "
                    f"{found.labels.max()}, the source has {len(self.truth.names)}"
                )
            original = undo_letterbox(found.boxes, letterbox[i], size[i])
            keep = (original[:, 2:] > original[:, :2]).all(axis=1)
            self.detections[row] = Detections(
                boxes=original[keep], scores=found.scores[keep], labels=found.labels[keep]
            )

    def scores(self) -> CocoScores:
        """The numbers over everything added."""
        return evaluate(self.truth, self.detections)

    def result(self) -> dict[str, float]:
        """The scalars of `scores()`, see `scalars`."""
        return scalars(self.scores(), self.truth.names)

    def coco_results(self) -> list[dict]:
        """The detections in COCO's results format, with the ids of the annotations file."""
        return [
            {
                "image_id": self.truth.images[row]["id"],
                "category_id": self.truth.category_ids[label],
                "bbox": [float(x0), float(y0), float(x1 - x0), float(y1 - y0)],
                "score": float(score),
            }
            for row, found in sorted(self.detections.items())
            for (x0, y0, x1, y1), score, label in zip(
                found.boxes, found.scores, found.labels, strict=True
            )
        ]


def undo_letterbox(boxes: np.ndarray, letterbox: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Boxes `[n 4]` xyxy in canvas pixels -> in pixels of the original `size` (h, w), clipped."""
    scale, left, top = np.asarray(letterbox, np.float64)
    height, width = (int(n) for n in size)
    original = (np.asarray(boxes, np.float64) - (left, top, left, top)) / scale
    return np.clip(original, 0, (width, height, width, height))


def ground_truth(source) -> GroundTruth:
    """The truth of a `CocoSource` or of a dict in COCO's annotation format.

    Annotations without `area` get that of their box, as pycocotools' users write it.
    """
    dataset = source if isinstance(source, Mapping) else source.dataset
    categories = sorted(dataset["categories"], key=lambda c: c["id"])
    label_of = {c["id"]: label for label, c in enumerate(categories)}
    row_of = {image["id"]: row for row, image in enumerate(dataset["images"])}
    grouped: list[list] = [[] for _ in row_of]
    for a in dataset["annotations"]:
        if a["category_id"] not in label_of:
            raise ValueError(f"annotation {a['id']}: category {a['category_id']} has no name")
        if a["image_id"] in row_of:  # annotations of images outside a subset have no row
            x, y, w, h = a["bbox"]
            crowd, area = a.get("iscrowd", 0), a.get("area", w * h)
            grouped[row_of[a["image_id"]]].append(
                (x, y, x + w, y + h, label_of[a["category_id"]], crowd, area)
            )
    columns = [np.array(rows, np.float64).reshape(-1, 7) for rows in grouped]
    return GroundTruth(
        images=dataset["images"],
        names=tuple(c["name"] for c in categories),
        category_ids=tuple(c["id"] for c in categories),
        boxes=[c[:, :4] for c in columns],
        labels=[c[:, 4].astype(int) for c in columns],
        crowd=[c[:, 5].astype(bool) for c in columns],
        area=[c[:, 6] for c in columns],
    )


def evaluate(truth: GroundTruth, detections: Mapping[int, Detections]) -> CocoScores:
    """COCO metrics over the images (rows) in `detections`."""
    if not detections:
        raise ValueError("no image was evaluated: the evaluation split is empty")
    rows = sorted(detections, key=lambda row: truth.images[row]["id"])  # orders ties as COCO does
    if not any((~truth.crowd[row]).any() for row in rows):
        raise ValueError(f"none of the {len(rows)} images evaluated has an annotated object")
    # Everything is numbered from 1 here: ids in files may be anything, and COCO's code takes an
    # annotation with id 0 for unmatched.
    annotations, results = [], []
    for image, row in enumerate(rows):
        for box, label, crowd, area in zip(
            truth.boxes[row], truth.labels[row], truth.crowd[row], truth.area[row], strict=True
        ):
            entry = _entry(image, box, label) | {"id": len(annotations) + 1}
            annotations.append(entry | {"area": float(area), "iscrowd": int(crowd)})
        found = detections[row]
        for box, score, label in zip(found.boxes, found.scores, found.labels, strict=True):
            results.append(_entry(image, box, label) | {"score": float(score)})
    categories = [{"id": label + 1, "name": name} for label, name in enumerate(truth.names)]
    images = [
        {"id": image + 1} | {side: truth.images[row][side] for side in ("width", "height")}
        for image, row in enumerate(rows)
    ]
    reference = COCO({"images": images, "annotations": annotations, "categories": categories})
    judge = COCOeval_faster(reference, reference.loadRes(results), "bbox")
    judge.params.maxDets = list(MAX_DETECTIONS)
    judge.evaluate()
    judge.accumulate()
    precision = np.asarray(judge.eval["precision"])  # [iou recall class area maxdets], -1: no truth
    recall = np.asarray(judge.eval["recall"])  # [iou class area maxdets]
    precision = np.where(precision < 0, np.nan, precision)
    recall = np.where(recall < 0, np.nan, recall)
    parts = [precision[:, :, :, 0, -1], precision[0, :, :, 0, -1], precision[5, :, :, 0, -1]]
    parts += [precision[..., i, -1] for i in range(1, len(AREAS))]
    parts += [recall[..., 0, i] for i in range(len(MAX_DETECTIONS))]
    summary = dict(zip(SUMMARY, map(_mean, parts), strict=True))
    classes = range(len(truth.names))
    return CocoScores(
        summary=summary,
        ap=np.array([_mean(precision[:, :, k, 0, -1]) for k in classes]),
        ap50=np.array([_mean(precision[0, :, k, 0, -1]) for k in classes]),
        curve=precision[0, :, :, 0, -1].T,
    )


def scalars(scores: CocoScores, names: Sequence[str]) -> dict[str, float]:
    """`summary`, `AP/<class>` and `AP50/<class>`, without what has no ground truth."""
    flat = dict(scores.summary)
    flat |= {f"AP/{name}": float(ap) for name, ap in zip(names, scores.ap, strict=True)}
    flat |= {f"AP50/{name}": float(ap) for name, ap in zip(names, scores.ap50, strict=True)}
    return {key: value for key, value in flat.items() if np.isfinite(value)}


def scalar_names(names: Sequence[str]) -> tuple[str, ...]:
    """What `scalars` may hold for these classes."""
    return (*SUMMARY, *(f"{kind}/{name}" for kind in ("AP", "AP50") for name in names))


def _entry(image: int, box: np.ndarray, label: int) -> dict:
    x0, y0, x1, y1 = (float(v) for v in box)
    bbox = [x0, y0, x1 - x0, y1 - y0]
    return {"image_id": image + 1, "category_id": int(label) + 1, "bbox": bbox}


def _mean(values: np.ndarray) -> float:
    """Mean of what is not NaN; NaN when nothing is."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else float("nan")
