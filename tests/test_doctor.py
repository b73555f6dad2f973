"""What the doctor finds in damaged data."""

import shutil

import cv2
import doctor_damage
import numpy as np
import pytest
from doctor_scenes import edit, examined, original, problems, root  # noqa: F401 - fixtures
from PIL import Image

from jaxvision.data.doctor import ERROR, OK, WARN, examine
from jaxvision.data.doctor.__main__ import main
from jaxvision.data.skywatch import CLASSES


def test_a_sound_set_has_no_error(root):
    found = examined(root)
    assert not {key for key in found if key[0] != OK}
    made = {"category map", "duplicates", "files", "size", "extent", "objects"}
    assert made <= {key[1] for key in found}
    report = examine(root)
    counts = report.as_dict()["splits"]["train"]
    data, _ = edit(root)
    assert counts["images"] == 10 and counts["boxes"] == len(data["annotations"])
    assert [(c["id"], c["index"], c["name"]) for c in counts["classes"]] == [
        (i + 1, i, name) for i, name in enumerate(CLASSES)
    ]
    areas = np.array([a["bbox"][2] * a["bbox"][3] for a in data["annotations"]])
    assert counts["small"] == (areas < 32**2).sum()
    assert counts["under_16_px"] == pytest.approx((areas < 16**2).mean(), abs=1e-4)


@pytest.mark.parametrize(
    "damage, level, check, text",
    [
        (doctor_damage.corners, ERROR, "order", "x1, y1, x2, y2"),
        (doctor_damage.fractions, ERROR, "normalised", "within one pixel"),
        (doctor_damage.renumber, ERROR, "categories", "without a name: 11"),
        (doctor_damage.break_boxes, WARN, "extent", "no area"),
        (doctor_damage.break_boxes, WARN, "extent", "outside their image"),
        (doctor_damage.shift, WARN, "extent", "reach outside"),
        (doctor_damage.spoil, ERROR, "annotations", "4 annotations without usable box"),
        (doctor_damage.orphan, ERROR, "annotations", "no listed image"),
        (doctor_damage.twin_ids, WARN, "annotations", "used twice"),
        (doctor_damage.twin_images, ERROR, "images", "listed twice: 1"),
        (doctor_damage.twin_images, ERROR, "images", "under several ids: 000001.jpg"),
        (doctor_damage.nameless, ERROR, "categories", "'id': 3"),
        (doctor_damage.zero_images, ERROR, "images", "zero images"),
        (doctor_damage.wide, ERROR, "training", "images[0].width (id 1) is 'wide', not a number"),
        (doctor_damage.blank, ERROR, "training", "categories[0].name is '': name category 1"),
        (doctor_damage.no_boxes, ERROR, "training", "refuses this split: 0 objects in 10 images"),
        (doctor_damage.all_crowd, ERROR, "training", "refuses this split: 0 objects in 10 images"),
        (doctor_damage.no_sizes, WARN, "images", "without width and height: 000000.jpg"),
        (doctor_damage.copies, WARN, "repeats", "1 boxes repeat"),
        (doctor_damage.crowds, WARN, "crowd", "crowd regions"),
    ],
)
def test_damaged_annotations(root, damage, level, check, text):
    data, save = edit(root)
    damage(data)
    save()
    found = problems(root)
    assert text in found[level, check]
    assert main([str(root), "--size", "96"]) == (1 if level == ERROR else 0)


def test_many_boxes_outside_are_an_error(root):
    data, save = edit(root)
    for a in data["annotations"]:
        a["bbox"] = [4 * v for v in a["bbox"]]  # of images four times as large
    save()
    assert "lie outside their image" in problems(root)[ERROR, "extent"]


@pytest.mark.parametrize("text", ["{", "[1, 2]", '{"images": []}', "\x00\x01"])
def test_not_coco(root, text):
    (root / "annotations" / "instances_val.json").write_text(text)
    found = problems(root)
    assert "instances_val.json" in found[ERROR, "json"]
    assert (ERROR, "order") not in found  # the other split is still examined
    assert "train" in examine(root).as_dict()["splits"]


def test_categories_of_splits(root):
    data, save = edit(root, "val")
    data["categories"][0]["name"] = "aeroplane"
    save()
    found = problems(root)
    assert "that train lacks: aeroplane" in found[ERROR, "category map"]
    assert "that val lacks: airplane" in found[WARN, "category map"]

    data["categories"][0]["name"] = "airplane"
    for entry in (*data["categories"], *data["annotations"]):
        key = "category_id" if "category_id" in entry else "id"
        entry[key] -= 1
    save()
    found = problems(root)  # 0-based in one split: the order is the same, so only a warning
    assert "airplane 1 -> 0" in found[WARN, "category map"]
    assert (ERROR, "category map") not in found

    for entry in (*data["categories"], *data["annotations"]):
        key = "category_id" if "category_id" in entry else "id"
        entry[key] = 6 - entry[key]
    save()
    assert "airplane 1 -> 6" in problems(root)[ERROR, "category map"]


