"""The format of interleaved rANS, and what its three coders share.

Duda 2013 (arXiv 1311.2540), many coders side by side as Giesen 2014 (arXiv 1402.3392): each lane is
a coder of its own, and all take words from one stream. Of L lanes and n symbols:

- Symbol t belongs to lane t mod L and row t // L. A last row that is short uses the first lanes.
- The stream: L states, 32 bits each, then words of 16 bits up to the end. All little endian.
- Decoding goes through the rows from the first, and does in each, for all its lanes at once, with
  the precision P and the table of the symbol:
      slot = x mod 2^P, and s the symbol with cdf[s] <= slot < cdf[s + 1];
      x = (cdf[s + 1] - cdf[s]) * (x >> P) + slot - cdf[s];
      lanes with x < 2^16 take the next words, the lowest lane first: x = x << 16 | word.
- Every state lies in 2^16 … 2^32 - 1. After the last row all are where encoding began, and no word
  is left. That is 2^16, or as much more, below 2^17, as a caller chooses: a number of 16 bits that
  is checked with the rest and takes a bit a lane at most.

The last rule is the check: altered bytes almost always end elsewhere. About one flipped bit in
7,000 yields another message that fits, which a checksum must tell.
"""

import math

import numpy as np

from jaxvision.entropy.errors import BitstreamError
from jaxvision.entropy.tables import Tables

LOW = 1 << 16  # the least state
MOST_LANES = 1024
SHARE = 0.003  # of the payload, that the lanes' states may take


def lanes_for(bits: float) -> int:
    """As many lanes, a power of two, as cost no more than 0.3 % of a payload of `bits`."""
    if not 0 <= bits < math.inf:
        raise ValueError(f"bits={bits} is not a length")
    most = min(int(bits / 8 * SHARE / 4), MOST_LANES)
    return 1 << max(most.bit_length() - 1, 0)


def dealt(symbols, rows, tables: Tables, lanes: int) -> tuple[np.ndarray, np.ndarray]:
    """Start and frequency of every symbol, `[steps lanes]`; certain symbols fill the last step."""
    check_lanes(lanes)
    count = len(rows)
    start = np.zeros(-(-count // lanes) * lanes, np.uint32)
    frequency = np.full(start.shape, 1 << tables.precision, np.uint32)
    start[:count], frequency[:count] = tables.spans(symbols, rows)
    return start.reshape(-1, lanes), frequency.reshape(-1, lanes)


def joined(states: np.ndarray, words: np.ndarray) -> bytes:
    return states.astype("<u4").tobytes() + words.astype("<u2").tobytes()


def parted(data: bytes, lanes: int) -> tuple[np.ndarray, np.ndarray]:
    """States uint32 `[lanes]` and words uint16 of a stream."""
    check_lanes(lanes)
    rest = len(data) - 4 * lanes
    if rest < 0 or rest % 2:
        raise BitstreamError(f"{len(data)} bytes are not {lanes} states and words of 2 bytes")
    states = np.frombuffer(data, "<u4", lanes).astype(np.uint32)
    if states.min() < LOW:
        raise BitstreamError(f"lane {int(states.argmin())} begins in the state {states.min()}")
    return states, np.frombuffer(data, "<u2", offset=4 * lanes).astype(np.uint16)


def check_end(states: np.ndarray, left: int, begin: int) -> None:
    """After the last symbol; `left` words have not been taken, less than 0 if some were lacking."""
    if left:
        raise BitstreamError(f"{abs(left)} words too {'many' if left > 0 else 'few'}")
    wrong = int((states != begin).sum())
    if wrong:
        raise BitstreamError(f"{wrong} of {len(states)} lanes do not end where encoding began")


def check_lanes(lanes: int) -> None:
    if not (1 <= lanes <= MOST_LANES and lanes & (lanes - 1) == 0):
        raise ValueError(f"lanes={lanes} is not a power of two up to {MOST_LANES}")
