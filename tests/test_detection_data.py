"""The data section of a detector's config: which files it means, and what is said of gaps."""

import numpy as np
import pytest
from coco_files import good, write

from jaxvision.data.detection import DataConfig, DetectionData, ScenesConfig


def data(**fields):
    return DetectionData(DataConfig(**fields), size=(32, 32), seed=0)


def test_one_file_is_split_by_the_number_of_its_clips(tmp_path):
    images, annotations = write(tmp_path, good())
    both = data(images=str(images), annotations=str(annotations), holdout=("clip", 2, 1))
    assert both.names == ("bird", "drone", "meteor")
    names = {s: [i["file_name"] for i in both.source(s).images] for s in ("train", "val")}
    assert names == {"train": ["a.png", "ночь 夜.png"], "val": ["b.png", "d.png"]}


def test_val_may_be_another_file_with_classes_in_another_order(tmp_path):
    images, annotations = write(tmp_path, good())
    other = good()
    other["categories"] = [dict(id=9, name="bird"), dict(id=7, name="drone")]
    other["annotations"] = [a for a in other["annotations"] if a["category_id"] != 12]
    _, val = write(tmp_path, other, name="val.json")
    both = data(images=str(images), annotations=str(annotations), val_annotations=str(val))
    assert both.source("val").categories == ("bird", "drone", "meteor")
    labels = [both.source(s).objects(2)["labels"] for s in ("train", "val")]
    np.testing.assert_array_equal(labels, [[1], [0]])  # id 9: a drone there, a bird here


def test_batches_repeat_for_training_and_end_for_evaluation(tmp_path):
    images, annotations = write(tmp_path, good())
    same = dict(images=str(images), annotations=str(annotations))
    both = data(**same, val_annotations=str(annotations))
    assert both.batches("train", batch=3)[100]["mask"].all()
    last = both.batches("val", batch=3)
    assert len(last) == 2
    np.testing.assert_array_equal(last[1]["mask"], [True, False, False])


def test_scenes_are_drawn_when_they_are_asked_for(tmp_path):
    scenes = ScenesConfig(train=3, val=2, size=64)
    drawn = data(root=str(tmp_path / "scenes"), scenes=scenes)
    assert (len(drawn.source("train")), len(drawn.source("val"))) == (3, 2)


def test_named_classes_need_no_files():
    assert data(root="nowhere", names=("a", "b")).names == ("a", "b")


def test_gaps_are_named(tmp_path):
    with pytest.raises(ValueError, match="--config.data.root=FOLDER"):
        DataConfig()
    with pytest.raises(ValueError, match="holdout=.*must be"):
        DataConfig(root="x", holdout=("clip", 5))
    with pytest.raises(ValueError, match="max_boxes=0"):
        DataConfig(root="x", max_boxes=0)
    images, annotations = write(tmp_path, good())
    only = data(images=str(images), annotations=str(annotations))
    with pytest.raises(ValueError, match="nothing to evaluate on"):
        only.source("val")
    with pytest.raises(ValueError, match="split 'test' is none of"):
        only.source("test")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        data(root="nowhere").source("train")
