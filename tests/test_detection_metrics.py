import numpy as np
import pytest
from detection_samples import letterboxed, reference

from jaxvision.metrics import detection


def random_dataset(rng, *, images, absent=True):
    """COCO annotations with crowds, empty images, odd ids, and masks smaller than their boxes."""
    ids = rng.permutation(1000)[:images]
    sizes = rng.integers(90, 700, (images, 2))
    records = [
        {"id": int(i), "file_name": f"{i}.jpg", "width": int(w), "height": int(h)}
        for i, (w, h) in zip(ids, sizes, strict=True)
    ]
    categories = [{"id": i, "name": n} for i, n in ((90, "d"), (3, "a"), (7, "b"), (11, "c"))]
    annotations = []
    for record in records:
        for _ in range(rng.choice([0, 1, 3, 7])):
            w, h = np.exp(rng.uniform(np.log(4), np.log((record["width"], record["height"]))))
            x, y = rng.uniform(0, (record["width"] - w, record["height"] - h))
            annotations.append({
                "id": 17 + 3 * len(annotations),
                "image_id": record["id"],
                "category_id": int(rng.choice([3, 7, 11] if absent else [3, 7, 11, 90])),
                "bbox": [float(v) for v in (x, y, w, h)],
                "area": float(w * h * rng.uniform(0.4, 1)),
                "iscrowd": int(rng.random() < 0.15),
            })  # fmt: skip
    return {"images": records, "annotations": annotations, "categories": categories}


def random_results(rng, dataset, count):
    """Detections near ground truth, with jitter, and false alarms; some images get none."""
    results = []
    near = [a for a in dataset["annotations"] if a["image_id"] % 5]
    boxless = [r for r in dataset["images"] if r["id"] % 5]
    for _ in range(count):
        if rng.random() < 0.7:
            a = near[rng.integers(len(near))]
            box = np.array(a["bbox"]) * np.exp(rng.normal(0, 0.06, 4))
            image, category = a["image_id"], a["category_id"]
        else:
            record = boxless[rng.integers(len(boxless))]
            size = rng.uniform(3, 0.5 * np.array([record["width"], record["height"]]))
            box = np.concatenate([rng.uniform(0, size), size])
            image, category = record["id"], int(rng.choice([3, 7, 11, 90]))
        score = round(float(rng.beta(3, 2)), 2)  # ties
        bbox = [float(v) for v in box]
        results.append({"image_id": image, "category_id": category, "bbox": bbox, "score": score})
    return results


def as_detections(truth, results):
    label_of = {c: i for i, c in enumerate(truth.category_ids)}
    found = {}
    for row, image in enumerate(truth.images):
        mine = [r for r in results if r["image_id"] == image["id"]]
        boxes = np.array([r["bbox"] for r in mine]).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        labels = np.array([label_of[r["category_id"]] for r in mine], int)
        scores = np.array([r["score"] for r in mine])
        found[row] = detection.Detections(boxes=boxes, scores=scores, labels=labels)
    return found


def test_equals_pycocotools_on_5000_random_detections():
    rng = np.random.default_rng(0)
    dataset = random_dataset(rng, images=120)
    results = random_results(rng, dataset, 5000)
    truth = detection.ground_truth(dataset)
    scores = detection.evaluate(truth, as_detections(truth, results))
    judge = reference(dataset, results)
    assert 0.02 < scores.summary["mAP"] < 0.9  # neither trivial nor perfect
    np.testing.assert_allclose(list(scores.summary.values()), judge.stats[:9], rtol=0, atol=1e-6)
    precision = judge.eval["precision"][..., 0, -1]  # [iou recall class]
    for k, category in enumerate((3, 7, 11, 90)):
        present = precision[:, :, k] > -1
        assert truth.category_ids[k] == category and present.any() == (category != 90)
        if present.any():
            ap, ap50 = precision[:, :, k].mean(), precision[0, :, k].mean()
            np.testing.assert_allclose(
                (scores.ap[k], scores.ap50[k]), (ap, ap50), rtol=0, atol=1e-6
            )
            np.testing.assert_allclose(scores.curve[k], precision[0, :, k], rtol=0, atol=1e-6)
        else:
            assert np.isnan((scores.ap[k], scores.ap50[k])).all()
    flat = detection.scalars(scores, truth.names)
    assert "AP/c" in flat and "AP/d" not in flat and np.isfinite(list(flat.values())).all()


