"""Rate and distortion of a codec over pictures, at each quality it was trained for."""

import csv
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.metrics.image_quality import ms_ssim, psnr
from jaxvision.metrics.rd_figures import rd_figure
from jaxvision.wavenet_mv.model import WavenetMV

FIELDS = ("picture", "lambda", "bpp", "psnr", "ms_ssim")
LEAST = 161  # pixels of a side, for the five scales of MS-SSIM


def rates(model: WavenetMV, image: jax.Array) -> dict[str, jax.Array]:
    """Of pictures uint8 `[b h w 3]`: `bpp`, `psnr`, `ms_ssim`, `[b k]` over the k lambdas.

    Bits are those of the rounded symbols under the scales of the tables, within a hundredth of a
    file's. MS-SSIM is 0 where a picture is too small for it.
    """
    x = image.astype(jnp.float32) / 255
    pixels = x.shape[1] * x.shape[2]
    large = min(x.shape[1:3]) >= LEAST

    def at(quality):
        quality = jnp.full(x.shape[:1], quality)
        symbols = model.compressor.symbols(model.analyse(x), quality)
        shown = model.pixels(model.decoded(symbols, quality)).astype(jnp.float32) / 255
        bpp = sum(model.compressor.bits(symbols)) / pixels
        similar = ms_ssim(shown, x) if large else jnp.zeros(x.shape[:1])
        return {"bpp": bpp, "psnr": psnr(shown, x), "ms_ssim": similar}

    qualities = jnp.arange(len(model.cfg.compressor.lambdas), dtype=jnp.float32)
    found = jax.lax.map(at, qualities)  # a loop: compiled once
    return {name: values.T for name, values in found.items()}


class RateReport:
    """A host metric: means over pictures, `codec.csv` and a rate-distortion figure.

    A cost is `λ MSE + bits a pixel`; `score`, the higher the better, is minus the mean cost.
    """

    def __init__(self, lambdas: tuple[int, ...], directory: Path):
        self.lambdas, self.directory = lambdas, Path(directory)
        self._rows: list[dict] = []

    def add(self, batch: Mapping, predictions: Mapping) -> None:
        for row in np.flatnonzero(batch["mask"]):
            number = len(self._rows) // len(self.lambdas)
            for k, weight in enumerate(self.lambdas):
                values = {name: float(predictions[name][row, k]) for name in FIELDS[2:]}
                self._rows.append({"picture": number, "lambda": weight, **values})

    def result(self) -> dict[str, float]:
        with (self.directory / "codec.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, FIELDS)
            writer.writeheader()
            writer.writerows(self._rows)
        scalars, curve = {}, []
        for weight in self.lambdas:
            rows = [r for r in self._rows if r["lambda"] == weight]
            means = {name: float(np.mean([r[name] for r in rows])) for name in FIELDS[2:]}
            curve.append([means[name] for name in FIELDS[2:]])
            scalars |= {f"{name}_{weight}": value for name, value in means.items()}
            scalars[f"cost_{weight}"] = float(
                np.mean([weight * 10 ** (-r["psnr"] / 10) + r["bpp"] for r in rows])
            )
        if len(curve) > 1 and all(point[2] for point in curve):
            rd_figure(self.directory / "rd", {"wavenet_mv": np.array(curve)})
        scalars["score"] = -float(np.mean([scalars[f"cost_{w}"] for w in self.lambdas]))
        return scalars


def scalar_names(lambdas: tuple[int, ...]) -> tuple[str, ...]:
    names = [f"{name}_{w}" for w in lambdas for name in ("bpp", "psnr", "ms_ssim", "cost")]
    return (*names, "score")
