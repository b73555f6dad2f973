"""The data section of a detector's config: which files it means, and what is said of gaps."""

import re

import numpy as np
import pytest
from coco_files import annotation, good, write

from jaxvision.data.detection import DataConfig, DetectionData, ScenesConfig
from jaxvision.data.pipeline import iterate


def data(echo=print, **fields):
    return DetectionData(DataConfig(**fields), size=(32, 32), seed=0, echo=echo)


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
    both = data(**same, val="train")
    assert both.batches("train", batch=3)[100]["mask"].all()
    last = both.batches("val", batch=3)
    assert len(last) == 2
    np.testing.assert_array_equal(last[1]["mask"], [True, False, False])


def test_scenes_are_drawn_when_they_are_asked_for(tmp_path):
    scenes = ScenesConfig(train=3, val=2, size=64)
    drawn = data(root=str(tmp_path / "scenes"), scenes=scenes)
    assert (len(drawn.source("train")), len(drawn.source("val"))) == (3, 2)


def test_named_classes_need_no_files():
    named = data(root="nowhere", names=("a", "b"), category_ids=(3, 9))
    assert named.names == ("a", "b") and named.category_ids == (3, 9)
    assert data(root="nowhere", names=("a", "b")).category_ids == ()


def test_ids_are_those_of_the_training_annotations(tmp_path):
    images, annotations = write(tmp_path, good())
    same = dict(images=str(images), annotations=str(annotations), val="train")
    assert data(**same).category_ids == (7, 9, 12)
    assert data(**same, names=("bird", "meteor")).category_ids == (7, 12)
    assert data(**same, names=("meteor", "bird")).category_ids == (1, 2)  # out of order


def test_rows_have_room_for_what_the_annotations_hold(tmp_path):
    many = good()
    many["annotations"] += [annotation(100 + k, 13, [k, k, 5, 5]) for k in range(9)]
    images, annotations = write(tmp_path, many)
    same = dict(images=str(images), annotations=str(annotations), holdout=("clip", 2, 1))
    assert data(**same).batches("train", batch=1)[0]["boxes"].shape == (1, 8, 4)
    assert data(**same).batches("val", batch=1)[1]["valid"].sum() == 9  # of d.png
    few = data(**same, max_boxes=3)
    few.batches("train", batch=1)
    assert few.batches("val", batch=1)[1]["valid"].sum() == 3
    with pytest.raises(ValueError, match="max_boxes=8 is.*d.png has 9.*set data.max_boxes=16"):
        data(**same | dict(holdout=("clip", 2, 0)), max_boxes=8).batches("train", batch=1)


def test_what_is_evaluated_on_is_not_trained_on(tmp_path):
    images, annotations = write(tmp_path, good())
    parts = dict(images=str(images), annotations=str(annotations))
    for same in (dict(root=str(tmp_path)), parts, parts | dict(val_annotations=str(annotations))):
        with pytest.raises(ValueError, match="nothing to evaluate on but .*annotations.json.*hold"):
            data(**same).names  # noqa: B018 - reads the annotations
        assert len(data(**same, val="train").source("val")) == 4
        assert len(data(**same, holdout=("clip", 2, 1)).source("val")) == 2


def test_training_begins_with_a_line_on_each_split(tmp_path):
    spoilt = good()
    spoilt["annotations"].append(annotation(20, 13, [35, 25, 100, 100]))
    images, annotations = write(tmp_path, spoilt)
    said = []
    same = dict(images=str(images), annotations=str(annotations))
    data(said.append, **same, holdout=("clip", 2, 1)).batches("train", batch=1)
    assert len(said) == 2 and "train: " in said[0] and "0 boxes clipped" in said[0]
    assert "val: " in said[1] and "1 boxes clipped" in said[1]
    with pytest.raises(ValueError, match="zero images"):  # before the first step, not after it
        data(**same, holdout=("clip", 9, 8)).batches("train", batch=1)


def outside(data, count):
    """Moves the first boxes out of their images."""
    for entry in data["annotations"][:count]:
        entry["bbox"] = [50, 50, 5, 5]


