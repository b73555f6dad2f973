"""What COFNet's configs say of grafts, and which category ids its results carry."""

import json
from pathlib import Path

import numpy as np
import pytest
from coco_files import good, write

from jaxvision import launch, settings
from jaxvision.stage import Graft

CONFIG = Path(__file__).parent.parent / "configs" / "cofnet.py"


def with_grafts(init_from):
    config = settings.load(f"{CONFIG}:tiny")
    config.data.root, config.data.names = "unread", ("airplane", "meteorite")
    config = settings.override(config, [f"--config.stages.detect.init_from={init_from}"])
    return launch.build(config).stages["detect"].init_from


def test_a_config_names_grafts_and_their_renames():
    assert with_grafts("('ssl', ('runs/a/b', ('^neck/', 'field/'), ('x', '')))") == (
        Graft(source="ssl"),
        Graft(source="runs/a/b", rename=(("^neck/", "field/"), ("x", ""))),
    )
    with pytest.raises(ValueError, match=r"init_from: \('\^a', 'b'\) is not \(source, "):
        with_grafts("('ssl', ('^a', 'b'))")  # a rename beside its source


WRONG = {
    "model.dtype='float15'": "model.dtype 'float15' is none of",
    "model.size=(0, 0)": r"model.size \(0, 0\) must be .height, width., multiples .* 8",
    "model.size=(64,)": r"model.size=\(64,\) must have 2 entries",
    "loss.slots.count=0": "slots.count=0 must be at least 1",
    "loss.slots.start=0.001": "sampler.start=0.002 is later than loss.slots.start=0.001",
    "sampler.start=0.001": "leaves 1 of 1000 times to sampler.steps=2: start from 0.002",
    "model.objective='eps' --config.loss.slots.aligned=0.0": "'eps' learns from aligned slots",
    "model.objective='eps' --config.loss.slots.assigner='hungarian'": "assigner='hungarian' cannot",
    "predict.score=2.0": "predict.score=2.0 must be from 0 to 1",
    "predict.tile=-3": "predict.tile=-3 must be at least 0",
    "predict.batch=0": "predict.batch=0 must be at least 1",
    "seed=-1": "seed=-1 must be >= 0",
    "stages.detect.best='val/mAP5'": "no metric 'val/mAP5'; did you mean 'val/mAP",
}


@pytest.mark.parametrize("setting", WRONG)
def test_a_bad_setting_is_named_before_anything_is_read(setting):
    config = settings.load(f"{CONFIG}:tiny")
    config.data.root, config.data.names = "unread", ("airplane", "meteorite")
    flags = [f"--config.{one}" for one in setting.replace("'", "").split(" --config.")]
    with pytest.raises(ValueError, match=WRONG[setting]):
        launch.build(settings.override(config, flags))


def test_results_carry_the_ids_of_the_data_set(tmp_path, compiles_once):
    data = good()
    ids = {7: 13, 9: 23, 12: 133}
    for entry in data["categories"]:
        entry["id"] = ids[entry["id"]]
    for entry in data["annotations"]:
        entry["category_id"] = ids[entry["category_id"]]
    images, annotations = write(tmp_path, data)
    run = tmp_path / "run"
    command = [f"--config={CONFIG}:tiny", f"--workdir={run}", "--config.stages.detect.steps=0"]
    command += [f"--config.data.images={images}", f"--config.data.annotations={annotations}"]
    command += ["--config.data.val=train", "--config.data.scenes.train=0"]
    command.append("--config.model.backbone.mixers=('conv', 'conv')")
    assert launch.main([*command, "--config.sampler.steps=0", "--config.predict.score=0"]) == 0
    annotations.rename(tmp_path / "away.json")  # the run's config says enough
    assert launch.main(["predict", f"--workdir={run}", f"--input={images}"]) == 0
    measured = json.loads((run / "detect" / "eval" / "0" / "detections.json").read_text())
    found = json.loads((run / "predictions" / "detections.json").read_text())
    names = {entry["id"]: entry["name"] for entry in data["categories"]}
    assert all(names[r["category_id"]] == r["category_name"] for r in found)
    for image in data["images"]:
        ours = [r for r in found if r["file_name"].endswith(image["file_name"])]
        theirs = [r for r in measured if r["image_id"] == image["id"]]
        assert [r["category_id"] for r in ours] == [r["category_id"] for r in theirs]
        np.testing.assert_allclose([r["bbox"] for r in ours], [r["bbox"] for r in theirs], atol=0.1)
