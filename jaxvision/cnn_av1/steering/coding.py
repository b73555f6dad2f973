"""Key frames through the steered encoder, one by one: masks in, a stream and what it cost out."""

import dataclasses
import hashlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from jaxvision.cnn_av1 import masks
from jaxvision.cnn_av1.steering.library import Steered
from jaxvision.cnn_av1.steering.quantizers import base_qindex
from jaxvision.data.av1 import tree
from jaxvision.data.av1.decoder import Decoder
from jaxvision.data.av1.encoder import LABEL_OPTIONS, Encoder
from jaxvision.data.av1.partitions import NODE_SIZES
from jaxvision.data.av1.structs import AomError, Packet, Planes

# Planes, base quantizer index and levels to each level's probabilities [n 10] of the types of all
# its nodes within the picture, in raster order (`masks.positions`).
Predict = Callable[[Planes, int, Sequence[int]], Mapping[int, np.ndarray]]
# The number of a frame and its planes to its masks; None leaves all to the encoder.
Tables = Callable[[int, Planes], np.ndarray | None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """A stream and what it cost.

    `encoder_seconds` are of the process, all its threads; `prediction_seconds` of the clock.
    `searched` is the number of luma pixels whose intra modes were searched, each as often as it
    was: the same in every run. `psnr_y` is the mean over frames, in dB. `digests` are of each
    decoded picture, `trees` their partitions.
    """

    packets: tuple[Packet, ...]
    bytes: int
    psnr_y: float
    encoder_seconds: float
    prediction_seconds: float
    searched: int
    base_qindex: int
    digests: tuple[str, ...]
    trees: tuple[tuple[tree.Node, ...], ...]


def encode_masked(
    steered: Steered,
    frames: Iterable[Planes],
    *,
    depth: int,
    cq: int,
    tables: Tables | None = None,
    options: Mapping[str, str | int] | None = None,
) -> Report:
    """Encodes and decodes key frames at a constant quality; `options` go above LABEL_OPTIONS.

    Raises:
      AomError: if a frame does not decode, or has another base quantizer than the level's.
      ValueError: for a clip without a frame.
    """
    settings = LABEL_OPTIONS | dict(options or {}) | {"cq-level": cq}
    encoder, packets, qualities, digests, trees = None, [], [], [], []
    spent, predicted, wanted = 0.0, 0.0, base_qindex(cq)
    steered.reset()
    try:
        with Decoder(steered.library) as decoder:
            for number, planes in enumerate(frames):
                height, width = planes[0].shape
                if encoder is None:
                    encoder = Encoder(steered.library, width, height, depth=depth, options=settings)
                start = time.perf_counter()
                table = tables(number, planes) if tables else None
                predicted += time.perf_counter() - start
                steered.set_masks(table, frame=number)
                start = time.process_time()
                made = encoder.encode(planes)
                spent += time.process_time() - start
                if len(made) != 1:
                    raise AomError(f"frame {number} became {len(made)} packets, not one at once")
                packets += made
                decoder.decode(made[0].data)
                (picture,) = decoder.frames()
                if decoder.base_qindex() != wanted:
                    raise AomError(
                        f"frame {number} has base qindex {decoder.base_qindex()}, not {wanted} as"
                        f" cq-level={cq} should give"
                    )
                qualities.append(psnr_y(planes, picture, depth=depth))
                digests.append(digest(picture))
                sizes = decoder.block_map(width, height).sizes
                trees.append(tuple(tree.nodes(sizes, superblock=decoder.sequence.superblock)))
        if encoder is None:
            raise ValueError("the clip has no frame")
        packets += encoder.flush()
    finally:
        steered.set_masks(None)
        if encoder is not None:
            encoder.close()
    return Report(
        packets=tuple(packets),
        bytes=sum(len(packet.data) for packet in packets),
        psnr_y=float(np.mean(qualities)),
        encoder_seconds=spent,
        prediction_seconds=predicted,
        searched=steered.counters().pixels,
        base_qindex=wanted,
        digests=tuple(digests),
        trees=tuple(trees),
    )


def encode_steered(
    steered: Steered,
    frames: Iterable[Planes],
    *,
    predict: Predict,
    taus: Mapping[int, float],
    depth: int,
    cq: int,
    options: Mapping[str, str | int] | None = None,
) -> Report:
    """Encodes with the types that hold a probability of `taus[level]` at each of these levels.

    At levels that `taus` leaves out, and of nodes across the frame's edge, the encoder searches
    what it would without masks.
    """
    tables = predicted_tables(predict, taus, base_qindex(cq))
    return encode_masked(steered, frames, depth=depth, cq=cq, tables=tables, options=options)


def predicted_tables(predict: Predict, taus: Mapping[int, float], qindex: int) -> Tables:
    """Masks from a predictor. ValueError for a level that is none, and taus out of range."""
    for level, tau in taus.items():
        masks.check_level(level)
        masks.cumulative(np.ones((0, 10)), tau)

    def table(_: int, planes: Planes) -> np.ndarray:
        height, width = planes[0].shape
        found = masks.full(height, width)
        predicted = predict(planes, qindex, tuple(taus))
        for level, tau in taus.items():
            rows, cols = masks.positions(height, width, level)
            probabilities = masks.at_level(predicted[level], level)
            if len(probabilities) != len(rows):
                raise ValueError(
                    f"{len(probabilities)} predictions for {len(rows)} nodes of {level} pixels"
                )
            masks.place(found, level, rows, cols, masks.cumulative(probabilities, tau))
        return found

    return table


def oracle_tables(
    report: Report, height: int, width: int, *, levels: Sequence[int] = NODE_SIZES
) -> Tables:
    """Masks that allow, at these levels, only what an earlier encode of the frames chose."""
    found = [masks.from_tree(nodes, height, width, levels=levels) for nodes in report.trees]
    return lambda number, _: found[number]


def psnr_y(wanted: Planes, shown: Planes, *, depth: int) -> float:
    """dB of luminance; 100 where there is no error."""
    error = float(np.mean((wanted[0].astype(np.float64) - shown[0]) ** 2))
    largest = float((1 << depth) - 1)
    return 100.0 if not error else min(100.0, 10 * float(np.log10(largest**2 / error)))


def digest(planes: Planes) -> str:
    """Of a picture's samples, as 16 bits each."""
    found = hashlib.sha256()
    for plane in planes:
        found.update(np.ascontiguousarray(plane, "<u2").tobytes())
    return found.hexdigest()
