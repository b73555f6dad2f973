"""Megapixels a second of the whole codec, pictures to files and back, beside a hyperprior's.

    PYTHONPATH=.:kernels python benchmarks/codec_speed.py --model=model.npz --pictures=FOLDER
    … --out=benchmarks/results/codec_speed.json

The peer is CompressAI's bmshj2018-hyperprior of quality 4 with random weights (`pip install
compressai`), its entropy coder in C++; without it ours runs alone, and says so. All run in one
process, in turns, by wall clock; the table has medians over pictures and rounds. Ours writes whole
files, header and checksums included, and reads them back to pixels; the peer's strings alone.
Compilation is not timed: the first turn at every size is a warm-up.
"""

import argparse
import importlib.util
import json
import statistics
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import jax
import numpy as np

from jaxvision.bench import hardware
from jaxvision.data.images import read_image
from jaxvision.data.pictures import find_pictures
from jaxvision.wavenet_mv.codec import Codec

PEER = "bmshj2018-hyperprior"
Way = tuple[Callable[[np.ndarray], object], Callable[[object], object], Callable[[object], int]]


def ours(codec: Codec, quality: float) -> Way:
    """Encoder, decoder, and the bytes of what the encoder gives."""
    encode = lambda image: codec.encode(image, quality, tile=0)  # noqa: E731
    return encode, lambda data: codec.decode(data).image, len


def hyperprior() -> Way:
    import torch
    from compressai.zoo import bmshj2018_hyperprior

    torch.manual_seed(0)
    net = bmshj2018_hyperprior(4, pretrained=False).eval()
    net.update()

    @torch.no_grad()
    def encode(image):
        height, width, _ = image.shape
        x = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255
        x = torch.nn.functional.pad(x, (0, -width % 64, 0, -height % 64), mode="replicate")
        return net.compress(x)

    @torch.no_grad()
    def decode(coded):
        shown = net.decompress(**coded)["x_hat"]
        return (shown[0].permute(1, 2, 0) * 255).round().byte().numpy()

    return (
        encode,
        decode,
        lambda coded: sum(len(s) for strings in coded["strings"] for s in strings),
    )


def timed(run, argument) -> tuple[float, object]:
    start = time.perf_counter()
    result = run(argument)
    return time.perf_counter() - start, result


def measure(ways: dict[str, Way], pictures: list[np.ndarray], rounds: int) -> dict[str, dict]:
    """Median MP/s each way, and bits a pixel, of each contestant."""
    found: dict[str, dict[str, list[float]]] = {
        name: {"encode": [], "decode": [], "bpp": []} for name in ways
    }
    for image in pictures:
        pixels = image.shape[0] * image.shape[1]
        for turn in range(rounds + 1):
            for name, (encode, decode, size) in ways.items():
                encoding, data = timed(encode, image)
                decoding, _ = timed(decode, data)
                if turn:
                    found[name]["encode"].append(pixels / 1e6 / encoding)
                    found[name]["decode"].append(pixels / 1e6 / decoding)
                    found[name]["bpp"].append(8 * size(data) / pixels)
    return {
        name: {key: round(statistics.median(values), 4) for key, values in of.items()}
        for name, of in found.items()
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True, help="a codec's file")
    parser.add_argument("--pictures", type=Path, required=True, help="folder of pictures")
    parser.add_argument("--quality", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--most", type=int, default=4, help="pictures to take")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    try:
        codec = Codec.load(options.model)
        paths = find_pictures(options.pictures)[: options.most]
        pictures = [read_image(path) for path in paths]
        codec.encode(pictures[0][:1, :1], options.quality)  # a wrong quality is told at once
        if options.out is not None:
            options.out.parent.mkdir(parents=True, exist_ok=True)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    ways = {"ours": ours(codec, options.quality)}
    versions = {"jax": jax.__version__}
    if importlib.util.find_spec("compressai"):
        ways[f"{PEER}, random weights"] = hyperprior()
        versions |= {name: metadata.version(name) for name in ("compressai", "torch")}
    else:
        print(f"{PEER}: not run: compressai is not installed", file=sys.stderr)
    report = {
        "hardware": hardware(jax.devices()[0]),
        "versions": versions,
        "model": codec.digest.hex()[:16],
        "pictures": len(pictures),
        "rounds": options.rounds,
        "unit": "megapixels a second, median",
        "codecs": measure(ways, pictures, options.rounds),
    }
    first = report["codecs"]["ours"]
    for name, found in report["codecs"].items():
        ratios = (found[key] / first[key] for key in ("encode", "decode"))
        print(
            f"{name:40} encode {found['encode']:.3f} MP/s, decode {found['decode']:.3f} MP/s, "
            f"{found['bpp']:.3f} bpp; of ours {' / '.join(f'{r:.2f}' for r in ratios)}"
        )
    if options.out is not None:
        options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
