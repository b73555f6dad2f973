"""How far one libaom's partition labels agree with another's: the same clips, version by version.

    PYTHONPATH=.:kernels python benchmarks/av1_versions.py
    … --out=benchmarks/results/av1_versions.json --libraries=PATH,PATH --cpu-used=0,3 --frames=2

Clips are pans over scikit-image's photographs, coded as labels are: key frames, full search, one
thread. Libraries to compare come with Debian 12 (3.6.0) and 13 (3.12.1), imagecodecs 2026.3.6
(3.13.1) and opencv-python-headless 5.0.0.93 (3.14.1).

Nodes across the frame's edge, whose types are in part forced, do not count; all pixels do. A node
is "either's" if it is in one coded tree at least, "both's" if it is in the two:

  shared   both's nodes, of either's              equal  both's and of equal type, of either's
  type     of equal type, of both's nodes         macro_f1  the same by type, mean over types
  pixels   whose block has the same place and size in both; for a size of nodes, of those pixels
           whose block is a part of such a node in one tree at least

Counts are pooled over clips, frames and qualities; `mean_of_qualities` gives each quality the same
weight. Intervals hold 95 % of a bootstrap over clips: of few clips they are too narrow. As a
control each version codes the first clip once more, and must give the same streams and trees.
"""

import argparse
import itertools
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from jaxvision.bench import hardware
from jaxvision.cnn_av1.clips import photo_clip
from jaxvision.cnn_av1.dataset.labelling import SETTINGS, within
from jaxvision.data.av1 import tree
from jaxvision.data.av1.blocks import SIDES, extent
from jaxvision.data.av1.decoder import labelled_frames
from jaxvision.data.av1.encoder import LABEL_OPTIONS, encode_clip
from jaxvision.data.av1.library import VARIABLE, AomError, Library, open_library, places
from jaxvision.data.av1.partitions import NAMES, NODE_SIZES, UNIT
from jaxvision.data.y4m import Planes
from jaxvision.metrics import classes
from jaxvision.written import whole_file

WIDTH, HEIGHT, DEPTH = 352, 288, 10
ABSENT = len(NAMES)  # in place of a type: the tree has no such node
KINDS = len(NAMES) + 1
SHARES = ("shared", "equal", "type", "macro_f1", "pixels")
DRAWS = 2000


class Labels(NamedTuple):
    """A frame's coded tree. `types` are `[h/s w/s]` for nodes of `s` pixels within the frame.

    Of each pixel, `[h w]`: the number of its block, which is of its place and size, and the pixels
    of the node that the block is a part of.
    """

    types: dict[int, np.ndarray]
    blocks: np.ndarray
    holders: np.ndarray


class Counts(NamedTuple):
    """Nodes `[4 11 11]` by NODE_SIZES and both types, pixels `[5 2]`: alike, and of how many.

    The first row of pixels is of the whole frame, the others are by NODE_SIZES.
    """

    nodes: np.ndarray
    pixels: np.ndarray


class Coded(NamedTuple):
    """A clip as one libaom codes it at one quality; `qindex` is the first frame's, 0 … 255."""

    stream: bytes
    qindex: int
    labels: list[Labels]


