"""Boxes follow their pixels: rectangles are drawn, transformed, and found again by their colour."""

import dataclasses

import cv2
import numpy as np
import pytest
from PIL import Image

from jaxvision.data import geometry, mosaic, transforms
from jaxvision.data.annotations import Annotations, Counts
from jaxvision.data.coco import CocoSource
from jaxvision.data.colour import colour_jitter, motion_blur, noise
from jaxvision.data.pipeline import batches, iterate
from jaxvision.data.transforms import AugmentConfig, eval_examples, train_examples

COLOURS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0]], np.uint8)
BACK = np.uint8([40, 40, 40])


def drawing(height: int, width: int, boxes, labels=None) -> dict:
    """A sample whose object k is a rectangle in the colour of its label."""
    labels = list(range(len(boxes))) if labels is None else labels
    image = np.tile(BACK, (height, width, 1))
    for (x0, y0, x1, y1), label in zip(boxes, labels, strict=True):
        image[y0:y1, x0:x1] = COLOURS[label]
    return dict(
        image=image,
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        labels=np.array(labels, np.int32),
        crowd=np.zeros(len(boxes), bool),
        windows=np.array([[0, 0, width, height]]),
    )


def found(image: np.ndarray, label: int) -> np.ndarray | None:
    """The box of the pixels that are nearer to a label's colour than half way to anything else."""
    near = np.abs(image.astype(int) - COLOURS[label]).max(-1) < 108  # half of 255 - 40
    if not near.any():
        return None
    rows, columns = np.flatnonzero(near.any(1)), np.flatnonzero(near.any(0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


def check(sample: dict, atol: float = 1.0) -> int:
    """Compares every box with the pixels; returns how many there are."""
    for box, label in zip(sample["boxes"], sample["labels"], strict=True):
        np.testing.assert_allclose(found(sample["image"], label), box, atol=atol)
    return len(sample["boxes"])


THREE = [(10, 12, 30, 40), (50, 20, 90, 35), (60, 60, 75, 66)]


@pytest.mark.parametrize("size", [(64, 64), (160, 96), (150, 301)])
def test_letterbox(size):
    sample = drawing(80, 101, THREE)
    canvas, (scale, left, top) = geometry.letterbox(sample["image"], size)
    assert canvas.shape == (*size, 3) and canvas.dtype == np.uint8
    boxes = sample["boxes"] * scale + np.float32([left, top, left, top])
    assert check(sample | dict(image=canvas, boxes=boxes)) == 3
    assert (canvas[: int(top)] == geometry.GREY).all()
    assert (canvas[:, : int(left)] == geometry.GREY).all()


def test_letterbox_of_a_line_and_of_an_image_that_fits():
    assert geometry.letterbox(np.zeros((1, 900, 3), np.uint8), (64, 64))[0].shape == (64, 64, 3)
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    canvas, fit = geometry.letterbox(image, (4, 4))
    np.testing.assert_array_equal(canvas, image)
    np.testing.assert_array_equal(fit, [1, 0, 0])


def test_scaling_is_exact_at_the_far_edge():
    """Pixels are placed at x * scale, not at x * (rounded width / width): 0.4 px apart here."""
    ramp = np.zeros((4, 101, 3), np.uint8)
    ramp[:, 90:] = 255
    for scale in (0.37, 0.61, 1.7, 2.3):
        row = geometry.resize(ramp, scale)[0, :, 0] / 255
        edge = len(row) - row.sum()
        assert abs(edge - 90 * scale) < 0.02  # 8-bit values of the one or two pixels on the edge


def test_flip():
    flipped = geometry.flip(drawing(80, 101, THREE))
    assert check(flipped, atol=0) == 3
    np.testing.assert_array_equal(flipped["boxes"][0], [71, 12, 91, 40])
    back = geometry.flip(flipped)
    np.testing.assert_array_equal(back["image"], drawing(80, 101, THREE)["image"])


@pytest.mark.parametrize("seed", range(30))
def test_scale_jitter_and_crop(seed):
    rng = np.random.default_rng(seed)
    ratio = float(rng.uniform(0.3, 2.5))
    sample = geometry.scale_jitter(
        drawing(80, 101, THREE), (96, 128), rng, ratio=ratio, min_visible=0.0
    )
    assert sample["image"].shape == (96, 128, 3)
    check(sample, atol=1.5)
    shown = {k for k in range(3) if found(sample["image"], k) is not None}
    assert shown >= set(sample["labels"])
    for label in shown - set(sample["labels"].tolist()):  # only slivers may lose their box
        x0, y0, x1, y1 = found(sample["image"], label)
        assert min(x1 - x0, y1 - y0) <= 2


def test_a_crop_can_be_made_to_hold_an_object():
    small = drawing(200, 300, [(250, 20, 258, 26)], [2])
    held = kept = 0
    for seed in range(40):
        for focus in (0.0, 1.0):
            rng = np.random.default_rng(seed)
            sample = geometry.scale_jitter(small, (100, 150), rng, ratio=2.5, focus=focus)
            whole = (~sample["crowd"]).sum()
            kept, held = kept + whole * (focus == 0), held + whole * (focus == 1)
            check(sample, atol=1.5)
    assert held == 40 and kept < 30


def test_what_is_cut_down_to_little_becomes_a_region_to_ignore():
    sample = drawing(100, 100, [(0, 0, 40, 20), (50, 0, 60, 20), (90, 90, 99, 99)])
    options = dict(scale=1.0, origin=(0, 30), min_visible=0.3)
    placed = geometry.place(sample, (50, 50), **options)
    np.testing.assert_array_equal(placed["boxes"], [[0, 0, 10, 20], [20, 0, 30, 20]])
    assert placed["crowd"].tolist() == [True, False]  # a quarter of the first is seen
    assert placed["labels"].tolist() == [0, 1]


@pytest.mark.parametrize("seed", range(5))
def test_mosaic(seed):
    rng = np.random.default_rng(seed)
    size = (120, 160)
    regions = mosaic.quadrants(size, rng)
    assert sum(h * w for _, _, h, w in regions) == 120 * 160
    tiles = [
        geometry.scale_jitter(
            drawing(80, 101, [(30, 20, 60, 50)], [k]), r[2:], rng, ratio=1.2, min_visible=0.0
        )
        for k, r in enumerate(regions)
    ]
    joined = mosaic.mosaic(tiles, regions, size)
    assert joined["image"].shape == (*size, 3)
    assert check(joined, atol=1.5) >= 3
    for box, label in zip(joined["boxes"], joined["labels"], strict=True):
        top, left, h, w = regions[label]
        assert left <= box[0] and box[2] <= left + w and top <= box[1] and box[3] <= top + h


@pytest.mark.parametrize("seed", range(5))
def test_pasted_objects_have_their_box_and_hide_nothing(seed):
    rng = np.random.default_rng(seed)
    target = drawing(120, 160, [(20, 20, 90, 90)], [0])
    donor = drawing(
        120, 160, [(30, 30, 42, 40), (100, 60, 108, 72), (60, 100, 150, 118)], [1, 2, 3]
    )
    donor["image"] = np.clip(donor["image"].astype(int) + 20 * (donor["image"] == 40), 0, 255)
    donor["image"] = donor["image"].astype(np.uint8)
    before = target["image"].copy()
    pasted = mosaic.copy_paste(target, donor, rng, count=3)
    assert sorted(pasted["labels"].tolist()) == [0, 1, 2]  # the third is not small
    np.testing.assert_array_equal(target["image"], before)
    assert check(pasted, atol=2) == 3
    a, b, c = pasted["boxes"]
    for one, other in ((a, b), (a, c), (b, c)):
        assert not mosaic._overlaps(one, other[None]).any()
    changed = np.abs(pasted["image"].astype(int) - before).max(-1) > 0
    assert not changed[20:90, 20:90].any()
    # the surroundings were lighter by 20 and are brought to the target's grey: no halo
    around = pasted["image"][~np.isin(pasted["image"], (0, 255)).any(-1)]
    assert np.abs(around[around.max(-1) < 80].astype(int) - 40).max() <= 14
    assert len(mosaic.copy_paste(target, donor, rng, count=1)["boxes"]) == 2


def test_nothing_is_pasted_onto_padding():
    rng = np.random.default_rng(0)
    donor = drawing(60, 60, [(20, 20, 26, 28)])
    for seed in range(10):
        tile = geometry.scale_jitter(
            drawing(60, 60, []), (100, 100), np.random.default_rng(seed), ratio=0.5
        )
        left, top, right, bottom = tile["windows"][0]
        assert (right - left, bottom - top) == (50, 50)
        pasted = mosaic.copy_paste(tile, donor, rng, count=1)
        assert check(pasted, atol=2) == 1
        x0, y0, x1, y1 = pasted["boxes"][0]
        assert left <= x0 and top <= y0 and x1 <= right and y1 <= bottom
        outside = np.ones((100, 100), bool)
        outside[top:bottom, left:right] = False
        assert (pasted["image"][outside] == geometry.GREY).all()
    tiny = drawing(60, 60, []) | dict(windows=np.array([[0, 0, 9, 9]]))
    assert len(mosaic.copy_paste(tiny, donor, rng, count=1)["boxes"]) == 0


def test_objects_that_would_bring_others_along_are_not_pasted():
    donor = drawing(100, 100, [(20, 20, 30, 30), (31, 20, 40, 30), (0, 60, 10, 70)])
    target = drawing(100, 100, [])
    rng = np.random.default_rng(0)
    assert len(mosaic.copy_paste(target, donor, rng, count=3)["boxes"]) == 0


def test_colour_jitter_keeps_grey_grey_and_has_the_factors_asked_for():
    grey = np.full((8, 8, 3), 100, np.uint8)
    rng = np.random.default_rng(0)
    turned = colour_jitter(grey, rng, brightness=0, contrast=0, saturation=0.5, hue=0.2)
    assert np.abs(turned.astype(int) - 100).max() <= 1
    lights = [
        colour_jitter(grey, rng, brightness=0.3, contrast=0, saturation=0, hue=0)[0, 0, 0]
        for _ in range(200)
    ]
    assert 69 <= min(lights) < 76 and 124 < max(lights) <= 131
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 0] = 200
    third = colour_jitter(red, FixedTurn(), brightness=0, contrast=0, saturation=0, hue=1 / 3)
    np.testing.assert_allclose(third[0, 0], [0, 200, 0], atol=1)
    edge = np.repeat(np.array([50, 150], np.uint8), 12).reshape(1, 8, 3)
    wider = colour_jitter(edge, FixedTurn(), brightness=0, contrast=0.5, saturation=0, hue=0)
    np.testing.assert_allclose(wider[0, [0, -1], 0], [25, 175], atol=1)  # 1.5 times about 100


class FixedTurn:
    """A generator whose draws are all the largest."""

    def uniform(self, low, high, shape=None):
        return high if shape is None else np.full(shape, high)


def test_blur_and_noise_keep_the_mean():
    rng = np.random.default_rng(1)
    dot = np.zeros((41, 41, 3), np.uint8)
    dot[18:23, 18:23] = 250
    blurred = motion_blur(dot, rng, length=9)
    assert blurred.max() < 250 and abs(blurred.mean() / dot.mean() - 1) < 0.02
    centre = np.argwhere(blurred[..., 0] > 60).mean(0)
    np.testing.assert_allclose(centre, [20, 20], atol=0.6)
    grey = np.full((64, 64, 3), 100, np.uint8)
    grainy = noise(grey, rng, sigma=10)
    assert 0.5 < grainy.std() < 10.5 and abs(grainy.mean() - 100) < 1
    np.testing.assert_array_equal(grainy[..., 0], grainy[..., 2])


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
    sample["crowd"] = np.array([True, False, False])
    row = transforms.to_batch_row(sample, 5)
    kinds = {k: (v.shape, str(v.dtype)) for k, v in row.items()}
    assert kinds == dict(
        image=((50, 100, 3), "uint8"), boxes=((5, 4), "float32"), labels=((5,), "int32"),
        valid=((5,), "bool"), crowd=((5,), "bool"), index=((), "int32"), size=((2,), "int32"),
        letterbox=((3,), "float32"),
    )  # fmt: skip
    assert row["valid"].tolist() == [True, True, False, False, False]
    assert row["crowd"].tolist() == [False, False, True, False, False]
    np.testing.assert_allclose(row["boxes"][0], [0.7, 0.55, 0.4, 0.3])
    with pytest.raises(ValueError, match="max_boxes=2"):
        transforms.to_batch_row(sample, 2)
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
    with pytest.raises(ValueError, match="raise max_boxes to 3"):
        eval_examples(source, size=(64, 64), max_boxes=2)


def test_opencv_still_scales_by_the_factor_given():
    """`resize` relies on this: with a factor and no size, the factor is not recomputed."""
    image = np.random.default_rng(0).integers(0, 256, (31, 47, 3), dtype=np.uint8)
    exact = cv2.resize(image, None, fx=1.27, fy=1.27)
    rounded = cv2.resize(image, exact.shape[1::-1])
    assert exact.shape == rounded.shape and (exact != rounded).any()