def test_perfect_detections_score_one_through_the_letterbox():
    dataset = random_dataset(np.random.default_rng(1), images=30, absent=False)
    truth = detection.ground_truth(dataset)
    slots = max(len(b) for b in truth.boxes) + 2
    metric = detection.CocoDetection(dataset)
    rows = np.arange(30)[::-1]
    for start in range(0, 30, 8):
        mine = rows[start : start + 8]
        full = np.resize(mine, 8)  # the last batch is padded with rows that were already added
        padded = np.zeros((8, slots, 4))
        scores, labels = np.zeros((8, slots), np.float32), np.zeros((8, slots), np.int32)
        for i, row in enumerate(full):
            n = len(truth.boxes[row])
            padded[i, :n], labels[i, :n] = truth.boxes[row], truth.labels[row]
            scores[i, :n] = np.linspace(0.9, 0.5, n)
        batch, boxes = letterboxed(dataset, full, padded)
        batch["mask"] = np.arange(8) < len(mine)
        metric.add(batch, {"boxes": boxes, "scores": scores, "labels": labels})
    result = metric.result()
    assert result["mAP"] == pytest.approx(1) and result["AP50/d"] == pytest.approx(1)
    # and the ids written to the file are those of the annotations
    stats = reference(dataset, metric.coco_results()).stats
    assert stats[0] == pytest.approx(1)
    assert len(metric.coco_results()) == len(dataset["annotations"])


def one_image(**annotation):
    return {
        "images": [{"id": 5, "file_name": "a.jpg", "width": 200, "height": 100}],
        "categories": [{"id": 2, "name": "x"}, {"id": 1, "name": "y"}],
        "annotations": [
            {"id": 1, "image_id": 5, "category_id": 2, "bbox": [0, 0, 50, 50]} | annotation
        ],
    }


def add_one(metric, dataset, box, score=0.5, label=1):
    batch, boxes = letterboxed(dataset, [0], np.array([[box]], np.float64))
    scores, labels = np.full((1, 1), score, np.float32), np.full((1, 1), label, np.int32)
    metric.add(batch, {"boxes": boxes, "scores": scores, "labels": labels})


def test_boxes_are_clipped_to_the_image_and_empty_ones_dropped():
    dataset = one_image()
    metric = detection.CocoDetection(dataset)
    add_one(metric, dataset, (-40, -40, 50, 50))
    assert metric.result()["mAP"] == pytest.approx(1)
    np.testing.assert_allclose(metric.coco_results()[0]["bbox"], [0, 0, 50, 50], atol=1e-3)
    outside = detection.CocoDetection(dataset)
    add_one(outside, dataset, (20, -30, 50, -10))  # in the letterbox's border
    assert outside.coco_results() == [] and outside.result()["mAP"] == 0


def test_an_empty_slot_is_no_detection():
    dataset = one_image()
    metric = detection.CocoDetection(dataset)
    add_one(metric, dataset, (0, 0, 50, 50), score=0)
    assert metric.result() == {
        "mAP": 0, "mAP50": 0, "mAP75": 0, "mAP_medium": 0, "AR1": 0, "AR10": 0, "AR100": 0,
        "AP/x": 0, "AP50/x": 0,
    }  # fmt: skip


def test_misuse_is_refused():
    dataset = one_image()
    metric = detection.CocoDetection(dataset)
    with pytest.raises(ValueError, match="no image was evaluated"):
        metric.result()
    for bad, message in (({"label": 2}, "class 2"), ({"score": np.nan}, "a.jpg.*not finite")):
        with pytest.raises(ValueError, match=message):
            add_one(metric, dataset, (0, 0, 9, 9), **bad)
    add_one(metric, dataset, (0, 0, 9, 9))
    with pytest.raises(ValueError, match="a.jpg.*twice"):
        add_one(metric, dataset, (0, 0, 9, 9))
    with pytest.raises(ValueError, match="category 9"):
        detection.CocoDetection(one_image(category_id=9))
    only_crowd = one_image(iscrowd=1)
    metric = detection.CocoDetection(only_crowd)
    add_one(metric, only_crowd, (0, 0, 9, 9))
    with pytest.raises(ValueError, match="annotated object"):
        metric.result()
