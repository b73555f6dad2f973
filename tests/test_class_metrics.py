"""Scores of a classifier, against scikit-learn's; calibration; the figures."""

import numpy as np
import pytest
import sklearn.metrics
from PIL import Image

from jaxvision.metrics import classes
from jaxvision.metrics.class_figures import confusion_figure, reliability_figure

NAMES = ("a", "b", "c", "d")


@pytest.fixture
def answers():
    rng = np.random.default_rng(0)
    truth, found = rng.integers(0, 3, 200), rng.integers(0, 3, 200)
    return truth, np.where(rng.uniform(size=200) < 0.6, truth, found)


def test_scores_are_those_of_scikit_learn(answers):
    truth, found = answers
    counts = classes.confusion(np.append(truth, -1), np.append(found, 2), 4)
    np.testing.assert_array_equal(
        counts, sklearn.metrics.confusion_matrix(truth, found, labels=range(4))
    )
    ours = classes.scores(counts)
    precision, recall, f1, _ = sklearn.metrics.precision_recall_fscore_support(truth, found)
    np.testing.assert_allclose(ours.precision[:3], precision)
    np.testing.assert_allclose(ours.recall[:3], recall)
    np.testing.assert_allclose(ours.f1[:3], f1)
    assert ours.macro_f1 == pytest.approx(f1.mean())
    assert ours.accuracy == pytest.approx((truth == found).mean())
    assert np.isnan(ours.f1[3])  # never met: it says nothing of the classifier
    assert tuple(classes.scalars(ours, NAMES)) == classes.scalar_names(NAMES[:3])


def test_a_class_that_is_never_found_counts_as_zero():
    ours = classes.scores(classes.confusion(np.array([0, 0, 1]), np.array([0, 0, 0]), 2))
    np.testing.assert_allclose(ours.f1, [0.8, 0])
    assert ours.macro_f1 == pytest.approx(0.4)
    assert ours.precision[1] == 0


def test_what_cannot_be_counted_is_refused():
    with pytest.raises(ValueError, match="must both be"):
        classes.confusion(np.zeros(3, int), np.zeros(2, int), 2)
    with pytest.raises(ValueError, match="not from 0 to 1"):
        classes.confusion(np.array([2]), np.array([0]), 2)
    with pytest.raises(ValueError, match="not from 0 to 1"):
        classes.confusion(np.array([0]), np.array([-1]), 2)
    with pytest.raises(ValueError, match="no example"):
        classes.scores(np.zeros((2, 2), np.int64))


def test_top_k():
    p = np.array([[0.5, 0.3, 0.2], [0.2, 0.5, 0.3], [0.4, 0.3, 0.3]])
    assert classes.top_k(p, np.array([0, 0, 2]), 1) == pytest.approx(1 / 3)
    assert classes.top_k(p, np.array([1, 0, 2]), 2) == pytest.approx(1 / 3)
    assert classes.top_k(p, np.array([1, 0, 2]), 3) == 1


def test_calibration_by_hand():
    p = np.array([[0.9, 0.1], [0.9, 0.1], [0.3, 0.7], [0.4, 0.6]])
    truth = np.array([0, 1, 1, 1])
    found = classes.calibration(p, truth, bins=10)
    np.testing.assert_array_equal(found.counts[[5, 6, 8]], [1, 1, 2])
    # |0.6 - 1|, |0.7 - 1| of one example each, |0.9 - 0.5| of two
    assert found.error == pytest.approx((0.4 + 0.3 + 2 * 0.4) / 4)
    sure = classes.calibration(np.eye(3)[[0, 1, 2]], np.array([0, 1, 2]))
    assert sure.error == 0 and sure.counts[-1] == 3


def test_figures_are_drawn(answers, tmp_path):
    counts = classes.confusion(*answers, 4)
    confusion_figure(tmp_path / "m.png", classes.scores(counts), NAMES, title="toy")
    curve = classes.calibration(np.array([[0.9, 0.1], [0.3, 0.7]]), np.array([0, 0]))
    reliability_figure(tmp_path / "r.png", {"toy": curve}, title="toy")
    for name in ("m.png", "r.png"):
        with Image.open(tmp_path / name) as image:
            assert min(image.size) > 300
