"""What a split of SkyWatch scenes contains: classes, sizes, skies, cameras."""

import dataclasses
import functools

import numpy as np

from jaxvision.data.skywatch.camera import STEADY, WORN, CameraRange
from jaxvision.data.skywatch.looks import CLASSES
from jaxvision.data.skywatch.sky import HIGHLAND, LOWLAND, Family

VERSION = 1  # of the pictures: raise it whenever the same parameters draw others
DEFAULT_SIZE = 256
FLOCK_SHARE, FLOCK = 0.35, (3, 6)  # of birds: how often a flock, and of how many

# Lengths in pixels of a 256-pixel image: median, spread of the logarithm, bounds.
LENGTHS = {
    "airplane": (22, 0.40, 9, 48),
    "helicopter": (19, 0.35, 9, 44),
    "bird": (15, 0.30, 9, 32),
    "drone": (16, 0.32, 9, 36),
    "balloon": (17, 0.38, 7, 44),
    "satellite": (11, 0.22, 7, 18),
    "meteorite": (34, 0.38, 15, 64),
}
# How readily each class appears under each sky, in order of KINDS.
OCCURS = {
    "airplane": (1.0, 0.8, 0.9, 0.8),
    "helicopter": (1.0, 1.0, 0.7, 0.5),
    "bird": (1.0, 1.0, 0.8, 0.0),
    "drone": (1.0, 1.0, 0.8, 0.5),
    "balloon": (1.0, 0.7, 0.8, 0.2),
    "satellite": (0.0, 0.0, 0.12, 1.0),
    "meteorite": (0.04, 0.0, 0.25, 1.0),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preset:
    """One split.

    Args:
        stream: keeps the random numbers of splits apart.
        shares: wanted share of each class among the boxes, in order of CLASSES.
        empty: share of scenes without any object.
        camouflage: share of objects that take on much of the colour behind them, by preference at
            the edge of a cloud.
    """

    stream: int
    family: Family
    camera: CameraRange
    shares: tuple[float, ...]
    empty: float = 0.1
    camouflage: float = 0.2


@functools.cache
def odds(kinds: tuple[float, ...], shares: tuple[float, ...]) -> np.ndarray:
    """Odds of drawing each class under each sky, `[kinds classes]`, rows summing to 1.

    The classes' odds are fitted so that over all skies, which come in shares `kinds`, boxes come
    in the wanted `shares`, though a satellite needs a dark sky and one bird may bring a flock.
    """
    occurs = np.array([OCCURS[name] for name in CLASSES]).T
    flock = 1 + FLOCK_SHARE * (sum(FLOCK) / 2 - 1)
    boxes = np.array([flock if name == "bird" else 1.0 for name in CLASSES])
    wanted = np.array(shares) / boxes
    wanted = wanted / wanted.sum()
    fitted = wanted.copy()
    for _ in range(200):
        table = occurs * fitted
        table /= table.sum(axis=1, keepdims=True)
        fitted *= wanted / (np.array(kinds) @ table)
    table.setflags(write=False)
    return table


def shares(rare: float) -> tuple[float, ...]:
    """Uneven class shares with `rare` of the boxes meteorites."""
    if not 0 < rare < 0.2:
        raise ValueError(f"share of meteorites {rare}: give one between 0 and 0.2")
    others = {
        "airplane": 22,
        "helicopter": 14,
        "bird": 27,
        "drone": 17,
        "balloon": 11,
        "satellite": 9,
    }
    scale = (1 - rare) / sum(others.values())
    return tuple(rare if name == "meteorite" else others[name] * scale for name in CLASSES)


def train_preset(rare: float = 0.03) -> Preset:
    """Lowland skies through a good camera; meteorites are rare."""
    return Preset(stream=0, family=LOWLAND, camera=STEADY, shares=shares(rare))


def val_preset(rare: float = 0.11) -> Preset:
    """Highland skies through a worn camera.

    Meteorites have a larger share than in training, so that 400 scenes (some 850 boxes) hold the
    sixty and more that an average precision needs.
    """
    return Preset(stream=1, family=HIGHLAND, camera=WORN, shares=shares(rare))
