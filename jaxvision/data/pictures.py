"""Crops of photographs to train on, from a folder of any pictures or from the embedded ones."""

import dataclasses
import functools
from pathlib import Path

import cv2
import grain
import numpy as np
from absl import logging

from jaxvision.data.images import read_image
from jaxvision.data.photographs import photographs
from jaxvision.data.pipeline import Row, shuffled
from jaxvision.data.video import IMAGES, is_image

KEPT = 256  # decoded pictures, of which crops are taken again and again


@dataclasses.dataclass(frozen=True, kw_only=True)
class PicturesConfig:
    """A folder and the crops to take from it.

    `root` = "" means the photographs that come with the library, of which three are held out.
    `val` is a folder of its own; without one every `holdout`-th picture is held out. Training crops
    are of `crop` pixels, from pictures shrunk at random to at least `scale` of their size, which
    takes away the marks of an earlier JPEG.
    """

    root: str = ""
    val: str = ""
    holdout: int = 8
    crop: int = 128
    val_crop: int = 256
    scale: float = 0.5

    def __post_init__(self):
        for name in ("crop", "val_crop"):
            if getattr(self, name) < 8:
                raise ValueError(f"data.{name}={getattr(self, name)} must be at least 8")
        if self.holdout < 2:
            raise ValueError(f"data.holdout={self.holdout} must be at least 2")
        if not 0 < self.scale <= 1:
            raise ValueError(f"data.scale={self.scale} must be above 0, and at most 1")


def find_pictures(folder: Path) -> list[Path]:
    """The pictures below a folder, by name."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: there is no such folder")
    found = sorted(p for p in folder.rglob("*") if is_image(p))
    if not found:
        raise ValueError(f"{folder} holds no picture ({' '.join(sorted(IMAGES))})")
    return found


def split_pictures(cfg: PicturesConfig) -> dict[str, list[Path]]:
    """Paths by split, "train" and "val"."""
    if not cfg.root:
        return _embedded() | ({"val": find_pictures(Path(cfg.val))} if cfg.val else {})
    found = find_pictures(Path(cfg.root))
    if cfg.val:
        return {"train": found, "val": find_pictures(Path(cfg.val))}
    held = found[:: cfg.holdout]
    rest = [p for i, p in enumerate(found) if i % cfg.holdout]
    if not rest:
        raise ValueError(f"{cfg.root} holds one picture; a part of them is held out for evaluation")
    return {"train": rest, "val": held}


@functools.cache
def _embedded() -> dict[str, list[Path]]:
    """The embedded photographs. Says once, where a run's log has it too, that they are taken."""
    split = photographs()
    logging.warning(
        "data: no --config.data.root=FOLDER is given: %d photographs of scikit-image are trained "
        "on, %s are held out",
        len(split["train"]),
        ", ".join(path.stem for path in split["val"]),
    )
    return split


class Crops(grain.MapDataset[Row]):
    """Random crops `image` uint8 `[crop crop 3]`: entry g depends on (seed, g) alone."""

    def __init__(self, paths: list[Path], cfg: PicturesConfig, *, seed: int):
        super().__init__()
        self._paths, self._cfg, self._seed = paths, cfg, seed
        self._order = shuffled(len(paths), seed=seed)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return self.slice(index)
        rng = np.random.default_rng((self._seed, 1, int(index)))
        image = read_again(self._paths[self._order[int(index)]])
        return {"image": random_crop(image, self._cfg.crop, scale=self._cfg.scale, rng=rng)}


@functools.lru_cache(maxsize=KEPT)
def read_again(path: Path) -> np.ndarray:
    """`read_image` of a picture that will be asked for again; not to be written to."""
    image = read_image(path)
    image.flags.writeable = False
    return image


def random_crop(
    image: np.ndarray, size: int, *, scale: float, rng: np.random.Generator
) -> np.ndarray:
    """A part of `[h w 3]` at `scale` to 1 of its size, perhaps mirrored: `[size size 3]`.

    As small as asked for, but no smaller than the crop; a picture below that is enlarged.
    """
    least = size / min(image.shape[:2])
    scale = max(least, rng.uniform(min(1, max(scale, least)), 1))
    side = min(round(size / scale), *image.shape[:2])
    y, x = (int(rng.integers(n - side + 1)) for n in image.shape[:2])
    crop = image[y : y + side, x : x + side]
    if side != size:
        way = cv2.INTER_AREA if side > size else cv2.INTER_CUBIC
        crop = cv2.resize(crop, (size, size), interpolation=way)
    return np.ascontiguousarray(crop[:, ::-1] if rng.random() < 0.5 else crop)


class CentreCrops(grain.MapDataset[Row]):
    """The middle of each picture, uint8 `[crop crop 3]`; what is smaller is enlarged."""

    def __init__(self, paths: list[Path], *, crop: int):
        super().__init__()
        self._paths, self._crop = paths, crop

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return self.slice(index)
        image = read_image(self._paths[int(index)])
        size = self._crop
        least = size / min(image.shape[:2])
        image = resized(image, least) if least > 1 else image
        y, x = ((n - size) // 2 for n in image.shape[:2])
        return {"image": np.ascontiguousarray(image[y : y + size, x : x + size])}


def resized(image: np.ndarray, scale: float) -> np.ndarray:
    """By areas where it shrinks; sizes are rounded up."""
    height, width = (int(np.ceil(n * scale)) for n in image.shape[:2])
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return cv2.resize(image, (width, height), interpolation=way)
