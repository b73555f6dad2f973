"""A trained model as a codec: pictures to files and back, the same on every machine."""

import dataclasses
import functools
import hashlib
import json
import math
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxvision.config import from_config
from jaxvision.entropy import stream, tfc
from jaxvision.entropy.errors import BitstreamError
from jaxvision.entropy.quantize import gaussian_tables
from jaxvision.entropy.tables import Tables
from jaxvision.stage import path_name
from jaxvision.wavenet_mv import container
from jaxvision.wavenet_mv.lifting import pad_to
from jaxvision.wavenet_mv.model import WavenetMV, WavenetMvConfig
from jaxvision.wavenet_mv.scales import SCALES

CODERS = ("rans", "tfc")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decoded:
    """A picture uint8 `[h w 3]`, and the latents by group that the heads read.

    Of an incomplete file both are of a coarser level: `levels` says how many of all there are.
    """

    image: np.ndarray
    latents: list[np.ndarray]
    levels: tuple[int, int]
    header: container.Header


class Codec:
    """Programs, parameters and tables. Make one by `load`, or of a model with `Codec(model)`."""

    def __init__(self, model: WavenetMV, tables: Tables | None = None):
        model.compressor.check()
        self.cfg, self.multiple = model.cfg, model.multiple
        self.groups = len(model.mixer.sizes)
        self.qualities = len(self.cfg.compressor.lambdas)
        self.tables = gaussian_tables(SCALES) if tables is None else tables
        self.graph, self.state = nnx.split(model)
        self.digest = _digest(self.cfg, self.state, self.tables)

    def save(self, path: Path) -> None:
        """One file: configuration, parameters, tables."""
        arrays = {f"param/{k}": np.asarray(x) for k, x in _parameters(self.state).items()}
        arrays |= {f"table/{k}": x for k, x in self.tables.to_arrays().items()}
        arrays["config"] = np.array(json.dumps(dataclasses.asdict(self.cfg)))
        part = path.with_name(path.name + ".part")
        with part.open("wb") as file:
            np.savez_compressed(file, **arrays)
        part.replace(path)

    @classmethod
    def load(cls, path: Path) -> "Codec":
        try:
            with np.load(path, allow_pickle=False) as data:
                arrays = {k: data[k] for k in data.files}
            cfg = from_config(WavenetMvConfig, json.loads(str(arrays["config"])))
            tables = Tables.from_arrays(_below(arrays, "table/"))
        except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
            if isinstance(error, FileNotFoundError):
                raise
            raise ValueError(f"{path} is no model of wavenet_mv: {error}") from error
        model = nnx.eval_shape(lambda: WavenetMV(cfg, rngs=nnx.Rngs(0)))
        graph, state = nnx.split(model)
        given, wanted = _below(arrays, "param/"), _parameters(state)
        if set(given) != set(wanted) or any(given[k].shape != x.shape for k, x in wanted.items()):
            raise ValueError(f"{path} holds other parameters than its configuration asks for")
        filled = jax.tree_util.tree_map_with_path(
            lambda at, _: jnp.asarray(given[path_name(at)]), nnx.to_pure_dict(state)
        )
        nnx.replace_by_pure_dict(state, filled)
        return cls(nnx.merge(graph, state), tables)

    def encode(self, image: np.ndarray, quality: float, *, coder: str = "rans") -> bytes:
        """uint8 `[h w 3]` at a quality from 0 to the number of lambdas less one."""
        if coder not in CODERS:
            raise ValueError(f"coder={coder!r} is none of {CODERS}")
        symbols, quality = self._quantised(image, quality)
        streams = []
        for i, values in enumerate(symbols):
            index = self._rows(symbols[:i], i, values.shape)
            streams.append(_write(values, index, self.tables, coder))
        header = container.Header(
            model=self.digest[: container.HASH],
            height=image.shape[0],
            width=image.shape[1],
            quality=quality,
            flags=container.TFC if coder == "tfc" else 0,
            lengths=tuple(map(len, streams)),
            checksums=tuple(map(container.checksum, symbols)),
        )
        return container.write(header, streams)

    def decode(self, data: bytes, *, levels: int | None = None) -> Decoded:
        """The picture of all levels, or of the first few; BitstreamError for a file that is broken.

        For some levels the file's beginning is enough, as far as it holds them.
        """
        header, streams = container.read(data)
        if header.model != self.digest[: container.HASH]:
            raise BitstreamError(
                f"the file was written by model {header.model.hex()}; this is model "
                f"{self.digest[: container.HASH].hex()}"
            )
        side = self.cfg.compressor.sigma == "hyper"
        if len(header.lengths) != side + self.groups:
            raise BitstreamError(f"the file has {len(header.lengths)} substreams for this model")
        wanted = self.groups if levels is None else levels
        if not 1 <= wanted <= self.groups:
            raise ValueError(f"levels={levels} must be from 1 to {self.groups}")
        if len(streams) < side + wanted:
            whole = max(0, len(streams) - side)
            raise BitstreamError(
                f"the file is cut off, at {len(data)} bytes: {whole} of its {self.groups} levels "
                "are whole" + (f", which levels={whole} decodes" if whole else "")
            )
        streams = streams[: side + wanted]
        shapes = self._shapes(header)
        symbols: list[np.ndarray] = []
        for i, bits in enumerate(streams):
            index = self._rows(symbols, i, shapes[i])
            values = _read(bits, index, self.tables, header.coder)
            if container.checksum(values) != header.checksums[i]:
                raise BitstreamError(f"substream {i} is damaged: its checksum is wrong")
            symbols.append(values)
        image, latents = self._pictures(self.state, symbols, _of(header.quality))
        missing = self.groups - len(latents)
        height, width = (-(-n // 2**missing) for n in (header.height, header.width))
        return Decoded(
            image=np.asarray(image)[0, :height, :width],
            latents=list(map(np.asarray, latents)),
            levels=(len(latents), self.groups),
            header=header,
        )

    def reconstruct(self, image: np.ndarray, quality: float) -> np.ndarray:
        """What a decoder would show of a picture's file, without the file."""
        symbols, quality = self._quantised(image, quality)
        shown, _ = self._pictures(self.state, symbols, _of(quality))
        return np.asarray(shown)[0, : image.shape[0], : image.shape[1]]

    def _quantised(self, image, quality):
        """The symbols of a picture, and the quality as a header can hold it."""
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(f"image is {image.dtype} {image.shape}; it must be uint8 [h w 3]")
        if not 0 <= quality <= self.qualities - 1:
            raise ValueError(f"quality={quality} must be from 0 to {self.qualities - 1}")
        quality = round(container.QUALITY * quality) / container.QUALITY
        padded = pad_to(jnp.asarray(image)[None], self.multiple)
        symbols = self._symbols(self.state, padded, _of(quality))
        return [np.asarray(x, np.int32) for x in symbols], quality

    def _rows(self, known, i, shape):
        """Table rows of substream i."""
        return np.asarray(self._index(self.state, tuple(known), i, tuple(shape)))

    def _shapes(self, header):
        """Of all substreams' symbols."""
        size = [-(-n // self.multiple) for n in (header.height, header.width)]
        if self.cfg.wavelet.mode == "literal":
            size = [header.height, header.width]
        shapes = [(1, *size, k) for k in nnx.merge(self.graph, self.state).mixer.sizes]
        if self.cfg.compressor.sigma == "hyper":
            coarse = [math.ceil(math.ceil(n / 2) / 2) for n in size]  # two strides of 2
            shapes = [(1, *coarse, self.cfg.compressor.hyper), *shapes]
        return shapes

    @functools.cached_property
    def _symbols(self):
        def run(state, image, quality):
            model = nnx.merge(self.graph, state)
            latents = model.analyse(image.astype(jnp.float32) / 255)
            return model.compressor.symbols(latents, quality)

        return jax.jit(run)

    @functools.cached_property
    def _index(self):
        def run(state, known, i, shape):
            compressor = nnx.merge(self.graph, state).compressor
            if i == 0 and self.cfg.compressor.sigma == "hyper":
                return compressor.side_index(shape)
            return compressor.index([x.astype(jnp.float32) for x in known], shape)

        return jax.jit(run, static_argnums=(2, 3))

    @functools.cached_property
    def _pictures(self):
        def run(state, symbols, quality):
            model = nnx.merge(self.graph, state)
            latents = model.decoded([x.astype(jnp.float32) for x in symbols], quality)
            image = jnp.clip(model.synthesise(latents), 0, 1)
            return jnp.round(255 * image).astype(jnp.uint8), latents

        return jax.jit(run)


def _write(values, index, tables, coder):
    if coder == "tfc":
        return tfc.encode_values(values.reshape(-1), index.reshape(-1), tables)
    return stream.encode_values(values, index, tables)


def _read(data, index, tables, coder):
    if coder == "tfc":
        return tfc.decode_values(data, index.reshape(-1), tables).reshape(index.shape)
    return stream.decode_values(data, index, tables)


def _of(quality):
    return jnp.full((1,), quality, jnp.float32)


def _below(arrays, prefix):
    return {k.removeprefix(prefix): x for k, x in arrays.items() if k.startswith(prefix)}


def _parameters(state) -> dict:
    leaves = jax.tree_util.tree_leaves_with_path(nnx.to_pure_dict(state))
    return {path_name(path): x for path, x in leaves}


def _digest(cfg, state, tables) -> bytes:
    """SHA-256 of all that a decoder must have in common with the encoder."""
    sha = hashlib.sha256(json.dumps(dataclasses.asdict(cfg), sort_keys=True).encode())
    for name, x in sorted(_parameters(state).items()):
        sha.update(name.encode() + np.asarray(x, "<f4").tobytes())
    sha.update(tables.digest)
    return sha.digest()
