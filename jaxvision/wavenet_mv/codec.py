"""A trained model as a codec: pictures to files and back, the same on every machine."""

import collections
import dataclasses
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from jaxvision.entropy import escape, stream, tfc
from jaxvision.entropy.errors import BitstreamError
from jaxvision.entropy.quantize import gaussian_tables
from jaxvision.entropy.tables import Tables
from jaxvision.wavenet_mv import container, layout, models, tiles
from jaxvision.wavenet_mv.adamix import joined
from jaxvision.wavenet_mv.contexts import SCALES
from jaxvision.wavenet_mv.model import WavenetMV
from jaxvision.wavenet_mv.programs import Programs

FORMATS = {"rans": stream, "tfc": tfc}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decoded:
    """A picture uint8 `[h w 3]`, and the latents `[1 h w k]`, coarse to fine, that the heads read.

    Of an incomplete file both are of a coarser level: `levels` says how many of all there are.
    """

    image: np.ndarray
    latents: list[np.ndarray]
    levels: tuple[int, int]
    header: container.Header

    @property
    def features(self) -> np.ndarray:
        """The latents on one grid, float32 `[h/8 w/8 k]`: what the heads read."""
        latents = self.latents
        if not latents:
            raise ValueError("a lossless file has no features")
        return np.asarray(latents[0] if len(latents) == 1 else joined(latents))[0]