def labels_of(nodes: Iterable[tree.Node], width: int, height: int) -> Labels:
    """The labels of a frame of `width` × `height` pixels with these nodes."""
    rows, cols = extent(width, height)
    types = {s: np.full((height // s, width // s), ABSENT, np.int8) for s in NODE_SIZES}
    blocks, holders = np.full((rows, cols), -1, np.int32), np.zeros((rows, cols), np.int16)
    for node in nodes:
        if node.size in types and within(node.row, node.col, node.size, width, height):
            types[node.size][node.row * UNIT // node.size, node.col * UNIT // node.size] = (
                node.partition
            )
        for row, col, number, _ in tree.leaves([node], rows, cols):
            tall, wide = SIDES[number]
            where = np.s_[row : row + tall, col : col + wide]
            blocks[where] = (row * cols + col) * len(SIDES) + number
            holders[where] = node.size

    def by_pixel(units: np.ndarray) -> np.ndarray:
        return units.repeat(UNIT, 0).repeat(UNIT, 1)[:height, :width]

    return Labels(types, by_pixel(blocks), by_pixel(holders))


def compare(a: Labels, b: Labels) -> Counts:
    """The counts of two trees of one frame; ValueError for frames of different sizes."""
    if a.blocks.shape != b.blocks.shape:
        raise ValueError(f"frames of {a.blocks.shape} and {b.blocks.shape} pixels do not compare")
    nodes = np.stack(
        [classes.confusion(a.types[s].ravel(), b.types[s].ravel(), KINDS) for s in NODE_SIZES]
    )
    nodes[:, ABSENT, ABSENT] = 0
    same = a.blocks == b.blocks
    parts = [np.ones_like(same)] + [(a.holders == s) | (b.holders == s) for s in NODE_SIZES]
    return Counts(nodes, np.array([(np.sum(same & part), part.sum()) for part in parts]))


def shares(nodes: np.ndarray, pixels: np.ndarray) -> dict[str, float]:
    """SHARES of counted nodes `[11 11]` and pixels `[2]`; NaN where there are none."""
    both, either = nodes[:ABSENT, :ABSENT], nodes.sum()
    equal, found = np.trace(both), both.sum()
    return {
        "shared": found / either if either else np.nan,
        "equal": equal / either if either else np.nan,
        "type": equal / found if found else np.nan,
        "macro_f1": classes.scores(both).macro_f1 if found else np.nan,
        "pixels": pixels[0] / pixels[1] if pixels[1] else np.nan,
    }


def bounded(nodes: np.ndarray, pixels: np.ndarray, *, seed: int = 0) -> dict[str, object]:
    """Counts and SHARES of clips, nodes `[clips 11 11]` and pixels `[clips 2]`, pooled.

    A share is `[value, low, high]`, or the value alone for one clip, and None where nothing counts.
    """
    clips, total = len(nodes), nodes.sum(0)
    both = total[:ABSENT, :ABSENT]
    found: dict[str, object] = {
        "nodes_either": int(total.sum()),
        "nodes_both": int(both.sum()),
        "nodes_equal": int(np.trace(both)),
    }
    drawn = np.random.default_rng(seed).multinomial(clips, [1 / clips] * clips, DRAWS)
    weights, times = np.unique(drawn, axis=0, return_counts=True)
    values = [
        shares(np.tensordot(w, nodes, 1), np.tensordot(w, pixels, 1)) for w in weights
    ]  # few clips are drawn alike again and again
    for key, value in shares(total, pixels.sum(0)).items():
        draws = np.repeat([one[key] for one in values], times)
        draws = draws[np.isfinite(draws)]
        if np.isnan(value):
            found[key] = None
        elif clips == 1:
            found[key] = round(float(value), 4)
        else:
            found[key] = np.round([value, *np.quantile(draws, (0.025, 0.975))], 4).tolist()
    return found


def pair_of(first: Mapping, second: Mapping, clips: Sequence[str], cqs: Sequence[int]) -> dict:
    """Two versions' agreement, from what each coded by `(clip, cq)`: all, and by size, cq, clip."""
    counts = [[_counted(first[c, q].labels, second[c, q].labels) for q in cqs] for c in clips]
    nodes = np.array([[one.nodes for one in row] for row in counts])  # [clips cqs 4 11 11]
    pixels = np.array([[one.pixels for one in row] for row in counts])  # [clips cqs 5 2]
    of_all, frame = nodes.sum(2), pixels[:, :, 0]
    by_cq = [shares(of_all[:, q].sum(0), frame[:, q].sum(0)) for q in range(len(cqs))]
    return {
        "streams_equal": sum(first[key].stream == second[key].stream for key in first),
        "streams": len(first),
        "all": bounded(of_all.sum(1), frame.sum(1)),
        "mean_of_qualities": {
            key: round(float(np.mean([one[key] for one in by_cq])), 4) for key in SHARES
        },
        "by_size": {
            str(size): bounded(nodes[:, :, k].sum(1), pixels[:, :, k + 1].sum(1))
            for k, size in enumerate(NODE_SIZES)
        },
        "by_cq": {str(q): bounded(of_all[:, k], frame[:, k]) for k, q in enumerate(cqs)},
        "by_clip": {
            clip: bounded(of_all[k : k + 1].sum(1), frame[k : k + 1].sum(1))
            for k, clip in enumerate(clips)
        },
    }


def _counted(first: Sequence[Labels], second: Sequence[Labels]) -> Counts:
    found = [compare(a, b) for a, b in zip(first, second, strict=True)]
    return Counts(*(np.sum(part, 0) for part in zip(*found, strict=True)))


def code(library: Library, frames: Sequence[Planes], *, cq: int, cpu_used: int) -> Coded:
    """Codes a clip as labels are made, and reads its trees; ValueError if they are not believed."""
    options = LABEL_OPTIONS | {"cpu-used": cpu_used, "cq-level": cq}
    packets = encode_clip(library, frames, depth=DEPTH, options=options, **SETTINGS)
    labels, qindex = [], []
    for frame in labelled_frames(library, packets):
        nodes = tree.nodes(frame.map.sizes, superblock=frame.superblock)
        compared, wrong = tree.mismatches(frame.map, nodes)
        if wrong:
            raise ValueError(
                f"libaom {library.version}: {wrong} of {compared} blocks name another partition"
            )
        labels.append(labels_of(nodes, frame.width, frame.height))
        qindex.append(frame.base_qindex)
    return Coded(b"".join(packet.data for packet in packets), qindex[0], labels)


def control(version: str, first: Coded, again: Coded) -> float:
    """The least share of one version with itself, which is 1.

    Raises:
      ValueError: if it is not, or if the streams differ.
    """
    found = _counted(first.labels, again.labels)
    values = shares(found.nodes.sum(0), found.pixels[0])
    if first.stream != again.stream or any(value != 1 for value in values.values()):
        raise ValueError(f"libaom {version} does not decide the same twice: {values}")
    return float(min(values.values()))


def libraries(named: Sequence[str], *, tell: Callable[[str], None]) -> list[Library]:
    """One libaom of each version, the oldest first: those named, else those that are found.

    Raises:
      ValueError: for a named one that does not load, and for fewer than two versions.
    """
    found: dict[str, Library] = {}
    sought = list(named)
    if not named:
        sought = [*filter(None, [os.environ.get(VARIABLE)]), *places()]
    for place in sought:
        try:
            library = open_library(place)
        except AomError as error:
            if named:
                raise
            tell(f"left out: {error}")
            continue
        if found.setdefault(library.version, library) is not library:
            tell(f"left out: {place} is libaom {library.version} again")
    if len(found) < 2:
        have = f"libaom {next(iter(found))} alone" if found else "no libaom"
        raise ValueError(
            f"{have} was found, and two versions are compared: pip install imagecodecs, or give"
            " --libraries=PATH,PATH"
        )
    return sorted(found.values(), key=lambda one: [*map(int, re.findall(r"\d+", one.version))])


def measure(
    found: Sequence[Library],
    clips: Mapping[str, Sequence[Planes]],
    cqs: Sequence[int],
    *,
    cpu_used: int,
    tell: Callable[[str], None],
) -> dict:
    """Every version's streams, the control, and every pair of versions, at one `cpu-used`."""
    coded: dict[str, dict[tuple[str, int], Coded]] = {}
    with_itself: dict[str, list[float]] = {}
    for library in found:
        mine = coded[library.version] = {}
        for name, frames in clips.items():
            for cq in cqs:
                tell(f"libaom {library.version}, cpu-used {cpu_used}: {name} at cq {cq}")
                mine[name, cq] = code(library, frames, cq=cq, cpu_used=cpu_used)
        first, controls = next(iter(clips)), with_itself.setdefault(library.version, [])
        for cq in cqs:
            tell(f"libaom {library.version}, cpu-used {cpu_used}: {first} at cq {cq} again")
            again = code(library, clips[first], cq=cq, cpu_used=cpu_used)
            controls.append(control(library.version, mine[first, cq], again))
    return {
        "cpu_used": cpu_used,
        "versions": {
            version: {
                "bytes": {str(q): sum(len(mine[c, q].stream) for c in clips) for q in cqs},
                "qindex": {str(q): sorted({mine[c, q].qindex for c in clips}) for q in cqs},
                "with_itself": min(with_itself[version]),
            }
            for version, mine in coded.items()
        },
        "pairs": [
            {"first": a, "second": b, **pair_of(coded[a], coded[b], list(clips), cqs)}
            for a, b in itertools.combinations(coded, 2)
        ],
    }


def markdown(results: Sequence[Mapping]) -> str:
    """The results as two tables: SHARES of all nodes, and `equal`, `pixels` by size and quality."""
    names = {"shared": "in both trees", "equal": "in both, of equal type", "type": "equal, of both"}
    names |= {"macro_f1": "its macro-F1", "pixels": "pixels in equal blocks"}
    head = ["cpu-used", "versions", "equal streams", "nodes"]
    lines = _row([*head, *names.values()]) + _row(["---"] * (len(head) + len(names)))
    pairs = [(one["cpu_used"], pair) for one in results for pair in one["pairs"]]
    for speed, pair in pairs:
        streams, count = (
            f"{pair['streams_equal']} of {pair['streams']}",
            pair["all"]["nodes_either"],
        )
        words = [str(speed), f"{pair['first']}, {pair['second']}", streams, str(count)]
        lines += _row([*words, *(_text(pair["all"][key]) for key in names)])
    sizes, cqs = (list(pairs[0][1][key]) for key in ("by_size", "by_cq"))
    head = ["cpu-used", "versions", "share", *(f"{size} px" for size in sizes)]
    head += [*(f"cq {cq}" for cq in cqs), "mean of cq"]
    lines += "\n" + _row(head) + _row(["---"] * len(head))
    for (speed, pair), key in itertools.product(pairs, ("equal", "pixels")):
        values = [part[key] for by in ("by_size", "by_cq") for part in pair[by].values()]
        values = [value[0] if isinstance(value, list) else value for value in values]
        words = [str(speed), f"{pair['first']}, {pair['second']}", key]
        lines += _row([*words, *map(_text, values), _text(pair["mean_of_qualities"][key])])
    return lines


def _row(words: Sequence[str]) -> str:
    return f"| {' | '.join(words)} |\n"


def _text(value: float | list[float] | None) -> str:
    if isinstance(value, list):
        return f"{value[0]:.3f} [{value[1]:.3f}, {value[2]:.3f}]"
    return "–" if value is None else f"{value:.3f}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--libraries", default="", metavar="PATH,PATH", help="(all that are found)")
    parser.add_argument("--clips", default="astronaut,chelsea,coffee", help="photographs' names")
    parser.add_argument("--cq", default="20,32,43,55", help="cq-levels (20,32,43,55)")
    parser.add_argument("--cpu-used", default="0", help="presets: 0, or 0,3 (0)")
    parser.add_argument("--frames", type=int, default=1, help="of each clip (1)")
    parser.add_argument("--out", type=Path, help="a .json file")
    try:
        _run(parser.parse_args(arguments))
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)  # libaom's have lines
        return 1
    return 0


def _run(options: argparse.Namespace) -> None:
    def tell(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    cqs, speeds = _numbers(options.cq, "--cq"), _numbers(options.cpu_used, "--cpu-used")
    names = list(dict.fromkeys(options.clips.split(",")))
    clips = {
        name: photo_clip(name, width=WIDTH, height=HEIGHT, frames=options.frames) for name in names
    }
    found = libraries([word for word in options.libraries.split(",") if word], tell=tell)
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
    results = [measure(found, clips, cqs, cpu_used=speed, tell=tell) for speed in speeds]
    about = {
        "hardware": hardware(jax.devices()[0]),
        "libaom": [library.version for library in found],
        "clips": names,
        "size": [WIDTH, HEIGHT],
        "depth": DEPTH,
        "frames": options.frames,
        "cq_levels": cqs,
        "options": {key: value for key, value in LABEL_OPTIONS.items() if key != "cpu-used"},
        "settings": SETTINGS,
        "results": results,
    }
    if options.out is not None:
        with whole_file(options.out) as part:
            text = re.sub(
                r"\[[^][{}]*\]", lambda m: " ".join(m[0].split()), json.dumps(about, indent=1)
            )
            part.write_text(text + "\n", encoding="utf-8")  # a list of values to a line
    print(markdown(results))


def _on_a_line(listed: re.Match) -> str:
    return re.sub(r"(?<=\[) | (?=\])", "", " ".join(listed[0].split()))


def _numbers(text: str, what: str) -> list[int]:
    try:
        return list(dict.fromkeys(int(word) for word in text.split(",")))
    except ValueError as error:
        raise ValueError(f"{what}: {text!r} is no list of whole numbers") from error


if __name__ == "__main__":
    sys.exit(main())
