"""Evaluations of stages and types, thresholds, tables with intervals, exports."""

import csv
import dataclasses

import numpy as np
import pytest
from av1_models import CFG, inference
from flax import nnx
from PIL import Image

from jaxvision.cnn_av1 import thresholds
from jaxvision.cnn_av1.classes import NONE, TYPES
from jaxvision.cnn_av1.comparison import Answer, by_eight_views, favoured, run, table
from jaxvision.cnn_av1.dataset.blocks_set import BlockSet
from jaxvision.cnn_av1.evaluation import TYPE_SCALARS, StageReport, TypesReport
from jaxvision.cnn_av1.exports import write_history
from jaxvision.cnn_av1.pipeline import MultiTask
from jaxvision.cnn_av1.report import markdown
from jaxvision.cnn_av1.stage_model import STAGES
from jaxvision.cnn_av1.stages import levelled
from jaxvision.cnn_av1.symmetry import TABLES, turned_blocks


def rows(types, *, padded=2):
    mask = np.arange(len(types)) < len(types) - padded
    return {"type": np.asarray(types), "mask": mask}


def test_a_stage_is_measured_on_its_own_blocks(tmp_path):
    types = np.array([0, 3, 1, 4, 9, 3, 3, 3])
    batch = rows(types)
    found = np.eye(3)[[0, 0, 1, 1, 1, 2, 0, 0]]  # SPLIT RECT AB; the first is NONE, two are padding
    report = StageReport("macro", tmp_path)
    report.add(batch, {"probabilities": found})
    scores = report.result()
    assert scores["accuracy"] == pytest.approx(3 / 5)
    assert scores["f1/SPLIT"] == pytest.approx(2 / 3)
    assert scores["f1/AB"] == 0
    with (tmp_path / "classes.csv").open() as file:
        written = {row["class"]: row for row in csv.DictReader(file)}
    assert written["RECT"]["examples"] == "2" and written["RECT"]["recall"] == "1.0000"
    with Image.open(tmp_path / "confusion.png") as image:
        assert image.size[0] > 200


def test_types_are_measured_with_their_order(tmp_path):
    types = np.array([0, 8, 9, 2, 5, 5])
    found = np.full((6, 10), 0.01)
    found[np.arange(6), [0, 8, 9, 1, 5, 0]] = 0.5
    found[3, 2] = 0.4
    report = TypesReport(tmp_path, title="x", prefix="test_")
    report.add(rows(types), {"types": found, "hard": np.array([0, 8, 1, 1, 5, 0])})
    scores = report.result()
    met = {f"f1/{TYPES[k]}" for k in (0, 1, 2, 8, 9)}
    assert met < set(scores) < set(TYPE_SCALARS)
    assert scores["accuracy"] == pytest.approx(2 / 4) and scores["top3"] == 1
    assert scores["f1/HORZ_4"] == 1 and scores["f1/VERT_4"] == 0
    flat = TypesReport(tmp_path, title="x", flat=True)
    flat.add(rows(types), {"types": found, "hard": np.zeros(6, int)})
    assert flat.result()["accuracy"] == pytest.approx(3 / 4)
    assert {p.name for p in tmp_path.glob("test_*")} == {
        *("test_confusion.png", "test_classes.csv", "test_reliability.png")
    }


def test_the_best_threshold_is_found(tmp_path):
    truth = np.array([NONE] * 6 + [3] * 4)
    binary = np.array([0.1, 0.2, 0.3, 0.3, 0.3, 0.32, 0.4, 0.41, 0.42, 0.9])
    found = thresholds.sweep(binary, np.full(10, 3), truth)
    by = {row["threshold"]: row for row in found}
    assert by[0.35]["accuracy"] == by[0.35]["macro_f1"] == 1
    assert by[0.5]["accuracy"] == pytest.approx(0.7)
    assert thresholds.best(found) == 0.4  # 0.35 is as good, and farther from one half
    thresholds.write(tmp_path, found)
    assert (tmp_path / "thresholds.png").is_file()
    lines = (tmp_path / "thresholds.csv").read_text().splitlines()
    assert len(lines) == len(thresholds.GRID) + 1


