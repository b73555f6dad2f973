"""This codec beside others at equal bits: pictures, and what the same heads read of them."""

import csv
import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from jaxvision.baselines.catalogue import NotRun, available
from jaxvision.baselines.codec import Codec as Other
from jaxvision.baselines.codec import CodecError
from jaxvision.baselines.measure import Row, measure
from jaxvision.baselines.rans import Rans
from jaxvision.baselines.report import markdown
from jaxvision.baselines.search import at_bpp
from jaxvision.wavenet_mv.codec import Codec
from jaxvision.wavenet_mv.report.rates import NAME
from jaxvision.wavenet_mv.report.reading import Labelled, Read
from jaxvision.written import whole_file

COLUMNS = (
    *("Codec", "BPP", "PSNR", "MS-SSIM"),
    *("BPP heads", "Clamped", "mAP", "IoU", "Latency"),
)
FORMATS = ("{}", "{:.4f}", "{:.2f}", "{:.4f}", "{:.4f}", "{:.0f}", "{:.4f}", "{:.4f}", "{:.4f}")
CODECS = (
    *("jpeg-420", "webp", "jpeg-2000", "jpeg-xl", "avif-444"),
    *("hevc-444", "hevc-420", "av1-420", "vvc-faster", "vvc-medium"),
    *("wavelet-97", "jaxwt-97"),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
    """Means over pictures; `latency` is decode seconds a picture. NaN is what was not measured.

    `heads_bpp` are the bits a pixel of the labelled pictures, whose scores follow; `clamped` of
    these have more bits than were wanted, or fewer: the codec's dial ends there.
    """

    codec: str
    bpp: float
    psnr: float
    ms_ssim: float
    heads_bpp: float = math.nan
    clamped: float = math.nan
    mean_ap: float = math.nan
    iou: float = math.nan
    latency: float

    @property
    def cells(self) -> list[str]:
        values = dataclasses.astuple(self)
        return [f.format(v).replace("nan", "–") for f, v in zip(FORMATS, values, strict=True)]


class Ours:
    """A quality of this codec as the other codecs are called."""

    name, qualities = NAME, (0.0,)

    def __init__(self, codec: Codec):
        self.codec = codec

    def missing(self) -> None:
        return None

    def encode(self, image: np.ndarray, quality: float) -> bytes:
        return self.codec.encode(image, quality)

    def decode(self, data: bytes) -> np.ndarray:
        return self.codec.decode(data).image


def compared(
    codec: Codec,
    pictures: Mapping[str, np.ndarray],
    *,
    labelled: Labelled | None = None,
    names: Sequence[str] = CODECS,
    not_run: Sequence[NotRun] = (),
    echo: Callable[[str], None] = print,
) -> list[Line | NotRun]:
    """Ours at each lambda, then every other codec at the quality whose bits are nearest to those.

    On the labelled pictures, which need other qualities for the same bits, they are searched again.
    """
    if not pictures:
        raise ValueError("there are no pictures to compare on")
    found = available(names, coder=Rans())
    ours, images = Ours(codec), list(pictures.values())
    for image in {image.shape: image for image in images}.values():  # compiles
        ours.decode(ours.encode(image, 0.0))
    lines: list[Line | NotRun] = []
    wanted = []
    for quality, weight in enumerate(codec.cfg.compressor.lambdas):
        read = labelled.ours(codec, float(quality)) if labelled else None
        line = _line(f"{NAME} λ={weight}", _rows(ours, pictures, quality), read)
        wanted.append((weight, line.bpp, read))
        lines.append(line)
        echo(_said(line))
    for name, other in found.codecs.items():
        try:
            for weight, bpp, read in wanted:
                rows = _rows(other, pictures, at_bpp(other, images, bpp).quality)
                theirs = labelled.other(other, read.bpp) if labelled else None
                line = _line(f"{name} at the bits of λ={weight}", rows, theirs)
                lines.append(line)
                echo(_said(line))
        except CodecError as error:
            lines.append(NotRun(name, str(error)))
    lines += [NotRun(name, reason) for name, reason in found.missing.items()]
    return [*lines, *not_run]


def write(folder: Path, lines: Iterable[Line | NotRun], notes: Sequence[str] = ()) -> list[Path]:
    """`baseline_comparison.csv`, and the same as Markdown with `notes` beneath."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    cells = [_cells(line) for line in lines]
    paths = [folder / "baseline_comparison.csv", folder / "baseline_comparison.md"]
    with whole_file(paths[0]) as part, part.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([COLUMNS, *cells])
    with whole_file(paths[1]) as part:
        text = markdown(COLUMNS, cells) + "".join(f"\n{note}\n" for note in notes)
        part.write_text(text, encoding="utf-8")
    return paths


def remarks(lines: Iterable[Line | NotRun]) -> list[str]:
    """A sentence for each codec that does not reach our bits on the labelled pictures."""
    measured = [line for line in lines if isinstance(line, Line)]
    ours = {line.codec.removeprefix(f"{NAME} "): line.heads_bpp for line in measured}
    return [
        f"{line.codec}: its dial ends at {line.heads_bpp:.4f} bits a pixel of the labelled "
        f"pictures, where ours take {ours[line.codec.split()[-1]]:.4f}: not as many bits."
        for line in measured
        if line.clamped > 0
    ]


def _said(line: Line) -> str:
    read = "" if math.isnan(line.heads_bpp) else f"; labelled pictures {line.heads_bpp:.4f} bpp"
    clamped = ", the end of its dial" if line.clamped > 0 else ""
    return f"{line.codec}: {line.bpp:.3f} bpp, {line.psnr:.2f} dB{read}{clamped}"


def _rows(codec: Other, pictures: Mapping[str, np.ndarray], quality: float) -> list[Row]:
    return [measure(codec, image, quality, name=name) for name, image in pictures.items()]


def _line(name: str, rows: Sequence[Row], read: Read | None) -> Line:
    values = {n: float(np.mean([getattr(r, n) for r in rows])) for n in ("bpp", "psnr", "ms_ssim")}
    latency = float(np.mean([row.decode_ms for row in rows])) / 1000
    tasks = {}
    if read:
        tasks = dict(heads_bpp=read.bpp, clamped=read.clamped, mean_ap=read.mean_ap, iou=read.iou)
    return Line(codec=name, latency=latency, **values, **tasks)


def _cells(line: Line | NotRun) -> list[str]:
    if isinstance(line, NotRun):
        return [line.name, str(line), *["–"] * (len(COLUMNS) - 2)]
    return line.cells
