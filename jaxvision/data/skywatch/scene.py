"""One scene: a sky, the objects in it, and their boxes."""

import dataclasses

import numpy as np

from jaxvision.data.skywatch.camera import Camera, camera, defocus, develop, encode
from jaxvision.data.skywatch.looks import CLASSES, Look, look
from jaxvision.data.skywatch.preset import DEFAULT_SIZE, FLOCK, FLOCK_SHARE, LENGTHS, Preset, odds
from jaxvision.data.skywatch.sky import KINDS, Sky, sky
from jaxvision.data.skywatch.sprite import Sprite, render

EDGE = 0.15  # a pixel belongs to the box where the mask exceeds this share of its maximum
MIN_CONTRAST, CAMOUFLAGED = 0.16, 0.09  # of an object to what is behind it, in units of full white
DAYLIGHT = {"day": 1.0, "overcast": 0.62, "dusk": 0.4, "night": 0.16}


@dataclasses.dataclass(frozen=True)
class Actor:
    """An object in a scene; lengths in pixels."""

    look: Look
    size: float
    centre: np.ndarray  # [2] x, y
    haze: float  # how far its colour goes towards the sky's
    contrast: float  # the least it differs from the sky
    through: float  # how much of it shows through thin cloud

    @property
    def label(self) -> int:
        return CLASSES.index(self.look.kind)


@dataclasses.dataclass(frozen=True)
class Scene:
    """`image` uint8 `[h w 3]` RGB; `boxes` float32 `[n 4]` xyxy pixels; `labels` int32 `[n]`."""

    image: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    kind: str
    camera: Camera

    def jpeg(self) -> bytes:
        return encode(self.camera, self.image)


def scene(preset: Preset, seed: int, index: int, *, size: int = DEFAULT_SIZE) -> Scene:
    """Scene `index` of a split, the same for the same numbers whoever draws it."""
    rng = np.random.default_rng((seed, preset.stream, index))
    kind = str(rng.choice(KINDS, p=preset.family.kinds))
    backdrop = sky(rng, kind, preset.family, size, size)
    lens = camera(rng, preset.camera, kind)
    actors = cast(rng, preset, backdrop, size)
    image = backdrop.image.copy()
    sprites = [lay(image, actor, kind) for actor in actors]
    image = develop(rng, lens, defocus(lens, image))
    boxes = [np.clip(box(defocus(lens, sprite.mask), sprite), 0, size) for sprite in sprites]
    return Scene(
        image,
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array([actor.label for actor in actors], np.int32),
        kind,
        lens,
    )


def cast(rng: np.random.Generator, preset: Preset, backdrop: Sky, size: int) -> list[Actor]:
    """Chooses the objects of a scene and places them apart from one another, above the ground."""
    actors: list[Actor] = []
    if rng.random() < preset.empty:
        return actors
    chances = odds(preset.family.kinds, preset.shares)[KINDS.index(backdrop.kind)]
    for name in rng.choice(CLASSES, size=1 + rng.binomial(3, 0.35), p=chances):
        length = _length(rng, name, size)
        members = int(rng.integers(FLOCK[0], FLOCK[1] + 1)) if _is_flock(rng, name) else 1
        hidden = bool(rng.random() < preset.camouflage)
        near = None
        for _ in range(members):
            extent = length * rng.uniform(0.85, 1.15) if members > 1 else length
            centre = _place(rng, backdrop, extent, actors, near, seek_edge=hidden)
            if centre is None:
                continue
            near = centre if members > 1 else None
            actors.append(
                Actor(
                    look=look(rng, name, backdrop.kind),
                    size=extent,
                    centre=centre,
                    haze=rng.uniform(0.45, 0.65) if hidden else rng.uniform(0.0, 0.3),
                    contrast=CAMOUFLAGED if hidden else MIN_CONTRAST,
                    through=rng.uniform(0.6, 0.9) if hidden else 1.0,
                )
            )
    return actors


