import numpy as np
import pytest

from jaxvision.metrics.segmentation import MeanIoU, scalar_names
from jaxvision.metrics.top_one import SCALARS, TopOne


def masks(*rows):
    return np.array(rows, np.uint8)[:, None]  # pictures one pixel high


def test_iou_is_intersection_over_union_of_all_pictures_together():
    metric = MeanIoU(3, names=("sky", "tree", "boat"))
    metric.add({"segments": masks([0, 0, 1, 1])}, {"segments": masks([0, 1, 1, 1])})
    metric.add({"segments": masks([1, 1, 0, 0])}, {"segments": masks([1, 1, 0, 0])})
    result = metric.result()
    # Sky: 3 of 4; tree: 4 of 5. A mean of the pictures' own would be 0.75 and 0.833.
    assert result == pytest.approx(
        {"mIoU": (3 / 4 + 4 / 5) / 2, "pixel_accuracy": 7 / 8, "IoU/sky": 3 / 4, "IoU/tree": 4 / 5}
    )
    assert set(result) < set(scalar_names(metric.names))


def test_unlabelled_pixels_and_padding_are_not_counted():
    metric = MeanIoU(2)
    truth, found = masks([0, 255, 1], [1, 1, 1]), masks([0, 1, 1], [0, 0, 0])
    metric.add({"segments": truth, "mask": np.array([True, False])}, {"segments": found})
    assert metric.result() == {"mIoU": 1, "pixel_accuracy": 1}


def test_a_class_that_is_only_predicted_counts_as_nothing():
    metric = MeanIoU(3)
    metric.add({"segments": masks([0, 0])}, {"segments": masks([0, 2])})
    assert metric.result()["mIoU"] == pytest.approx((1 / 2 + 0) / 2)


@pytest.mark.parametrize(
    ("truth", "found", "message"),
    [
        ([0, 7], [0, 1], "the truth of masks have class 7; there are 2"),
        ([0, 1], [0, 2], "predictions of masks have class 2; there are 2"),
        ([0, 1], [0, 1, 1], "differ in shape"),
    ],
)
def test_masks_that_cannot_be_right_are_refused(truth, found, message):
    with pytest.raises(ValueError, match=message):
        MeanIoU(2).add({"segments": masks(truth)}, {"segments": masks(found)})


def test_nothing_evaluated_is_an_error_and_not_a_number():
    metric = MeanIoU(2)
    metric.add({"segments": masks([255])}, {"segments": masks([0])})
    with pytest.raises(ValueError, match="no labelled pixel"):
        metric.result()
    with pytest.raises(ValueError, match="no example with a known action"):
        TopOne().result()
    with pytest.raises(ValueError, match="2 names for 3 classes"):
        MeanIoU(3, names=("a", "b"))
    with pytest.raises(ValueError, match="classes=256"):
        MeanIoU(256)


def test_top_one_over_examples_and_over_classes():
    metric = TopOne()
    mask = np.array([True] * 5 + [False])
    truth = {"action": np.array([0, 0, 0, 1, -1, 1]), "mask": mask}
    metric.add(truth, {"action": np.array([0, 0, 0, 0, 0, 1])})
    result = metric.result()
    assert result == {"top1": 3 / 4, "top1_mean": 1 / 2}
    assert set(result) == set(SCALARS)
    with pytest.raises(ValueError, match=r"predictions \(3,\)"):
        metric.add(truth, {"action": np.zeros(3, int)})
