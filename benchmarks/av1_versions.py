"""How far one libaom's partition labels agree with another's: the same clips, version by version.

    PYTHONPATH=.:kernels python benchmarks/av1_versions.py
    … --out=benchmarks/results/av1_versions.json --libraries=PATH,PATH --cpu-used=0,3 --frames=2

Clips are pans over scikit-image's photographs, coded as labels are: key frames, full search, one
thread. Libraries to compare come with Debian 12 (3.6.0) and 13 (3.12.1), imagecodecs 2026.3.6
(3.13.1) and opencv-python-headless 5.0.0.93 (3.14.1).

What counts as agreement: `jaxvision/cnn_av1/dataset/agreement.py`. Counts are pooled over clips,
frames and qualities; `mean_of_qualities` gives each quality the same weight. Intervals hold 95 % of
a bootstrap over clips: of few clips they are too narrow. As a control each version codes the first
clip once more, and must give the same streams and trees.
"""

import argparse
import itertools
import json
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from jaxvision.bench import hardware
from jaxvision.cnn_av1.clips import photo_clip
from jaxvision.cnn_av1.commands import numbers, words
from jaxvision.cnn_av1.dataset.agreement import SHARES, Labels, bounded, counted, labels_of, shares
from jaxvision.cnn_av1.dataset.labelling import SETTINGS
from jaxvision.data.av1 import tree
from jaxvision.data.av1.decoder import labelled_frames
from jaxvision.data.av1.encoder import LABEL_OPTIONS, encode_clip
from jaxvision.data.av1.library import VARIABLE, AomError, Library, open_library, places
from jaxvision.data.av1.partitions import NODE_SIZES
from jaxvision.data.y4m import Planes
from jaxvision.written import whole_file

WIDTH, HEIGHT, DEPTH = 352, 288, 10


class Coded(NamedTuple):
    """A clip as one libaom codes it at one quality; `qindex` is the first frame's, 0 … 255."""

    stream: bytes
    qindex: int
    labels: list[Labels]


def pair_of(first: Mapping, second: Mapping, clips: Sequence[str], cqs: Sequence[int]) -> dict:
    """Two versions' agreement, from what each coded by `(clip, cq)`: all, and by size, cq, clip."""
    counts = [[counted(first[c, q].labels, second[c, q].labels) for q in cqs] for c in clips]
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
    found = counted(first.labels, again.labels)
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
    parser.add_argument(
        "--libraries", type=words, default=(), metavar="PATH,PATH", help="(all that are found)"
    )
    parser.add_argument(
        "--clips", type=words, default="astronaut,chelsea,coffee", help="photographs' names"
    )
    parser.add_argument("--cq", type=numbers, default="20,32,43,55", help="cq-levels (20,32,43,55)")
    parser.add_argument("--cpu-used", type=numbers, default="0", help="presets: 0, or 0,3 (0)")
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

    names = list(dict.fromkeys(options.clips))
    clips = {
        name: photo_clip(name, width=WIDTH, height=HEIGHT, frames=options.frames) for name in names
    }
    found = libraries(options.libraries, tell=tell)
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
    results = [measure(found, clips, options.cq, cpu_used=k, tell=tell) for k in options.cpu_used]
    about = {
        "hardware": hardware(jax.devices()[0]),
        "libaom": [library.version for library in found],
        "clips": names,
        "size": [WIDTH, HEIGHT],
        "depth": DEPTH,
        "frames": options.frames,
        "cq_levels": options.cq,
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


if __name__ == "__main__":
    sys.exit(main())
