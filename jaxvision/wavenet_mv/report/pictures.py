"""Parts of pictures side by side: the original, this codec's, and JPEG's of as many bytes."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from jaxvision.baselines.measure import quality_of
from jaxvision.baselines.search import at_bpp
from jaxvision.baselines.stills import JPEG_420
from jaxvision.fonts import families
from jaxvision.wavenet_mv.codec import Codec
from jaxvision.wavenet_mv.report.rates import NAME, weight_of
from jaxvision.written import whole_file

MOST, SIDE = 4, 192  # rows; pixels of a part
INCHES = 3.4  # of a part


def draw_pictures(
    path: Path, codec: Codec, pictures: Mapping[str, np.ndarray], *, quality: float | None = None
) -> None:
    """Writes a PNG of the first pictures' busiest parts; by default at the middle quality."""
    if not pictures:
        raise ValueError("there are no pictures to draw")
    quality = (codec.qualities - 1) / 2 if quality is None else quality
    shown = list(pictures.items())[:MOST]
    weight = weight_of(codec.cfg.compressor.lambdas, quality)
    with matplotlib.rc_context({"font.family": families([name for name, _ in shown])}):
        figure = Figure(figsize=(3 * INCHES, len(shown) * (INCHES + 0.35)), layout="constrained")
        FigureCanvasAgg(figure)
        rows = figure.subplots(len(shown), 3, squeeze=False)
        for axes, (name, image) in zip(rows, shown, strict=True):
            data = codec.encode(image, quality)
            setting = at_bpp(JPEG_420, [image], 8 * len(data) / image[..., 0].size).quality
            jpeg = JPEG_420.encode(image, setting)
            columns = (
                (name.replace("$", r"\$"), None, image),
                (f"{NAME}, λ = {weight:.0f}", data, codec.decode(data).image),
                (f"JPEG 4:2:0, quality {setting:g}", jpeg, JPEG_420.decode(jpeg)),
            )
            window = busiest(image, SIDE)
            for ax, (title, file, found) in zip(axes, columns, strict=True):
                ax.imshow(found[window], interpolation="nearest")
                if file is not None:
                    psnr = quality_of(image, found)[0]
                    title += f"\n{8 * len(file) / image[..., 0].size:.3f} bpp, {psnr:.2f} dB"
                ax.set_title(title, fontsize=9)
                ax.set_axis_off()
        with whole_file(path) as part:
            figure.savefig(part, format="png", dpi=110)


def busiest(image: np.ndarray, side: int) -> tuple[slice, slice]:
    """The square of `side` pixels, or the whole of a side that is shorter, with most contrast."""
    grey = image.astype(np.float64).mean(-1)
    steps = np.abs(np.diff(grey, axis=0, prepend=grey[:1]))
    steps += np.abs(np.diff(grey, axis=1, prepend=grey[:, :1]))
    height, width = (min(side, n) for n in grey.shape)
    sums = np.pad(steps.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    inside = (sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width]) + sums[
        :-height, :-width
    ]
    y, x = np.unravel_index(inside.argmax(), inside.shape)
    return slice(int(y), int(y) + height), slice(int(x), int(x) + width)
