"""A small folder of labelled pictures whose colours say what each pixel is."""

import json

import numpy as np
import pytest
from PIL import Image

from jaxvision.data.labelled import LabelledConfig, LabelledData

GREY, RED, GREEN, SKY = (100, 100, 100), (250, 10, 10), (10, 250, 10), (20, 20, 240)


@pytest.fixture
def folder(tmp_path):
    """Sixteen frames of eight clips, a red or a green object in each, sky above, with masks.

    Ids of the masks: 3 sky, 7 red, 9 green, 0 none. The last frame has no mask.
    """
    rng = np.random.default_rng(0)
    (tmp_path / "train").mkdir()
    (tmp_path / "masks" / "train").mkdir(parents=True)
    images, annotations = [], []
    for i in range(16):
        height, width = (48, 64) if i % 3 else (64, 40)
        image = np.full((height, width, 3), GREY, np.uint8)
        mask = np.zeros((height, width), np.uint8)
        image[:10], mask[:10] = SKY, 3
        h, w = (int(n) for n in rng.integers(8, 14, 2))
        y, x = int(rng.integers(10, height - h)), int(rng.integers(0, width - w))
        green = i // 2 % 2
        image[y : y + h, x : x + w], mask[y : y + h, x : x + w] = (GREEN, 9) if green else (RED, 7)
        name = f"{i:02}.png"
        Image.fromarray(image).save(tmp_path / "train" / name)
        if i < 15:
            Image.fromarray(mask).save(tmp_path / "masks" / "train" / name)
        size = dict(width=width, height=height)
        images.append(dict(id=i, file_name=name, clip=f"clip{i // 2}", **size))
        entry = dict(id=i + 1, image_id=i, category_id=1 + green, bbox=[x, y, w, h], iscrowd=0)
        annotations.append(entry | dict(area=w * h))
    categories = [dict(id=1, name="red"), dict(id=2, name="green")]
    content = dict(images=images, annotations=annotations, categories=categories)
    (tmp_path / "instances_train.json").write_text(json.dumps(content))
    names = "classes:\n  0: unlabeled\n  3: sky\n  7: red thing\n  9: green thing\n"
    (tmp_path / "masks" / "classes.yaml").write_text(names)
    return tmp_path


def of_folder(folder, **fields):
    given = dict(kind="coco", root=str(folder), group="clip", holdout=4, size=32)
    return LabelledData(LabelledConfig(**(given | fields)), seed=0)


def tight(mask):
    rows, columns = np.nonzero(mask)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
