"""Boxes follow their pixels: rectangles are drawn, transformed, and found again by their colour."""

import cv2
import numpy as np
import pytest
from rectangles import THREE, check, drawing, found

from jaxvision.data import geometry, mosaic
from jaxvision.data.colour import colour_jitter, motion_blur, noise


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


def test_opencv_still_scales_by_the_factor_given():
    """`resize` relies on this: with a factor and no size, the factor is not recomputed."""
    image = np.random.default_rng(0).integers(0, 256, (31, 47, 3), dtype=np.uint8)
    exact = cv2.resize(image, None, fx=1.27, fy=1.27)
    rounded = cv2.resize(image, exact.shape[1::-1])
    assert exact.shape == rounded.shape and (exact != rounded).any()
