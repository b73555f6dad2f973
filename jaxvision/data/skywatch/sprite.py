"""Drawings made into pixels: colour, coverage and light on a small patch around the object."""

import dataclasses
import math

import cv2
import numpy as np

from jaxvision.data.skywatch.looks import Look
from jaxvision.data.skywatch.objects import Drawing, Trail, draw

MARGIN = 8  # pixels around an object, for glows and for the camera's blur
SHIFT = 4  # cv2 polygons take fixed-point coordinates with this many fractional bits


@dataclasses.dataclass(frozen=True)
class Sprite:
    """A rendered object, to be laid on an image with its corner at `left, top`.

    `colour` `[p p 3]` is premultiplied by coverage, `alpha` `[p p]` is coverage, `light` `[p p 3]`
    adds; all float32.
    """

    left: int
    top: int
    colour: np.ndarray
    alpha: np.ndarray
    light: np.ndarray

    @property
    def mask(self) -> np.ndarray:
        """How strongly each pixel belongs to the object, in 0..1: coverage or light."""
        return np.clip(np.maximum(self.alpha, self.light.max(axis=2)), 0, 1)


def render(look: Look, centre: np.ndarray, size: float, *, time: float = 0.0) -> Sprite:
    """Renders an object `size` pixels long, its middle at `centre` (x, y) in pixels."""
    drawing = draw(look, time=time)
    side = math.ceil(1.15 * size) + 2 * MARGIN
    left, top = (math.floor(c - side / 2) for c in centre)
    middle = np.asarray(centre, np.float64) - (left, top)
    turn = _transform(look) * size

    colour, alpha = _paint(drawing, turn, middle, side, detail=4 if size > 20 else 8)
    light = np.zeros((side, side, 3), np.float32)
    if drawing.lights or drawing.trail:
        y, x = np.mgrid[:side, :side].astype(np.float32) + 0.5
    for lamp in drawing.lights:
        px, py = turn @ lamp.point + middle
        radius = max(0.75, lamp.radius * size)
        glow = lamp.strength * np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * radius**2))
        light += glow[..., None] * np.array(lamp.colour, np.float32)
    if drawing.trail:
        light += _streak(drawing.trail, look.heading, middle, size, x, y)
    return Sprite(left, top, colour, alpha, light)


def _transform(look: Look) -> np.ndarray:
    """Attitude, heading and mirror as a matrix `[2 2]` on drawing coordinates."""
    c, s = math.cos(look.angle), math.sin(look.angle)
    rotate = np.array([[c, -s], [s, c]])
    return np.diag([-1.0 if look.mirror else 1.0, 1.0]) @ rotate @ np.diag([1.0, look.squash])


def _paint(drawing: Drawing, turn, middle, side: int, *, detail: int):
    """Polygons at `detail` times the resolution, averaged down: premultiplied colour, coverage."""
    canvas = np.zeros((side * detail, side * detail, 4), np.uint8)
    for part in drawing.parts:
        points = ((part.points @ turn.T + middle) * detail - 0.5) * (1 << SHIFT)
        paint = [255 * part.opacity * min(1.0, c) for c in (*part.colour, 1.0)]
        cv2.fillPoly(canvas, [np.rint(points).astype(np.int32)], paint, shift=SHIFT)
    small = cv2.resize(canvas, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    return small[..., :3], small[..., 3]


def _streak(trail: Trail, heading, middle, size: float, x, y) -> np.ndarray:
    """Light of a streak whose head is half its length ahead of `middle`: `[p p 3]`."""
    head = middle + heading * size / 2
    behind = (head[0] - x) * heading[0] + (head[1] - y) * heading[1]
    across = (head[0] - x) * heading[1] - (head[1] - y) * heading[0]
    u = np.clip(behind / size, 0, 1)
    width = trail.width * (1 - trail.taper * u)
    beyond = np.minimum(behind, 0)  # ahead of the head: it is round
    light = np.exp(-(across**2 + beyond**2) / (2 * width**2)) * (1 - u) ** trail.fade
    light = trail.strength * light[..., None]
    mix = np.sqrt(u)[..., None]
    return light * ((1 - mix) * np.array(trail.colour) + mix * np.array(trail.tail))
