"""Interleaved rANS: round trips, the same bytes from all three coders, and corrupt bytes."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxvision.entropy import rans, rans_jax, rans_scalar
from jaxvision.entropy.errors import BitstreamError
from jaxvision.entropy.gaussian import scale_table
from jaxvision.entropy.lanes import lanes_for
from jaxvision.entropy.quantize import gaussian_tables, pmf_tables
from jaxvision.entropy.tables import Tables

CODERS = (rans, rans_jax, rans_scalar)
TABLES = {p: gaussian_tables(scale_table(0.2, 40.0, 12), precision=p) for p in (12, 16)}


def drawn(tables, count, seed=0):
    """Symbols as probable as their table says, and their rows."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, len(tables.length), count)
    slots = rng.integers(0, 1 << tables.precision, count)
    return tables.lookup[rows, slots].astype(np.int32), rows


@pytest.mark.parametrize("precision", [12, 16])
@pytest.mark.parametrize(
    ("count", "lanes"), [(0, 1), (0, 8), (1, 1), (5, 8), (300, 4), (500, 16), (1000, 64)]
)
def test_all_coders_write_and_read_the_same(precision, count, lanes):
    tables = TABLES[precision]
    symbols, rows = drawn(tables, count)
    data = rans.encode(symbols, rows, tables, lanes=lanes)
    for coder in CODERS:
        assert data == coder.encode(symbols, rows, tables, lanes=lanes)
        again = coder.decode(data, rows, tables, lanes=lanes)
        assert again.dtype == np.int32
        np.testing.assert_array_equal(again, symbols)


@pytest.mark.parametrize("lanes", [1, 4, 16, 64])
def test_pieces_are_read_one_after_another(lanes):
    """Of any sizes, also ones that end amid a row of lanes."""
    tables = TABLES[16]
    symbols, rows = drawn(tables, 500)
    data = rans.encode(symbols, rows, tables, lanes=lanes)
    for kind in (rans.Decoder, rans_scalar.Decoder):
        decoder = kind(data, tables, lanes=lanes)
        pieces = np.split(rows, [0, 7, 8, 40, 64, 333])
        found = np.concatenate([decoder.read(piece) for piece in pieces[:-1]])
        np.testing.assert_array_equal(found, symbols[:333])
        with pytest.raises(BitstreamError, match="words too many"):
            decoder.finish()
        np.testing.assert_array_equal(decoder.read(pieces[-1]), symbols[333:])
        decoder.finish()
        with pytest.raises(BitstreamError, match=r"the words end at symbol 50\d"):
            decoder.read(np.zeros(5000, int) + 11)


def scalar_decode(data, rows, tables, lanes):
    """The docstring of `lanes`, a symbol at a time in Python's integers."""
    states = list(struct.unpack(f"<{lanes}I", data[: 4 * lanes]))
    words = iter(struct.unpack(f"<{(len(data) - 4 * lanes) // 2}H", data[4 * lanes :]))
    symbols, P = [], tables.precision
    for begin in range(0, len(rows), lanes):
        count = min(lanes, len(rows) - begin)
        for lane in range(count):
            cdf, x = tables.cdf[rows[begin + lane]].tolist(), states[lane]
            slot = x % 2**P
            s = next(s for s in range(len(cdf)) if cdf[s] <= slot < cdf[s + 1])
            states[lane] = (cdf[s + 1] - cdf[s]) * (x >> P) + slot - cdf[s]
            symbols.append(s)
        for lane in range(count):
            if states[lane] < 2**16:
                states[lane] = states[lane] << 16 | next(words)
    assert next(words, None) is None and states == [2**16] * lanes
    return symbols


@pytest.mark.parametrize(("precision", "lanes"), [(12, 1), (12, 8), (16, 1), (16, 16)])
def test_the_bytes_are_those_of_the_description(precision, lanes):
    symbols, rows = drawn(TABLES[precision], 501)
    data = rans.encode(symbols, rows, TABLES[precision], lanes=lanes)
    assert scalar_decode(data, rows, TABLES[precision], lanes) == symbols.tolist()


