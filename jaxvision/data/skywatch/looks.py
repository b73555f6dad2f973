"""How one object looks: everything random about it, chosen once."""

import dataclasses
import math

import numpy as np

CLASSES = ("airplane", "helicopter", "bird", "drone", "balloon", "satellite", "meteorite")

Colour = tuple[float, float, float]


@dataclasses.dataclass(frozen=True)
class Look:
    """The random choices behind one object's appearance."""

    kind: str  # one of CLASSES
    view: int  # which drawing of the class
    colour: Colour
    accent: Colour
    angle: float  # radians, of the nose
    mirror: bool  # flies to the left
    squash: float  # height over that of the plain view: attitude
    rate: float  # wing beats, rotor turns or flashes per frame
    phase: float
    dark: bool  # seen by its lights rather than by the sun

    @property
    def heading(self) -> np.ndarray:
        """Unit vector `[2]` (x, y) of the nose in the image."""
        return np.array([(-1 if self.mirror else 1) * math.cos(self.angle), math.sin(self.angle)])


def look(rng: np.random.Generator, kind: str, sky: str) -> Look:
    """Chooses how one object looks under a sky of kind `sky`."""
    dark = sky == "night" or (sky == "dusk" and rng.random() < 0.5)
    mirror = bool(rng.random() < 0.5)
    view, squash, tilt = int(rng.integers(3)), rng.uniform(0.8, 1.0), rng.normal(0, 0.14)
    if kind == "airplane":
        squash = rng.uniform(0.45, 1.0) if view else rng.uniform(0.9, 1.1)
        tilt = rng.uniform(-math.pi / 2, math.pi / 2) if view == 1 else tilt
    elif kind == "bird":
        tilt, squash = rng.normal(0, 0.35), rng.uniform(0.95, 1.3)
    elif kind == "satellite":
        tilt = rng.uniform(0.35, 1.2) * rng.choice((-1, 1))
    elif kind == "meteorite":  # falls
        tilt = rng.uniform(0.25, 1.25)
    colour, accent = _paint(rng, kind)
    return Look(
        kind=kind,
        view=view,
        colour=colour,
        accent=accent,
        angle=float(tilt),
        mirror=mirror,
        squash=float(squash),
        rate=float(
            {"bird": rng.uniform(0.06, 0.2), "airplane": 0.04, "helicopter": 0.27}.get(kind, 0.06)
        ),
        phase=float(rng.random()),
        dark=bool(dark),
    )


def _paint(rng: np.random.Generator, kind: str) -> tuple[Colour, Colour]:
    """Body and accent colours: birds brown and grey, airplanes white, balloons bright."""
    bodies = {
        "airplane": [(0.90, 0.91, 0.93), (0.72, 0.75, 0.79), (0.45, 0.48, 0.53)],
        "helicopter": [
            (0.70, 0.10, 0.08),
            (0.86, 0.62, 0.06),
            (0.22, 0.27, 0.16),
            (0.1, 0.16, 0.4),
        ],
        "bird": [(0.10, 0.09, 0.08), (0.22, 0.17, 0.12), (0.34, 0.32, 0.31)],
        "drone": [(0.07, 0.07, 0.08), (0.16, 0.16, 0.17), (0.82, 0.82, 0.84)],
        "balloon": [(0.85, 0.12, 0.10), (0.95, 0.75, 0.10), (0.10, 0.45, 0.75), (0.55, 0.15, 0.6)],
        "satellite": [(1.0, 0.97, 0.90), (0.93, 0.96, 1.0)],
        "meteorite": [(0.75, 1.0, 0.80), (1.0, 0.90, 0.70), (0.85, 0.95, 1.0)],
    }[kind]
    accents = {
        "airplane": [(0.15, 0.25, 0.6), (0.75, 0.12, 0.12), (0.1, 0.1, 0.12)],
        "balloon": [(0.97, 0.96, 0.90), (0.98, 0.80, 0.15), (0.1, 0.55, 0.3)],
        "meteorite": [(0.35, 0.85, 0.65), (1.0, 0.50, 0.20), (0.5, 0.65, 1.0)],
    }.get(kind, [(0.05, 0.05, 0.06)])
    pick = lambda colours: np.array(colours[rng.integers(len(colours))]) * rng.uniform(0.85, 1.08)  # noqa: E731
    return tuple(map(float, pick(bodies))), tuple(map(float, pick(accents)))
