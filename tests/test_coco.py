"""What a source says of good files, and what bad ones get."""

import json
import pickle

import numpy as np
import pytest
from absl import logging
from coco_files import annotation, changed, good, write

from jaxvision.data import layout
from jaxvision.data.coco import CocoSource


@pytest.fixture(autouse=True)
def logged(monkeypatch) -> list[str]:
    """The lines that absl logs."""
    lines: list[str] = []
    for level in ("info", "warning"):
        monkeypatch.setattr(logging, level, lambda text, *args: lines.append(text % args))
    return lines


def test_a_good_file(tmp_path, logged):
    source = CocoSource.load(*write(tmp_path, good()))
    assert len(source) == 4
    assert source.categories == ("bird", "drone", "meteor")
    assert source.category_ids == (7, 9, 12)
    first = source[0]
    assert first["image"].shape == (30, 40, 3) and first["image"].dtype == np.uint8
    np.testing.assert_array_equal(
        first["boxes"], [[3, 4, 11, 12], [0, 0, 40, 30], [20, 10, 25, 15]]
    )
    assert first["labels"].tolist() == [0, 0, 1] and first["crowd"].tolist() == [False, True, False]
    assert first["area"].tolist() == [64, 1200, 25] and source[1]["area"].tolist() == [60]
    assert first["size"].tolist() == [30, 40] and first["index"] == 0 and not first["broken"]
    assert source[2]["labels"].tolist() == [1] and (source[2]["image"] == 20).all()
    empty = source[3]
    assert empty["boxes"].shape == (0, 4) and empty["labels"].shape == (0,)
    assert len(logged) == 1
    assert "4 images (1 without objects), 4 objects of 3 classes, 1 crowd regions" in logged[0]
    assert [len(sample["boxes"]) for sample in source] == [3, 1, 1, 0]
    copy = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(copy[0]["boxes"], first["boxes"])


def test_the_dataset_property_is_the_file_again(tmp_path):
    data = good()
    source = CocoSource.load(*write(tmp_path, data))
    again = source.dataset
    assert [i["id"] for i in again["images"]] == [10, 11, 12, 13]
    assert again["categories"] == sorted(data["categories"], key=lambda c: c["id"])

    def essence(entry):
        return (entry["image_id"], entry["category_id"], *entry["bbox"], entry.get("iscrowd", 0))

    assert sorted(map(essence, again["annotations"])) == sorted(map(essence, data["annotations"]))
    json.dumps(again)


def test_boxes_are_clipped_dropped_and_counted(tmp_path, logged):
    data = good()
    data["annotations"] += [
        annotation(20, 13, [-5, -5, 10, 10]),
        annotation(21, 13, [35, 25, 100, 100]),
        annotation(22, 13, [50, 50, 10, 10]),  # outside
        annotation(23, 13, [5, 5, 0, 10]),
        annotation(24, 13, [5, 5, -3, 10]),
        annotation(25, 13, [5, 5, float("nan"), 10]),
        annotation(26, 99, [5, 5, 3, 10]),  # of no image
        annotation(26, 13, [5, 5, 3, 10]),  # an id twice
        annotation(27, 13, [30, 20, 10.2, 10]),  # outside by rounding: clipped, not worth a word
    ]
    source = CocoSource.load(*write(tmp_path, data))
    np.testing.assert_array_equal(
        source[3]["boxes"], [[0, 0, 5, 5], [35, 25, 40, 30], [5, 5, 8, 15], [30, 20, 40, 30]]
    )
    counts = source.annotations.counts
    assert (counts.clipped, counts.dropped, counts.orphans, counts.repeated) == (2, 4, 1, 1)
    text = "\n".join(logged)
    assert "2 boxes reached outside their image and were clipped (annotations 20, 21)" in text
    assert "(annotations 22, 23, 24, 25)" in text and "1 annotations belong to no image" in text


def test_missing_files_are_counted_and_named(tmp_path, logged):
    places = write(tmp_path, good(), files=["a.png", "b.png"])
    source = CocoSource.load(*places)
    assert source.missing == {2, 3} and len(source) == 4
    assert any("2 of 4 image files are missing: ночь 夜.png, d.png" in line for line in logged)
    assert source[3]["broken"] and (source[3]["image"] == 114).all()
    assert source[3]["image"].shape == (30, 40, 3)
    with pytest.raises(FileNotFoundError, match="2 of 4 image files"):
        CocoSource.load(*places, broken="error")
    for name in ("a.png", "b.png"):
        (places[0] / name).unlink()
    with pytest.raises(FileNotFoundError, match="4 of 4.*the folder holds nothing"):
        CocoSource.load(*places)


