import hashlib
import json
import shutil

import cv2
import numpy as np
import pytest

from jaxvision.data.skywatch import CLASSES, generate
from jaxvision.data.skywatch.__main__ import main
from jaxvision.data.skywatch.looks import look
from jaxvision.data.skywatch.motion import METEOR_FRAMES, clip
from jaxvision.data.skywatch.preset import odds, shares, train_preset, val_preset
from jaxvision.data.skywatch.scene import EDGE, box, scene
from jaxvision.data.skywatch.sky import HIGHLAND, KINDS, LOWLAND, sky
from jaxvision.data.skywatch.sprite import MARGIN, render

TINY = dict(train=12, val=6, size=128, seed=3, workers=1)


def digest(root):
    files = sorted(p for p in root.rglob("*") if p.is_file())
    return {
        str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in files
        if p.suffix != ".mp4"  # a video's bytes are the encoder's business
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return generate(tmp_path_factory.mktemp("skywatch") / "scenes", **TINY, clips=2, frames=5)


def coco(folder, split):
    return json.loads((folder / "annotations" / f"instances_{split}.json").read_text())


def test_folder_is_coco(folder):
    for split, count in (("train", 12), ("val", 6)):
        data = coco(folder, split)
        assert [c["name"] for c in data["categories"]] == list(CLASSES)
        assert len(data["images"]) == len(list((folder / split).iterdir())) == count
        for record in data["images"]:
            picture = cv2.imread(str(folder / split / record["file_name"]))
            assert picture.shape == (record["height"], record["width"], 3) == (128, 128, 3)
        ids = [a["id"] for a in data["annotations"]]
        assert len(set(ids)) == len(ids) > 0
        for a in data["annotations"]:
            x, y, w, h = a["bbox"]
            assert x >= 0 and y >= 0 and w > 0 and h > 0 and x + w <= 128 and y + h <= 128
            assert a["area"] == w * h and a["iscrowd"] == 0 and 1 <= a["category_id"] <= 7
            assert 1 <= a["image_id"] <= count


def test_same_bytes_whatever_the_workers(folder, tmp_path):
    other = generate(tmp_path / "other", **{**TINY, "workers": 3}, clips=2, frames=5)
    assert digest(other) == digest(folder)
    differs = generate(tmp_path / "seed", **{**TINY, "seed": 4}, clips=2, frames=5)
    same = set(digest(differs).items()) & set(digest(folder).items())
    assert not same


def test_a_complete_folder_is_left_alone_and_a_cut_one_is_finished(folder, tmp_path):
    root = tmp_path / "scenes"
    shutil.copytree(folder, root)
    before = {p: p.stat().st_mtime_ns for p in root.rglob("*")}
    assert generate(root, **TINY, clips=2, frames=5) == root
    assert {p: p.stat().st_mtime_ns for p in root.rglob("*")} == before

    (root / "val" / "000003.jpg").unlink()  # someone deletes a picture
    generate(root, **TINY, clips=2, frames=5)
    assert digest(root) == digest(folder)

    marker = json.loads((root / "skywatch.json").read_text())
    (root / "skywatch.json").write_text(json.dumps(marker | {"complete": False}))
    (root / "annotations" / "instances_train.json").unlink()  # cut short while writing
    (root / "train" / "000002.jpg").write_bytes(b"half")
    generate(root, **TINY, clips=2, frames=5)
    assert digest(root) == digest(folder)


def test_marker_is_written_last(tmp_path, monkeypatch):
    from jaxvision.data.skywatch import folder as module

    def fail(*_):
        raise OSError("the disk is full")

    monkeypatch.setattr(module, "stills_json", fail)
    with pytest.raises(OSError, match="disk is full"):
        generate(tmp_path / "scenes", **TINY)
    assert json.loads((tmp_path / "scenes" / "skywatch.json").read_text())["complete"] is False
    monkeypatch.undo()
    generate(tmp_path / "scenes", **TINY)
    assert json.loads((tmp_path / "scenes" / "skywatch.json").read_text())["complete"] is True


def test_bad_requests_are_refused(folder, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(ValueError, match="holds something else"):
        generate(tmp_path / "mine", **TINY)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "precious"
    with pytest.raises(ValueError, match=r"size=128 \(wanted 160\)"):
        generate(folder, **{**TINY, "size": 160}, clips=2, frames=5)
    with pytest.raises(ValueError, match="is a file"):
        generate(tmp_path / "mine" / "thesis.txt", **TINY)
    for name, value in (
        ("train", -1),
        ("size", 8),
        ("workers", 0),
        ("rare", 0.9),
        ("clip_format", "gif"),
    ):
        with pytest.raises(ValueError, match=str(value)):
            generate(tmp_path / "new", **{**TINY, name: value})
    assert not (tmp_path / "new").exists()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "skywatch.json").write_text("{")
    with pytest.raises(ValueError, match="damaged"):
        generate(tmp_path / "broken", **TINY)


def test_a_file_in_the_way_is_one_clear_line(tmp_path, capsys):
    (tmp_path / "scenes").mkdir()
    generate(tmp_path / "scenes", **{**TINY, "train": 1, "val": 0})
    (tmp_path / "scenes" / "train" / "000000.jpg").unlink()
    (tmp_path / "scenes" / "train").rmdir()
    (tmp_path / "scenes" / "train").write_text("in the way")
    arguments = ["--train", "1", "--val", "0", "--size", "128", "--seed", "3"]
    assert main([str(tmp_path / "scenes"), *arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: cannot write") and error.count("\n") == 1


def test_command_prints_a_table(folder, capsys):
    arguments = "--train 12 --val 6 --size 128 --seed 3 --clips 2 --frames 5".split()
    assert main([str(folder), *arguments]) == 0
    printed = capsys.readouterr().out
    assert "train: 12 images" in printed and "val: 6 images" in printed
    total = len(coco(folder, "train")["annotations"])
    rows = printed.split("train: ")[1].splitlines()[2:9]
    assert [row.split()[0] for row in rows] == list(CLASSES)
    assert sum(int(row.split()[1]) for row in rows) == total
    assert sum(int(n) for row in rows for n in row.split()[3:]) == total


def test_clips_are_coco_with_video_fields(folder):
    data = coco(folder, "clips")
    assert [v["length"] for v in data["videos"]] == [5, 5]
    assert [(i["video_id"], i["frame_id"]) for i in data["images"]] == [
        (v, f) for v in (1, 2) for f in range(5)
    ]
    for image in data["images"]:
        assert (folder / "clips" / image["file_name"]).is_file()
    assert all(a["track_id"] >= 1 for a in data["annotations"])


def test_clips_as_video(tmp_path):
    root = generate(tmp_path, train=0, val=0, size=96, clips=1, frames=6, clip_format="mp4")
    video = cv2.VideoCapture(str(root / "clips" / "000000.mp4"))
    frames = []
    while (read := video.read())[0]:
        frames.append(read[1])
    assert len(frames) == 6 and frames[0].shape == (96, 96, 3)
    original = clip(train_preset(), 0, 0, 6, size=96).frames[0]
    assert abs(frames[0][..., ::-1].astype(int) - original).mean() < 12


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("size", [9, 40])
def test_boxes_are_tight(name, size):
    """Inside the box every border row and column holds a pixel of the object; outside none does."""
    rng = np.random.default_rng(size)
    kind = "night" if name in ("satellite", "meteorite") else "day"
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
