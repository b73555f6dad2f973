"""What flies: vector drawings of the seven classes, in units of an object's own length.

A drawing lies in a square of side 1 around the origin, nose to the right, y downwards. It holds
polygons, painted in order, and lights, which are added on top. It depends on nothing but an
object's look and the phase of its motion (wing beat, rotor, strobe): the same object can be drawn
again in every frame of a clip.
"""

import dataclasses
import math

import numpy as np

from jaxvision.data.skywatch.looks import Colour, Look

WHITE = (1.0, 1.0, 1.0)
RED, GREEN, AMBER = (1.0, 0.12, 0.08), (0.1, 1.0, 0.3), (1.0, 0.75, 0.35)


@dataclasses.dataclass(frozen=True)
class Part:
    """A filled polygon `[n 2]`."""

    points: np.ndarray
    colour: Colour
    opacity: float = 1.0


@dataclasses.dataclass(frozen=True)
class Light:
    """A glow at a point: `radius` in object lengths, at least most of a pixel when rendered."""

    point: tuple[float, float]
    colour: Colour
    radius: float
    strength: float


@dataclasses.dataclass(frozen=True)
class Trail:
    """A streak of the object's length behind its head: the light fades as `(1 - u)**fade`.

    `width` is the standard deviation at the head in pixels; it shrinks by `taper` towards the tail.
    """

    colour: Colour
    tail: Colour
    strength: float
    width: float
    fade: float
    taper: float


@dataclasses.dataclass(frozen=True)
class Drawing:
    parts: tuple[Part, ...] = ()
    lights: tuple[Light, ...] = ()
    trail: Trail | None = None


def draw(look: Look, *, time: float = 0.0) -> Drawing:
    """Draws one object at `time` frames."""
    return _DRAW[look.kind](look, (look.phase + look.rate * time) % 1.0)


def _poly(*points: tuple[float, float]) -> np.ndarray:
    return np.array(points, np.float64)


def _ellipse(x: float, y: float, rx: float, ry: float, turn: float = 0.0) -> np.ndarray:
    t = np.linspace(0, 2 * math.pi, 20, endpoint=False)
    c, s = math.cos(turn), math.sin(turn)
    px, py = rx * np.cos(t), ry * np.sin(t)
    return np.stack([x + c * px - s * py, y + s * px + c * py], axis=1)


def _shade(colour: Colour, factor: float) -> Colour:
    return tuple(min(1.0, c * factor) for c in colour)


def _airplane(look: Look, phase: float) -> Drawing:
    body, belly, fin = look.colour, _shade(look.colour, 0.55), look.accent
    if look.view == 0:  # from the side
        hull = _poly(
            (-0.48, -0.02), (-0.3, -0.06), (0.36, -0.06), (0.46, -0.03), (0.5, 0.01),
            (0.44, 0.05), (-0.2, 0.06), (-0.48, 0.01),
        )  # fmt: skip
        parts = (
            Part(_poly((-0.5, -0.22), (-0.42, -0.22), (-0.27, -0.04), (-0.44, -0.03)), fin),
            Part(hull, body),
            Part(_poly((-0.4, 0.05), (0.4, 0.05), (0.3, 0.07), (-0.25, 0.07)), belly),
            Part(_poly((0.14, 0.02), (-0.18, 0.16), (-0.26, 0.16), (-0.06, 0.02)), belly),
            Part(_poly((-0.4, -0.02), (-0.52, 0.04), (-0.56, 0.04), (-0.48, -0.02)), belly),
            Part(_ellipse(0.05, 0.11, 0.07, 0.03), _shade(body, 0.7)),
        )
        tips = (0.5, 0.0), (-0.5, -0.2), (-0.2, 0.16)
    else:  # from below (1) or banking (2): wings on both sides
        span = 0.46
        parts = (
            Part(_poly((0.13, 0), (-0.16, span), (-0.25, span), (-0.08, 0)), belly),
            Part(_poly((0.13, 0), (-0.16, -span), (-0.25, -span), (-0.08, 0)), body),
            Part(_poly((-0.36, 0), (-0.46, 0.17), (-0.52, 0.17), (-0.46, 0)), belly),
            Part(_poly((-0.36, 0), (-0.46, -0.17), (-0.52, -0.17), (-0.46, 0)), body),
            Part(_ellipse(0.0, 0.0, 0.5, 0.055), body),
            Part(_poly((-0.3, -0.02), (-0.52, -0.03), (-0.52, 0.03), (-0.3, 0.02)), fin),
        )
        tips = (-0.1, 0.0), (-0.2, span), (-0.2, -span)
    if not look.dark:
        return Drawing(parts)
    flash = 1.6 if phase < 0.5 else 0.3
    lights = (
        Light(tips[0], WHITE, 0.05, flash),
        Light(tips[1], RED, 0.05, 0.9),
        Light(tips[2], GREEN, 0.05, 0.8),
    )
    return Drawing(parts, lights)


