"""The commands that write: pictures and clips to files, and files to pictures and clips."""

import argparse
import contextlib
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from jaxvision.data import y4m
from jaxvision.data.images import read_image
from jaxvision.entropy.errors import BitstreamError
from jaxvision.wavenet_mv import clip, container, lossless_file
from jaxvision.wavenet_mv.codec import Codec, Decoded
from jaxvision.wavenet_mv.lossless_input import check_exact
from jaxvision.wavenet_mv.search import at_bpp, at_psnr
from jaxvision.written import whole_file

WRITTEN = (".png", ".webp", ".bmp", ".tif", ".tiff", ".jpg", ".jpeg")
SAVED = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95}}  # no second loss where it can be
LONGEST = {"WEBP": 16383, "JPEG": 65500}  # sides
CLIP = ".y4m"


def encode(args: argparse.Namespace) -> None:
    start = time.perf_counter()
    coded = _encoder(args)
    if args.picture.suffix.lower() == CLIP:
        if args.lossless:
            raise ValueError(f"{args.picture}: clips are coded as RGB, which is not without loss")
        reader = y4m.Reader(args.picture)
        frames = [coded(y4m.to_rgb(planes, reader.header)) for planes in reader]
        if not frames:
            raise ValueError(f"{args.picture}: the clip has no frame")
        data = clip.write(reader.header, frames)
        pixels = reader.header.height * reader.header.width * len(frames)
        about = f"{len(frames)} frames"
    else:
        image = read_image(args.picture)
        data = coded(image)
        pixels = image.shape[0] * image.shape[1]
        about = "lossless" if args.lossless else f"quality {container.read(data)[0].quality:g}"
    with whole_file(args.file) as part:
        part.write_bytes(data)
    took = time.perf_counter() - start
    bpp = 8 * len(data) / pixels
    print(f"{args.file}: {len(data)} bytes, {bpp:.4f} bits a pixel, {about}, {took:.2f} s")


def _encoder(args) -> Callable[[np.ndarray], bytes]:
    """From a picture to its file, as the options ask."""
    if args.lossless:
        if args.model is not None:
            raise ValueError(f"--model={args.model}: lossless files are coded without a model")
        if args.coder == "tfc":
            raise ValueError("--coder=tfc is for files with loss: lossless ones are coded by rANS")
        check_exact(args.picture)

        def lossless(image):
            data = lossless_file.encode(image, tile=args.tile)
            if args.verify:
                _same(args.picture, lossless_file.decode(data).image, image)
            return data

        return lossless
    codec, options = decoder(args.model), {"tile": args.tile}

    def coded(image):
        if args.target_bpp is not None:
            quality = at_bpp(codec, image, args.target_bpp, coder=args.coder, **options)
        elif args.target_psnr is not None:
            quality = at_psnr(codec, image, args.target_psnr, **options)
        else:
            quality = 1.0 if args.quality is None else args.quality
        data = codec.encode(image, quality, coder=args.coder, **options)
        if args.verify:
            wanted = codec.reconstruct(image, quality, **options)
            _same(args.picture, codec.decode(data).image, wanted)
        return data

    return coded


def _same(path, decoded, wanted):
    if not np.array_equal(decoded, wanted):
        raise ValueError(f"{path}: what was decoded is not what was encoded")


def decode(args: argparse.Namespace) -> None:
    data, ending = args.file.read_bytes(), args.picture.suffix.lower()
    if ending not in (*WRITTEN, CLIP):
        raise ValueError(f"{args.picture}: pictures are written as {', '.join((*WRITTEN, CLIP))}")
    if ending == CLIP:
        _decode_clip(args, data)
        return
    if args.frame is not None:
        if data and not clip.is_clip(data):
            raise ValueError(f"{args.file} is no clip; --frame={args.frame} takes a picture of one")
        data = clip.frame(data, args.frame)
    elif clip.is_clip(data):
        raise ValueError(f"{args.file} is a clip: write {CLIP}, or take one --frame=0")
    decoded = read(data, args.model, levels=args.levels)
    features = decoded.features if args.features else None
    kind = Image.registered_extensions()[ending]
    height, width, _ = decoded.image.shape
    if max(height, width) > LONGEST.get(kind, max(height, width)):
        raise ValueError(
            f"{args.picture}: {ending} holds up to {LONGEST[kind]} pixels a side, not "
            f"{width}x{height}: write .png"
        )
    with contextlib.ExitStack() as both:  # or neither
        part = both.enter_context(whole_file(args.picture))
        Image.fromarray(decoded.image).save(part, format=kind, **SAVED.get(kind, {}))
        if features is not None:
            other = both.enter_context(whole_file(args.features))
            with other.open("wb") as file:
                np.savez(file, features=features)
    print(f"{args.picture}: {width}x{height}, {decoded.levels[0]} of {decoded.levels[1]} levels")


def _decode_clip(args, data):
    if args.frame is not None or args.levels is not None or args.features is not None:
        raise ValueError(f"{args.picture}: --frame, --levels and --features are for pictures")
    if data[:4] == container.MAGIC:
        raise ValueError(f"{args.file} is a picture: write .png, not {args.picture}")
    header, frames = frames_of(data)
    codec = decoder(args.model)
    images = (codec.decode(frame).image for frame in frames)
    with whole_file(args.picture) as part, part.open("wb") as file:
        number = y4m.write(file, header, (planes_of(image, header) for image in images))
    print(f"{args.picture}: {header.width}x{header.height}, {number} frames")


def frames_of(data: bytes) -> tuple[y4m.Header, list[bytes]]:
    """A clip's header and all its frames; BitstreamError if some are lacking."""
    header, frames, count = clip.read(data)
    if len(frames) < count:
        raise BitstreamError(f"the clip is cut off: {len(frames)} of {count} frames are whole")
    return header, frames


def planes_of(image: np.ndarray, header: y4m.Header) -> y4m.Planes:
    if image.shape != (header.height, header.width, 3):
        raise BitstreamError(
            f"a frame of {image.shape[1]}×{image.shape[0]} in a clip of "
            f"{header.width}×{header.height}"
        )
    return y4m.from_rgb(image, header)


def decoder(model: Path | None) -> Codec:
    if model is None:
        raise ValueError(
            "--model=MODEL.npz is missing: --model=demo is the one that comes along, and only "
            "lossless files need none"
        )
    return Codec.load(model)


def read(data: bytes, model: Path | Codec | None, *, levels: int | None = None) -> Decoded:
    """Decodes a picture's file of either kind."""
    if container.read(data)[0].lossless:
        return lossless_file.decode(data, levels=levels)
    codec = model if isinstance(model, Codec) else decoder(model)
    return codec.decode(data, levels=levels)
