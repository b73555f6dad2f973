"""Labelled rows: pixels, boxes and masks stay together; no picture is in both splits."""

import json
import pickle

import numpy as np
import pytest
from PIL import Image

from jaxvision.config import fields_of, from_config
from jaxvision.data.labelled import CropConfig, LabelledConfig, LabelledData, ScenesConfig
from jaxvision.data.labelled.masks import Masks, frequent_classes, read_mask
from jaxvision.data.labelled.scenes import CLASSES, scene
from jaxvision.data.labelled.split import hold_out_groups
from jaxvision.metrics.detection import CocoDetection

GREY, RED, GREEN, SKY = (100, 100, 100), (250, 10, 10), (10, 250, 10), (20, 20, 240)
PLAIN = dict(brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0)
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


def tight(mask):
    rows, columns = np.nonzero(mask)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


@pytest.fixture
def folder(tmp_path):
    """Sixteen frames of eight clips, a red or a green object in each, sky above, with masks.

    Ids of the masks: 3 sky, 7 red, 9 green, 0 none. The last frame has no mask.
    """
    rng = np.random.default_rng(0)
    (tmp_path / "train").mkdir()
    (tmp_path / "masks" / "train").mkdir(parents=True)
    images, annotations = [], []
    for i in range(16):
        height, width = (48, 64) if i % 3 else (64, 40)
        image = np.full((height, width, 3), GREY, np.uint8)
        mask = np.zeros((height, width), np.uint8)
        image[:10], mask[:10] = SKY, 3
        h, w = (int(n) for n in rng.integers(8, 14, 2))
        y, x = int(rng.integers(10, height - h)), int(rng.integers(0, width - w))
        green = i // 2 % 2
        image[y : y + h, x : x + w], mask[y : y + h, x : x + w] = (GREEN, 9) if green else (RED, 7)
        name = f"{i:02}.png"
        Image.fromarray(image).save(tmp_path / "train" / name)
        if i < 15:
            Image.fromarray(mask).save(tmp_path / "masks" / "train" / name)
        size = dict(width=width, height=height)
        images.append(dict(id=i, file_name=name, clip=f"clip{i // 2}", **size))
        entry = dict(id=i + 1, image_id=i, category_id=1 + green, bbox=[x, y, w, h], iscrowd=0)
        annotations.append(entry | dict(area=w * h))
    categories = [dict(id=1, name="red"), dict(id=2, name="green")]
    content = dict(images=images, annotations=annotations, categories=categories)
    (tmp_path / "instances_train.json").write_text(json.dumps(content))
    names = "classes:\n  0: unlabeled\n  3: sky\n  7: red thing\n  9: green thing\n"
    (tmp_path / "masks" / "classes.yaml").write_text(names)
    return tmp_path


def of_folder(folder, **fields):
    given = dict(kind="coco", root=str(folder), group="clip", holdout=4, size=32)
    return LabelledData(LabelledConfig(**(given | fields)), seed=0)


def test_rows_of_every_kind_have_the_same_form(folder):
    scenes = LabelledData(LabelledConfig(size=32, scenes=ScenesConfig(objects=2)), seed=0)
    for data in (scenes, of_folder(folder)):
        for split in ("train", "val"):
            row = data.rows(split)[1]
            form = {k: (np.shape(v), np.asarray(v).dtype.type) for k, v in row.items()}
            assert form == SHAPES
        batch = data.batches("train", batch=3)[5]
        assert batch["image"].shape == (3, 32, 32, 3) and batch["mask"].all()


def test_each_drawn_object_has_its_tight_box_and_the_commonest_class_names_the_scene():
    data = LabelledData(LabelledConfig(size=96), seed=3)
    rows, seen = data.rows("train"), np.zeros(len(CLASSES), int)
    several = 0
    for g in range(60):
        row = rows[g]
        real = row["labels"] >= 0
        left = row["segments"].copy()
        for box, label in zip(row["boxes"][real].astype(int), row["labels"][real], strict=True):
            x0, y0, x1, y1 = box
            inside = np.zeros_like(left, bool)
            inside[y0:y1, x0:x1] = row["segments"][y0:y1, x0:x1] == label + 1
            assert tight(inside) == box.tolist()
            left[inside] = 0
        assert not left.any()  # all else is background
        counts = np.bincount(row["labels"][real], minlength=len(CLASSES))
        several += np.count_nonzero(counts) > 1
        if real.any():
            assert counts[row["action"]] == counts.max() and (counts == counts.max()).sum() == 1
        else:
            assert row["action"] == -1
        seen += counts
        assert not row["crowd"].any() and not row["boxes"][~real].any()
    assert (seen > 0).all() and several > 5


def test_objects_are_painted_where_their_masks_say():
    behind = np.full((96, 96, 3), 128, np.uint8)
    for seed in range(8):
        cfg = ScenesConfig(empty=0.0, length=(0.3, 0.4))
        sample = scene(behind, cfg, np.random.default_rng(seed))
        change = np.abs(sample["image"].astype(int) - 128).max(axis=-1)
        objects = sample["segments"] > 0
        assert (change[objects] > 8).mean() > 0.9  # the least contrast is 0.16 of white, on average
        near = np.zeros_like(objects)  # blades and rotors reach out of the box
        for x0, y0, x1, y1 in sample["boxes"].astype(int):
            near[max(0, y0 - 12) : y1 + 12, max(0, x0 - 12) : x1 + 12] = True
        assert (change[~near] == 0).all() and (~near).any()


