"""Pictures with boxes and masks from a folder: all three stay together."""

import pickle

import numpy as np
import pytest
from labelled_folder import GREEN, GREY, RED, SKY, folder, of_folder, tight  # noqa: F401 - a fixture
from PIL import Image

from jaxvision.data.labelled import CropConfig
from jaxvision.data.labelled.masks import Masks, frequent_classes, read_mask

PLAIN = dict(brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0)


@pytest.mark.parametrize("split", ["train", "val"])
def test_pixels_boxes_and_masks_stay_together(folder, split):
    """Colours say what each pixel is: they must agree with the mask and fill the box."""
    data = of_folder(folder, size=64, crops=CropConfig(**PLAIN))
    assert data.segments == ("sky", "red thing", "green thing")
    assert data.classes == data.actions == ("red", "green")
    colours = np.array([SKY, RED, GREEN, GREY])
    rows, masked = data.rows(split), 0
    for g in range(40 if split == "train" else len(rows)):
        row = rows[g]
        nearest = np.abs(row["image"][:, :, None].astype(int) - colours).sum(-1).argmin(-1)
        if not (row["segments"] == 255).all():
            masked += 1
            wrong = np.where(nearest == 3, 255, nearest) != row["segments"]
            assert wrong.mean() < 0.06  # mixed pixels on the edges
            thin = wrong[1:-1] & wrong[:-2] & wrong[2:]
            assert not (thin[:, 1:-1] & thin[:, :-2] & thin[:, 2:]).any()  # and nowhere else
        real = (row["labels"] >= 0) & ~row["crowd"]
        for box, label in zip(row["boxes"][real], row["labels"][real], strict=True):
            np.testing.assert_allclose(tight(nearest == label + 1), box, atol=1.01)
            assert row["action"] == label
    assert masked > (30 if split == "train" else 2)


def test_a_crop_holds_an_object_as_often_as_asked(folder):
    kept = {}
    for focus in (0.0, 1.0):
        crops = CropConfig(scale=(3.0, 3.0), focus=focus, min_visible=0.9)
        rows = of_folder(folder, crops=crops, size=64).rows("train")
        kept[focus] = np.mean(
            [(~rows[g]["crowd"] & (rows[g]["labels"] >= 0)).any() for g in range(60)]
        )
    assert kept[1.0] == 1 and kept[0.0] < 0.7


def test_crops_depend_on_seed_and_index_alone(folder):
    rows = of_folder(folder).rows("train")
    first = [rows[g] for g in (0, 30)]
    again = pickle.loads(pickle.dumps(of_folder(folder).rows("train")))
    for g, row in zip((30, 0), first[::-1], strict=True):
        assert all(np.array_equal(again[g][key], row[key]) for key in row)
    mirrored = [
        of_folder(folder, crops=CropConfig(flip=p, **PLAIN)).rows("train")[0] for p in (0, 1)
    ]
    np.testing.assert_array_equal(mirrored[0]["segments"], mirrored[1]["segments"][:, ::-1])


def test_the_most_frequent_classes_are_kept(folder):
    paths = sorted((folder / "masks" / "train").glob("*.png"))
    assert frequent_classes(paths, most=0).ids == (3, 7, 9)
    assert frequent_classes(paths, most=1).ids == (3,)  # sky is everywhere
    data = of_folder(folder, segment_classes=1)
    segments = data.source("train")[0]["segments"]
    assert data.segments == ("sky",) and set(np.unique(segments)) == {0, 255}
    with pytest.raises(ValueError, match="segment_classes=4: the masks have 3 classes"):
        of_folder(folder, segment_classes=4).source("train")


def test_masks_that_do_not_fit_are_named(folder):
    masks = folder / "masks"
    unmasked = of_folder(folder, masks=str(masks)).source("train")
    last = next(i for i in range(len(unmasked)) if unmasked.source.path(i).stem == "15")
    assert (unmasked[last]["segments"] == 255).all()
    Image.new("L", (5, 6)).save(masks / "train" / "15.png")
    with pytest.raises(ValueError, match="15.png: the mask is 5x6, 15.png is 64x40|40x64"):
        unmasked[last]
    Image.new("RGB", (5, 6)).save(masks / "colour.png")
    with pytest.raises(ValueError, match="colour.png: a mask of mode RGB"):
        read_mask(masks / "colour.png")
    assert (Masks(masks).name(9), Masks(masks).name(8)) == ("green thing", "8")
    for text, message in (("- person", "expected `classes:`"), ("classes: [", "classes.yaml: ")):
        (masks / "classes.yaml").write_text(text)
        with pytest.raises(ValueError, match=message):
            Masks(masks)
    with pytest.raises(FileNotFoundError, match="none: there is no such folder of masks"):
        of_folder(folder, masks=str(folder / "none")).source("train")


def test_a_folder_without_masks_has_no_classes_of_pixels(folder):
    (folder / "masks").rename(folder / "elsewhere")
    data = of_folder(folder)
    assert data.segments == () and (data.rows("train")[0]["segments"] == 255).all()
    with pytest.raises(ValueError, match="segment_classes=2.*masks is no folder"):
        of_folder(folder, segment_classes=2).source("train")


def test_a_picture_that_cannot_be_read_is_grey_and_without_labels(folder):
    data = of_folder(folder, crops=CropConfig(**PLAIN))
    (folder / "train" / "00.png").write_bytes(b"no picture")
    rows = data.rows("train")
    broken = next(row for row in (rows[g] for g in range(12)) if row["broken"])
    assert (broken["labels"] == -1).all() and broken["action"] == -1
    assert (broken["segments"] == 255).all()
