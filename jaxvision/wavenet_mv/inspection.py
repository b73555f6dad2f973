"""The commands that only look: what a file says of itself, and whether it decodes."""

import argparse
from pathlib import Path

import numpy as np

from jaxvision.data import y4m
from jaxvision.data.images import read_image
from jaxvision.wavenet_mv import clip, commands, container
from jaxvision.wavenet_mv.codec import Codec
from jaxvision.wavenet_mv.refusal import REFUSALS, refusal


def info(args: argparse.Namespace) -> None:
    data = args.file.read_bytes()
    if clip.is_clip(data):
        _info_clip(args, data)
        return
    header, streams = container.read(data)
    pixels = header.height * header.width
    kind = "lossless" if header.lossless else f"quality {header.quality:g}, {header.coder}"
    tile = f", tiles of {header.tile}" if header.tile else ""
    print(f"{args.file}: {header.width}x{header.height}, {kind}{tile}")
    whose = "tables" if header.lossless else "model"
    print(f"{whose} {header.model.hex()}, {_size(len(data), pixels)}")
    if len(streams) < len(header.lengths):
        print(f"cut off: {len(streams)} of {len(header.lengths)} substreams are whole")
    if args.bits:
        parts = {"header": len(data) - sum(map(len, streams))}
        parts |= {f"substream {i}": n for i, n in enumerate(header.lengths)}
        _print_parts(parts, len(data), pixels)
    if args.bits and args.model is not None and not header.lossless:
        bands = {name: bits / 8 for name, bits in Codec.load(args.model).bits(data).items()}
        rest = sum(header.lengths) - sum(bands.values())
        print("of the substreams, by band:")
        _print_parts(bands | {"coder, rare values": rest}, len(data), pixels)


def _info_clip(args, data):
    header, frames, count = clip.read(data)
    pixels = header.height * header.width * count
    rate = "rate unknown"
    if header.rate[1]:
        rate = f"{header.rate[0] / header.rate[1]:.6g} a second"
    print(f"{args.file}: {header.width}x{header.height}, {count} frames, {rate}, {header.chroma}")
    print(_size(len(data), max(pixels, 1)))
    if len(frames) < count:
        print(f"cut off: {len(frames)} of {count} frames are whole")
    if args.bits:
        parts = {"header": len(data) - sum(map(len, frames))}
        parts |= {f"frame {i}": len(frame) for i, frame in enumerate(frames)}
        _print_parts(parts, len(data), max(pixels, 1))


def _size(length, pixels):
    return f"{length} bytes, {8 * length / pixels:.4f} bits a pixel"


def _print_parts(parts, total, pixels):
    for name, size in parts.items():
        share = 100 * size / total
        print(f"{name:18} {8 * size:9.0f} bits {8 * size / pixels:8.4f} a pixel {share:5.1f} %")


def verify(args: argparse.Namespace) -> None:
    codec = None if args.model is None else Codec.load(args.model)
    if args.against is not None and not args.against.is_file():
        raise ValueError(f"--against={args.against}: there is no such file")
    bad = 0
    for path in args.file:
        try:
            about = _verified(path, codec, args.against)
        except REFUSALS as error:
            bad += 1
            print(f"{path}: {refusal(error, path).removeprefix(f'{path}: ')}")
            continue
        print(f"{path}: whole{about}")
    if bad:
        raise SystemExit(f"error: {bad} of {len(args.file)} files did not pass")


def _verified(path: Path, codec: Codec | None, against: Path | None) -> str:
    """Decodes a file, and says how near it is to what it should show."""
    data = path.read_bytes()
    if clip.is_clip(data):
        return _verified_clip(path, data, codec, against)
    image = commands.read(data, codec).image
    if against is None:
        return ""
    wanted = read_image(against)
    if wanted.shape != image.shape:
        sizes = ["x".join(map(str, x.shape[1::-1])) for x in (wanted, image)]
        raise ValueError(f"{against} is {sizes[0]}, {path} {sizes[1]}")
    error = np.mean((wanted.astype(np.float64) - image) ** 2)
    return f", {10 * np.log10(255**2 / max(error, 1e-10)):.2f} dB" if error else ", identical"


def _verified_clip(path, data, codec, against):
    header, frames = commands.frames_of(data)
    codec = commands.decoder(None) if codec is None else codec
    wanted = None if against is None else y4m.Reader(against)
    shown = (commands.planes_of(codec.decode(frame).image, header) for frame in frames)
    if wanted is None:
        return f", {sum(1 for _ in shown)} frames"
    kinds = [f"{x.width}x{x.height}, {x.chroma}" for x in (wanted.header, header)]
    if kinds[0] != kinds[1]:
        raise ValueError(f"{against} is {kinds[0]}; {path} {kinds[1]}")
    count = sum(1 for _ in wanted)
    if count != len(frames):
        raise ValueError(f"{against} has {count} frames, {path} {len(frames)}")
    found = [y4m.psnr(a, b) for a, b in zip(wanted, shown, strict=True)]
    luma, _, _, both = np.mean(found, axis=0)
    return f", {len(found)} frames, PSNR-Y {luma:.2f} dB, 6:1:1 {both:.2f} dB"
