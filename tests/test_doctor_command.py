"""The doctor's command line, and where it looks for the splits of a data set."""

import errno
import json
import shutil
from pathlib import Path

import cv2
import doctor_damage
from doctor_scenes import edit, examined, original, problems, root  # noqa: F401 - fixtures

from jaxvision import settings
from jaxvision.data.doctor import ERROR, OK, boxes, examine
from jaxvision.data.doctor.__main__ import default_size, main


def test_a_file_that_may_not_be_read_has_a_mend(root, monkeypatch, capsys):
    closed, opened = root / "annotations" / "instances_val.json", Path.open

    def refuse(path, *args, **options):
        if path == closed:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, *args, **options)

    monkeypatch.setattr(Path, "open", refuse)
    assert main([str(root)]) == 1
    said = capsys.readouterr().err
    assert said == f"error: {closed}: Permission denied; change its permissions\n"


def test_splits_that_a_training_asks_for(root, tmp_path, capsys):
    flat = tmp_path / "flat"
    flat.mkdir()
    data, _ = edit(root)
    (flat / "annotations.json").write_text(json.dumps(data))
    shutil.copytree(root / "train", flat / "images")
    text = "train and val are one file, annotations.json"
    assert text in problems(flat)[ERROR, "splits"]
    assert main([str(flat)]) == 1 and "do not train on this yet" in capsys.readouterr().out
    found = examined(flat, holdout=("id", 5, 1))
    assert "8 images to train on, 2 held out" in found[OK, "holdout"]
    assert main([str(flat), "--holdout", "id", "5", "1"]) == 0
    held = {image["id"] for image in data["images"] if image["id"] % 5 == 1}
    kept = [a for a in data["annotations"] if a["image_id"] not in held]
    (flat / "annotations.json").write_text(json.dumps(data | {"annotations": kept}))
    told = problems(flat, holdout=("id", 5, 1))[ERROR, "holdout"]
    assert "what is held out has 0 objects in 2 images" in told
    (flat / "annotations.json").write_text(json.dumps(data))
    assert not problems(flat, train="train", val="train")
    assert "images have no field 'clip'" in problems(flat, holdout=("clip", 5, 1))[ERROR, "holdout"]
    assert main([str(flat), "--holdout", "id", "5", "x"]) == 1
    assert "invalid literal" in capsys.readouterr().err

    (root / "val").rename(root / "valid")
    val = root / "annotations" / "instances_val.json"
    val.rename(val.with_name("instances_valid.json"))
    assert not problems(root)
    val.with_name("instances_valid.json").rename(val.with_name("instances_test.json"))
    (root / "valid").rename(root / "test")
    assert "val: " in problems(root)[ERROR, "splits"] and not problems(root, val="test")


def test_layouts(root, tmp_path, capsys):
    flat = tmp_path / "flat"
    flat.mkdir()
    shutil.copy(root / "annotations" / "instances_train.json", flat / "annotations.json")
    shutil.copytree(root / "train", flat / "images")
    assert list(problems(flat)) == [(ERROR, "splits")]  # one file for train and val
    export = tmp_path / "export"
    shutil.copytree(root / "val", export / "valid")
    val = root / "annotations" / "instances_val.json"
    shutil.copy(val, export / "valid" / "_annotations.coco.json")
    assert list(examine(export).as_dict()["splits"]) == ["valid"]
    assert "'train'" in problems(export)[ERROR, "splits"]
    assert not problems(None, images=root / "val", annotations=val)

    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "labels.csv").write_text("a,b")
    assert "labels.csv" in problems(empty)[ERROR, "layout"]
    shutil.move(root / "val", tmp_path / "elsewhere")  # the other split has the same file names
    assert "val: " in problems(root)[ERROR, "layout"]  # and those of train are not taken for its
    shutil.move(root / "train", tmp_path / "far")
    assert "instances_val.json" in problems(root)[ERROR, "layout"]
    for arguments in (["nowhere"], [str(root), "--images", str(root)], [str(root), "--size", "0"]):
        assert main(arguments) == 1
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1


def test_command(root, tmp_path, capsys):
    assert main([str(root), "--size", "96", "--sheet", str(tmp_path / "sheet.png")]) == 0
    printed = capsys.readouterr().out
    assert "0 errors" in printed and "meteorite" in printed and "train: " in printed
    for split in ("train", "val"):
        sheet = cv2.imread(str(tmp_path / f"sheet-{split}.png"))
        assert sheet.shape[1] > 1000 and sheet.std() > 10
    assert main([str(root), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["errors"] == 0 and set(report["splits"]) == {"train", "val"}
    assert report["sheets"] == ["doctor-train.png", "doctor-val.png"]
    assert all((tmp_path / name).exists() for name in report["sheets"])
    assert {"split", "level", "check", "text", "mend"} == set(report["findings"][0])

    (tmp_path / "doctor-train.png").unlink()
    assert main([str(root), "--sheet="]) == 0 and ".png" not in capsys.readouterr().out
    assert not (tmp_path / "doctor-train.png").exists()
    assert main([str(root)]) == 0 and "look at doctor-train.png" in capsys.readouterr().out

    data, save = edit(root)
    doctor_damage.corners(data)
    doctor_damage.renumber(data)
    data["annotations"][0]["bbox"] = [-50, 3, 1, 1]
    save()
    (root / "train" / "000000.jpg").write_bytes(b"")
    assert main([str(root), "--sheet", str(tmp_path / "bad.png")]) == 1
    assert (tmp_path / "bad-train.png").exists()
    assert "do not train on this yet" in capsys.readouterr().out


def test_the_bounds_are_those_of_the_preset(monkeypatch):
    config = settings.load("configs/cofnet.py:skywatch")
    assert default_size() == tuple(config.model.size)
    monkeypatch.setattr("jaxvision.config.has_gpu", lambda: False)
    slots = settings.load("configs/cofnet.py:skywatch").loss.slots
    assert boxes.MANY_OBJECTS == slots.count * slots.aligned
