"""Where the files of a data set may lie, and what annotation files that are not COCO get."""

import json

import pytest
from coco_files import changed, good, write
from PIL import Image

from jaxvision.data import coco
from jaxvision.data.coco import CocoSource


def without(key):
    data = good()
    del data[key]
    return data


def fractions():
    data = good()
    for entry in data["annotations"]:
        entry["bbox"] = [v / 40 for v in entry["bbox"]]
    return data


def other_ids():
    data = good()
    for entry in data["annotations"]:
        entry["image_id"] = str(entry["image_id"])
    return data


@pytest.mark.parametrize(
    "data, message",
    [
        ([1, 2], "holds a list, not an object with images, annotations, categories"),
        (without("images"), "the list 'images' is missing; there is .'annotations', 'categories'"),
        (without("annotations"), "the list 'annotations' is missing"),
        (changed("categories", value={}), "the list 'categories' is missing"),
        (changed("categories", value=[]), "lists no categories"),
        (changed("images", value=[]), "zero images"),
        (changed("images", 1, value={"id": 3}), r"images\[1\] has no 'file_name'; it has \['id'\]"),
        (changed("images", value=[]), "list those of this split"),
        (changed("annotations", 1, value=7), r"annotations\[1\] is 7, not an object"),
        (changed("annotations", 1, value={"id": 3}), r"annotations\[1\] has no 'image_id'; it has"),
        (changed("annotations", 3, "category_id", value=70), "category id 70, which has no name"),
        (changed("annotations", 3, "category_id", value=70), "add it there, or number both alike"),
        (changed("categories", 0, value={"id": 9}), r"categories\[0\] has no 'name'"),
        (changed("categories", 0, "id", value=7), "category 7 'bird' is listed twice"),
        (changed("categories", 0, "name", value="bird"), "'bird' is listed twice"),
        (changed("images", 1, "id", value=10), "image id 10 is listed twice .a.png, b.png"),
        (changed("images", 1, "id", value="11"), "images: some ids are integers and some text"),
        (fractions(), "not fractions of the image"),
        (other_ids(), "none of the 5 annotations has the id of an image .image_id '12'"),
    ],
)
def test_what_is_not_coco_gets_one_line(tmp_path, data, message):
    places = write(tmp_path, good())
    places[1].write_text(json.dumps(data))
    with pytest.raises(ValueError, match=message) as caught:
        CocoSource.load(*places)
    assert "annotations.json" in str(caught.value) and "\n" not in str(caught.value)


def test_what_is_not_json_or_not_there_is_named(tmp_path):
    images, path = write(tmp_path, good())
    for junk in (b"{not json", b"\xff\xfe\x00junk", b"\x80\x81"):
        path.write_bytes(junk)
        with pytest.raises(ValueError, match="annotations.json: not JSON"):
            CocoSource.load(images, path)
    with pytest.raises(FileNotFoundError, match="nowhere.json"):
        CocoSource.load(images, tmp_path / "nowhere.json")
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        CocoSource.load(tmp_path / "nowhere", path)


@pytest.mark.parametrize(
    "place, value, message",
    [
        (("categories", 0, "id"), "x", "is 'x', not an integer$"),
        (("categories", 0, "id"), "9", "is '9', not an integer: write it without quotes$"),
        (("categories", 0, "id"), True, "is True, not an integer"),
        (("categories", 0, "name"), None, r"is None, not text: name every category"),
        (("categories", 0, "name"), 5, "is 5, not text"),
        (("categories", 0, "name"), " ", "is ' ': name category 9"),
        (("images", 2, "id"), [1], r"is \[1\], not an integer or text"),
        (("images", 2, "file_name"), 7, "is 7, not text"),
        (("images", 2, "file_name"), "", "is '': name the file of image 12"),
        (("images", 2, "width"), "wide", "is 'wide', not a number$"),
        (("images", 2, "height"), "30", "is '30', not a number: write it without quotes"),
        (("images", 2, "width"), -40, "is -40, not a number of pixels"),
        (("images", 2, "height"), float("inf"), "is inf, not a number of pixels"),
        (("images", 2, "height"), float("nan"), "is nan, not a number of pixels"),
        (("annotations", 3, "id"), [4], r"is \[4\], not an integer"),
        (("annotations", 3, "image_id"), {}, "is {}, not an integer or text"),
        (("annotations", 3, "category_id"), [1], r"is \[1\], not an integer"),
        (("annotations", 3, "category_id"), None, "is None, not an integer"),
        (("annotations", 3, "bbox"), "x", r"is 'x', not \[x, y, width, height\]"),
        (("annotations", 3, "bbox"), [1, 2], r"is \[1, 2\], not four numbers \[x, y, width, heig"),
        (("annotations", 3, "bbox"), [1, 2, "3", 4], r"is \[1, 2, '3', 4\], not four numbers"),
        (("annotations", 3, "bbox"), [1, 2, 3, None], r"is \[1, 2, 3, None\], not four numbers"),
        (("annotations", 3, "area"), "big", "is 'big', not a number"),
        (("annotations", 3, "iscrowd"), "0", "is '0', not 0 or 1: write it without quotes"),
    ],
)
def test_a_value_of_another_type_is_named_with_its_place(tmp_path, place, value, message):
    places = write(tmp_path, good())
    places[1].write_text(json.dumps(changed(*place, value=value)))
    named = r"annotations.json: {}\[{}\].{}( \(id \d+\))? ".format(*place)
    with pytest.raises(ValueError, match=named + message) as caught:
        CocoSource.load(*places)
    assert "\n" not in str(caught.value)


