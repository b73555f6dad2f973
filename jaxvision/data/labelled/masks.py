"""Masks of class ids: one PNG a picture, and the classes that are kept of them."""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from jaxvision.data.labelled.row import UNLABELLED

NAMES = "classes.yaml"
COUNTED = 1000  # pictures that are looked at to find the most frequent classes


class Masks:
    """A folder of masks named like the pictures, below a folder like theirs or not.

    Its `classes.yaml` may name the ids: `classes: {1: person, …}`. 0 is unlabelled, and so is
    every pixel of a picture without a mask.
    """

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise FileNotFoundError(f"{folder}: there is no such folder of masks")
        self._names = read_names(self.folder / NAMES)

    def path(self, picture: Path) -> Path | None:
        """The mask of a picture, if it has one."""
        name = f"{picture.stem}.png"
        near = (self.folder / picture.parent.name / name, self.folder / name)
        return next((path for path in near if path.is_file()), None)

    def name(self, number: int) -> str:
        return self._names.get(number, str(number))


def read_names(file: Path) -> dict[int, str]:
    """Names by id; none where there is no file."""
    if not file.is_file():
        return {}
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{file}: {error}") from error
    names = content.get("classes") if isinstance(content, dict) else None
    if not isinstance(names, dict) or not all(type(i) is int for i in names):
        raise ValueError(f"{file}: expected `classes:` with a name for each number")
    return {i: str(name) for i, name in names.items()}


@dataclasses.dataclass(frozen=True)
class Classes:
    """The ids that are kept; class k is `ids[k]`, every other pixel is unlabelled."""

    ids: tuple[int, ...]

    def index(self, mask: np.ndarray) -> np.ndarray:
        """uint8 `[h w]` of ids -> of class numbers."""
        table = np.full(256, UNLABELLED, np.uint8)
        table[list(self.ids)] = np.arange(len(self.ids))
        return table[mask]


def read_mask(path: Path) -> np.ndarray:
    """The numbers in a PNG, uint8 `[h w]`: its grey levels, or its palette's places."""
    with Image.open(path) as image:
        if image.mode not in ("L", "P"):
            raise ValueError(f"{path}: a mask of mode {image.mode}, not grey or a palette")
        return np.array(image)


def frequent_classes(paths: Sequence[Path], *, most: int) -> Classes:
    """The `most` ids with the most pixels in masks, 0 for all there are, in order of the ids.

    Of many masks some are looked at, evenly spaced.
    """
    pixels = np.zeros(256, np.int64)
    for path in _spread(paths):
        pixels += np.bincount(read_mask(path).ravel(), minlength=256)
    pixels[0] = 0
    found = np.argsort(-pixels, kind="stable")[: np.count_nonzero(pixels)]
    if not len(found):
        raise ValueError(f"no pixel has a class in the masks of {paths[0].parent}")
    if most > len(found):
        raise ValueError(f"labelled.segment_classes={most}: the masks have {len(found)} classes")
    return Classes(tuple(sorted(found[: most or UNLABELLED].tolist())))


def _spread(paths: Sequence[Path]) -> Iterable[Path]:
    return paths[:: -(-len(paths) // COUNTED)]
