"""BD-rate against time and search saved: a model that steers libaom, its presets, and oracles.

    PYTHONPATH=.:kernels python benchmarks/av1_encode.py --model=MODEL.npz --out=FOLDER CLIP …
    PYTHONPATH=.:kernels python benchmarks/av1_encode.py --predictor=oracle --out=FOLDER CLIP …

A CLIP is a .y4m (4:2:0) or photo:NAME, a pan over one of the library's photographs; none of them
should be of the model's training. Everything is key frames at cq-levels 20, 32, 43 and 55. Every
stream is decoded by a second decoder too, which must show the same pictures. The encoders take
turns, on one thread; times are of the process. FOLDER then holds `streams.csv`, `trades.csv`,
`results.json` and `trades.png`.
"""

import argparse
import csv
import dataclasses
import functools
import itertools
import json
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax

from jaxvision.bench import hardware
from jaxvision.cnn_av1.clips import photo_clip, read_clip
from jaxvision.cnn_av1.encode import load_predictor, taus_of
from jaxvision.cnn_av1.steering.coding import Predict
from jaxvision.cnn_av1.steering.comparison import (
    QUALITIES,
    Contestant,
    compare,
    oracles,
    presets,
    steered_by,
    trades,
)
from jaxvision.cnn_av1.steering.library import open_steered
from jaxvision.cnn_av1.steering.quantizers import base_qindex
from jaxvision.cnn_av1.steering.second_decoder import second_decoder, verify
from jaxvision.cnn_av1.steering.trade_figure import trade_figure
from jaxvision.data.av1.partitions import NODE_SIZES
from jaxvision.data.y4m import Planes
from jaxvision.written import whole_file

PHOTO = "photo:"
TURNS = 5  # of measuring the model alone
Clips = Mapping[str, tuple[Sequence[Planes], int]]  # frames and depth by name


def main(arguments: list[str] | None = None) -> int:
    options = _parsed(arguments)
    try:
        _run(options)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clips", nargs="+", metavar="CLIP", help="a .y4m, or photo:NAME")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--model", type=Path, help="a trained model, MODEL.npz")
    which.add_argument("--predictor", choices=("oracle",), help="the oracles alone")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument(
        "--levels",
        action="append",
        help="levels that the model steers, with each of --taus; may be repeated"
        " (16, and 64,32,16)",
    )
    parser.add_argument("--taus", default="0.8,0.9,0.95", help="(0.8,0.9,0.95)")
    parser.add_argument(
        "--set", action="append", default=[], help="one more: 64:0.98,32:0.9; may be repeated"
    )
    parser.add_argument("--frames", type=int, default=2, help="of each clip (2)")
    parser.add_argument("--cq", default=",".join(map(str, QUALITIES)), help="cq-levels")
    parser.add_argument("--repeats", type=int, default=1, help="of all; the least time counts (1)")
    return parser.parse_args(arguments)


