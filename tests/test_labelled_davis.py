"""Frames of DAVIS: boxes and the foreground from the masks of objects."""

import numpy as np
import pytest
from labelled_folder import tight
from PIL import Image

from jaxvision.data.labelled import LabelledConfig, LabelledData


@pytest.fixture
def davis(tmp_path):
    """Two clips: two objects that move one pixel a frame, and one that is gone in frame 1."""
    for split, clip in (("train", "two"), ("val", "one")):
        for kind in ("JPEGImages", "Annotations"):
            (tmp_path / "DAVIS" / kind / "480p" / clip).mkdir(parents=True)
        lists = tmp_path / "DAVIS" / "ImageSets" / "2017"
        lists.mkdir(parents=True, exist_ok=True)
        (lists / f"{split}.txt").write_text(f"{clip}\n")
        for t in range(2):
            mask = np.zeros((40, 60), np.uint8)
            if clip == "two":
                mask[5:10, 7 + t : 20 + t], mask[20:30, 30:40] = 1, 2
            elif t == 0:
                mask[4:8, 6:12] = 1
            image = Image.fromarray(mask)
            image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
            image.save(tmp_path / "DAVIS" / "Annotations" / "480p" / clip / f"{t:05}.png")
            frame = Image.new("RGB", (60, 40), (90, 90, 90))
            frame.save(tmp_path / "DAVIS" / "JPEGImages" / "480p" / clip / f"{t:05}.jpg")
    return tmp_path


def test_davis_gives_boxes_and_the_foreground(davis):
    data = LabelledData(LabelledConfig(kind="davis", root=str(davis), size=60), seed=0)
    assert (data.classes, data.actions, data.max_boxes) == (("object",), (), 8)
    train, val = data.source("train"), data.source("val")
    assert train[1]["boxes"].tolist() == [[8, 5, 21, 10], [30, 20, 40, 30]]
    assert [len(val[i]["boxes"]) for i in (0, 1)] == [1, 0]
    row = data.rows("val")[0]
    assert row["boxes"][0].tolist() == [6, 14, 12, 18] and row["action"] == -1  # 10 rows of margin
    assert set(np.unique(row["segments"])) == {0, 1, 255}
    assert tight(row["segments"] == 1) == [6, 14, 12, 18]
    assert [a["bbox"] for a in val.dataset["annotations"]] == [[6, 4, 6, 4]]
    with pytest.raises(FileNotFoundError, match="no JPEGImages/480p"):
        LabelledData(LabelledConfig(kind="davis", root=str(davis / "x")), seed=0).source("train")