def _helicopter(look: Look, phase: float) -> Drawing:
    body, dark = look.colour, (0.12, 0.12, 0.13)
    reach = 0.5 - 0.2 * abs(math.sin(2 * math.pi * phase))  # the blades as they turn
    left, right = 0.1 - reach, 0.1 + reach
    parts = (
        Part(_ellipse(0.1, -0.19, 0.5, 0.035), dark, 0.4),
        Part(_poly((left, -0.2), (right, -0.2), (right, -0.175), (left, -0.175)), dark),
        Part(_poly((0.07, -0.2), (0.13, -0.2), (0.14, -0.08), (0.06, -0.08)), dark),
        Part(_poly((0.0, -0.1), (0.0, 0.02), (-0.45, -0.045), (-0.45, -0.085)), body),
        Part(_poly((-0.49, -0.18), (-0.43, -0.18), (-0.39, -0.06), (-0.45, -0.03)), body),
        Part(_ellipse(-0.46, -0.12, 0.09, 0.09), dark, 0.35),
        Part(_ellipse(0.13, 0.0, 0.21, 0.125), body),
        Part(_ellipse(0.24, -0.015, 0.1, 0.075), (0.35, 0.45, 0.55)),
        Part(_poly((-0.06, 0.16), (0.33, 0.16), (0.33, 0.185), (-0.06, 0.185)), dark),
        Part(_poly((0.02, 0.1), (0.045, 0.1), (0.03, 0.17), (0.0, 0.17)), dark),
        Part(_poly((0.22, 0.1), (0.245, 0.1), (0.26, 0.17), (0.23, 0.17)), dark),
    )  # fmt: skip
    if not look.dark:
        return Drawing(parts)
    lights = (
        Light((0.05, 0.15), RED, 0.06, 1.4 if phase < 0.6 else 0.5),
        Light((-0.47, -0.1), WHITE, 0.04, 0.7),
        Light((0.3, 0.08), AMBER, 0.10, 1.3),
    )
    return Drawing(parts, lights)


def _bird(look: Look, phase: float) -> Drawing:
    body, under = look.colour, _shade(look.colour, 1.5)
    glide = look.view == 2
    beat = 0.15 if glide else 0.27 * math.sin(2 * math.pi * phase) + 0.05
    tip = 0.02 if glide else 0.10 * math.sin(2 * math.pi * phase - 1.2)
    elbow = -beat * 0.75

    def wing(side: int) -> np.ndarray:
        return _poly(
            (0.04 * side, -0.02), (0.24 * side, elbow - 0.045), (0.5 * side, -beat - tip + 0.05),
            (0.27 * side, elbow + 0.055), (0.05 * side, 0.07),
        )  # fmt: skip

    parts = (
        Part(wing(-1), body),
        Part(wing(1), _shade(body, 1.25)),
        Part(_ellipse(0.0, 0.03, 0.06, 0.11), under),
        Part(_ellipse(0.02, -0.05, 0.04, 0.04), body),
    )
    return Drawing(parts)


def _drone(look: Look, phase: float) -> Drawing:
    body, arm = look.colour, (0.1, 0.1, 0.11)
    flat = 0.45 if look.view else 0.14  # seen from below, or nearly level
    parts = []
    rotors = [(x, y * flat) for y in (-0.36, 0.36) for x in (-0.36, 0.36)]
    for x, y in rotors:
        across = np.array([-y, x]) / math.hypot(x, y) * 0.028
        parts.append(Part(np.array([across, -across, (x, y) - across, (x, y) + across]), arm))
    for x, y in rotors:
        parts.append(Part(_ellipse(x, y - 0.04, 0.15, 0.15 * max(flat, 0.18)), arm, 0.5))
        parts.append(Part(_ellipse(x, y - 0.02, 0.035, 0.045), arm))
    parts.append(Part(_ellipse(0.0, 0.0, 0.17, 0.10), body))
    parts.append(Part(_ellipse(0.05, 0.1, 0.06, 0.05), arm))
    for side in (-1, 1):
        leg = _poly((0.1, 0.05), (0.13, 0.05), (0.2, 0.2), (0.17, 0.2))
        parts.append(Part(leg * (side, 1), arm))
    if not look.dark:
        return Drawing(tuple(parts))
    lights = tuple(
        Light(point, RED if point[0] > 0 else GREEN, 0.045, 0.9 if phase < 0.7 else 0.5)
        for point in rotors
    )
    return Drawing(tuple(parts), lights)


def _balloon(look: Look, phase: float) -> Drawing:
    del phase
    parts = [Part(_ellipse(0.0, -0.1, 0.36, 0.39), look.colour)]
    parts.append(Part(_poly((-0.27, 0.15), (0.27, 0.15), (0.07, 0.36), (-0.07, 0.36)), look.colour))
    if look.view != 2:  # gores of a second colour
        for x in (-0.2, 0.0, 0.2):
            parts.append(Part(_ellipse(x, -0.1, 0.055, 0.37 - 0.3 * abs(x)), look.accent))
    parts.append(Part(_ellipse(-0.13, -0.24, 0.09, 0.12), _shade(look.colour, 1.6), 0.5))
    parts.append(Part(_poly((-0.06, 0.4), (0.06, 0.4), (0.05, 0.5), (-0.05, 0.5)), (0.3, 0.2, 0.1)))
    lights = (Light((0.0, 0.05), AMBER, 0.17, 0.75),) if look.dark else ()
    return Drawing(tuple(parts), lights)


def _satellite(look: Look, phase: float) -> Drawing:
    strength = 0.9 + 0.25 * math.sin(2 * math.pi * phase)
    dot = Light((0.45, 0.0), look.colour, 0.1, 0.5 * strength)
    trail = Trail(look.colour, look.colour, 0.7 * strength, width=1.0, fade=0.4, taper=0.1)
    return Drawing(lights=(dot,), trail=trail)


def _meteorite(look: Look, phase: float) -> Drawing:
    strength = 1.7 + 0.3 * math.sin(2 * math.pi * phase)
    return Drawing(trail=Trail(look.colour, look.accent, strength, width=1.5, fade=1.1, taper=0.55))


_DRAW = {
    "airplane": _airplane,
    "helicopter": _helicopter,
    "bird": _bird,
    "drone": _drone,
    "balloon": _balloon,
    "satellite": _satellite,
    "meteorite": _meteorite,
}
