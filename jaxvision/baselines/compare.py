"""Curves of measured codecs, and the rates that they save against one of them."""

import dataclasses
from collections.abc import Iterable, Mapping

import numpy as np

from jaxvision.baselines.measure import Row
from jaxvision.metrics.bd_rate import BDRates, bd_rate, bd_rates
from jaxvision.metrics.image_quality import ms_ssim_db

METRICS = {"PSNR": 1, "MS-SSIM": 2}  # with their columns in a curve


@dataclasses.dataclass(frozen=True)
class Comparison:
    """BD-rates in per cent, image by image and of the mean curves.

    The two differ: a mean curve is ruled by the images that need many bits. Papers print either.
    """

    images: BDRates
    curve: float


def points(rows: Iterable[Row]) -> dict[str, dict[str, np.ndarray]]:
    """Codec -> image -> `[n 3]` of bits per pixel, PSNR and MS-SSIM in dB."""
    found: dict[str, dict[str, list]] = {}
    for row in rows:
        values = (row.bpp, row.psnr, float(ms_ssim_db(row.ms_ssim)))
        found.setdefault(row.label, {}).setdefault(row.image, []).append(values)
    return {
        codec: {image: np.array(sorted(values)) for image, values in images.items()}
        for codec, images in found.items()
    }


def mean_curve(images: Mapping[str, np.ndarray]) -> np.ndarray:
    """The mean over images, setting by setting, of curves `[n 3]`."""
    lengths = {name: len(values) for name, values in images.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"not every image was measured at every setting: {lengths}")
    return np.mean(list(images.values()), axis=0)


def compare(rows: Iterable[Row], anchor: str) -> dict[str, dict[str, Comparison | str]]:
    """Codec -> metric -> its BD-rates against `anchor`, or the reason why it has none."""
    curves = points(rows)
    if anchor not in curves:
        raise ValueError(f"anchor {anchor!r} was not measured; there are {', '.join(curves)}")
    return {
        name: {
            metric: _comparison(curves[anchor], images, [0, column])
            for metric, column in METRICS.items()
        }
        for name, images in curves.items()
        if name != anchor
    }


def _comparison(anchors: Mapping, tests: Mapping, columns: list[int]) -> Comparison | str:
    pairs = [
        {image: values[:, columns] for image, values in images.items()}
        for images in (anchors, tests)
    ]
    try:
        return Comparison(bd_rates(*pairs), bd_rate(*(mean_curve(images) for images in pairs)))
    except ValueError as error:
        return str(error)
