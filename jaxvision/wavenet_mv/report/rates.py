"""Files of pictures: their bits, what they decode to, and how long both took."""

import csv
import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxvision.baselines.measure import FILE, Row, checksum, quality_of
from jaxvision.wavenet_mv import container
from jaxvision.wavenet_mv.codec import Codec
from jaxvision.written import whole_file

NAME = "wavenet-mv"
BETWEEN = 2  # qualities from one lambda to the next


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rate:
    """One picture at one quality.

    `weight` is the lambda, between two of the model's interpolated in its logarithm. `model_bpp`
    is what the model's own probabilities ask for, -Σ log2 p over all symbols; NaN where the file
    has tiles. A file may be smaller: in its tables no number has less than 2^-16, in a Gaussian's
    tail some have. `same` says whether the decoder showed what the encoder meant.
    """

    picture: str
    checksum: str
    quality: float
    weight: float
    bytes: int
    bpp: float
    model_bpp: float
    psnr: float
    ms_ssim: float  # NaN where the picture is too small for it
    encode_s: float
    decode_s: float
    same: bool

    @property
    def over(self) -> float:
        """Bits of the file for each that the probabilities ask for."""
        return self.bpp / self.model_bpp

    def row(self) -> Row:
        """The same as the other codecs have it."""
        return Row(
            codec=NAME,
            setting=f"{self.quality:g}",
            image=self.picture,
            checksum=self.checksum,
            bpp=self.bpp,
            psnr=self.psnr,
            ms_ssim=self.ms_ssim,
            encode_ms=1000 * self.encode_s,
            decode_ms=1000 * self.decode_s,
            rate=FILE,
        )


COLUMNS = {
    "picture": "picture",
    "checksum": "checksum",
    "quality": "quality",
    "weight": "lambda",
    "bytes": "bytes",
    "bpp": "bpp",
    "model_bpp": "model_bpp",
    "over": "file/model",
    "psnr": "psnr",
    "ms_ssim": "ms_ssim",
    "encode_s": "encode_s",
    "decode_s": "decode_s",
    "same": "same",
}


def qualities(codec: Codec, between: int = BETWEEN) -> list[float]:
    """Those of the lambdas, and so many between each two, as a file's header can hold them."""
    steps = (codec.qualities - 1) * (between + 1)
    return [
        round(container.QUALITY * i / (between + 1)) / container.QUALITY for i in range(steps + 1)
    ]


def weight_of(lambdas: Sequence[float], quality: float) -> float:
    """The lambda that a quality stands for."""
    return float(np.exp(np.interp(quality, np.arange(len(lambdas)), np.log(lambdas))))


def measure_all(
    codec: Codec,
    pictures: Mapping[str, np.ndarray],
    *,
    between: int = BETWEEN,
    echo: Callable[[str], None] = print,
) -> list[Rate]:
    """Every picture, uint8 `[h w 3]`, at `qualities`; each size is run once before its clock."""
    rates, sizes = [], set()
    model_bits = _model_bits(codec)
    for number, (name, image) in enumerate(pictures.items(), 1):
        if image.shape not in sizes:  # compiles
            codec.decode(codec.encode(image, 0.0))
            sizes.add(image.shape)
        rates += [
            measured(codec, image, quality, name=name, model_bits=model_bits)
            for quality in qualities(codec, between)
        ]
        mine = rates[-len(qualities(codec, between)) :]
        echo(
            f"{number}/{len(pictures)} {name}: {mine[0].bpp:.3f} to {mine[-1].bpp:.3f} bpp, "
            f"{mine[0].psnr:.2f} to {mine[-1].psnr:.2f} dB"
        )
    return rates


def measured(
    codec: Codec,
    image: np.ndarray,
    quality: float,
    *,
    name: str,
    model_bits: Callable[[np.ndarray, float], float],
) -> Rate:
    begin = time.perf_counter()
    data = codec.encode(image, quality)
    middle = time.perf_counter()
    decoded = codec.decode(data)
    end = time.perf_counter()
    pixels = image.shape[0] * image.shape[1]
    whole = not decoded.header.tile
    psnr, similarity = quality_of(image, decoded.image)
    return Rate(
        picture=name,
        checksum=checksum(image),
        quality=quality,
        weight=weight_of(codec.cfg.compressor.lambdas, quality),
        bytes=len(data),
        bpp=8 * len(data) / pixels,
        model_bpp=model_bits(image, quality) / pixels if whole else math.nan,
        psnr=psnr,
        ms_ssim=similarity,
        encode_s=middle - begin,
        decode_s=end - middle,
        same=bool(np.array_equal(decoded.image, codec.reconstruct(image, quality))),
    )


def _model_bits(codec: Codec) -> Callable[[np.ndarray, float], float]:
    """-Σ log2 p of a picture's symbols in one piece, by the scales that its rows stand for."""
    graph, _ = nnx.split(codec.model)

    @jax.jit
    def bits(state, symbols):
        found = nnx.merge(graph, state).compressor.bits([x.astype(jnp.float32) for x in symbols])
        return sum(found)[0]

    def of(image, quality):
        pads = [(0, -n % codec.multiple) for n in image.shape[:2]]
        padded = np.pad(image, [*pads, (0, 0)], mode="reflect")
        numbers = codec.programs.in_steps(codec.programs.analysis(padded), quality)
        return float(bits(codec.state, codec.programs.symbols(numbers)))

    return of


def write(path: Path, rates: Iterable[Rate]) -> None:
    """`codec.csv`: a line a file."""
    with whole_file(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS.values())
        for rate in rates:
            writer.writerow(_text(getattr(rate, name)) for name in COLUMNS)


def read(path: Path) -> list[Rate]:
    """What `write` has written; ValueError for another file."""
    with Path(path).open(newline="", encoding="utf-8") as file:
        first, *lines = list(csv.reader(file)) or [[]]
    if first != list(COLUMNS.values()):
        raise ValueError(f"{path} does not begin with {','.join(COLUMNS.values())}")
    return [_rate(path, line) for line in lines]


def _rate(path: Path, line: Sequence[str]) -> Rate:
    try:
        values = dict(zip(COLUMNS, line, strict=True))
        del values["over"]
        numbers = {k: v for k, v in values.items() if k not in ("picture", "checksum", "same")}
        values |= {k: int(v) if k == "bytes" else float(v) for k, v in numbers.items()}
        return Rate(**values | {"same": values["same"] == "yes"})
    except ValueError as error:
        raise ValueError(f"{path}: {line} is no line of it ({error})") from error


def _text(value) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.7g}" if isinstance(value, float) else str(value)
