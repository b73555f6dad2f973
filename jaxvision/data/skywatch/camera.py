"""What a camera does to a scene: blur, vignette, white balance, noise, and JPEG in the file."""

import dataclasses
import functools
import math

import cv2
import numpy as np

SLACK = 192  # rows and columns that the plate of noise has more than a picture


@dataclasses.dataclass(frozen=True, kw_only=True)
class CameraRange:
    """Bounds that a camera is drawn from. Lengths in pixels, noise in units of full white."""

    blur: tuple[float, float]
    shake: float  # share of pictures with motion blur
    shake_length: tuple[float, float]
    noise: tuple[float, float]
    vignette: tuple[float, float]
    tint: float  # standard deviation of the gain of red and blue
    quality: tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Camera:
    blur: float
    kernel: np.ndarray | None
    noise: float
    vignette: float
    gain: np.ndarray
    quality: int


STEADY = CameraRange(
    blur=(0.0, 0.7),
    shake=0.12,
    shake_length=(1.5, 3.5),
    noise=(0.004, 0.016),
    vignette=(0.0, 0.15),
    tint=0.02,
    quality=(72, 95),
)
WORN = CameraRange(
    blur=(0.2, 0.85),
    shake=0.15,
    shake_length=(1.5, 3.5),
    noise=(0.007, 0.020),
    vignette=(0.05, 0.25),
    tint=0.035,
    quality=(65, 90),
)


def camera(rng: np.random.Generator, bounds: CameraRange, kind: str) -> Camera:
    """Draws one camera; under a night sky the sensor is noisier."""
    kernel = None
    if rng.random() < bounds.shake:
        kernel = _line(rng.uniform(*bounds.shake_length), rng.uniform(0, math.pi))
    noise = rng.uniform(*bounds.noise) * {"night": 1.4, "dusk": 1.2}.get(kind, 1.0)
    gain = np.array((rng.normal(1, bounds.tint), 1.0, rng.normal(1, bounds.tint)), np.float32)
    return Camera(
        blur=rng.uniform(*bounds.blur),
        kernel=kernel,
        noise=noise,
        vignette=rng.uniform(*bounds.vignette),
        gain=gain,
        quality=int(rng.integers(bounds.quality[0], bounds.quality[1] + 1)),
    )


def defocus(camera: Camera, image: np.ndarray) -> np.ndarray:
    """The camera's blur, of an image `[h w 3]` or of an object's mask `[h w]`."""
    if camera.blur > 0.25:
        image = cv2.GaussianBlur(image, (5, 5), camera.blur)
    if camera.kernel is not None:
        image = cv2.filter2D(image, -1, camera.kernel, borderType=cv2.BORDER_REPLICATE)
    return image


def develop(rng: np.random.Generator, camera: Camera, image: np.ndarray) -> np.ndarray:
    """Light in 0..1 to the sensor's numbers: float32 `[h w 3]` -> uint8 `[h w 3]`."""
    h, w = image.shape[:2]
    y = np.linspace(-1, 1, h, dtype=np.float32)[:, None] ** 2
    x = np.linspace(-1, 1, w, dtype=np.float32)[None, :] ** 2
    image = image * ((1 - camera.vignette * 0.5 * (x + y))[..., None] * camera.gain)
    plate = _grain(h + SLACK, w + SLACK)
    top, left = rng.integers(SLACK + 1, size=2)
    plate = plate[top : top + h, left : left + w]
    cv2.scaleAdd(plate, camera.noise * rng.choice((-1, 1)), image, dst=image)
    return cv2.convertScaleAbs(np.clip(image, 0, 1, out=image), alpha=255)


@functools.lru_cache(maxsize=4)
def _grain(h: int, w: int) -> np.ndarray:
    """One plate of sensor noise `[h w 3]`, of which every picture shows another part.

    Noise of neighbouring pixels and colours is shared, as demosaicing leaves it.
    """
    rng = np.random.default_rng(0)
    colour = rng.standard_normal((h // 2 + 1, w // 2 + 1, 3), dtype=np.float32)
    colour = cv2.resize(0.7 * colour, (w, h), interpolation=cv2.INTER_LINEAR)
    return colour + rng.standard_normal((h, w, 1), dtype=np.float32)


def encode(camera: Camera, image: np.ndarray) -> bytes:
    """A JPEG of the camera's quality."""
    settings = [cv2.IMWRITE_JPEG_QUALITY, camera.quality]
    done, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), settings)
    if not done:
        raise OSError(f"OpenCV cannot encode a JPEG of {image.shape}")
    return data.tobytes()


def _line(length: float, angle: float) -> np.ndarray:
    """A kernel `[7 7]` that smears along a line."""
    kernel = np.zeros((7, 7), np.float32)
    for t in np.linspace(-0.5, 0.5, 33):
        x, y = 3 + t * length * math.cos(angle), 3 + t * length * math.sin(angle)
        i, j = int(y), int(x)
        fy, fx = y - i, x - j
        kernel[i : i + 2, j : j + 2] += np.outer((1 - fy, fy), (1 - fx, fx))
    return kernel / kernel.sum()
