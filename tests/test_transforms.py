"""Rows of batches, for training and for evaluation: their boxes are found again in the picture."""

import dataclasses

import numpy as np
import pytest
from PIL import Image
from rectangles import THREE, check, drawing

from jaxvision.data import geometry, transforms
from jaxvision.data.annotations import Annotations, Counts
from jaxvision.data.coco import CocoSource
from jaxvision.data.pipeline import batches, iterate
from jaxvision.data.transforms import AugmentConfig, eval_examples, train_examples


def make_source(folder, samples, *, suffix="png", broken="skip") -> CocoSource:
    for k, sample in enumerate(samples):
        Image.fromarray(sample["image"]).save(folder / f"{k}.{suffix}", quality=98, subsampling=0)
    counts = [len(s["boxes"]) for s in samples]
    boxes = np.concatenate([s["boxes"] for s in samples])
    annotations = Annotations(
        file="memory.json",
        images=tuple(
            dict(file_name=f"{k}.{suffix}", id=k, height=height, width=width)
            for k, (height, width, _) in enumerate(s["image"].shape for s in samples)
        ),
        categories=("red", "green", "blue", "yellow"),
        category_ids=(1, 2, 3, 4),
        boxes=boxes,
        labels=np.concatenate([s["labels"] for s in samples]),
        crowd=np.concatenate([s["crowd"] for s in samples]),
        area=(boxes[:, 2:] - boxes[:, :2]).prod(1),
        first=np.concatenate([[0], np.cumsum(counts)]),
        counts=Counts(
            images=len(samples), objects=len(boxes), crowds=0, empty=0,
            clipped=0, dropped=0, orphans=0, repeated=0, examples={},
        ),
    )  # fmt: skip
    return CocoSource(annotations, folder, broken=broken)


@pytest.fixture
def source(tmp_path) -> CocoSource:
    return make_source(tmp_path, [drawing(80, 100 + k, THREE[k % 3 :]) for k in range(6)])


def row_as_sample(row: dict) -> dict:
    """A batch row back as a sample: inverse of `to_batch_row`, for `check`."""
    kept = row["valid"] | row["crowd"]
    assert not row["boxes"][~kept].any() and not (row["valid"] & row["crowd"]).any()
    centre, sides = np.split(row["boxes"][kept], 2, -1)
    height, width = row["image"].shape[:2]
    boxes = np.concatenate([centre - sides / 2, centre + sides / 2], -1) * ([width, height] * 2)
    return dict(image=row["image"], boxes=boxes, labels=row["labels"][kept])


SPATIAL = AugmentConfig(brightness=0, contrast=0, saturation=0, hue=0, min_visible=0.0)


@pytest.mark.parametrize("mosaics", [0.0, 1.0])
def test_training_rows_are_drawn_right(source, mosaics):
    config = dataclasses.replace(SPATIAL, mosaic=mosaics)
    examples = train_examples(source, config, size=(96, 128), max_boxes=16, seed=0)
    seen = 0
    for g in range(30):
        sample = row_as_sample(examples[g])
        once = [k for k, n in enumerate(np.bincount(sample["labels"], minlength=4)) if n == 1]
        keep = np.isin(sample["labels"], once)  # a mosaic may hold several of a colour
        part = dict(image=sample["image"], boxes=sample["boxes"][keep])
        seen += check(part | dict(labels=sample["labels"][keep]), atol=2)
    assert seen > 10


def test_training_rows_depend_on_seed_and_index_alone(source):
    config = AugmentConfig(mosaic=0.5, copy_paste=0.5, blur=0.3, noise=0.3)
    build = dict(size=(48, 64), max_boxes=8)
    one = batches(train_examples(source, config, seed=5, **build), batch=4, repeat=True)
    read = iterate(one, start=2, workers=1)
    for i, batch in zip(range(2, 5), read, strict=False):
        for key, value in one[i].items():
            np.testing.assert_array_equal(value, batch[key])
    read.close()
    again = batches(train_examples(source, config, seed=5, **build), batch=4, repeat=True)
    other = batches(train_examples(source, config, seed=6, **build), batch=4, repeat=True)
    assert (again[3]["image"] == one[3]["image"]).all()
    assert (other[3]["image"] != one[3]["image"]).any()
    epochs = [one[i]["image"][one[i]["index"] == 0] for i in (0, 1, 2, 3)]
    pictures = np.concatenate(epochs)
    assert len(pictures) >= 2 and (pictures[0] != pictures[1]).any()


def test_evaluation_rows_lead_back_to_the_file(source):
    examples = eval_examples(source, size=(96, 96), max_boxes=4)
    assert len(examples) == 6
    for i in range(6):
        row = examples[i]
        sample = row_as_sample(row)
        check(sample)
        scale, left, top = row["letterbox"]
        original = (sample["boxes"] - [left, top, left, top]) / scale
        np.testing.assert_allclose(original, source.objects(i)["boxes"], atol=1e-3)
        assert row["index"] == i and row["size"].tolist() == [80, 100 + i]


