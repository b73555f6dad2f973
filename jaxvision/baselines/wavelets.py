"""Wavelet transforms of a plane into sub-bands, near orthonormal, any size.

Sub-bands are a flat list from coarse to fine: the mean, then three details a level, down (axis 0),
across (axis 1) and both, in PyWavelets' order.
"""

import importlib.util
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from jaxvision.baselines.codec import INSTALL

# CDF 9/7 by lifting (Daubechies and Sweldens 1998); SCALE gives low-pass gain √2
STEPS_97 = (-1.586134342059924, -0.052980118572961, 0.882911075530934, 0.443506852043971)
SCALE_97 = 1.149604398860241


class Transform(Protocol):
    """A wavelet transform; `inverse` wants the shape of the plane that `forward` was given."""

    def missing(self) -> str | None: ...

    def forward(self, plane: np.ndarray, levels: int) -> list[np.ndarray]: ...

    def inverse(self, bands: Sequence[np.ndarray], shape: tuple[int, int]) -> np.ndarray: ...


class Lifting:
    """Haar or CDF 9/7 in NumPy, mirrored at the borders: as many coefficients as pixels."""

    def __init__(self, wavelet: str):
        if wavelet not in ("haar", "97"):
            raise ValueError(f"wavelet {wavelet!r} is unknown; there are 'haar' and '97'")
        self._split, self._merge = {"haar": (_split_haar, _merge_haar)}.get(
            wavelet, (_split_97, _merge_97)
        )

    def missing(self) -> str | None:
        return None

    def forward(self, plane: np.ndarray, levels: int) -> list[np.ndarray]:
        low, bands = plane.astype(np.float32), []
        for _ in range(levels):
            top, bottom = self._split(low)
            (low, across), (down, both) = (_turned(self._split, x) for x in (top, bottom))
            bands = [down, across, both, *bands]
        return [low, *bands]

    def inverse(self, bands: Sequence[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
        low = bands[0]
        for i in range(1, len(bands), 3):
            down, across, both = bands[i : i + 3]
            top = self._merge(low.T, across.T).T
            bottom = self._merge(down.T, both.T).T
            low = self._merge(top, bottom)
        return low


class Jaxwt:
    """A wavelet by jaxwt (Wolter 2021), EUPL-1.2; its borders cost more coefficients than pixels.

    The first plane of a size pays for compilation.
    """

    def __init__(self, wavelet: str):
        self.wavelet = wavelet  # as PyWavelets names it: "haar", "bior4.4" (CDF 9/7)

    def missing(self) -> str | None:
        found = importlib.util.find_spec("jaxwt")
        return None if found else f"jaxwt is not installed: {INSTALL}"

    def forward(self, plane: np.ndarray, levels: int) -> list[np.ndarray]:
        import jaxwt  # optional

        if not levels:
            return [plane.astype(np.float32)]
        low, *details = jaxwt.wavedec2(
            plane[None].astype(np.float32), self.wavelet, level=levels, mode="symmetric"
        )
        return [np.asarray(x)[0] for x in (low, *(band for level in details for band in level))]

    def inverse(self, bands: Sequence[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
        import jax.numpy as jnp
        import jaxwt  # optional

        if len(bands) == 1:
            return bands[0]
        low, *details = (jnp.asarray(band)[None] for band in bands)
        levels = [tuple(details[i : i + 3]) for i in range(0, len(details), 3)]
        plane = jaxwt.waverec2([low, *levels], self.wavelet)
        return np.asarray(plane)[0, : shape[0], : shape[1]]


def _turned(split, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    low, high = split(x.T)
    return low.T, high.T


def _split_haar(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums and differences of neighbours along axis 0; a last one without neighbour is a sum."""
    even, odd = x[0::2].copy(), x[1::2]
    high = odd - even[: len(odd)]
    even[: len(odd)] += high / 2
    return even * np.float32(2**0.5), high / np.float32(2**0.5)


def _merge_haar(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    even, high = low / np.float32(2**0.5), high * np.float32(2**0.5)
    even[: len(high)] -= high / 2
    return _woven(even, high + even[: len(high)])


def _split_97(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    even, odd = x[0::2].copy(), x[1::2].copy()
    for i, step in enumerate(STEPS_97):
        if i % 2:
            even += np.float32(step) * _around_even(odd, len(even))
        else:
            odd += np.float32(step) * _around_odd(even, len(odd))
    return even * np.float32(SCALE_97), odd / np.float32(SCALE_97)


def _merge_97(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    even, odd = low / np.float32(SCALE_97), high * np.float32(SCALE_97)
    for i, step in reversed(list(enumerate(STEPS_97))):
        if i % 2:
            even -= np.float32(step) * _around_even(odd, len(even))
        else:
            odd -= np.float32(step) * _around_odd(even, len(odd))
    return _woven(even, odd)


def _around_odd(even: np.ndarray, count: int) -> np.ndarray:
    """Sum of the two even neighbours of each odd sample, mirrored at the end."""
    return even[:count] + np.concatenate([even[1:], even[-1:]])[:count]


def _around_even(odd: np.ndarray, count: int) -> np.ndarray:
    padded = np.concatenate([odd[:1], odd, odd[-1:]])
    return padded[:count] + padded[1 : count + 1]


def _woven(even: np.ndarray, odd: np.ndarray) -> np.ndarray:
    x = np.empty((len(even) + len(odd), *even.shape[1:]), np.float32)
    x[0::2], x[1::2] = even, odd
    return x