def test_files(root):
    folder = root / "train"
    (folder / "000001.jpg").unlink()
    whole = (folder / "000002.jpg").read_bytes()
    (folder / "000002.jpg").write_bytes(whole[: len(whole) // 3])
    (folder / "000003.jpg").write_bytes(b"no picture")
    cv2.imwrite(str(folder / "000004.jpg"), np.full((48, 96, 3), 90, np.uint8))
    shutil.copy(folder / "000005.jpg", folder / "extra.jpg")
    found = problems(root)
    assert "1 of 10 files are missing in train/: 000001.jpg" in found[ERROR, "files"]
    assert "2 files cannot be read" in found[ERROR, "files"]
    assert "000004.jpg (JSON 96x96, file 96x48)" in found[ERROR, "size"]
    assert "1 image files are not listed: extra.jpg" in found[WARN, "unlisted"]
    found = problems(root, sample=3)  # the first, middle and last files that are there
    assert "2 files" not in found[ERROR, "files"] and "missing" in found[ERROR, "files"]


def test_rotation_by_exif(root):
    data, save = edit(root)
    record = data["images"][0]
    tag = Image.Exif()
    tag[0x0112] = 6
    Image.new("RGB", (120, 80), (90, 120, 160)).save(root / "train" / "000000.jpg", exif=tag)
    record["width"], record["height"] = 120, 80  # as stored; upright it is 80 x 120
    save()
    found = problems(root)
    assert (
        "rotated by EXIF" in found[ERROR, "rotation"] and "000000.jpg" in found[ERROR, "rotation"]
    )
    record["width"], record["height"] = 80, 120
    save()
    assert (ERROR, "rotation") not in problems(root) and (ERROR, "size") not in problems(root)


def test_leakage_and_duplicates(root):
    shutil.copy(root / "train" / "000000.jpg", root / "val" / "000000.jpg")
    image = cv2.imread(str(root / "train" / "000002.jpg"))
    texture = np.random.default_rng(0).integers(0, 255, (12, 12, 3), dtype=np.uint8)
    image[:] = cv2.resize(texture, (96, 96), interpolation=cv2.INTER_CUBIC)
    cv2.imwrite(str(root / "train" / "000002.jpg"), image)
    cv2.imwrite(str(root / "val" / "000002.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, 60])
    cv2.imwrite(str(root / "train" / "000003.jpg"), image[:, ::-1])
    shutil.copy(root / "train" / "000005.jpg", root / "train" / "000006.jpg")
    found = problems(root)
    assert "1 pairs of identical" in found[ERROR, "leakage"]
    assert "train/000000.jpg = val/000000.jpg" in found[ERROR, "leakage"]
    assert "1 pairs of nearly the same" in found[WARN, "leakage"]
    assert "train/000002.jpg = val/000002.jpg" in found[WARN, "leakage"]
    assert "train/000005.jpg = train/000006.jpg" in found[WARN, "duplicates"]


def test_unused_classes_background_and_resolution(root):
    data, save = edit(root)
    data["categories"].append({"id": 0, "name": "background"})
    save()
    report = examine(root, size=(32, 32))
    found = {(f.level, f.check, f.text) for f in report.findings["train"]}
    texts = " | ".join(text for level, check, text in found if check == "classes")
    assert "background" in texts and "have no box" in texts
    (resolution,) = (f for f in report.findings["train"] if f.check == "resolution")
    assert resolution.level == WARN and "at 32x32 px" in resolution.text
    sides = np.array([min(a["bbox"][2:]) for a in data["annotations"]])
    wanted = int(np.ceil(np.quantile(8 * 96 / sides, 0.8) / 32) * 32)
    small = (sides * 32 / 96 < 8).mean()
    assert f"{small:.0%} of the boxes" in resolution.text
    assert f"{wanted}x{wanted} px" in resolution.mend or "tiles" in resolution.mend
    wide = examine(root, size=(32, 96)).findings["train"]  # a square fits by its height
    (text,) = (f.text for f in wide if f.check == "resolution")
    assert text == resolution.text.replace("32x32", "32x96")


def test_the_size_that_was_given_is_no_advice(root):
    data, save = edit(root)
    for a in data["annotations"]:
        a["bbox"][2:] = [3, 3]
    save()
    for size, mend in (((96, 96), "(96x96 px) have no more pixels"), ((64, 64), "train at 96x96")):
        found = examine(root, size=size).findings["train"]
        (resolution,) = (f for f in found if f.check == "resolution")
        assert resolution.level == WARN and mend in resolution.mend
        assert str(size) not in resolution.mend


def test_crowded_images(root):
    data, save = edit(root)
    data["annotations"] += [
        dict(data["annotations"][0], id=1000 + k, image_id=3, bbox=[k, k, 9 + k / 8, 9])
        for k in range(45)
    ]
    save()
    own = sum(a["image_id"] == 3 for a in data["annotations"])
    report = examine(root)
    (finding,) = (f for f in report.findings["train"] if f.check == "objects")
    name = next(i["file_name"] for i in data["images"] if i["id"] == 3)
    assert finding.level == WARN and f"up to {own} objects in an image ({name})" in finding.text
    room = -(-own // 8) * 8
    assert f"slots.count={4 * room}" in finding.mend and f"needs {room}" in finding.mend
