import cv2
import numpy as np
import pytest

from jaxvision.data.skywatch import CLASSES
from jaxvision.data.skywatch.looks import look
from jaxvision.data.skywatch.motion import METEOR_FRAMES, clip
from jaxvision.data.skywatch.preset import odds, shares, train_preset, val_preset
from jaxvision.data.skywatch.scene import EDGE, box, scene
from jaxvision.data.skywatch.sky import HIGHLAND, KINDS, LOWLAND, sky
from jaxvision.data.skywatch.sprite import MARGIN, render


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("size", [9, 40])
def test_boxes_are_tight(name, size):
    """Inside the box every border row and column holds a pixel of the object; outside none does."""
    rng = np.random.default_rng(size)
    kind = "night" if name in ("satellite", "meteorite") else "day"
    reach = 0.35 if name == "bird" else 0.2  # raised wings
    for _ in range(4):
        sprite = render(look(rng, name, kind), np.array([100.3, 50.6]), size)
        x0, y0, x1, y1 = (box(sprite.mask, sprite) - np.tile((sprite.left, sprite.top), 2)).astype(
            int
        )
        inside = sprite.mask > EDGE * sprite.mask.max()
        assert inside[y0:y1, x0:x1].sum() == inside.sum()
        assert inside[y0].any() and inside[y1 - 1].any()
        assert inside[:, x0].any() and inside[:, x1 - 1].any()
        assert 0 < y0 and 0 < x0 and max(y1, x1) < len(inside)  # the patch is large enough
        middle = (x0 + x1) / 2 + sprite.left, (y0 + y1) / 2 + sprite.top
        assert np.hypot(middle[0] - 100.3, middle[1] - 50.6) <= reach * size + 1.5
        assert 0.5 * size - 2 <= max(x1 - x0, y1 - y0) <= 1.2 * size + MARGIN


def test_box_follows_the_pixels_of_the_picture():
    """In a quiet picture, what the actor changes lies in its box."""
    preset, found = train_preset(), 0
    for index in range(40):
        drawn = scene(preset, 1, index, size=128)
        rng = np.random.default_rng((1, preset.stream, index))
        kind = str(rng.choice(KINDS, p=preset.family.kinds))
        assert drawn.kind == kind
        empty = 255 * sky(rng, kind, preset.family, 128, 128).image
        change = abs(cv2.blur(drawn.image.astype(np.float32) - empty, (3, 3))).max(axis=2)
        for x0, y0, x1, y1 in drawn.boxes.astype(int):
            inner = np.median(np.sort(change[y0:y1, x0:x1].ravel())[-12:])
            found += inner > 2 * np.median(change)
    boxes = sum(len(scene(preset, 1, i, size=128).boxes) for i in range(40))
    assert boxes > 50 and found > 0.9 * boxes


def test_classes_come_in_the_wanted_shares():
    for preset in (train_preset(), val_preset()):
        assert sum(preset.shares) == pytest.approx(1)
        table = odds(preset.family.kinds, preset.shares)
        np.testing.assert_allclose(table.sum(axis=1), 1)
        drawn = np.array(preset.family.kinds) @ table
        birds = CLASSES.index("bird")
        boxes = drawn * np.where(np.arange(7) == birds, 1 + 0.35 * 3.5, 1)
        np.testing.assert_allclose(boxes / boxes.sum(), preset.shares, rtol=1e-3)
        assert table[KINDS.index("overcast"), CLASSES.index("meteorite")] == 0
        assert table[KINDS.index("day"), CLASSES.index("satellite")] == 0
    assert 0.02 <= train_preset().shares[-1] <= 0.03 < val_preset().shares[-1]
    assert shares(0.05)[-1] == 0.05


def test_validation_has_enough_meteorites_and_small_objects():
    """A fifth of the default validation split has its part of the 60 meteorites of 400 scenes."""
    drawn = [scene(val_preset(), 0, i) for i in range(80)]
    labels = np.concatenate([s.labels for s in drawn])
    assert (labels == CLASSES.index("meteorite")).sum() >= 15
    assert set(labels) == set(range(7))
    boxes = np.concatenate([s.boxes for s in drawn])
    sides = boxes[:, 2:] - boxes[:, :2]
    longest = sides.max(axis=1)
    assert 13 <= np.median(longest) <= 19 and longest.max() <= 72 and sides.min() >= 2
    assert 0.3 <= (longest < 16).mean() <= 0.6
    assert 2 <= sum(len(s.labels) == 0 for s in drawn) <= 16


def test_splits_differ():
    assert LOWLAND != HIGHLAND
    assert train_preset().camera != val_preset().camera
    a, b = (scene(preset(), 0, 0, size=96).image for preset in (train_preset, val_preset))
    assert (a != b).mean() > 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_skies(kind):
    for family in (LOWLAND, HIGHLAND):
        for i in range(4):
            made = sky(np.random.default_rng(i), kind, family, 96, 120)
            assert made.image.shape == (96, 120, 3) and made.image.dtype == np.float32
            assert made.cloud.shape == (96, 120) and made.ground.shape == (120,)
            assert 0 <= made.image.min() and made.image.max() <= 1
            assert 0 <= made.cloud.min() and made.cloud.max() <= 1
            assert made.ground.min() >= 0.65 * 96
    bright = sky(np.random.default_rng(0), "day", LOWLAND, 64, 64).image.mean()
    assert bright > 2 * sky(np.random.default_rng(0), "night", LOWLAND, 64, 64).image.mean()


def test_motion():
    """Tracks keep their class and move smoothly; meteorites live 3 to 10 frames."""
    lives = []
    for index in range(40):
        made = clip(val_preset(0.19), 0, index, 16, size=96)
        assert made.frames.shape == (16, 96, 96, 3) and made.frames.dtype == np.uint8
        centres, kinds = {}, {}
        for t in range(16):
            assert len(made.boxes[t]) == len(made.labels[t]) == len(made.tracks[t])
            assert (made.boxes[t] >= 0).all() and (made.boxes[t] <= 96).all()
            rows = zip(made.tracks[t], made.boxes[t], made.labels[t], strict=True)
            for track, (x0, y0, x1, y1), label in rows:
                assert kinds.setdefault(track, label) == label
                centres.setdefault(track, []).append((t, (x0 + x1) / 2, (y0 + y1) / 2))
        for track, path in centres.items():
            path = np.array(path)
            if CLASSES[kinds[track]] == "meteorite":
                lives.append(len(path))
            elif len(path) > 1:
                step = abs(np.diff(path[:, 1:], axis=0)) / np.diff(path[:, :1], axis=0)
                assert step.max() <= 8  # pixels a frame, of which up to 4 as wings change the box
    assert len(lives) >= 5 and max(lives) <= METEOR_FRAMES[1] and np.median(lives) >= 3
