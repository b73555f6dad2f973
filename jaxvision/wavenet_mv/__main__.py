"""python -m jaxvision.wavenet_mv {encode,decode,info,verify}: pictures to files and back.

encode --model=MODEL.npz PICTURE FILE.wvmv [--quality=1 | --target-bpp=0.3 | --target-psnr=32]
decode --model=MODEL.npz FILE.wvmv PICTURE.png [--levels=2] [--features=FEATURES.npz]
info   FILE.wvmv [--bits]
verify --model=MODEL.npz FILE.wvmv … [--against=PICTURE]
"""

import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

from jaxvision.data.images import read_image
from jaxvision.wavenet_mv import container
from jaxvision.wavenet_mv.codec import CODERS, Codec, Decoded
from jaxvision.wavenet_mv.search import at_bpp, at_psnr

WRITTEN = (".png", ".webp", ".bmp", ".tif", ".tiff", ".jpg", ".jpeg")


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m jaxvision.wavenet_mv",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    model = argparse.ArgumentParser(add_help=False)
    model.add_argument("--model", type=Path, required=True, help="a trained codec, MODEL.npz")

    encode = verbs.add_parser("encode", parents=[model], help="a picture to a file")
    encode.add_argument("picture", type=Path)
    encode.add_argument("file", type=Path)
    rate = encode.add_mutually_exclusive_group()
    rate.add_argument("--quality", type=float, help="0, the smallest file, to 2; 1 if not given")
    rate.add_argument("--target-bpp", type=float, help="the best quality of at most so many bits")
    rate.add_argument("--target-psnr", type=float, help="the smallest file of so many dB")
    encode.add_argument("--coder", choices=CODERS, default="rans", help="tfc: TensorFlow's format")
    encode.add_argument("--verify", action="store_true", help="decode it before it is written")

    decode = verbs.add_parser("decode", parents=[model], help="a file to a picture")
    decode.add_argument("file", type=Path)
    decode.add_argument("picture", type=Path)
    decode.add_argument("--levels", type=int, help="the first levels alone: a smaller picture")
    decode.add_argument("--features", type=Path, help="also what heads read, as .npz")

    info = verbs.add_parser("info", help="what a file says of itself")
    info.add_argument("file", type=Path)
    info.add_argument("--bits", action="store_true", help="bits of each part")

    verify = verbs.add_parser("verify", parents=[model], help="whether files decode")
    verify.add_argument("file", type=Path, nargs="+")
    verify.add_argument("--against", type=Path, help="a picture to compare with")
    return parser.parse_args(arguments)


def encode(args) -> None:
    codec, image = Codec.load(args.model), read_image(args.picture)
    if args.target_bpp is not None:
        quality = at_bpp(codec, image, args.target_bpp, coder=args.coder)
    elif args.target_psnr is not None:
        quality = at_psnr(codec, image, args.target_psnr)
    else:
        quality = 1.0 if args.quality is None else args.quality
    start = time.perf_counter()
    data = codec.encode(image, quality, coder=args.coder)
    took = time.perf_counter() - start
    if args.verify:
        decoded = codec.decode(data).image
        if not np.array_equal(decoded, codec.reconstruct(image, quality)):
            raise ValueError(f"{args.picture}: what was decoded is not what was encoded")
    write(args.file, lambda part: part.write_bytes(data))
    bpp = 8 * len(data) / (image.shape[0] * image.shape[1])
    print(
        f"{args.file}: {len(data)} bytes, {bpp:.4f} bits a pixel, quality {quality:g}, {took:.2f} s"
    )


def decode(args) -> None:
    if args.picture.suffix.lower() not in WRITTEN:
        raise ValueError(f"{args.picture}: pictures are written as {', '.join(WRITTEN)}")
    decoded = Codec.load(args.model).decode(args.file.read_bytes(), levels=args.levels)
    kind = Image.registered_extensions()[args.picture.suffix.lower()]
    write(args.picture, lambda part: Image.fromarray(decoded.image).save(part, format=kind))
    if args.features:
        write(args.features, lambda part: save_features(part, decoded))
    height, width, _ = decoded.image.shape
    print(f"{args.picture}: {width}x{height}, {decoded.levels[0]} of {decoded.levels[1]} levels")


def info(args) -> None:
    data = args.file.read_bytes()
    header, streams = container.read(data)
    pixels = header.height * header.width
    coder = header.coder
    print(f"{args.file}: {header.width}x{header.height}, quality {header.quality:g}, {coder}")
    print(
        f"model {header.model.hex()}, {len(data)} bytes, {8 * len(data) / pixels:.4f} bits a pixel"
    )
    if len(streams) < len(header.lengths):
        print(f"cut off: {len(streams)} of {len(header.lengths)} substreams are whole")
    if args.bits:
        parts = {"header": len(data) - sum(map(len, streams))}
        parts |= {f"substream {i}": n for i, n in enumerate(header.lengths)}
        for name, size in parts.items():
            share = 100 * size / len(data)
            print(f"{name:12} {8 * size:9} bits {8 * size / pixels:8.4f} a pixel {share:5.1f} %")


def verify(args) -> None:
    codec = Codec.load(args.model)
    wanted = None if args.against is None else read_image(args.against)
    bad = 0
    for path in args.file:
        try:
            image = codec.decode(path.read_bytes()).image
        except (OSError, ValueError) as error:
            bad += 1
            print(f"{path}: {error}")
            continue
        about = ""
        if wanted is not None:
            if wanted.shape != image.shape:
                raise ValueError(f"{args.against} is {wanted.shape}, {path} {image.shape}")
            error = np.mean((wanted.astype(np.float64) - image) ** 2)
            about = f", {10 * np.log10(255**2 / max(error, 1e-10)):.2f} dB"
        print(f"{path}: whole{about}")
    if bad:
        raise SystemExit(f"error: {bad} of {len(args.file)} files are broken")


def save_features(path: Path, decoded: Decoded) -> None:
    with path.open("wb") as file:
        np.savez(file, **{f"level{i}": x[0] for i, x in enumerate(decoded.latents)})


def write(path: Path, save) -> None:
    """Whole, or not at all."""
    part = path.with_name(f".{path.name}.part")
    try:
        save(part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def main(arguments: list[str] | None = None) -> int:
    args = parsed(arguments)
    try:
        {"encode": encode, "decode": decode, "info": info, "verify": verify}[args.verb](args)
    except OSError as error:
        print(f"error: {error.filename or ''}: {error.strerror or error}", file=sys.stderr)
        return 1
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
