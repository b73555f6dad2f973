import hashlib
import json
import shutil

import cv2
import pytest

from jaxvision.data.skywatch import CLASSES, generate
from jaxvision.data.skywatch.__main__ import main
from jaxvision.data.skywatch.motion import clip
from jaxvision.data.skywatch.preset import train_preset

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

    for lost in ("val/000003.jpg", "annotations/instances_train.json"):  # someone deletes a file
        (root / lost).unlink()
        generate(root, **TINY, clips=2, frames=5)
        assert digest(root) == digest(folder)

    marker = json.loads((root / "skywatch.json").read_text())
    (root / "skywatch.json").write_text(json.dumps(marker | {"complete": False}))
    (root / "train" / "000002.jpg").write_bytes(b"older")  # cut short before it came to this one
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
