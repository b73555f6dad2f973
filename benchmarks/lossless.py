"""Lossless files of photographs beside PNG, WebP, JPEG 2000 and JPEG XL: bits a pixel and seconds.

    PYTHONPATH=.:kernels python benchmarks/lossless.py --pictures=FOLDER
    … --out=benchmarks/results/lossless.json

All in one process, picture by picture; every file is decoded and compared to the bit. JPEG XL takes
part where imagecodecs is installed (`uv sync --extra baselines`). Ratios are of the mean bits a
pixel, the peer's over ours; times are medians over pictures, by wall clock.
"""

import argparse
import importlib.util
import io
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from PIL import Image

from jaxvision.bench import hardware
from jaxvision.data.images import read_image
from jaxvision.data.pictures import find_pictures
from jaxvision.wavenet_mv import lossless_file

Way = tuple[Callable[[np.ndarray], bytes], Callable[[bytes], np.ndarray]]


def pillow(kind: str, **options) -> Way:
    def encode(image):
        file = io.BytesIO()
        Image.fromarray(image).save(file, kind, **options)
        return file.getvalue()

    return encode, lambda data: np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def ways() -> dict[str, Way]:
    """Encoder and decoder of each contestant, each at its slowest setting in common use."""
    found = {
        "ours": (lossless_file.encode, lambda data: lossless_file.decode(data).image),
        "PNG, optimize": pillow("PNG", optimize=True),
        "WebP, method 6": pillow("WEBP", lossless=True, quality=100, method=6),
        "JPEG 2000": pillow("JPEG2000", irreversible=False, mct=1),
    }
    if importlib.util.find_spec("imagecodecs"):
        import imagecodecs

        found["JPEG XL, effort 7"] = (
            lambda image: imagecodecs.jpegxl_encode(image, lossless=True, effort=7),
            imagecodecs.jpegxl_decode,
        )
    else:
        print("JPEG XL: not run: imagecodecs is not installed", file=sys.stderr)
    return found


def measure(contestants: dict[str, Way], pictures: dict[str, np.ndarray]) -> dict[str, dict]:
    rows: dict[str, list[tuple[float, float, float]]] = {name: [] for name in contestants}
    for number, (picture, image) in enumerate(pictures.items(), 1):
        for name, (encode, decode) in contestants.items():
            begin = time.perf_counter()
            data = encode(image)
            middle = time.perf_counter()
            same = np.array_equal(decode(data), image)
            end = time.perf_counter()
            if not same:
                raise SystemExit(f"error: {name} does not give {picture} back")
            bits = 8 * len(data) / (image.shape[0] * image.shape[1])
            rows[name].append((bits, middle - begin, end - middle))
        print(f"{number}/{len(pictures)} {picture}", file=sys.stderr, flush=True)
    means = {name: statistics.mean(row[0] for row in found) for name, found in rows.items()}
    return {
        name: {
            "bpp": round(means[name], 4),
            "of_ours": round(means[name] / means["ours"], 4),
            "encode_s": round(statistics.median(row[1] for row in found), 3),
            "decode_s": round(statistics.median(row[2] for row in found), 3),
        }
        for name, found in rows.items()
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=Path, required=True, help="folder of pictures")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    try:
        paths = find_pictures(options.pictures)
        pictures = {str(path.relative_to(options.pictures)): read_image(path) for path in paths}
        if options.out is not None:
            options.out.parent.mkdir(parents=True, exist_ok=True)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    report = {
        "hardware": hardware(jax.devices()[0]),
        "pictures": len(pictures),
        "codecs": measure(ways(), pictures),
    }
    for name, found in report["codecs"].items():
        print(
            f"{name:20} {found['bpp']:7.3f} bpp, {found['of_ours']:.3f} of ours, "
            f"encode {found['encode_s']:.2f} s, decode {found['decode_s']:.2f} s"
        )
    if options.out is not None:
        options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
