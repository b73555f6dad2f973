"""Skies to fly in: gradient, sun, stars, fractal clouds, haze, and a horizon of trees or hills."""

import dataclasses
import math

import cv2
import numpy as np

KINDS = ("day", "overcast", "dusk", "night")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
    """A region of skies: which palettes, cloud spectra and horizons occur.

    Training and validation look at different regions, so that a detector is judged on skies whose
    colours, clouds and ground it has not seen.
    """

    kinds: tuple[float, float, float, float] = (0.34, 0.22, 0.18, 0.26)  # shares, in order of KINDS
    zenith: dict[str, tuple]  # kind -> RGB colours, from which one is mixed
    horizon: dict[str, tuple]
    roughness: tuple[float, float]  # amplitude ratio of one octave of cloud to the one before
    stretch: tuple[float, float]  # width of clouds over their height
    ground: str  # "trees" or "hills"
    ground_share: float = 0.45


LOWLAND = Family(
    zenith={
        "day": ((0.16, 0.36, 0.70), (0.28, 0.48, 0.78), (0.38, 0.56, 0.80)),
        "overcast": ((0.56, 0.60, 0.66), (0.70, 0.72, 0.75), (0.44, 0.47, 0.53)),
        "dusk": ((0.14, 0.19, 0.40), (0.24, 0.26, 0.48), (0.33, 0.30, 0.46)),
        "night": ((0.015, 0.02, 0.05), (0.03, 0.035, 0.07), (0.05, 0.05, 0.08)),
    },
    horizon={
        "day": ((0.62, 0.76, 0.90), (0.72, 0.82, 0.90), (0.52, 0.70, 0.90)),
        "overcast": ((0.78, 0.80, 0.82), (0.66, 0.68, 0.72), (0.84, 0.84, 0.83)),
        "dusk": ((0.93, 0.56, 0.33), (0.90, 0.66, 0.46), (0.78, 0.46, 0.46)),
        "night": ((0.07, 0.08, 0.13), (0.13, 0.11, 0.11), (0.05, 0.06, 0.10)),
    },
    roughness=(0.46, 0.58),
    stretch=(1.2, 2.2),
    ground="trees",
)
HIGHLAND = Family(
    zenith={
        "day": ((0.12, 0.40, 0.74), (0.22, 0.44, 0.70), (0.34, 0.60, 0.84)),
        "overcast": ((0.62, 0.64, 0.65), (0.50, 0.55, 0.62), (0.74, 0.75, 0.74)),
        "dusk": ((0.20, 0.20, 0.36), (0.12, 0.22, 0.42), (0.30, 0.26, 0.42)),
        "night": ((0.02, 0.025, 0.045), (0.02, 0.035, 0.07), (0.055, 0.05, 0.07)),
    },
    horizon={
        "day": ((0.70, 0.80, 0.86), (0.58, 0.74, 0.88), (0.76, 0.82, 0.84)),
        "overcast": ((0.72, 0.74, 0.77), (0.82, 0.82, 0.80), (0.62, 0.66, 0.72)),
        "dusk": ((0.95, 0.62, 0.40), (0.84, 0.50, 0.36), (0.86, 0.68, 0.56)),
        "night": ((0.10, 0.09, 0.12), (0.06, 0.08, 0.12), (0.14, 0.12, 0.10)),
    },
    roughness=(0.52, 0.64),
    stretch=(2.0, 4.0),
    ground="hills",
)


@dataclasses.dataclass(frozen=True)
class Sky:
    """A backdrop. `image` float32 `[h w 3]` RGB in 0..1, `cloud` float32 `[h w]` opacity in 0..1.

    `ground` is the row where the ground begins for each column, int `[w]`; `h` where there is none.
    """

    image: np.ndarray
    cloud: np.ndarray
    ground: np.ndarray
    kind: str


