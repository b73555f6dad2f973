"""What light, camera and motion do to the pixels of an image, but not to its boxes."""

import cv2
import numpy as np

_LUMA = np.array([0.299, 0.587, 0.114])


def colour_jitter(
    image: np.ndarray,
    rng: np.random.Generator,
    *,
    brightness: float,
    contrast: float,
    saturation: float,
    hue: float,
) -> np.ndarray:
    """Changes brightness, contrast and saturation by factors from `1 - x` to `1 + x`.

    `hue` is the largest turn about the grey axis, in fractions of a circle. All four are one 3 x 4
    matrix, so that the image is passed over once.
    """
    light, spread, strength = 1 + rng.uniform(-1, 1, 3) * (brightness, contrast, saturation)
    turn = 2 * np.pi * hue * rng.uniform(-1, 1)
    mixing = strength * np.eye(3) + (1 - strength) * _LUMA  # each row adds the grey of the pixel
    mixing = spread * light * _rotation(turn) @ mixing
    middle = light * _LUMA @ cv2.mean(image)[:3]
    offset = np.full((3, 1), (1 - spread) * middle)
    return cv2.transform(image, np.hstack([mixing, offset]))


def motion_blur(image: np.ndarray, rng: np.random.Generator, *, length: float) -> np.ndarray:
    """Blurs along a random direction, over up to `length` pixels."""
    reach, angle = rng.uniform(1, max(1.0, length)), rng.uniform(0, np.pi)
    radius = int(np.ceil(reach / 2))
    steps = np.linspace(-reach / 2, reach / 2, 8 * radius + 1)
    kernel = np.zeros((2 * radius + 1,) * 2)
    rows = np.round(radius + steps * np.sin(angle)).astype(int)
    columns = np.round(radius + steps * np.cos(angle)).astype(int)
    np.add.at(kernel, (rows, columns), 1)
    return cv2.filter2D(image, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT_101)


def noise(image: np.ndarray, rng: np.random.Generator, *, sigma: float) -> np.ndarray:
    """Adds normal noise, of up to `sigma` grey levels, alike in all channels."""
    level = rng.uniform(0, sigma)
    grain = np.rint(level * rng.standard_normal(image.shape[:2], np.float32)).astype(np.int16)
    return np.clip(image + grain[..., None], 0, 255).astype(np.uint8)


def _rotation(angle: float) -> np.ndarray:
    """Rotation about the axis (1, 1, 1), which leaves grey as it is (Rodrigues)."""
    cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)
    return np.cos(angle) * np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) / 3