def test_ids_written_as_text_are_counted(tmp_path):
    data = good()
    for entry in data["annotations"]:
        entry["category_id"] = str(entry["category_id"])
    message = r"annotations\[0\].category_id \(id 1\) is '9', not an integer \(5 such\): write"
    with pytest.raises(ValueError, match=message):
        CocoSource.load(*write(tmp_path, data))


def test_what_may_be_left_out_may_be_null(tmp_path):
    data = good()
    data["images"][1] |= dict(width=None, height=None)
    data["annotations"][3] |= dict(id=None, area=None, iscrowd=None)
    source = CocoSource.load(*write(tmp_path, data))
    assert source.images[1]["width"] == 40 and source[1]["area"].tolist() == [100]
    assert not source[1]["crowd"].any() and source.annotations.counts.repeated == 0


@pytest.mark.parametrize(
    "images, annotations",
    [
        ("train", "annotations/instances_train.json"),
        ("train2017", "annotations/instances_train2017.json"),
        ("train", "instances_train.json"),
        ("images/train", "annotations/instances_train.json"),
        ("train", "train/_annotations.coco.json"),
        ("images", "annotations.json"),
        ("frames", "instances_train.json"),
        (".", "annotations.json"),
    ],
)
def test_the_usual_layouts_are_found(tmp_path, images, annotations):
    (tmp_path / images).mkdir(parents=True, exist_ok=True)
    (tmp_path / "zebra").mkdir()
    (tmp_path / annotations).parent.mkdir(parents=True, exist_ok=True)
    data = good()
    data["images"].reverse()
    for image in data["images"]:
        Image.new("RGB", (40, 30)).save(tmp_path / images / image["file_name"])
    data["images"][0], data["images"][1] = data["images"][1], data["images"][0]  # unicode first
    (tmp_path / annotations).write_text(json.dumps(data))
    found = coco.find(tmp_path, "train")
    assert found == (tmp_path / images, tmp_path / annotations)
    assert len(CocoSource.load(*found)) == 4


@pytest.mark.parametrize(
    "images, annotations",
    [
        ("valid", "valid/_annotations.coco.json"),
        ("valid", "instances_valid.json"),
        ("images/valid", "annotations/instances_valid2017.json"),
        ("valid", "annotations/instances_val.json"),
        ("val", "annotations/instances_valid.json"),
        ("validation", "annotations/instances_validation.json"),
    ],
)
def test_val_has_other_names(tmp_path, images, annotations):
    for part, place in (("train", annotations.replace("valid", "train")), (images, annotations)):
        (tmp_path / part).mkdir(parents=True, exist_ok=True)
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_text(json.dumps(good()))
        for image in good()["images"]:
            Image.new("RGB", (40, 30)).save(tmp_path / part / image["file_name"])
    (tmp_path / "annotations.json").write_text("{}")  # the last to be looked at
    assert coco.find(tmp_path, "val") == (tmp_path / images, tmp_path / annotations)
    (tmp_path / "annotations").mkdir(exist_ok=True)
    named = tmp_path / "annotations" / "instances_val.json"
    named.write_text(json.dumps(good()))
    assert coco.find(tmp_path, "val") == (tmp_path / images, named)


@pytest.mark.parametrize("form", ["annotations/instances_{}.json", "{}/_annotations.coco.json"])
def test_the_pictures_of_another_split_are_not_taken(tmp_path, form):
    for split in ("train", "val"):
        (tmp_path / form.format(split)).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / form.format(split)).write_text(json.dumps(good()))
    (tmp_path / "train").mkdir(exist_ok=True)
    for image in good()["images"]:
        Image.new("RGB", (40, 30)).save(tmp_path / "train" / image["file_name"])
    assert coco.find(tmp_path, "train")[0] == tmp_path / "train"
    with pytest.raises(FileNotFoundError, match="is in none of"):
        images, annotations = coco.find(tmp_path, "val")
        CocoSource.load(images, annotations)


def test_a_layout_that_is_not_found_is_explained(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        coco.find(tmp_path / "nowhere", "train")
    with pytest.raises(FileNotFoundError, match="'val'.*there is no JSON file"):
        coco.find(tmp_path, "val")
    write(tmp_path, good(), name="instances_train2014.json")
    with pytest.raises(FileNotFoundError, match="'val'.*there is instances_train2014.json"):
        coco.find(tmp_path, "val")
    (tmp_path / "images" / "a.png").rename(tmp_path / "images" / "z.png")
    with pytest.raises(FileNotFoundError, match="image 'a.png' of instances_train2014.json"):
        coco.find(tmp_path, "train")
    write(tmp_path, good(), name="instances_train2017.json")
    with pytest.raises(ValueError, match="instances_train2014.json or instances_train2017.json"):
        coco.find(tmp_path, "train")