class Codec:
    """Programs, parameters and tables. Make one by `load`, or of a model with `Codec(model)`."""

    def __init__(self, model: WavenetMV, tables: Tables | None = None, *, checked: bool = False):
        if not checked:
            model.check()
        self.cfg, self.multiple, self.model = model.cfg, model.multiple, model
        self.levels, self.side = len(model.compressor.planes), layout.has_side(model)
        self.qualities = len(self.cfg.compressor.lambdas)
        self.tables = gaussian_tables(SCALES) if tables is None else tables
        self.programs = Programs(model)
        self.state = self.programs.state
        self.digest = models.digest(self.cfg, self.state, self.tables)

    def save(self, path: Path) -> None:
        """One file: configuration, parameters, tables."""
        models.save(path, self.cfg, self.state, self.tables)

    @classmethod
    def load(cls, path: Path) -> "Codec":
        """ValueError for a file that is no model; FileNotFoundError."""
        return cls(*models.load(path), checked=True)  # before it was saved

    def encode(
        self, image: np.ndarray, quality: float, *, coder: str = "rans", tile: int | None = None
    ) -> bytes:
        """uint8 `[h w 3]` at a quality from 0 to the number of lambdas less one.

        In tiles of `tile` pixels a side, a multiple of `multiple`; 0 for one piece, None for tiles
        where the picture is large.
        """
        if coder not in FORMATS:
            raise ValueError(f"coder={coder!r} is none of {tuple(FORMATS)}")
        tile, quality = self._checked(image, quality, tile)
        coded, flags = [], container.TFC if coder == "tfc" else 0
        for symbols in self._symbols(image, quality, tile):
            rows = layout.by_level(self.programs.rows(symbols), self.side)
            values = layout.by_level(symbols, self.side)
            streams = [
                FORMATS[coder].encode_values(*x, self.tables)
                for x in zip(values, rows, strict=True)
            ]
            coded.append((streams, [container.checksum(x, flags) for x in values]))
        levels = range(self.levels)
        streams = [streams[i] for i in levels for streams, _ in coded]
        header = container.Header(
            model=self.digest[: container.HASH],
            height=image.shape[0],
            width=image.shape[1],
            quality=quality,
            flags=flags,
            lengths=tuple(map(len, streams)),
            checksums=tuple(checks[i] for i in levels for _, checks in coded),
            tile=tile,
        )
        return container.write(header, streams)

    def decode(self, data: bytes, *, levels: int | None = None) -> Decoded:
        """The picture of all levels, or of the first few; BitstreamError for a file that is broken.

        For some levels the file's beginning is enough, as far as it holds them.
        """
        header, wanted, symbols = self._read(data, levels)
        planes = (x[self.side :] for x in symbols)
        padded, scale = self._padded(header.height, header.width), 2 ** (self.levels - wanted)
        image, latents = self._shown(planes, padded, header.quality, header.tile, scale)
        height, width = (-(-n // scale) for n in (header.height, header.width))
        return Decoded(
            image=image[:height, :width],
            latents=latents,
            levels=(wanted, self.levels),
            header=header,
        )

    def bits(self, data: bytes) -> dict[str, float]:
        """What the tables ask for each band's symbols in a file, without values off the tables.

        BitstreamError for a file that is broken.
        """
        _, _, tiled = self._read(data, None)
        bands, found = layout.bands(self.model), collections.Counter()
        for symbols in tiled:
            rows = self.programs.rows(symbols)
            names = [("side information",) * symbols[0].shape[-1]] * self.side + bands
            for values, index, plane in zip(symbols, rows, names, strict=True):
                for name in dict.fromkeys(plane):
                    mine = np.array(plane) == name
                    coded, row, _ = escape.split(values[..., mine], index[..., mine], self.tables)
                    found[name] += self.tables.bits(coded, row)
        return dict(found)

    def _read(self, data, levels) -> tuple[container.Header, int, Iterator[list[np.ndarray]]]:
        """The header, how many levels are wanted, and the symbols of each tile in turn."""
        header, streams = container.read(data)
        number = self._checked_header(header)
        wanted = tiles.wanted(levels, self.levels, len(streams) // number, len(data))

        def symbols():
            padded = self._padded(header.height, header.width)
            for tile, span in enumerate(self._tiles(*padded, header.tile)):
                mine = slice(tile, wanted * number, number)
                sums, shapes = header.checksums[mine], self._shapes(*span)
                yield self._decoded(streams[mine], sums, shapes, header)

        return header, wanted, symbols()

    def reconstruct(
        self, image: np.ndarray, quality: float, *, tile: int | None = None
    ) -> np.ndarray:
        """What a decoder would show of a picture's file, without the file."""
        tile, quality = self._checked(image, quality, tile)
        padded = self._padded(*image.shape[:2])
        planes = (x[self.side :] for x in self._symbols(image, quality, tile))
        shown, _ = self._shown(planes, padded, quality, tile, 1)
        return shown[: image.shape[0], : image.shape[1]]

    def _decoded(self, streams, checks, shapes, header) -> list[np.ndarray]:
        """A tile's side information and planes, of as many levels as there are `streams`."""
        programs, known, found = self.programs, None, []
        sizes = shapes[self.side :]
        for i, (data, check, shape) in enumerate(zip(streams, checks, sizes, strict=False)):
            reader, parts = FORMATS[header.coder].Reader(data, self.tables), []
            if self.side and i == 0:
                side = reader.read(programs.side_rows(shapes[0]))
                known, parts, found = (side,), [side.reshape(-1)], [side]
            plane = np.zeros(shape, np.int32)
            first, second = layout.passes(shape)
            features, rows = programs.first_rows(i, known, shape)
            plane[first] = reader.read(rows[first])
            plane[second] = reader.read(programs.second_rows(i, features, plane)[second])
            reader.finish()
            values = np.concatenate([*parts, plane[first], plane[second]])
            if container.checksum(values, header.flags) != check:
                raise BitstreamError(f"level {i} is damaged: its checksum is wrong")
            known = (features, plane)
            found.append(plane)
        return found

    def _symbols(self, image, quality, tile) -> Iterator[list[np.ndarray]]:
        """The symbols of each tile in turn."""
        height, width = self._padded(*image.shape[:2])
        pads = [(0, height - image.shape[0]), (0, width - image.shape[1]), (0, 0)]
        image, places = np.pad(image, pads, mode="reflect"), self._tiles(height, width, tile)

        def latents(rows, columns):
            found = self.programs.analysis(image[rows.window(), columns.window()])
            scales = [(rows.last - rows.first) // x.shape[1] for x in found]
            return [
                x[:, rows.inside(n), columns.inside(n)] for x, n in zip(found, scales, strict=True)
            ]

        gathered = _gathered((latents(*place) for place in places), places, (height, width))
        numbers = self.programs.in_steps(gathered, quality)
        scales = [height // x.shape[1] for x in numbers]
        for rows, columns in places:
            yield self.programs.symbols(
                [x[:, rows.part(n), columns.part(n)] for x, n in zip(numbers, scales, strict=True)]
            )

    def _shown(self, planes: Iterable[list[np.ndarray]], padded, quality, tile, scale):
        """The picture at 1/scale of its padded size, and its latents, of all tiles' planes."""
        image = np.empty((padded[0] // scale, padded[1] // scale, 3), np.uint8)
        places = self._tiles(*padded, tile)
        latents = self.programs.latents(_gathered(planes, places, padded), quality)
        scales = [padded[0] // x.shape[1] for x in latents]
        for rows, columns in places:
            seen = [
                x[:, rows.window(n), columns.window(n)]
                for x, n in zip(latents, scales, strict=True)
            ]
            part = self.programs.picture(seen)
            inside = part[rows.inside(scale), columns.inside(scale)]
            image[rows.part(scale), columns.part(scale)] = inside
        return image, latents

    def _tiles(self, height, width, tile) -> list[tuple[tiles.Span, tiles.Span]]:
        margin = layout.margin(self.model)
        both = (tiles.spans(n, tile, margin=margin) for n in (height, width))
        return list(itertools.product(*both))

    def _padded(self, height, width) -> tuple[int, int]:
        return tuple(-(-n // self.multiple) * self.multiple for n in (height, width))

    def _shapes(self, rows, columns):
        return layout.shapes(self.model, rows.end - rows.begin, columns.end - columns.begin)

    def _checked(self, image, quality, tile):
        """The tile, and the quality as a header can hold it."""
        check_image(image)
        if not 0 <= quality <= self.qualities - 1:
            raise ValueError(f"quality={quality} must be from 0 to {self.qualities - 1}")
        tile = tiles.chosen(tile, *image.shape[:2])
        tiles.check(tile, self.multiple)
        return tile, round(container.QUALITY * quality) / container.QUALITY

    def _checked_header(self, header) -> int:
        """How many tiles there are; BitstreamError for a file that is not of this model."""
        ours = self.digest[: container.HASH]
        if header.lossless:
            raise BitstreamError("the file is lossless: it was written without a model")
        if header.model != ours:
            raise BitstreamError(
                f"the file was written by model {header.model.hex()}; this is model {ours.hex()}"
            )
        if header.quality > self.qualities - 1:
            raise BitstreamError(f"quality {header.quality} is above those of this model")
        return tiles.checked(header, self.levels, self.multiple)


def _gathered(parts: Iterable[list[np.ndarray]], places, size) -> list[np.ndarray]:
    """Arrays `[1 h w k]` of the whole picture, of those of its tiles."""
    whole: list[np.ndarray] = []
    scales: list[int] = []
    for (rows, columns), arrays in zip(places, parts, strict=True):
        for i, x in enumerate(arrays):
            if len(whole) <= i:
                scales.append((rows.end - rows.begin) // x.shape[1])
                whole.append(np.empty((1, *(n // scales[i] for n in size), x.shape[3]), x.dtype))
            whole[i][:, rows.part(scales[i]), columns.part(scales[i])] = x
    return whole


def check_image(image: np.ndarray) -> None:
    """ValueError unless it is a picture, uint8 `[h w 3]`, of a size that files can have."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"image is {image.dtype} {image.shape}; it must be uint8 [h w 3]")
    if not 1 <= min(image.shape[:2]) <= max(image.shape[:2]) <= container.LARGEST:
        raise ValueError(f"image is {image.shape}; sides must be from 1 to {container.LARGEST}")
