"""Photographs that are there without a download: those in scikit-image's wheel.

Only files whose terms are stated there, in the docstrings of `skimage.data`, and which show the
real world. Left out: what states no terms (`motorcycle`, `moon`, `page`), drawings, and pictures of
a few pixels or of no light (`microaneurysms`, `cell`).
"""

import importlib.resources
from collections.abc import Mapping
from pathlib import Path

# File -> what it shows, its terms in scikit-image's words. Grey ones are read as RGB.
TEST: Mapping[str, str] = {
    "astronaut.png": "Eileen Collins, NASA; released into the public domain",
    "chelsea.png": "a cat; CC0 by the photographer, Stefan van der Walt",
    "coffee.png": "a cup; CC0 by the photographer, Rachel Michetti",
}
TRAIN: Mapping[str, str] = {
    "brick.png": "a wall, grey; CC0, CC0Textures",
    "camera.png": "a photographer, grey; CC0 by the photographer, Lav Varshney",
    "clock_motion.png": "a clock, grey; public domain by the photographer, Stefan van der Walt",
    "coins.png": "Greek coins, grey; Brooklyn Museum, no known copyright restrictions",
    "grass.png": "grass, grey; CC0, linolafett on DeviantArt",
    "gravel.png": "gravel, grey; CC0, CC0Textures",
    "hubble_deep_field.jpg": "galaxies, NASA; public domain",
    "ihc.png": "stained tissue, CMMI; no known copyright restrictions",
    "retina.jpg": "the back of an eye; CC0, Mikael Häggström",
    "rocket.jpg": "a launch, SpaceX; released in the public domain",
}


def photographs() -> dict[str, list[Path]]:
    """Paths of the photographs by split: "train" and "val", which is never trained on."""
    folder = Path(str(importlib.resources.files("skimage"))) / "data"
    split = {
        "train": [folder / name for name in TRAIN],
        "val": [folder / name for name in TEST],
    }
    for path in (*split["train"], *split["val"]):
        if not path.is_file():
            raise FileNotFoundError(
                f"{path}: not in this version of scikit-image; give --config.data.root=FOLDER"
            )
    return split
