"""A small data set in COCO's form, for tests to write down and to spoil."""

import json

import numpy as np
from PIL import Image


def annotation(number: int, image: int, bbox, category: int = 7, **more) -> dict:
    return dict(id=number, image_id=image, category_id=category, bbox=bbox) | more


def good() -> dict:
    """Four images of 40 x 30, one of them empty. Category ids are neither 1, 2, … nor sorted."""
    names = ["a.png", "b.png", "ночь 夜.png", "d.png"]
    return dict(
        images=[
            dict(id=10 + k, file_name=name, width=40, height=30, clip=f"CLIP_{k:03d}")
            for k, name in enumerate(names)
        ],
        categories=[dict(id=9, name="drone"), dict(id=7, name="bird"), dict(id=12, name="meteor")],
        annotations=[
            annotation(1, 12, [1, 2, 10, 5], 9),
            annotation(2, 10, [3, 4, 8, 8]),
            annotation(3, 10, [0, 0, 40, 30], iscrowd=1),
            annotation(4, 11, [5.5, 6.5, 10, 10], 12, area=60.0),
            annotation(5, 10, [20, 10, 5, 5], 9),
        ],
    )


def write(root, data, *, name: str = "annotations.json", files=None):
    (root / "images").mkdir(exist_ok=True)
    for k, image in enumerate(data["images"] if isinstance(data, dict) else []):
        if files is None or image["file_name"] in files:
            pixels = np.full((30, 40, 3), 10 * k % 250, np.uint8)
            Image.fromarray(pixels).save(root / "images" / image["file_name"])
    (root / name).write_text(json.dumps(data))
    return root / "images", root / name


def changed(*path, value):
    data = good()
    place = data
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return data