@pytest.mark.parametrize(
    "spoil, says",
    [
        (lambda d: d["annotations"].clear(), "0 objects in 4 images, 0 crowd regions, 0 boxes"),
        (lambda d: outside(d, 5), "0 objects in 4 images, 0 crowd regions, 5 boxes dropped"),
        (lambda d: outside(d, 3), "2 objects in 4 images, 0 crowd regions, 3 boxes dropped"),
        (lambda d: [a.update(iscrowd=1) for a in d["annotations"]], "0 objects.* 5 crowd regions"),
    ],
)
def test_training_does_not_begin_without_objects(tmp_path, spoil, says):
    images, sound = write(tmp_path, good())
    bad = good()
    spoil(bad)
    _, spoilt = write(tmp_path, bad, name="my boxes.json")
    doctor = rf"python -m jaxvision.data.doctor --images {images} --annotations '{spoilt}'$"
    for train, val, purpose in ((spoilt, sound, "train"), (sound, spoilt, "evaluate")):
        both = data(images=str(images), annotations=str(train), val_annotations=str(val))
        with pytest.raises(ValueError, match=f"boxes.json: not fit to {purpose} on: {says}") as e:
            both.batches("train", batch=1)
        assert re.search(doctor, str(e.value)) and "\n" not in str(e.value)
    with pytest.raises(ValueError, match="boxes.json: not fit to evaluate on"):
        both.batches("val", batch=1)  # after training: before the pictures are read, not after


def test_a_few_useless_boxes_do_not_hinder_training(tmp_path):
    some = good()
    outside(some, 2)
    images, annotations = write(tmp_path, some)
    data(images=str(images), annotations=str(annotations), val="train").batches("train", batch=1)


def test_classes_without_objects_leave_nothing_to_train_on(tmp_path):
    some = good()
    some["annotations"] = [a for a in some["annotations"] if a["category_id"] != 9]
    images, annotations = write(tmp_path, some)
    same = dict(images=str(images), annotations=str(annotations), val="train")
    with pytest.raises(ValueError, match="not fit to train on: 0 objects in 4 images"):
        data(**same, names=("drone",)).batches("train", batch=1)


@pytest.mark.parametrize("workers", [0, 2])
def test_broken_images_are_told_once_for_all_workers(tmp_path, workers, caplog, capfd):
    many = good() | dict(annotations=[annotation(1, 20, [5, 5, 9, 9])])
    many["images"] = [dict(id=k, file_name=f"{k}.png", width=40, height=30) for k in range(24)]
    images, annotations = write(tmp_path, many)
    for k in range(10):
        (images / f"{k}.png").write_bytes(b"")
    both = data(images=str(images), annotations=str(annotations), val="train")
    stream = iterate(both.batches("train", batch=8), workers=workers)
    for _ in range(12):  # four epochs
        next(stream)
    said = caplog.text + capfd.readouterr().err  # that of workers comes by the latter
    assert [said.count(f"images/{k}.png: the file is empty") for k in range(10)] == [1] * 10
    assert "10 of 24 images cannot be read" in said
    (images / "10.png").write_bytes(b"")
    with pytest.raises(ValueError, match="11 of 24 images cannot be read, too many.*10.png"):
        for _ in range(12):
            next(stream)


def test_gaps_are_named(tmp_path):
    with pytest.raises(ValueError, match="--config.data.root=FOLDER"):
        DataConfig()
    with pytest.raises(ValueError, match="holdout=.*must be"):
        DataConfig(root="x", holdout=("clip", 5))
    for holdout in (("id", "5", 1), (5, "id", 1), ("id", 5, 1.0), ("id", 5, True)):
        with pytest.raises(ValueError, match="holdout: .*must be a field's name and two whole num"):
            DataConfig(root="x", holdout=holdout)
    with pytest.raises(ValueError, match="remainder 5 must be"):
        DataConfig(root="x", holdout=("id", 5, 5))
    with pytest.raises(ValueError, match="max_boxes=-1"):
        DataConfig(root="x", max_boxes=-1)
    with pytest.raises(ValueError, match="category_ids=.1,. must be one for each"):
        DataConfig(root="x", category_ids=(1,))
    images, annotations = write(tmp_path, good())
    only = data(images=str(images), annotations=str(annotations))
    with pytest.raises(ValueError, match="split 'test' is none of"):
        only.source("test")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        data(root="nowhere").source("train")
