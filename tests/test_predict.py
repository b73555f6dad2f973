import json

import cv2
import numpy as np
import pytest
from PIL import Image

from jaxvision.cofnet.predict import predict
from jaxvision.data.video import Video, VideoWriter

NAMES = ("red", "blue")
SIZE = (96, 128)
SLOTS = 12


class BrightRectangles:
    """A detector that finds rectangles of pure red and blue, wherever the canvas shows them."""

    def __init__(self, size=SIZE, batch=3):
        self.shape = (batch, *size, 3)
        self.calls = 0

    def __call__(self, canvases):
        assert canvases.shape == self.shape and canvases.dtype == np.uint8
        self.calls += 1
        height, width = self.shape[1:3]
        found = {
            "boxes": np.zeros((len(canvases), SLOTS, 4), np.float32),
            "scores": np.zeros((len(canvases), SLOTS), np.float32),
            "labels": np.zeros((len(canvases), SLOTS), np.int32),
        }
        for i, canvas in enumerate(canvases):
            slot = 0
            for label, channel in ((0, 0), (1, 2)):
                others = np.delete(canvas, channel, axis=2).max(axis=2)
                bright = (canvas[..., channel] > 150) & (others < 60)
                _, _, stats, _ = cv2.connectedComponentsWithStats(bright.astype(np.uint8))
                for x, y, w, h, _ in stats[1:SLOTS]:
                    xyxy = np.array((x, y, x + w, y + h)) / (width, height, width, height)
                    found["boxes"][i, slot], found["labels"][i, slot] = xyxy, label
                    found["scores"][i, slot] = 0.9 - 0.01 * slot
                    slot += 1
        return found


def scene(h, w, *rectangles):
    image = np.full((h, w, 3), 40, np.uint8)
    for label, x0, y0, x1, y1 in rectangles:
        image[y0:y1, x0:x1] = ((255, 0, 0), (0, 0, 255))[label]
    return image


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return path


def run(inputs, output, *, size=SIZE, batch=3, detect=None, **options):
    detect = detect or BrightRectangles(size, batch)
    said = []
    made = predict(
        detect, inputs, output, names=NAMES, size=size, batch=batch, echo=said.append, **options
    )
    records = list(made)
    return records, found_in(output), said


def found_in(output):
    return json.loads((output / "detections.json").read_text(encoding="utf-8"))


def boxes_of(results, name):
    boxes = [[r["category_name"], *r["bbox"]] for r in results if r["file_name"].endswith(name)]
    return sorted([n, x, y, x + w, y + h] for n, x, y, w, h in boxes)


def test_boxes_come_back_in_pixels_of_images_of_any_shape(tmp_path):
    scenes = {
        "wide.png": (60, 400, (0, 10, 10, 50, 40), (1, 300, 0, 400, 30)),
        "tall.png": (500, 120, (1, 0, 400, 60, 500)),
        "same.png": (96, 128, (0, 30, 30, 70, 60)),
        "small.png": (24, 32, (0, 8, 8, 16, 16)),
        "none.png": (50, 50),
    }
    for name, (h, w, *rectangles) in scenes.items():
        save(tmp_path / "in" / name, scene(h, w, *rectangles))
    detect = BrightRectangles()
    records, results, _ = run([tmp_path / "in"], tmp_path / "out", detect=detect)
    assert [r["file"].rsplit("/")[-1] for r in records] == sorted(scenes)
    assert detect.calls == 2
    for name, (h, w, *rectangles) in scenes.items():
        pixel = max(h / SIZE[0], w / SIZE[1])
        found = boxes_of(results, name)
        expected = sorted([NAMES[label], *box] for label, *box in rectangles)
        assert [f[0] for f in found] == [e[0] for e in expected]
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one[1:], other[1:], atol=max(1, 1.01 * pixel))
        drawn = np.asarray(Image.open((tmp_path / "out" / name).with_suffix(".jpg")))
        assert drawn.shape == (h, w, 3)
    images = json.loads((tmp_path / "out" / "images.json").read_text())
    assert [i["image_id"] for i in images] == [1, 2, 3, 4, 5]
    by_id = {i["image_id"]: i for i in images}
    assert all(by_id[r["image_id"]]["file_name"] == r["file_name"] for r in results)
    assert {r["category_name"]: r["category_id"] for r in results} == {"red": 1, "blue": 2}


