import numpy as np
import pytest

from jaxvision import draw

NAMES = ("airplane", "метеорит")
GREY = 90


def canvas(h, w):
    return np.full((h, w, 3), GREY, np.uint8)


def painted(image):
    return (image != GREY).any(axis=2)


@pytest.mark.parametrize("side", [200, 640, 4000])
def test_a_frame_is_visible_at_every_size_and_covers_no_pixel_of_its_object(side):
    image = canvas(side, side)
    x = side // 2
    for extent in (2, 10, side // 4):
        drawn = draw.draw_boxes(image, [[x, x, x + extent, x + extent]], [0], NAMES, [0.5])
        assert not painted(drawn)[x : x + extent, x : x + extent].any()
        frame = (drawn == draw.class_colour(0)).all(axis=2)
        line = round(side * 0.003)
        assert frame[x + extent // 2].sum() >= 2 * line  # left and right edge
        gap = np.flatnonzero(frame[x + extent // 2, :x]).max()
        assert x - gap - 1 == (draw.GAP * line if extent < draw.TINY * line else 0)
    assert not painted(image).any()  # the argument stays as it was


@pytest.mark.parametrize("corner", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_captions_stay_inside_and_off_the_object(corner):
    h, w = 120, 300
    y, x = corner[0] * (h - 8), corner[1] * (w - 8)
    bare = draw.draw_boxes(canvas(h, w), [[x, y, x + 8, y + 8]], [1], NAMES, captions=[""])
    full = draw.draw_boxes(canvas(h, w), [[x, y, x + 8, y + 8]], [1], NAMES, [0.25])
    caption = (full != bare).any(axis=2)
    width = draw._text("метеорит 0.25", 10, draw.class_colour(1), w).shape[1]
    ys, xs = np.nonzero(caption)
    assert xs.max() - xs.min() + 1 == width  # nothing cut off
    assert not caption[y : y + 8, x : x + 8].any()


def test_captions_avoid_one_another_and_other_objects():
    boxes = [[100, 100, 110, 110], [140, 100, 150, 110], [120, 140, 130, 150]]
    drawn = draw.draw_boxes(canvas(300, 300), boxes, [0, 1, 0], NAMES, [0.9, 0.8, 0.7])
    alone = [draw._text(t, 10, draw.class_colour(c), 300).shape for t, c in
             (("airplane 0.90", 0), ("метеорит 0.80", 1), ("airplane 0.70", 0))]  # fmt: skip
    frames = draw.draw_boxes(canvas(300, 300), boxes, [0, 1, 0], NAMES, captions=["", "", ""])
    added = (drawn != frames).any(axis=2).sum()
    assert added >= 0.95 * sum(h * w for h, w, _ in alone)
    for x0, y0, x1, y1 in boxes:
        np.testing.assert_array_equal(drawn[y0:y1, x0:x1], frames[y0:y1, x0:x1])


def test_whole_image_boxes_and_images_narrower_than_the_caption():
    drawn = draw.draw_boxes(canvas(20, 24), [[-5, -5, 99, 99]], [0], NAMES, [0.5])
    assert drawn.shape == (20, 24, 3)
    edge = (drawn == draw.class_colour(0)).all(axis=2)
    assert edge[-1].all() and edge[:, -1][-3:].all()


def test_class_colours_are_fixed_and_distinct():
    colours = [draw.class_colour(i) for i in range(80)]
    assert colours == [draw.class_colour(i) for i in range(80)]
    assert len(set(colours)) == 80
    assert all(len(c) == 3 and 0 <= min(c) and max(c) <= 255 for c in colours)


def test_the_best_scored_box_lies_on_top():
    boxes = [[20, 20, 60, 60], [20, 20, 60, 60]]
    for scores, top in (([0.9, 0.1], 0), ([0.1, 0.9], 1)):
        drawn = draw.draw_boxes(canvas(99, 99), boxes, [0, 1], NAMES, scores, captions=["", ""])
        assert tuple(drawn[19, 40]) == draw.class_colour(top)


def test_no_boxes_draw_nothing():
    assert not painted(draw.draw_boxes(canvas(9, 9), np.zeros((0, 4)), [], NAMES, [])).any()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((np.zeros((4, 4)), [[0, 0, 1, 1]], [0], NAMES), "uint8"),
        ((canvas(4, 4), [[0, 0, 1, 1]], [2], NAMES), "labels"),
        ((canvas(4, 4), [[0, 0, 1, 1]], [0, 1], NAMES), "labels: 2 for 1"),
        ((canvas(4, 4), [[0, 0, np.nan, 1]], [0], NAMES), "not finite"),
        ((canvas(4, 4), [[0, 0, 1, 1]], [0], NAMES, [0.1, 0.2]), "scores: 2 for 1"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        draw.draw_boxes(*arguments)


def test_grid_places_every_image_in_its_cell():
    images = [np.full((10, 20, 3), 50 * (i + 1), np.uint8) for i in range(5)]
    sheet = draw.grid(images, 3, 40)
    margin = 2
    assert sheet.shape == (2 * 42 + margin, 3 * 42 + margin, 3)
    for i, image in enumerate(images):
        y, x = margin + i // 3 * 42, margin + i % 3 * 42
        cell = sheet[y : y + 40, x : x + 40]
        np.testing.assert_array_equal(cell[10:30], np.broadcast_to(image[0, 0], (20, 40, 3)))
        assert (cell[:10] == draw.BACKGROUND).all() and (cell[30:] == draw.BACKGROUND).all()
    titled = draw.grid(images, 3, (40, 60), [f"image {i}" for i in range(5)])
    assert titled.shape[0] > sheet.shape[0]
    assert (titled[:16] > 128).any()  # the text of the first title row
    assert draw.grid(images[:2], 9, 40).shape[1] == 2 * 42 + margin


def test_grid_refuses_nothing_to_show():
    with pytest.raises(ValueError, match="needs images"):
        draw.grid([], 3, 40)
    with pytest.raises(ValueError, match="titles: 1 for 2"):
        draw.grid([canvas(4, 4)] * 2, 3, 40, ["one"])