def test_broken_images_are_counted_and_named(tmp_path, logged):
    images, path = write(tmp_path, good())
    source = CocoSource.load(images, path)
    strict = CocoSource.load(images, path, broken="error")
    (images / "b.png").write_bytes((images / "b.png").read_bytes()[:40])
    (images / "d.png").write_bytes(b"")
    samples = [source[i] for i in (0, 1, 3, 1)]
    assert [s["broken"] for s in samples] == [False, True, True, True]
    assert len(samples[1]["boxes"]) == 1  # what to do with them is the caller's choice
    warnings = [line for line in logged if "cannot be read" in line]
    assert (
        len(warnings) == 2
        and "1 of 4 images cannot be read" in warnings[0]
        and "b.png" in warnings[0]
    )
    assert "2 of 4 images cannot be read" in warnings[1] and "d.png" in warnings[1]
    with pytest.raises(ValueError, match="b.png"):
        strict[1]
    with pytest.raises(ValueError, match="'hide' must be"):
        CocoSource(source.annotations, images, broken="hide")


def test_sizes_that_contradict_the_files_are_refused(tmp_path):
    data = good()
    for image in data["images"]:
        image["width"], image["height"] = 30, 40
    with pytest.raises(ValueError, match="a.png: the image is 40x30 when upright.*says 30x40"):
        CocoSource.load(*write(tmp_path, data))
    one = changed("images", 1, "width", value=41)
    source = CocoSource.load(*write(tmp_path, one))
    assert source[1]["broken"] and "says 41x30" in source.unreadable[1]
    half = changed("images", 1, "width", value=80)
    half["images"][1]["height"] = 60
    assert CocoSource.load(*write(tmp_path, half))[1]["broken"]


def test_sizes_that_are_not_given_are_read_from_the_files(tmp_path):
    data = good()
    for image in data["images"]:
        del image["width"], image["height"]
    source = CocoSource.load(*write(tmp_path, data))
    assert [(i["width"], i["height"]) for i in source.images] == [(40, 30)] * 4


def test_subsets(tmp_path):
    places = write(tmp_path, good())
    by_id = CocoSource.load(*places, subset=[12, 10])
    assert [i["id"] for i in by_id.images] == [10, 12]
    assert by_id[1]["labels"].tolist() == [1] and by_id.annotations.counts.orphans == 0
    by_test = CocoSource.load(*places, subset=lambda image: image["clip"] > "CLIP_001")
    assert [i["id"] for i in by_test.images] == [12, 13]
    held = CocoSource.load(*places, holdout=("clip", 2, 1, False))
    rest = CocoSource.load(*places, holdout=("clip", 2, 1, True))
    assert [i["id"] for i in held.images] == [11, 13] and [i["id"] for i in rest.images] == [10, 12]
    with pytest.raises(ValueError, match="zero images .4 listed, the filter keeps none"):
        CocoSource.load(*places, subset=[1])
    with pytest.raises(ValueError, match="no field 'video'; they have .'clip', 'file_name'"):
        CocoSource.load(*places, holdout=("video", 5, 1, False))
    with pytest.raises(ValueError, match="file_name 'a.png' does not end in a number"):
        CocoSource.load(*places, holdout=("file_name", 5, 1, False))
    with pytest.raises(ValueError, match="remainder 5"):
        layout.holdout("clip", 5, 5)


def test_classes_are_matched_by_name(tmp_path, logged):
    source = CocoSource.load(*write(tmp_path, good()))
    other = source.with_categories(["meteor", "plane", "bird"])
    assert other.categories == ("meteor", "plane", "bird") and other.category_ids == (1, 2, 3)
    assert [other.objects(i)["labels"].tolist() for i in range(4)] == [[2, 2], [0], [], []]
    assert other.objects(0)["crowd"].tolist() == [False, True]
    assert "2 objects left out, of classes not asked for: drone" in logged[-1]
    assert "2 without objects), 2 objects of 3 classes, 1 crowd" in other.report()
    same = source.with_categories(["bird", "drone", "meteor"])
    assert same.category_ids == (7, 9, 12)
    with pytest.raises(ValueError, match="no class in common: it has .'bird'"):
        source.with_categories(["cat"])


def test_a_folder_that_goes_away_stops_the_reading(tmp_path):
    data = good()
    data["images"] = [dict(id=k, file_name=f"{k}.png", width=40, height=30) for k in range(40)]
    data["annotations"] = []
    images, path = write(tmp_path, data)
    source = CocoSource.load(images, path)
    images.rename(tmp_path / "elsewhere")
    assert all(source[k]["broken"] for k in range(10))
    with pytest.raises(ValueError, match="11 of 40 images cannot be read.*10.png"):
        source[10]
    (tmp_path / "elsewhere").rename(images)
    for k in range(11):
        (images / f"{k}.png").unlink()
    with pytest.raises(FileNotFoundError, match="11 of 40 image files are missing: 0.png, 1.png"):
        CocoSource.load(images, path)