def sky(rng: np.random.Generator, kind: str, family: Family, height: int, width: int) -> Sky:
    """Paints one sky of `kind`."""
    zenith, horizon = _mix(rng, family.zenith[kind]), _mix(rng, family.horizon[kind])
    ramp = np.linspace(0, 1, height, dtype=np.float32) ** rng.uniform(0.9, 2.2)
    low = rng.uniform(0.35, 1.0)  # a camera that looks up sees only the upper part of the gradient
    column = zenith + (horizon - zenith) * (ramp[:, None] * low)
    image = np.repeat(column[:, None, :], width, axis=1).astype(np.float32)

    sun = rng.uniform((0.0, 0.0), (width, 0.75 * height)).astype(np.float32)
    if kind in ("day", "dusk") and rng.random() < 0.3:
        _add_sun(image, sun, rng, warm=kind == "dusk")
    if kind in ("night", "dusk"):
        _add_stars(image, rng, count=rng.uniform(0.2, 1.0) * (0.0022 if kind == "night" else 2e-4))
    cloud = _add_clouds(image, rng, kind, family, sun, horizon)
    if rng.random() < 0.35:  # haze thickens towards the horizon
        strength = rng.uniform(0.1, 0.4) * ramp[:, None, None]
        image += (horizon - image) * strength
    ground = np.full(width, height)
    if rng.random() < family.ground_share:
        ground = _add_ground(image, rng, kind, family, horizon)
    return Sky(np.clip(image, 0, 1, out=image), cloud, ground, kind)


