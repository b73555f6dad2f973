"""Clips: the same objects moving as they do, under a camera that pans and trembles."""

import dataclasses

import cv2
import numpy as np

from jaxvision.data.skywatch.camera import Camera, camera, defocus, develop, encode
from jaxvision.data.skywatch.preset import DEFAULT_SIZE, Preset
from jaxvision.data.skywatch.scene import Actor, box, cast, lay
from jaxvision.data.skywatch.sky import KINDS, sky

CLIP_STREAM = 16  # added to a preset's stream: clips share no random numbers with stills
METEOR_FRAMES = (3, 10)
VISIBLE = 0.3  # an object gets a box while this share of it is in view
# Pixels a frame in a 256-pixel image.
SPEEDS = {
    "airplane": (0.6, 2.4),
    "helicopter": (0.2, 1.0),
    "bird": (0.5, 1.6),
    "drone": (0.0, 0.4),
    "balloon": (0.05, 0.25),
    "satellite": (0.4, 0.9),
}


@dataclasses.dataclass(frozen=True)
class Clip:
    """`frames` uint8 `[t h w 3]` RGB; per frame `boxes[t]` `[n 4]` xyxy pixels, labels and tracks.

    A track is one object, with the same number in every frame that shows it.
    """

    frames: np.ndarray
    boxes: list[np.ndarray]
    labels: list[np.ndarray]
    tracks: list[np.ndarray]
    kind: str
    camera: Camera

    def jpeg(self, time: int) -> bytes:
        return encode(self.camera, self.frames[time])


def clip(preset: Preset, seed: int, index: int, frames: int, *, size: int = DEFAULT_SIZE) -> Clip:
    """Clip `index` of a split, the same for the same numbers; something flies in each."""
    rng = np.random.default_rng((seed, CLIP_STREAM + preset.stream, index))
    kind = str(rng.choice(KINDS, p=preset.family.kinds))
    margin = size // 6  # room for the camera's path
    backdrop = sky(rng, kind, preset.family, size + 2 * margin, size + 2 * margin)
    lens = dataclasses.replace(camera(rng, preset.camera, kind), kernel=None)
    path = _pan(rng, frames, margin)
    actors: list[Actor] = []
    while not actors:
        actors = cast(rng, preset, backdrop, size)
    wind = rng.normal(0, 1, 2) * (1.0, 0.3)
    courses = [_course(rng, actor, frames, size, wind) for actor in actors]

    images, boxes, labels, tracks = [], [], [], []
    for time in range(frames):
        middle = path[time] + size / 2
        image = cv2.getRectSubPix(backdrop.image, (size, size), middle - 0.5)
        seen = []
        for track, (actor, (centres, strength)) in enumerate(zip(actors, courses, strict=True)):
            if not strength[time]:
                continue
            there = dataclasses.replace(
                actor, centre=centres[time] - path[time], through=actor.through * strength[time]
            )
            sprite = lay(image, there, kind, time=time)
            whole = box(defocus(lens, sprite.mask), sprite)
            inside = np.clip(whole, 0, size)
            area, full = ((b[2] - b[0]) * (b[3] - b[1]) for b in (inside, whole))
            if area >= VISIBLE * full and min(inside[2:] - inside[:2]) >= 2:
                seen.append((inside, actor.label, track))
        images.append(develop(rng, lens, defocus(lens, image)))
        boxes.append(np.array([b for b, _, _ in seen], np.float32).reshape(-1, 4))
        labels.append(np.array([label for _, label, _ in seen], np.int32))
        tracks.append(np.array([track for _, _, track in seen], np.int32))
    return Clip(np.stack(images), boxes, labels, tracks, kind, lens)


def _pan(rng: np.random.Generator, frames: int, margin: int) -> np.ndarray:
    """The view's corner in the backdrop, `[t 2]`: a slow pan, a trembling hand, or a tripod."""
    speed = rng.normal(0, 0.35, 2) * (1.0, 0.3) * (rng.random() < 0.5)
    tremble = np.zeros((frames, 2))
    for t in range(1, frames):
        tremble[t] = 0.8 * tremble[t - 1] + rng.normal(0, 0.25, 2)
    tremble *= rng.random() < 0.6
    time = np.arange(frames)[:, None] - frames / 2
    return np.clip(margin + speed * time + tremble, 0, 2 * margin)


def _course(rng: np.random.Generator, actor: Actor, frames: int, size: int, wind: np.ndarray):
    """Where an actor is, `[t 2]`, and how bright, `[t]` (0: not there).

    At some time of the clip it is where it was cast.
    """
    name = actor.look.kind
    scale = (size / 256) ** 0.5
    time = np.arange(frames, dtype=np.float64)[:, None]
    if name == "meteorite":
        return _fall(rng, actor, frames)
    speed = rng.uniform(*SPEEDS[name]) * scale
    since = time - rng.uniform(0, frames)
    ahead = actor.look.heading
    if name == "balloon":
        return actor.centre + speed * wind * since, np.ones(frames)
    centres = actor.centre + speed * ahead * since
    if name == "bird":  # each beat lifts; a glide sinks and rises slowly
        turn = 2 * np.pi * (actor.look.phase + actor.look.rate * time)
        bob = 0.06 * np.sin(turn) + 0.25 * np.sin(0.15 * turn)
        centres = centres + actor.size * bob * (0.0, 1.0)
    if name in ("drone", "helicopter"):  # holds its place against gusts
        gust = np.zeros((frames, 2))
        for t in range(1, frames):
            gust[t] = 0.93 * gust[t - 1] + rng.normal(0, 0.2 * scale, 2)
        centres = centres + gust
    return centres, np.ones(frames)


def _fall(rng: np.random.Generator, actor: Actor, frames: int):
    """A meteorite: 3 to 10 frames, about a third of its streak in each, flaring and dying."""
    life = int(rng.integers(METEOR_FRAMES[0], METEOR_FRAMES[1] + 1))
    life = min(life, frames)
    start = int(rng.integers(0, frames - life + 1))
    step = actor.look.heading * actor.size * rng.uniform(0.25, 0.45)
    age = np.arange(frames) - start
    alive = (age >= 0) & (age < life)
    strength = np.where(alive, 0.55 + 0.45 * np.sin(np.pi * (age + 1) / (life + 1)), 0.0)
    return actor.centre + step * (age[:, None] - life / 2), strength
