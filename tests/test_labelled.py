"""Labelled rows: their form, their configs, their metrics, and splits by group."""

import numpy as np
import pytest
from labelled_folder import folder, of_folder  # noqa: F401 - a fixture

from jaxvision.config import fields_of, from_config
from jaxvision.data.labelled import LabelledConfig, LabelledData, ScenesConfig
from jaxvision.data.labelled.split import hold_out_groups
from jaxvision.metrics.detection import CocoDetection

SHAPES = {
    "image": ((32, 32, 3), np.uint8),
    "boxes": ((8, 4), np.float32),
    "labels": ((8,), np.int32),
    "crowd": ((8,), np.bool_),
    "segments": ((32, 32), np.uint8),
    "action": ((), np.int32),
    "index": ((), np.int32),
    "size": ((2,), np.int32),
    "broken": ((), np.bool_),
    "letterbox": ((3,), np.float32),
}


def test_rows_of_every_kind_have_the_same_form(folder):
    scenes = LabelledData(LabelledConfig(size=32, scenes=ScenesConfig(objects=2)), seed=0)
    for data in (scenes, of_folder(folder)):
        for split in ("train", "val"):
            row = data.rows(split)[1]
            form = {k: (np.shape(v), np.asarray(v).dtype.type) for k, v in row.items()}
            assert form == SHAPES
        batch = data.batches("train", batch=3)[5]
        assert batch["image"].shape == (3, 32, 32, 3) and batch["mask"].all()


@pytest.mark.parametrize("kind", ["scenes", "coco"])
def test_what_was_labelled_scores_an_average_precision_of_one(folder, kind):
    scenes = LabelledConfig(size=64, scenes=ScenesConfig(val=8))
    data = LabelledData(scenes, seed=0) if kind == "scenes" else of_folder(folder, val_size=96)
    metric = CocoDetection(data.source("val"))
    for i in range(2):
        batch = data.batches("val", batch=4)[i]
        side = batch["image"].shape[1]
        given = dict(boxes=batch["boxes"] / side, scores=batch["labels"] >= 0)
        metric.add(batch, given | dict(labels=np.maximum(batch["labels"], 0)))
        if (i + 1) * 4 >= len(data.source("val")):
            break
    assert metric.result()["mAP"] == pytest.approx(1)


def test_no_clip_is_in_both_splits_and_every_class_is_in_each(folder):
    data = of_folder(folder)
    clips = {}
    for split in ("train", "val"):
        source = data.source(split)
        clips[split] = {int(image["id"]) // 2 for image in source.source.images}
        assert {source[i]["action"] for i in range(len(source))} == {0, 1}
    assert not clips["train"] & clips["val"] and len(clips["train"] | clips["val"]) == 8
    with pytest.raises(ValueError, match="no field 'video'"):
        of_folder(folder, group="video").source("train")
    with pytest.raises(ValueError, match="8 values of 'clip' are too few to hold out one of 20"):
        of_folder(folder, holdout=20).source("train")


def test_groups_are_held_out_of_each_category_in_order():
    groups = [f"g{i}" for i in range(10) for _ in range(3)]
    # Two frames of three are of a in six groups and of b in four; the third is of another.
    categories = [c for i in range(10) for c in (*("a" if i < 6 else "b") * 2, "cd"[i % 2])]
    assert hold_out_groups(groups, categories, every=3) == {"g1", "g4", "g7"}
    shuffled = np.random.default_rng(0).permutation(30)
    mixed = [[x[i] for i in shuffled] for x in (groups, categories)]
    assert hold_out_groups(*mixed, every=3) == {"g1", "g4", "g7"}
    assert hold_out_groups(["one"], ["a"], every=3) == frozenset()  # it is needed to train on
    with pytest.raises(ValueError, match="every=1"):
        hold_out_groups(groups, categories, every=1)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(kind="voc"), "labelled.kind='voc'"),
        (dict(kind="coco"), "no pictures for kind 'coco'"),
        (dict(size=31), "labelled.size=31"),
        (dict(val_size=8), "labelled.val_size=8"),
        (dict(holdout=1), "labelled.holdout=1"),
        (dict(segment_classes=256), "labelled.segment_classes=256"),
        (dict(scenes=dict(objects=0)), "labelled.scenes.objects=0"),
        (dict(scenes=dict(empty=1.0)), "labelled.scenes.empty=1.0"),
        (dict(scenes=dict(length=(0.5, 0.2))), r"labelled.scenes.length=\(0.5, 0.2\)"),
        (dict(crops=dict(focus=1.5)), "labelled.crops.focus=1.5"),
        (dict(crops=dict(hue=1.0)), "labelled.crops.hue=1.0"),
        (dict(crops=dict(scale=(0.0, 1.0))), r"labelled.crops.scale=\(0.0, 1.0\)"),
    ],
)
def test_configs_are_checked(fields, message):
    with pytest.raises(ValueError, match=message):
        from_config(LabelledConfig, fields_of(LabelledConfig, fields), path="labelled.")


def test_rows_for_too_few_boxes_are_refused():
    data = LabelledData(LabelledConfig(max_boxes=3), seed=0)
    with pytest.raises(ValueError, match="max_boxes=3 is too few.*has 4 objects"):
        data.rows("train")
    with pytest.raises(ValueError, match="split 'test' is none of"):
        data.source("test")
