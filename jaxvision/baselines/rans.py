"""This library's own coder under the untrained floor, so that its files are files."""

from collections.abc import Sequence

import numpy as np

from jaxvision.baselines.codec import CodecError
from jaxvision.baselines.tables import PRECISION
from jaxvision.entropy import stream
from jaxvision.entropy.errors import BitstreamError
from jaxvision.entropy.tables import Tables, stacked


class Rans:
    """Interleaved rANS (`entropy.stream`) by cumulative tables: a `floor.Coder`."""

    def encode(
        self, symbols: np.ndarray, indexes: np.ndarray, cumulatives: Sequence[np.ndarray]
    ) -> bytes:
        return stream.encode_values(symbols, indexes, _tables(cumulatives))

    def decode(
        self, data: bytes, indexes: np.ndarray, cumulatives: Sequence[np.ndarray]
    ) -> np.ndarray:
        try:
            return stream.decode_values(data, indexes, _tables(cumulatives))
        except BitstreamError as error:
            raise CodecError(f"cannot decode {len(data)} bytes: {error}") from error


def _tables(cumulatives: Sequence[np.ndarray]) -> Tables:
    """The same rows with a last symbol for what no row lacks: one part of 2^16 of the commonest."""
    rows = []
    for cumulative in cumulatives:
        shares = np.append(np.diff(cumulative), 1)
        shares[np.argmax(shares)] -= 1
        rows.append(np.concatenate([[0], np.cumsum(shares)]))
    return stacked(rows, np.zeros(len(rows), np.int32), PRECISION)