def made_set(n=60, clips=6):
    rng = np.random.default_rng(0)
    return BlockSet(
        blocks=rng.integers(0, 1024, (n, 16, 16), np.uint16),
        labels=rng.integers(0, 10, n).astype(np.uint8),
        qps=np.full(n, 90, np.uint8),
        sequence=np.repeat(np.arange(clips, dtype=np.int32), n // clips),
        names=tuple(map(str, range(clips))),
        size=16,
    )


def test_intervals_hold_the_value_and_are_drawn_alike():
    test = made_set()
    right = np.eye(10)[test.labels]
    wrong = np.eye(10)[(test.labels + np.arange(60) % 3).astype(int) % 10]
    answers = {"right": Answer(right, right.argmax(-1)), "wrong": Answer(wrong, wrong.argmax(-1))}
    found = {row["system"]: row for row in table(answers, test, seed=0)}
    assert found["right"]["accuracy"] == found["right"]["accuracy_low"] == 1
    row = found["wrong"]
    for name in ("accuracy", "macro_f1", "top3"):
        assert row[f"{name}_low"] <= row[name] <= row[f"{name}_high"]
    again = table({"wrong": answers["wrong"]}, test, seed=0)[0]
    assert again == row
    parts = {"net": dict.fromkeys(STAGES, 0.5)}
    text = markdown([row], parts, train=test.counts(), test=test.counts())
    assert "| wrong | 0.3" in text and all(name in text for name in TYPES)
    beside = answers | {"boosted trees": answers["wrong"]}
    right, wrong, trees = table(beside, test, seed=0)
    assert right["accuracy_gain"] == pytest.approx(1 - trees["accuracy"])
    assert 0 < right["accuracy_gain_low"] <= right["accuracy_gain"] <= right["accuracy_gain_high"]
    assert wrong["macro_f1_gain_low"] == wrong["macro_f1_gain_high"] == 0
    text = markdown([right, trees], parts, train=test.counts(), test=test.counts())
    assert f"| right | {right['accuracy_gain']:+.3f} [" in text


def test_a_stages_history_has_its_own_rows_and_columns(tmp_path):
    (tmp_path / "metrics.csv").write_text(
        "stage,step,train/a/loss,train/b/loss\na,1,0.5,\nb,1,,0.7\na,2,0.4,\n"
    )
    write_history("a", tmp_path / "metrics.csv", tmp_path / "a_history.csv")
    assert (tmp_path / "a_history.csv").read_text().split() == [
        *("stage,step,train/a/loss", "a,1,0.5", "a,2,0.4")
    ]


def test_rare_types_are_favoured_as_far_as_accuracy_lasts():
    prior = np.array([0.9, 0.1, *[0] * 8])
    sure = np.zeros((200, 10))
    sure[:, 0], sure[:, 1] = 0.6, 0.4  # a power of 0.2 and more turns these
    rare = np.tile(np.eye(10)[1], (10, 1))
    held, labels = np.concatenate([sure, rare]), np.repeat([0, 1], [200, 10])
    (answer,) = favoured("x", prior, held, labels, sure[:3]).values()
    assert (answer.hard == 0).all(), "all accuracy would be lost"
    labels = np.repeat([0, 1], [100, 110])
    found = favoured("x", prior, held, labels, sure[:3])
    assert list(found) == ["x, rare types favoured"]
    assert (found["x, rare types favoured"].hard == 1).all()
    np.testing.assert_array_equal(found["x, rare types favoured"].types, sure[:3])


def test_the_mean_of_eight_views_turns_with_the_block():
    net = inference(MultiTask(levelled(CFG), rngs=nnx.Rngs(0)))
    found = BlockSet(
        blocks=np.random.default_rng(0).integers(0, 1024, (3, 32, 32)).astype(np.uint16),
        labels=np.zeros(3, np.uint8),
        qps=np.array([60, 120, 200], np.uint8),
        sequence=np.zeros(3, np.int32),
        names=("one",),
        size=16,
        context=8,
    )
    numbers = np.array([1, 6, 3])
    blocks = np.asarray(turned_blocks(found.blocks, numbers))
    views = by_eight_views(net, found)
    turned = by_eight_views(net, dataclasses.replace(found, blocks=blocks))
    np.testing.assert_allclose(views.sum(1), 1, atol=1e-5)
    for row, other, number in zip(views, turned, numbers, strict=True):
        np.testing.assert_allclose(other[TABLES[number]], row, atol=1e-5)
    assert abs(run(net, found)["types"] - views).max() > 1e-4