def test_pictures_show_the_boxes(tmp_path):
    path = save(tmp_path / "a.png", scene(300, 300, (1, 100, 100, 200, 200)))
    run([path], tmp_path / "out")
    drawn = np.asarray(Image.open(tmp_path / "out" / "a.jpg")).astype(int)
    changed = abs(drawn - scene(300, 300, (1, 100, 100, 200, 200))).max(axis=2) > 60
    assert changed[92:100, 100:200].any() and changed[100:200, 200:208].any()
    assert not changed[105:195, 105:195].any() and not changed[220:].any()


def test_scores_below_the_threshold_and_other_category_ids(tmp_path):
    path = save(tmp_path / "a.png", scene(96, 128, (0, 10, 10, 40, 40), (1, 60, 10, 90, 40)))
    _, results, _ = run([path], tmp_path / "out", score=0.895, category_ids=(7, 90))
    assert [r["category_id"] for r in results] == [7] and results[0]["score"] == pytest.approx(0.9)
    with pytest.raises(ValueError, match="1 category_ids for 2 names"):
        run([path], tmp_path / "out", category_ids=(7,))


def write_video(path, frames, fps=10):
    with VideoWriter(path, fps=fps, height=frames[0].shape[0], width=frames[0].shape[1]) as writer:
        for frame in frames:
            writer.write(frame)
    return path


def moving(count):
    return [scene(72, 160, (0, 8 * i, 20, 8 * i + 24, 44)) for i in range(count)]


def test_video_gives_boxes_per_frame_a_video_and_a_gif(tmp_path):
    path = write_video(tmp_path / "clip.mp4", moving(8), fps=20)
    still = save(tmp_path / "still.png", scene(72, 160, (1, 100, 20, 140, 44)))
    records, results, said = run([path, still], tmp_path / "out", gif=80)
    assert records[0]["frames"] == 8 and records[1]["detections"] == 1
    for i in range(8):
        (found,) = [r["bbox"] for r in results if r.get("frame") == i]
        np.testing.assert_allclose(found, (8 * i, 20, 24, 24), atol=4)  # 1.25 px and compression
    drawn = Video(tmp_path / "out" / "clip.mp4")
    assert (drawn.count, drawn.fps, drawn.height, drawn.width) == (8, 20, 72, 160)
    frame = list(drawn)[5].astype(int)
    assert (abs(frame - moving(8)[5]).max(axis=2) > 60)[8:20, 36:60].any()  # caption above
    with Image.open(tmp_path / "out" / "clip.gif") as gif:
        assert gif.size == (80, 36) and gif.n_frames == 4
    assert any("frame 8/8" in line and "frames/s" in line for line in said)


def test_unreadable_files_are_named_and_the_rest_goes_on(tmp_path):
    folder = tmp_path / "in"
    save(folder / "a.png", scene(96, 128, (0, 10, 10, 40, 40)))
    (folder / "b.png").write_bytes((folder / "a.png").read_bytes()[:60])
    (folder / "c.mp4").write_text("no video")
    save(folder / "d" / "a.png", scene(96, 128, (1, 10, 10, 40, 40)))
    out, said, records = tmp_path / "out", [], []
    made = predict(
        BrightRectangles(), [folder], out, names=NAMES, size=SIZE, batch=3, echo=said.append
    )
    with pytest.raises(ValueError, match=rf"2 of 4 inputs .*b\.png.* others is in {out}"):
        for record in made:
            records.append(record)
    assert ["error" in r for r in records] == [False, True, True, False]
    assert "b.png" in records[1]["error"] and "c.mp4" in records[2]["error"]
    assert [line.partition(":")[0] for line in said] == ["warning", "warning"]
    assert {r["image_id"] for r in found_in(out)} == {1, 2} and len(found_in(out)) == 2
    assert (out / "a.jpg").exists() and (out / "d" / "a.jpg").exists()


