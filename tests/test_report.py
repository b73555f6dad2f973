import json

import numpy as np
import pytest
from detection_samples import letterboxed, reference
from PIL import Image

from jaxvision.metrics import detection, matching
from jaxvision.metrics.report import BLUE, CELL, GREEN, ORANGE, RED, DetectionReport


class Source:
    """Three images with the annotations of a dict, as `CocoSource` gives them."""

    def __init__(self):
        box = [[10, 10, 20, 20], [60, 40, 30, 30], [100, 10, 40, 40]]
        marks = [(1, 4, 0, 0), (1, 4, 1, 0), (1, 9, 2, 1), (2, 9, 1, 0)]
        self.dataset = {
            "images": [
                {"id": i, "file_name": f"{i}.png", "width": 160, "height": 100} for i in (1, 2, 3)
            ],
            "categories": [
                {"id": i, "name": n} for i, n in ((4, "bird"), (9, "drone"), (5, "none"))
            ],
            "annotations": [
                {"id": k, "image_id": i, "category_id": c, "bbox": box[b], "iscrowd": crowd}
                for k, (i, c, b, crowd) in enumerate(marks)
            ],
        }

    def __getitem__(self, row):
        return {"image": np.full((100, 160, 3), 60 * row, np.uint8)}


def report(source, tmp_path, **options):
    """Image 1: a bird found, one called drone, a false alarm, one in the crowd; 2: missed."""
    made = DetectionReport(source, tmp_path / "eval", echo=printed.append, **options)
    found = np.zeros((3, 4, 4))
    found[0] = (10, 10, 30, 31), (60, 41, 90, 70), (120, 60, 150, 90), (105, 12, 120, 30)
    scores = np.zeros((3, 4), np.float32)
    scores[0] = 0.9, 0.8, 0.7, 0.6
    labels = np.array([[0, 2, 0, 2]] + [[0] * 4] * 2)
    batch, boxes = letterboxed(source.dataset, [0, 1, 2], found)
    made.add(batch, {"boxes": boxes, "scores": scores, "labels": labels})
    return made


printed = []


def test_confusion_counts_classes_misses_and_false_alarms_and_ignores_crowds(tmp_path):
    made = report(Source(), tmp_path).detection
    counts = matching.confusion(made.truth, made.detections, score=0.3)
    bird, none, drone, nothing = range(4)
    expected = np.zeros((4, 4), int)
    expected[bird, bird] = expected[bird, drone] = 1
    expected[nothing, bird] = 1  # the fourth detection lies in the crowd region of its class
    expected[drone, nothing] = 1
    np.testing.assert_array_equal(counts, expected)
    none_left = matching.confusion(made.truth, made.detections, score=0.95)
    np.testing.assert_array_equal(none_left[:, nothing], [2, 0, 1, 0])


def test_a_detection_prefers_the_object_of_its_own_class():
    truth = detection.ground_truth(Source().dataset)
    box = truth.boxes[0][:1]
    found = detection.Detections(
        boxes=np.repeat(box, 2, 0), scores=np.array([0.9, 0.5]), labels=np.array([2, 0])
    )
    matches = matching.match(truth, 0, found, score=0.3, iou=0.5)
    np.testing.assert_array_equal(matches.objects, [matching.FALSE, 0])
    np.testing.assert_array_equal(matches.missed, [1])


def test_report_writes_tables_results_and_pictures(tmp_path):
    measured = {}
    made = report(Source(), tmp_path, measurements=measured)
    measured["images/s"] = 12.5
    result = made.result()
    folder = tmp_path / "eval"
    written = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    assert written["metrics"] == result and result["AP/bird"] > 0.3
    assert written["absent"] == ["none"] and written["measurements"] == {"images/s": 12.5}
    assert (written["images"], written["detections"]) == (3, 4)
    stats = reference(Source().dataset | {"annotations": [
        a | {"area": a["bbox"][2] * a["bbox"][3], "id": a["id"] + 1}
        for a in Source().dataset["annotations"]
    ]}, json.loads((folder / "detections.json").read_text())).stats  # fmt: skip
    assert stats[0] == pytest.approx(result["mAP"], abs=1e-6)
    text = (folder / "table.md").read_text(encoding="utf-8")
    assert text == printed[-1]
    assert "| bird | 2 |" in text and "no objects of: none" in text and "images/s: 12.5" in text
    assert np.asarray(Image.open(folder / "report.png").convert("L")).std() > 10
    worst = np.asarray(Image.open(folder / "worst.png"))
    for colour, seen in ((RED, True), (ORANGE, True), (BLUE, True), (GREEN, True)):
        assert (worst == colour).all(axis=2).any() == seen
    assert worst.shape[1] < 3 * CELL  # image 3 has nothing wrong


@pytest.mark.parametrize("name", ["cost $x_{$", r"a\$ b $c^$ $", "$"])
def test_a_class_name_is_no_formula(tmp_path, name):
    source = Source()
    source.dataset["categories"][0]["name"] = name
    report(source, tmp_path).result()
    assert (tmp_path / "eval" / "report.png").exists()


def test_report_without_errors_or_with_many_classes_still_draws(tmp_path):
    source = Source()
    source.dataset["categories"] += [{"id": 100 + i, "name": f"class {i}"} for i in range(40)]
    source.dataset["annotations"] = source.dataset["annotations"][:1]
    made = DetectionReport(source, tmp_path, echo=printed.append)
    batch, boxes = letterboxed(source.dataset, [0], np.array([[[10.0, 10, 30, 30]]]))
    made.add(
        batch, {"boxes": boxes, "scores": np.full((1, 1), 0.9), "labels": np.zeros((1, 1), int)}
    )
    assert made.result()["mAP"] == pytest.approx(1)
    assert (tmp_path / "report.png").exists() and not (tmp_path / "worst.png").exists()