def lay(image: np.ndarray, actor: Actor, kind: str, *, time: float = 0.0) -> Sprite:
    """Paints an actor at `time` frames on `image` float32 `[h w 3]`, in place."""
    sprite = render(actor.look, actor.centre, actor.size, time=time)
    h, w = image.shape[:2]
    side = len(sprite.alpha)
    x0, x1 = (int(np.clip(v, 0, w)) for v in (sprite.left, sprite.left + side))
    y0, y1 = (int(np.clip(v, 0, h)) for v in (sprite.top, sprite.top + side))
    if x0 == x1 or y0 == y1:
        return sprite
    cut = np.s_[y0 - sprite.top : y1 - sprite.top, x0 - sprite.left : x1 - sprite.left]
    colour, alpha, light = sprite.colour[cut], sprite.alpha[cut][..., None], sprite.light[cut]
    patch = image[y0:y1, x0:x1]
    if alpha.max() > 0:
        behind = patch.mean(axis=(0, 1))
        colour = DAYLIGHT[kind] * colour
        colour = colour + actor.haze * (behind * alpha - colour)
        colour = _stand_out(colour, alpha, behind, actor.contrast)
    patch += actor.through * (colour - patch * alpha + light)
    return sprite


def box(mask: np.ndarray, sprite: Sprite) -> np.ndarray:
    """The tight box `[4]`, xyxy in pixels, of a sprite's mask `[p p]`; it may leave the image."""
    inside = mask > EDGE * mask.max()
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    x0, x1 = columns[0] + sprite.left, columns[-1] + 1 + sprite.left
    y0, y1 = rows[0] + sprite.top, rows[-1] + 1 + sprite.top
    return np.array((x0, y0, x1, y1), np.float32)


def _stand_out(colour, alpha, behind, least: float) -> np.ndarray:
    """Darkens, or lightens where the sky is dark, until the mean contrast reaches `least`."""
    mean = colour.sum(axis=(0, 1)) / alpha.sum()
    difference = float(np.abs(mean - behind).max())
    if difference >= least:
        return colour
    towards = 0.0 if behind.mean() > 0.35 else 1.0
    room = float(np.abs(towards - behind).max())
    push = (least - difference) / max(room, 1e-3)
    return colour + min(push, 1.0) * (towards * alpha - colour)


def _length(rng: np.random.Generator, name: str, size: int) -> float:
    """An apparent length in pixels; it grows as the root of the image's size: the view widens."""
    median, spread, low, high = LENGTHS[name]
    return float(np.clip(rng.lognormal(np.log(median), spread), low, high)) * (size / 256) ** 0.5


def _is_flock(rng: np.random.Generator, name: str) -> bool:
    return name == "bird" and rng.random() < FLOCK_SHARE


def _place(rng, backdrop: Sky, length: float, actors, near, *, seek_edge: bool):
    """A free centre (x, y) above the ground, beside `near` in a flock, at a cloud's edge if sought.

    None where no try finds one.
    """
    h, w = backdrop.cloud.shape
    best, best_score = None, -1.0
    tries = 24
    for attempt in range(tries):
        if near is None:
            margin = 0.4 * length
            centre = rng.uniform(margin, (w - margin, h - margin))
        else:
            turn, step = rng.uniform(0, 2 * np.pi), length * rng.uniform(1.0, 2.2)
            centre = near + step * np.array((np.cos(turn), 0.6 * np.sin(turn)))
        left, right = int(max(0, centre[0] - length / 2)), int(centre[0] + length / 2)
        if not 0.4 * length <= centre[0] <= w - 0.4 * length:
            continue
        lowest = backdrop.ground[left : right + 1].min()
        if not (0.4 * length <= centre[1] and centre[1] + 0.5 * length <= lowest):
            continue
        if any(np.hypot(*(centre - a.centre)) < 0.55 * (length + a.size) + 2 for a in actors):
            continue
        if not seek_edge:
            return centre
        x, y = centre.astype(int)
        window = backdrop.cloud[max(0, y - 6) : y + 7, max(0, x - 6) : x + 7]
        score = float(window.max() - window.min())
        if score > best_score:
            best, best_score = centre, score
        if attempt >= tries // 2 and best is not None:
            break
    return best
