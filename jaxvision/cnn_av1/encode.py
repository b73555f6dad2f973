"""The verb `encode`: a clip to an AV1 stream, with the search that a model narrows."""

import argparse
import importlib
import itertools
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from jaxvision.cnn_av1.clips import read_clip
from jaxvision.cnn_av1.steering.coding import Predict, encode_steered
from jaxvision.cnn_av1.steering.library import open_steered
from jaxvision.cnn_av1.steering.second_decoder import second_decoder, verify
from jaxvision.data import y4m
from jaxvision.data.av1.ivf import write_ivf
from jaxvision.data.av1.partitions import NODE_SIZES

PREDICTOR = "jaxvision.cnn_av1.predictor"  # networks are imported only when one is used
CPU_USED = range(4)  # above, libaom leaves types out whatever masks say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("clip", type=Path, help="a .y4m, 4:2:0, 8 or 10 bits")
    parser.add_argument("stream", type=Path, help="the .ivf to write; every frame is a key frame")
    parser.add_argument("--model", type=Path, required=True, help="a trained model, MODEL.npz")
    parser.add_argument(
        "--tau",
        type=float,
        default=0.9,
        help="what the model's probabilities of the searched types add up to (0.9)",
    )
    for level in NODE_SIZES:
        parser.add_argument(f"--tau{level}", type=float, help=f"the same at {level} pixels")
    parser.add_argument(
        "--levels", default="64,32,16", help="nodes that are predicted (64,32,16); 8 cost more"
    )
    parser.add_argument("--cq", type=int, default=32, help="quality, 0, the best, to 63 (32)")
    parser.add_argument("--cpu-used", type=int, default=0, help="libaom's preset, 0 to 3 (0)")
    parser.add_argument("--frames", type=int, help="so many of the clip; all if not given")
    parser.add_argument(
        "--verify", action="store_true", help="decode by dav1d or another libaom as well"
    )


def run(args: argparse.Namespace) -> None:
    """Writes the stream, whole or not at all, and prints what it cost."""
    if args.stream.suffix.lower() != ".ivf":
        raise ValueError(f"{args.stream}: streams are written as .ivf")
    if args.frames is not None and args.frames < 1:
        raise ValueError(f"--frames={args.frames} must be at least 1")
    if args.cpu_used not in CPU_USED:
        raise ValueError(f"--cpu-used={args.cpu_used} must be from 0 to {CPU_USED[-1]}")
    if args.clip.suffix.lower() != ".y4m":
        raise ValueError(f"{args.clip}: clips are read as .y4m")
    given = {level: getattr(args, f"tau{level}") for level in NODE_SIZES}
    taus = taus_of(args.levels, args.tau, {k: v for k, v in given.items() if v is not None})
    clip = read_clip(args.clip)
    predict, steered = load_predictor(args.model), open_steered()
    second = second_decoder(steered.library) if args.verify else None
    predict((np.zeros((clip.height, clip.width), np.uint16),), 0, tuple(taus))  # compiles
    start = time.perf_counter()
    report = encode_steered(
        steered,
        itertools.islice(clip.frames, args.frames),
        predict=predict,
        taus=taus,
        depth=clip.depth,
        cq=args.cq,
        options={"cpu-used": args.cpu_used},
    )
    took = time.perf_counter() - start
    if second is not None:
        name, decode = second
        verify(report, decode, name, size=(clip.width, clip.height), depth=clip.depth)
    rate = y4m.Reader(args.clip, depths=(8, 10)).header.rate
    write_ivf(args.stream, report.packets, width=clip.width, height=clip.height, rate=rate)
    frames = len(report.packets)
    bpp = 8 * report.bytes / (frames * clip.width * clip.height)
    print(
        f"{args.stream}: {report.bytes} bytes, {frames} frames, {bpp:.4f} bits a pixel,"
        f" PSNR-Y {report.psnr_y:.2f} dB, {took:.2f} s, of which the encoder took"
        f" {report.encoder_seconds:.2f} and the model {report.prediction_seconds:.2f}"
        + (f"; {second[0]} shows the same" if second else "")
    )


def taus_of(levels: str, tau: float, given: Mapping[int, float]) -> dict[int, float]:
    """The tau of each level of a list like "64,32", with those that were given for one alone.

    Raises:
      ValueError: for a level that is none, and a tau that was given for one that is not listed.
    """
    wanted = []
    for text in levels.split(","):
        if text.strip() not in map(str, NODE_SIZES):
            raise ValueError(f"level {text!r} is none of {', '.join(map(str, NODE_SIZES))}")
        wanted.append(int(text))
    for level, value in given.items():
        if level not in wanted:
            raise ValueError(f"--tau{level}={value} is given, but {level} is not among --levels")
    taus = {level: given.get(level, tau) for level in NODE_SIZES if level in wanted}
    for level, value in taus.items():
        if not 0 < value <= 1:
            raise ValueError(f"tau={value} of level {level} must be above 0 and at most 1")
    return taus


def load_predictor(path: str | Path) -> Predict:
    """The predictor of a model's file; ValueError if it is none."""
    return importlib.import_module(PREDICTOR).predictor(path)