def test_scenes_depend_on_seed_and_index_alone_and_share_no_photograph():
    cfg = LabelledConfig(size=48, seed=7)
    first = LabelledData(cfg, seed=1)
    again = pickle.loads(pickle.dumps(LabelledData(cfg, seed=1).rows("train")))
    drawn = [first.rows("train")[g] for g in (5, 4096 + 5)]  # an epoch is of new scenes
    for g, row in zip((4096 + 5, 5), drawn[::-1], strict=True):
        assert all(np.array_equal(again[g][key], row[key]) for key in row)
    assert (drawn[0]["image"] != drawn[1]["image"]).any()
    other = LabelledData(cfg, seed=2)
    assert (other.rows("train")[5]["image"] != drawn[0]["image"]).any()
    np.testing.assert_array_equal(other.rows("val")[5]["image"], first.rows("val")[5]["image"])
    sets = [set(first.source(split).photographs) for split in ("train", "val")]
    assert not sets[0] & sets[1] and {p.stem for p in sets[1]} == {"astronaut", "chelsea", "coffee"}


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
    categories = 6 * ["a", "a", "b"] + 4 * ["b", "b", "a"]  # six groups are of a, four of b
    assert hold_out_groups(groups, categories, every=3) == {"g1", "g4", "g7"}
    shuffled = np.random.default_rng(0).permutation(30)
    mixed = [[x[i] for i in shuffled] for x in (groups, categories)]
    assert hold_out_groups(*mixed, every=3) == {"g1", "g4", "g7"}
    assert hold_out_groups(["one"], ["a"], every=3) == frozenset()  # it is needed to train on
    with pytest.raises(ValueError, match="every=1"):
        hold_out_groups(groups, categories, every=1)


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


@pytest.fixture
def davis(tmp_path):
    """Two clips: two objects that move one pixel a frame, and one that is gone in frame 1."""
    for split, clip in (("train", "two"), ("val", "one")):
        for kind in ("JPEGImages", "Annotations"):
            (tmp_path / "DAVIS" / kind / "480p" / clip).mkdir(parents=True)
        lists = tmp_path / "DAVIS" / "ImageSets" / "2017"
        lists.mkdir(parents=True, exist_ok=True)
        (lists / f"{split}.txt").write_text(f"{clip}\n")
        for t in range(2):
            mask = np.zeros((40, 60), np.uint8)
            if clip == "two":
                mask[5:10, 7 + t : 20 + t], mask[20:30, 30:40] = 1, 2
            elif t == 0:
                mask[4:8, 6:12] = 1
            image = Image.fromarray(mask)
            image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
            image.save(tmp_path / "DAVIS" / "Annotations" / "480p" / clip / f"{t:05}.png")
            frame = Image.new("RGB", (60, 40), (90, 90, 90))
            frame.save(tmp_path / "DAVIS" / "JPEGImages" / "480p" / clip / f"{t:05}.jpg")
    return tmp_path


def test_davis_gives_boxes_and_the_foreground(davis):
    data = LabelledData(LabelledConfig(kind="davis", root=str(davis), size=60), seed=0)
    assert (data.classes, data.actions, data.max_boxes) == (("object",), (), 8)
    train, val = data.source("train"), data.source("val")
    assert train[1]["boxes"].tolist() == [[8, 5, 21, 10], [30, 20, 40, 30]]
    assert [len(val[i]["boxes"]) for i in (0, 1)] == [1, 0]
    row = data.rows("val")[0]
    assert row["boxes"][0].tolist() == [6, 14, 12, 18] and row["action"] == -1  # 10 rows of margin
    assert set(np.unique(row["segments"])) == {0, 1, 255}
    assert tight(row["segments"] == 1) == [6, 14, 12, 18]
    assert [a["bbox"] for a in val.dataset["annotations"]] == [[6, 4, 6, 4]]
    with pytest.raises(FileNotFoundError, match="no JPEGImages/480p"):
        LabelledData(LabelledConfig(kind="davis", root=str(davis / "x")), seed=0).source("train")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(kind="voc"), "data.kind='voc'"),
        (dict(kind="coco"), "no pictures for kind 'coco'"),
        (dict(size=31), "data.size=31"),
        (dict(val_size=8), "data.val_size=8"),
        (dict(holdout=1), "data.holdout=1"),
        (dict(segment_classes=256), "data.segment_classes=256"),
        (dict(scenes=dict(objects=0)), "data.scenes.objects=0"),
        (dict(scenes=dict(empty=1.0)), "data.scenes.empty=1.0"),
        (dict(scenes=dict(length=(0.5, 0.2))), r"data.scenes.length=\(0.5, 0.2\)"),
        (dict(crops=dict(focus=1.5)), "data.crops.focus=1.5"),
        (dict(crops=dict(hue=1.0)), "data.crops.hue=1.0"),
        (dict(crops=dict(scale=(0.0, 1.0))), r"data.crops.scale=\(0.0, 1.0\)"),
    ],
)
def test_configs_are_checked(fields, message):
    with pytest.raises(ValueError, match=message):
        from_config(LabelledConfig, fields_of(LabelledConfig, fields), path="data.")


def test_rows_for_too_few_boxes_are_refused():
    data = LabelledData(LabelledConfig(max_boxes=3), seed=0)
    with pytest.raises(ValueError, match="max_boxes=3 is too few.*has 4 objects"):
        data.rows("train")
    with pytest.raises(ValueError, match="split 'test' is none of"):
        data.source("test")
