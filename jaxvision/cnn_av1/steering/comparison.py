"""What steering gives up in bits and saves in time and search, against libaom's own presets.

The anchor is libaom at cpu-used 0. A clip's BD-rate is of PSNR-Y over four qualities. Time saved
and search saved are means over these of `1 - test / anchor`, as in the tests of standards.
Search is counted in luma pixels whose intra modes were searched: the same in every run.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from jaxvision.cnn_av1.steering.coding import (
    Predict,
    Report,
    encode_masked,
    oracle_tables,
    predicted_tables,
)
from jaxvision.cnn_av1.steering.library import Steered
from jaxvision.cnn_av1.steering.quantizers import base_qindex
from jaxvision.data.av1.partitions import NODE_SIZES
from jaxvision.data.av1.structs import Planes
from jaxvision.metrics.bd_rate import bd_rate

QUALITIES = (20, 32, 43, 55)  # cq-levels
ANCHOR = "cpu-used 0"
MEAN = "mean"
Verify = Callable[[Report, tuple[int, int], int], None]  # of a report, its width, height and depth


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contestant:
    """An encoder: a preset, and the levels at which an oracle or a model steers, if any do."""

    name: str
    cpu_used: int = 0
    oracle: tuple[int, ...] = ()
    taus: tuple[tuple[int, float], ...] = ()  # level and tau, of the model


@dataclasses.dataclass(frozen=True)
class Row:
    """One stream. Seconds are the least of the repeats, as others on the machine only add."""

    clip: str
    name: str
    cq: int
    bytes: int
    psnr_y: float
    encoder_seconds: float
    prediction_seconds: float
    searched: int


@dataclasses.dataclass(frozen=True)
class Trade:
    """Of a contestant on a clip, or the mean of clips; `bd_rate` in per cent, the rest shares.

    `time_saved` is of the encoder alone; `time_saved_in_all` counts the model's time too.
    """

    clip: str
    name: str
    bd_rate: float
    time_saved: float
    time_saved_in_all: float
    search_saved: float


def presets(count: int = 4) -> list[Contestant]:
    return [Contestant(name=f"cpu-used {n}", cpu_used=n) for n in range(count)]


def oracles() -> list[Contestant]:
    every = "oracle, all levels"
    return [
        Contestant(name="oracle, 16", oracle=(16,)),
        Contestant(name=every, oracle=NODE_SIZES),
    ]


def steered_by(taus: Mapping[int, float]) -> Contestant:
    """The model at some levels, named after them: `64+32@0.90 16@0.80`."""
    groups: dict[float, list[str]] = {}
    for level, tau in taus.items():
        groups.setdefault(tau, []).append(str(level))
    name = " ".join(f"{'+'.join(levels)}@{tau:.2f}" for tau, levels in groups.items())
    return Contestant(name=name, taus=tuple(taus.items()))


def compare(
    steered: Steered,
    clips: Mapping[str, tuple[Sequence[Planes], int]],
    contestants: Sequence[Contestant],
    *,
    predict: Predict | None,
    qualities: Sequence[int] = QUALITIES,
    repeats: int = 1,
    verify: Verify | None = None,
    echo: Callable[[str], None] = print,
) -> list[Row]:
    """Encodes every clip (frames and depth) with each contestant, the anchor first.

    Contestants take turns at each quality, and again for each repeat: what else the machine does
    falls on all alike.

    Raises:
      ValueError: without an anchor; for a model's contestant without a model; from `verify`.
    """
    if not contestants or contestants[0] != presets(1)[0]:
        raise ValueError(f"the first contestant must be {ANCHOR!r}")
    if repeats < 1:
        raise ValueError(f"repeats={repeats} must be at least 1")
    rows: dict[tuple[str, str, int], Row] = {}
    for repeat in range(repeats):
        for clip, (frames, depth) in clips.items():
            for cq in qualities:
                anchor = None
                for one in contestants:
                    report = _encoded(steered, frames, depth, cq, one, predict, anchor)
                    anchor = report if anchor is None else anchor
                    if verify is not None and not repeat:
                        height, width = frames[0][0].shape
                        verify(report, (width, height), depth)
                    row = _row(clip, one.name, cq, report)
                    key = clip, one.name, cq
                    rows[key] = _least(rows[key], row) if key in rows else row
                echo(f"{clip}, cq-level {cq}, {repeat + 1} of {repeats}: {_summary(rows, key)}")
    return list(rows.values())


def trades(rows: Sequence[Row]) -> list[Trade]:
    """Of each contestant but the anchor: clip by clip, then the mean of clips."""
    clips = list(dict.fromkeys(row.clip for row in rows))
    names = [name for name in dict.fromkeys(row.name for row in rows) if name != ANCHOR]
    found = []
    for name in names:
        each = []
        for clip in clips:
            base = [row for row in rows if row.clip == clip and row.name == ANCHOR]
            test = [row for row in rows if row.clip == clip and row.name == name]
            each.append(_trade(clip, name, base, test))
        fields = [field.name for field in dataclasses.fields(Trade)[2:]]
        means = (float(np.mean([getattr(trade, field) for trade in each])) for field in fields)
        found += [*each, Trade(MEAN, name, *means)]
    return found


def _encoded(
    steered: Steered,
    frames: Sequence[Planes],
    depth: int,
    cq: int,
    one: Contestant,
    predict: Predict | None,
    anchor: Report | None,
) -> Report:
    height, width = frames[0][0].shape
    encode = functools.partial(
        encode_masked, steered, frames, depth=depth, cq=cq, options={"cpu-used": one.cpu_used}
    )
    if one.oracle and anchor is not None:
        return encode(tables=oracle_tables(anchor, height, width, levels=one.oracle))
    if one.taus:
        if predict is None:
            raise ValueError(f"{one.name!r} needs a model")
        return encode(tables=predicted_tables(predict, dict(one.taus), base_qindex(cq)))
    return encode()


def _row(clip: str, name: str, cq: int, report: Report) -> Row:
    seconds = report.encoder_seconds, report.prediction_seconds
    return Row(clip, name, cq, report.bytes, report.psnr_y, *seconds, report.searched)


def _least(first: Row, again: Row) -> Row:
    """Both rows' least times; ValueError if the streams are not the same."""
    if (first.bytes, first.searched) != (again.bytes, again.searched):
        raise ValueError(
            f"{again.clip}, {again.name!r}, cq-level {again.cq}: a repeat gave {again.bytes} bytes"
            f" after {again.searched} pixels, not {first.bytes} after {first.searched}"
        )
    return dataclasses.replace(
        first,
        encoder_seconds=min(first.encoder_seconds, again.encoder_seconds),
        prediction_seconds=min(first.prediction_seconds, again.prediction_seconds),
    )


def _trade(clip: str, name: str, base: Sequence[Row], test: Sequence[Row]) -> Trade:
    curves = [[(row.bytes, row.psnr_y) for row in rows] for rows in (base, test)]
    times = [1 - b.encoder_seconds / a.encoder_seconds for a, b in zip(base, test, strict=True)]
    extra = [b.prediction_seconds / a.encoder_seconds for a, b in zip(base, test, strict=True)]
    search = [1 - b.searched / a.searched for a, b in zip(base, test, strict=True)]
    time = float(np.mean(times))
    in_all = time - float(np.mean(extra))
    return Trade(clip, name, bd_rate(*curves), time, in_all, float(np.mean(search)))


def _summary(rows: Mapping[tuple[str, str, int], Row], key: tuple[str, str, int]) -> str:
    """The times of all contestants at a clip and quality."""
    here = [row for (clip, _, cq), row in rows.items() if (clip, cq) == (key[0], key[2])]
    return ", ".join(f"{row.name} {row.encoder_seconds:.2f} s" for row in here)