def test_a_large_jpeg_is_decoded_small_with_the_same_boxes(tmp_path):
    boxes = [(160, 96, 480, 320), (600, 400, 1000, 520), (700, 640, 780, 740)]
    source = make_source(tmp_path, [drawing(800, 1200, boxes)], suffix="jpg")
    small = source.sample(0, reduce=4)
    assert small["image"].shape == (200, 300, 3) and check(small) == 3
    row = eval_examples(source, size=(96, 128), max_boxes=4)[0]
    sample = row_as_sample(row)
    assert check(sample) == 3
    scale, left, top = row["letterbox"]
    np.testing.assert_allclose((sample["boxes"] - [left, top, left, top]) / scale, boxes, atol=1e-2)
    assert scale == pytest.approx(96 / 800) or scale == pytest.approx(128 / 1200)
    examples = train_examples(source, SPATIAL, size=(96, 128), max_boxes=4, seed=0)
    assert sum(check(row_as_sample(examples[g]), atol=1.5) for g in range(10)) > 15


def test_rows_have_fixed_shapes_and_keep_objects_before_crowds():
    sample = drawing(50, 100, THREE[:2] + [(0, 0, 5, 5)]) | dict(index=3, size=np.array([50, 100]))
    sample["broken"] = False
    sample["crowd"] = np.array([True, False, False])
    row = transforms.to_batch_row(sample, 5)
    kinds = {k: (v.shape, str(v.dtype)) for k, v in row.items()}
    assert kinds == dict(
        image=((50, 100, 3), "uint8"), boxes=((5, 4), "float32"), labels=((5,), "int32"),
        valid=((5,), "bool"), crowd=((5,), "bool"), index=((), "int32"), size=((2,), "int32"),
        letterbox=((3,), "float32"), broken=((), "bool"),
    )  # fmt: skip
    assert row["valid"].tolist() == [True, True, False, False, False]
    assert row["crowd"].tolist() == [False, False, True, False, False]
    np.testing.assert_allclose(row["boxes"][0], [0.7, 0.55, 0.4, 0.3])
    assert transforms.to_batch_row(sample, 1)["labels"].tolist() == [1]
    rng = np.random.default_rng(0)
    assert transforms.to_batch_row(sample, 2, rng=rng)["valid"].all()
    ones = [transforms.to_batch_row(sample, 1, rng=rng)["labels"][0] for _ in range(40)]
    assert set(ones) == {1, 2}


def test_unreadable_images_train_on_nothing_and_count_as_missed(tmp_path, caplog):
    source = make_source(tmp_path, [drawing(80, 100, THREE) for _ in range(2)])
    (tmp_path / "1.png").write_bytes(b"not an image")
    train = train_examples(source, SPATIAL, size=(64, 64), max_boxes=4, seed=0)
    rows = {int(row["index"]): row for row in (train[g] for g in range(2))}
    assert rows[0]["valid"].any() and not rows[1]["valid"].any()
    assert (rows[1]["image"] == geometry.GREY).all()
    assert rows[1]["broken"] and not rows[0]["broken"]
    row = eval_examples(source, size=(64, 64), max_boxes=4)[1]
    assert row["valid"].sum() == 3 and (row["image"] == geometry.GREY).all()
    assert list(source.unreadable) == [1] and "1.png" in source.unreadable[1]
    strict = CocoSource(source.annotations, tmp_path, broken="error")
    with pytest.raises(ValueError, match="1.png"):
        eval_examples(strict, size=(64, 64), max_boxes=4)[1]


def test_missing_files_are_not_trained_on_and_rare_classes_come_more_often(tmp_path):
    samples = [drawing(20, 20, [(2, 2, 12, 12)], [int(k == 3)]) for k in range(16)]
    source = make_source(tmp_path, samples)
    source.missing = frozenset({0, 5})
    config = dataclasses.replace(AugmentConfig.none(), rare=0.5)
    examples = train_examples(source, config, size=(8, 8), max_boxes=2, seed=0)
    drawn = np.bincount([examples[g]["index"] for g in range(4 * len(examples))], minlength=16)
    assert drawn[0] == drawn[5] == 0
    # class 1 is in 1 of 16 images: sqrt(0.5 * 16) = 2.8 times an epoch
    assert len(examples) == round(13 + 8**0.5) and 4 * 2 <= drawn[3] <= 4 * 3
    assert (np.delete(drawn, (0, 3, 5)) <= 4 * 2).all()


def test_no_augmentation_is_the_letterbox_at_a_random_place(source):
    plain = train_examples(source, AugmentConfig.none(), size=(96, 128), max_boxes=4, seed=0)
    for g in range(6):
        row = plain[g]
        canvas, _ = geometry.letterbox(source[int(row["index"])]["image"], (96, 128))
        assert sorted(row["image"].ravel()) == sorted(canvas.ravel())


def test_bad_settings_are_named(source):
    for name, value in (("flip", 1.5), ("hue", 1.0), ("scale", (2.0, 1.0)), ("scale", (0.0, 1.0))):
        with pytest.raises(ValueError, match=f"augment.{name}"):
            AugmentConfig(**{name: value})


def test_training_needs_room_for_all_objects_and_evaluation_does_not(source):
    limits = dict(size=(64, 64), max_boxes=2)
    with pytest.raises(ValueError, match="too few.*memory.json: 0.png has 3.*max_boxes=8, or 0"):
        train_examples(source, SPATIAL, seed=0, **limits)
    row = eval_examples(source, **limits)[0]
    np.testing.assert_array_equal(row["labels"][row["valid"]], source.objects(0)["labels"][:2])
    pasting = dataclasses.replace(SPATIAL, copy_paste=0.5, paste_count=6)
    assert [transforms.max_boxes_of(source, a) for a in (SPATIAL, pasting)] == [8, 16]
