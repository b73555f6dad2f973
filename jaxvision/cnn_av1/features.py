"""Hand features of blocks: what boosted trees decide partitions by.

Sums, variances and gradients of a block, its halves, quarters and stripes, and of what surrounds
it, as in the features of libaom's own pruning networks and of the boosted trees of Saldanha et al.
2022 (TCSVT 32(6)). They see the same pixels as the network.
"""

import numpy as np


def hand_features(blocks: np.ndarray, qps: np.ndarray, *, context: int = 0) -> np.ndarray:
    """Features float32 `[n f]` of 10-bit blocks `[n p p]` with `context` pixels around them.

    `qps [n]` is the frame's base quantiser index.
    """
    n, p, _ = blocks.shape
    size = p - 2 * context
    if size < 8 or size % 8:
        raise ValueError(f"blocks of {p} pixels with {context} around: {size} is no multiple of 8")
    if len(qps) != n:
        raise ValueError(f"{n} blocks, but {len(qps)} quantisers")
    around = blocks.astype(np.float32)
    x = around[:, context : p - context, context : p - context]
    half, quarter = size // 2, size // 4
    quarters = [x[:, i : i + half, j : j + half] for i in (0, half) for j in (0, half)]
    top, bottom, left, right = x[:, :half], x[:, half:], x[:, :, :half], x[:, :, half:]
    across, down = abs(np.diff(x, axis=2)), abs(np.diff(x, axis=1))
    stripes = [x[:, i : i + quarter] for i in range(0, size, quarter)]
    stripes += [x[:, :, i : i + quarter] for i in range(0, size, quarter)]

    values = [_mean(x), _spread(x)]
    values += [_mean(q) - values[0] for q in quarters] + [_spread(q) for q in quarters]
    values += [_spread(part) for part in (top, bottom, left, right)]
    values += [abs(_mean(top) - _mean(bottom)), abs(_mean(left) - _mean(right))]
    values += [_mean(across), _mean(down), across.max((1, 2)), down.max((1, 2))]
    values += [_mean(abs(np.diff(q, axis=axis))) for q in quarters for axis in (1, 2)]
    values += [_spread(stripe) for stripe in stripes]
    values += [_mean(stripe) - values[0] for stripe in stripes]
    # Across the lines that a partition would cut along
    for at in (quarter, half, size - quarter):
        values += [_mean(abs(x[:, at] - x[:, at - 1]), 1)]
        values += [_mean(abs(x[:, :, at] - x[:, :, at - 1]), 1)]
    if context:
        bands = [around[:, :context], around[:, -context:]]
        bands += [around[:, :, :context], around[:, :, -context:]]
        values += [_mean(around), _spread(around)]
        values += [value for band in bands for value in (_mean(band) - values[0], _spread(band))]
    values += [qps.astype(np.float32)]
    return np.stack(values, axis=1).astype(np.float32)


def _mean(x, axes=(1, 2)):
    return x.mean(axes)


def _spread(x):
    return np.log1p(x.var((1, 2)))