def fractal(
    rng: np.random.Generator, height: int, width: int, *, cell: float, stretch: float, rough: float
) -> np.ndarray:
    """Noise of several octaves, the largest `cell` pixels high: float32 `[h w]` in 0..1."""
    octaves = max(1, int(np.log2(cell / 1.5)))
    rows, columns = math.ceil(height / cell) + 1, math.ceil(width / (cell * stretch)) + 1
    total = rng.random((rows, columns), dtype=np.float32)
    for octave in range(1, octaves + 1):  # each adds detail to twice the one before
        total = cv2.resize(total, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
        total += rough**octave * rng.random(total.shape, dtype=np.float32)
    full = max(width, int(columns * cell * stretch)), max(height, int(rows * cell))
    total = cv2.resize(total, full, interpolation=cv2.INTER_LINEAR)
    x, y = (int(rng.integers(n - m + 1)) for n, m in zip(full, (width, height), strict=True))
    total = total[y : y + height, x : x + width]
    low, high = float(total.min()), float(total.max())
    return (total - low) * (1 / (high - low))


def _mix(rng: np.random.Generator, colours: tuple) -> np.ndarray:
    weights = rng.dirichlet([0.7] * len(colours))
    return np.clip(weights @ np.array(colours) * rng.uniform(0.93, 1.07), 0, 1).astype(np.float32)


def _smoothstep(x: np.ndarray, low: float, high: float) -> np.ndarray:
    x = np.clip((x - low) / (high - low), 0, 1)
    return x * x * (3 - 2 * x)


def _add_sun(image: np.ndarray, sun: np.ndarray, rng: np.random.Generator, *, warm: bool) -> None:
    h, w = image.shape[:2]
    y, x = np.mgrid[:h, :w].astype(np.float32)
    r2 = ((x - sun[0]) ** 2 + (y - sun[1]) ** 2) / h**2
    colour = np.array((1.0, 0.72, 0.42) if warm else (1.0, 0.98, 0.92), np.float32)
    glare = 1.6 * np.exp(-r2 / 2 / rng.uniform(0.02, 0.03) ** 2)
    glare += rng.uniform(0.15, 0.45) * np.exp(-np.sqrt(r2) / rng.uniform(0.08, 0.25))
    image += glare[..., None] * colour


def _add_stars(image: np.ndarray, rng: np.random.Generator, *, count: float) -> None:
    """Point stars, most of them faint; a pixel or so each, unlike anything that flies."""
    h, w = image.shape[:2]
    n = rng.poisson(count * h * w)
    light = np.zeros((h, w), np.float32)
    light[rng.integers(h, size=n), rng.integers(w, size=n)] = 1.8 * rng.power(0.35, n)
    light = cv2.GaussianBlur(light, (3, 3), 0.5)
    light[int(0.85 * h) :] *= 0.4  # extinction
    image += light[..., None] * np.array((0.95, 0.97, 1.0), np.float32)


def _add_clouds(image, rng, kind, family, sun, horizon) -> np.ndarray:
    """Blends clouds in, lit from the sun's side; returns their opacity `[h w]`."""
    h, w = image.shape[:2]
    clear = {"day": 0.3, "overcast": 0.0, "dusk": 0.25, "night": 0.45}[kind]
    if rng.random() < clear:
        return np.zeros((h, w), np.float32)
    rough, stretch = rng.uniform(*family.roughness), rng.uniform(*family.stretch)
    cell = h * rng.uniform(0.2, 0.5)
    noise = fractal(rng, h, w, cell=cell, stretch=stretch, rough=rough)
    if kind == "overcast":
        start, soft, opacity = rng.uniform(-0.3, 0.3), rng.uniform(0.5, 0.9), rng.uniform(0.6, 1.0)
    else:
        start, soft = rng.uniform(0.35, 0.65), rng.uniform(0.12, 0.4)
        opacity = rng.uniform(0.4, 0.95)
    cloud = opacity * _smoothstep(noise, start, start + soft)
    # A slope that faces the sun is bright, the far side is in shade.
    towards = sun - (w / 2, h / 2)
    dx, dy = (4 * towards / (np.hypot(*towards) + 1)).astype(int)
    padded = cv2.copyMakeBorder(noise, 4, 4, 4, 4, cv2.BORDER_REFLECT)
    slope = noise - padded[4 + dy : 4 + dy + h, 4 + dx : 4 + dx + w]
    slope = cv2.GaussianBlur(slope, (5, 5), 1.2)
    tone = np.clip(0.6 - 3.0 * slope - 0.3 * (noise - 0.5), 0, 1)
    lit, shade = {
        "day": ((1.0, 1.0, 1.0), (0.60, 0.64, 0.71)),
        "overcast": ((0.86, 0.87, 0.89), (0.47, 0.50, 0.56)),
        "dusk": ((0.94, 0.62, 0.50), (0.34, 0.29, 0.40)),
        "night": ((0.16, 0.16, 0.19), (0.05, 0.055, 0.08)),
    }[kind]
    lit, shade = (0.8 * np.array(c, np.float32) + 0.2 * horizon for c in (lit, shade))
    colour = shade + (lit - shade) * tone[..., None]
    image += (colour - image) * cloud[..., None]
    return cloud


def _add_ground(image, rng, kind, family, horizon) -> np.ndarray:
    """Trees or hills along the lower edge; returns the first ground row of every column."""
    h, w = image.shape[:2]
    base = h * rng.uniform(0.80, 0.95)
    profile = fractal(rng, 1, w, cell=w / 3, stretch=1.0, rough=0.5)[0] - 0.5
    if family.ground == "trees":
        profile = 0.06 * h * profile + 0.05 * h * (rng.random(w) - 0.5)
        profile = cv2.blur(profile[None].astype(np.float32), (3, 1))[0]
        colour = np.array((0.16, 0.19, 0.12), np.float32) * rng.uniform(0.6, 1.5)
    else:
        profile = 0.2 * h * profile
        colour = np.array((0.33, 0.34, 0.30), np.float32) * rng.uniform(0.6, 1.3)
    light = {"day": 1.0, "overcast": 0.8, "dusk": 0.4, "night": 0.12}[kind]
    edge = np.clip(base + profile, 0.7 * h, h)
    top = max(0, int(edge.min()) - 1)
    rows = np.arange(top, h, dtype=np.float32)[:, None]
    opaque = np.clip(rows - edge + 0.5, 0, 1)[..., None]
    texture = 0.6 + 0.8 * fractal(rng, h - top, w, cell=h / 12, stretch=1.0, rough=0.8)
    ground = light * colour * texture[..., None]
    if family.ground == "hills":  # distance turns hills to the horizon's colour
        ground += (horizon - ground) * rng.uniform(0.1, 0.5)
    image[top:] += (ground - image[top:]) * opaque
    return np.floor(edge).astype(int)