def _run(options: argparse.Namespace) -> None:
    qualities = _numbers(options.cq, int, "--cq")
    if options.frames < 1:
        raise ValueError(f"--frames={options.frames} must be at least 1")
    clips = {}
    for text in options.clips:
        name = text if text.startswith(PHOTO) else Path(text).stem
        if name in clips:
            raise ValueError(f"two clips are named {name!r}: rename one")
        clips[name] = clip(text, options.frames)
    steered = open_steered()
    second, decode = second_decoder(steered.library)
    predict, contestants = None, [*presets(), *oracles()]
    if options.model is not None:
        predict = load_predictor(options.model)
        contestants += model_sets(options.levels or ["16", "64,32,16"], options.taus, options.set)
    if predict is not None:  # a first call compiles, which is no encoder's time
        for frames, _ in clips.values():
            predict(frames[0], base_qindex(qualities[0]), NODE_SIZES)
            predict(frames[0], base_qindex(qualities[0]), (64,))
    speed = nodes_a_second(predict, clips) if predict is not None else None
    rows = compare(
        steered,
        clips,
        contestants,
        predict=predict,
        qualities=qualities,
        repeats=options.repeats,
        verify=lambda report, size, depth: verify(report, decode, second, size=size, depth=depth),
        echo=functools.partial(print, flush=True),
    )
    found = trades(rows)
    options.out.mkdir(parents=True, exist_ok=True)
    _write_csv(options.out / "streams.csv", rows)
    _write_csv(options.out / "trades.csv", found)
    about = {
        "hardware": hardware(jax.devices()[0]),
        "libaom": steered.library.version,
        "second_decoder": second,
        "streams_verified": len(rows),
        "model": options.model.name if options.model else None,
        "clips": list(clips),
        "frames": options.frames,
        "cq_levels": qualities,
        "repeats": options.repeats,
        "nodes_a_second": speed,
        "trades": [dataclasses.asdict(trade) for trade in found],
    }
    with whole_file(options.out / "results.json") as part:
        part.write_text(json.dumps(about, indent=1) + "\n")
    with whole_file(options.out / "trades.png") as part:
        with part.open("wb") as file:
            trade_figure(file, found, title=f"{len(clips)} clips, libaom {steered.library.version}")
    _print(found)
    if speed:
        print(f"the model: {speed:,.0f} nodes a second, of all sizes, by the clock")
    print(f"{len(rows)} streams, all shown alike by {second}")


def nodes_a_second(predict: Predict, clips: Clips) -> float:
    """Of all sizes together, the median over turns through the clips' first frames."""
    rates = []
    for _ in range(TURNS):
        for frames, _ in clips.values():
            start = time.perf_counter()
            found = predict(frames[0], 128, NODE_SIZES)
            rates.append(sum(map(len, found.values())) / (time.perf_counter() - start))
    return statistics.median(rates)


def clip(text: str, frames: int) -> tuple[Sequence[Planes], int]:
    """The first frames of what a word names, and their depth."""
    if text.startswith(PHOTO):
        return photo_clip(text.removeprefix(PHOTO), frames=frames), 10
    found = read_clip(Path(text))
    planes = list(itertools.islice(found.frames, frames))
    if len(planes) < frames:
        raise ValueError(f"{text} has {len(planes)} frames, not {frames}")
    return planes, found.depth


def model_sets(levels: Sequence[str], taus: str, sets: Sequence[str]) -> list[Contestant]:
    """Every list of levels with every tau, then sets such as "64:0.98,32:0.9"."""
    found = [
        steered_by(taus_of(some, tau, {}))
        for some in levels
        for tau in _numbers(taus, float, "--taus")
    ]
    for text in sets:
        pairs = [item.partition(":") for item in text.split(",")]
        given = {}
        for level, _, tau in pairs:
            given |= taus_of(level, _numbers(tau, float, f"--set={text}")[0], {})
        found.append(steered_by(given))
    return found


def _numbers(text: str, kind: type, what: str) -> list:
    try:
        return [kind(word) for word in text.split(",")]
    except ValueError as error:
        raise ValueError(f"{what}: {text!r} is no list of numbers") from error


def _write_csv(path: Path, records: Sequence) -> None:
    with whole_file(path) as part, part.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([field.name for field in dataclasses.fields(records[0])])
        writer.writerows([dataclasses.astuple(record) for record in records])


def _print(found: Sequence) -> None:
    print(f"{'clip':24} {'encoder':28} {'BD-rate':>9} {'time':>7} {'+model':>7} {'search':>7}")
    for trade in found:
        shares = (trade.time_saved, trade.time_saved_in_all, trade.search_saved)
        texts = " ".join(f"{100 * share:6.1f}%" for share in shares)
        print(f"{trade.clip[-24:]:24} {trade.name:28} {trade.bd_rate:+8.2f}% {texts}")


if __name__ == "__main__":
    sys.exit(main())