def test_a_pinned_string_decodes():
    tables = pmf_tables([[0.5, 0.25, 0.25], [0.2]], [-1, 7])
    symbols, rows = np.array([0, 1, 2, 3, 0, 0, 1]), np.array([0, 1, 0, 0, 1, 0, 1])
    data = rans.encode(symbols, rows, tables, lanes=2)
    assert data.hex() == "39403900cbcc03000200"
    np.testing.assert_array_equal(rans.decode(data, rows, tables, lanes=2), symbols)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_any_symbols_come_back(data):
    precision = data.draw(st.integers(2, 16))
    sizes = data.draw(st.lists(st.integers(0, min(2**precision - 1, 40)), min_size=1, max_size=4))
    seed = data.draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    pmfs = [rng.dirichlet(np.full(n, 0.3)) if n else np.zeros(0) for n in sizes]
    tables = pmf_tables(pmfs, [0] * len(sizes), precision=precision)
    rows = rng.integers(0, len(sizes), data.draw(st.integers(0, 200)))
    symbols = rng.integers(0, tables.length[rows])  # uniform: the rare as often as the frequent
    lanes = 1 << data.draw(st.integers(0, 6))
    string = rans.encode(symbols, rows, tables, lanes=lanes)
    np.testing.assert_array_equal(rans.decode(string, rows, tables, lanes=lanes), symbols)


@pytest.mark.parametrize("scales", [(0.11, 256.0), (0.11, 0.6)])
def test_overhead_is_half_a_percent_besides_the_lanes(scales):
    tables = gaussian_tables(scale_table(*scales))
    symbols, rows = drawn(tables, 100_000)
    bits = tables.bits(symbols, rows)
    lanes = lanes_for(bits)
    size = 8 * len(rans.encode(symbols, rows, tables, lanes=lanes))
    assert bits < size < 1.005 * bits + 32 * lanes
    assert 32 * lanes <= 0.003 * bits < 64 * lanes


def test_the_lane_rule():
    exact = 8 * 4 / 0.003  # bits that pay for a lane
    for bits, lanes in [(0, 1), (1.9, 1), (2, 2), (3.9, 2), (64, 64), (1e9, 1024)]:
        assert lanes_for(bits * exact * (1 + 1e-9)) == lanes


def test_a_certain_symbol_costs_nothing():
    tables = Tables(np.array([[0, 1 << 16]]), [1], [0])
    nothing = np.zeros(1000, int)
    for coder in CODERS:
        data = coder.encode(nothing, nothing, tables, lanes=4)
        assert len(data) == 16
        np.testing.assert_array_equal(coder.decode(data, nothing, tables, lanes=4), nothing)


@pytest.mark.parametrize("lanes", [1, 8, 32])
def test_flipped_bits_are_told(lanes):
    tables = TABLES[16]
    symbols, rows = drawn(tables, 200)
    data = rans.encode(symbols, rows, tables, lanes=lanes)
    told = 0
    for bit in range(8 * len(data)):
        broken = bytearray(data)
        broken[bit // 8] ^= 1 << bit % 8
        try:
            rans.decode(bytes(broken), rows, tables, lanes=lanes)
        except BitstreamError:
            told += 1
    assert told >= 8 * len(data) - 1  # of 20,000 flips tried, 3 gave another message that fits


@pytest.mark.parametrize("coder", CODERS)
def test_damage_is_told_by_all_coders(coder):
    symbols, rows = drawn(TABLES[16], 300)
    good = rans.encode(symbols, rows, TABLES[16], lanes=4)
    flipped = good[:100] + bytes([good[100] ^ 4]) + good[101:]
    cut, longer = good[:-2], good + b"\0\0"
    for bad in (b"", good[:3], good[:-1], cut, longer, good + 1000 * b"ab", flipped, bytes(16)):
        with pytest.raises(BitstreamError):
            coder.decode(bad, rows, TABLES[16], lanes=4)
    for count in (299, 301):
        with pytest.raises(BitstreamError):
            coder.decode(good, np.resize(rows, count), TABLES[16], lanes=4)


@pytest.mark.parametrize(
    ("lanes", "told"), [(0, "lanes=0"), (3, "lanes=3"), (2048, "lanes=2048"), (-1, "lanes=-1")]
)
def test_wrong_lanes_are_named(lanes, told):
    none = np.zeros(0, int)
    for coder in CODERS:
        with pytest.raises(ValueError, match=told):
            coder.encode(none, none, TABLES[16], lanes=lanes)
        with pytest.raises(ValueError, match=told):
            coder.decode(b"", none, TABLES[16], lanes=lanes)
    with pytest.raises(ValueError, match="bits=-1"):
        lanes_for(-1)