def test_an_interruption_keeps_what_is_done(tmp_path):
    path = write_video(tmp_path / "clip.mp4", moving(14))
    detect = BrightRectangles(batch=2)

    def interrupted(canvases):
        if detect.calls == 4:
            raise KeyboardInterrupt
        return detect(canvases)

    with pytest.raises(KeyboardInterrupt):
        run([path], tmp_path / "out", detect=interrupted, batch=2)
    results = json.loads((tmp_path / "out" / "detections.json").read_text())
    frames = len(list(Video(tmp_path / "out" / "clip.mp4")))
    assert frames == len(results) >= 4
    assert not list((tmp_path / "out").glob("*.partial"))


def test_a_consumer_that_stops_early_keeps_what_is_done(tmp_path):
    for name in "abcdef":
        save(tmp_path / f"{name}.png", scene(96, 128, (0, 10, 10, 40, 40)))
    made = predict(
        BrightRectangles(), [tmp_path / "?.png"], tmp_path / "out", names=NAMES, size=SIZE, batch=3
    )
    next(made), next(made)
    made.close()
    assert len(json.loads((tmp_path / "out" / "detections.json").read_text())) == 2


def test_broken_models_are_refused(tmp_path):
    path = save(tmp_path / "a.png", scene(96, 128, (0, 10, 10, 40, 40)))

    def not_finite(canvases):
        found = BrightRectangles()(canvases)
        return found | {"scores": found["scores"] * np.nan}

    def nameless(canvases):
        found = BrightRectangles()(canvases)
        return found | {"labels": found["labels"] + 2}

    for detect, message in ((not_finite, "not finite"), (nameless, "class 2")):
        with pytest.raises(ValueError, match=message):
            run([path], tmp_path / "out", detect=detect)


def test_equal_names_do_not_overwrite_each_other(tmp_path):
    for i, name in enumerate(("p/a.png", "q/a.png", "q/a.jpg")):
        save(tmp_path / name, np.full((20, 20 + i, 3), 40, np.uint8))
    records, _, _ = run([tmp_path / "p/a.png", tmp_path / "q"], tmp_path / "out")
    written = [r["written"] for r in records]
    assert len(set(written)) == 3
    widths = [Image.open(w).width for w in written]
    assert widths == [20, 22, 21]  # q/a.jpg sorts before q/a.png


def test_no_input_is_overwritten(tmp_path):
    path = save(tmp_path / "a.jpg", scene(96, 128, (0, 10, 10, 40, 40)))
    before = path.read_bytes()
    records, _, _ = run([path], tmp_path)
    assert path.read_bytes() == before and records[0]["written"].endswith("a-2.jpg")
    with pytest.raises(ValueError, match="name another folder"):
        run([tmp_path], tmp_path)


def test_tiles_find_small_objects_once_and_large_ones_whole(tmp_path):
    rectangles = [
        (0, 502, 300, 507, 304),  # tiny: lost on the canvas of the whole frame
        (0, 98, 60, 110, 70),  # across the first tile's right border
        (1, 20, 150, 620, 280),  # wider than a tile
        (1, 300, 20, 312, 30),
    ]
    path = save(tmp_path / "a.png", scene(480, 640, *rectangles))
    options = {"size": (128, 128), "batch": 4}
    _, without, _ = run([path], tmp_path / "whole", **options)
    _, results, _ = run([path], tmp_path / "tiled", tile=128, **options)
    expected = sorted([NAMES[label], *box] for label, *box in rectangles)
    assert len(without) < 4
    found = boxes_of(results, "a.png")
    assert len(found) == 4
    for one, other in zip(found, expected, strict=True):
        assert one[0] == other[0]
        exact = other[3] - other[1] < 128  # the wide one is seen in the whole frame, at 1 : 5
        np.testing.assert_allclose(one[1:], other[1:], atol=0.01 if exact else 5.1)
