"""The string of values: escapes beside the lanes, any shape, and bytes that are not ours."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jaxvision.entropy import stream, tfc
from jaxvision.entropy.errors import BitstreamError
from jaxvision.entropy.escape import merge, split
from jaxvision.entropy.gamma import decode_gamma, encode_gamma
from jaxvision.entropy.gaussian import scale_table
from jaxvision.entropy.quantize import gaussian_tables, pmf_tables
from jaxvision.entropy.stream import decode_values, encode_values
from jaxvision.entropy.varint import read_varint, write_varint

TABLES = gaussian_tables(scale_table(0.2, 40.0, 12))
INT32 = st.integers(-(2**31), 2**31 - 1)


def gaussian_values(shape, seed=0, wider=1.0):
    rng = np.random.default_rng(seed)
    index = rng.integers(0, 12, shape)
    scales = scale_table(0.2, 40.0, 12)[index]
    return np.rint(rng.standard_normal(shape) * scales * wider).astype(np.int32), index


@pytest.mark.parametrize("backend", ["numpy", "jax"])
@pytest.mark.parametrize("wider", [1.0, 5.0])
def test_values_of_any_shape_come_back(backend, wider):
    values, index = gaussian_values((2, 16, 20, 3), wider=wider)
    values[0, 0, 0] = [-(2**31), 2**31 - 1, 1000]
    data = encode_values(values, index, TABLES, backend=backend)
    assert data == encode_values(values, index, TABLES)
    again = decode_values(data, index, TABLES, backend=backend)
    assert again.dtype == np.int32
    np.testing.assert_array_equal(again, values)


@pytest.mark.parametrize("coder", [stream, tfc])
def test_values_are_read_in_pieces(coder):
    values, index = gaussian_values((30, 20), wider=5.0)
    data = coder.encode_values(values, index, TABLES)
    reader = coder.Reader(data, TABLES)
    np.testing.assert_array_equal(reader.read(index[:7]), values[:7])
    with pytest.raises(BitstreamError):
        reader.finish()
    np.testing.assert_array_equal(reader.read(index[7:]), values[7:])
    reader.finish()


@pytest.mark.parametrize("backend", ["numpy", "jax"])
def test_escaped_values_are_checked_with_the_rest(backend):
    """They lie beside the coder's words; a flip there leaves the words as they were."""
    values, index = gaussian_values((50,))
    values[3], index[3] = 1000, 0
    data = encode_values(values, index, TABLES, backend=backend)
    side = data[0] >> 4
    assert 0 < side < 15
    for bit in range(8 * side):
        broken = bytearray(data)
        broken[1 + bit // 8] ^= 1 << bit % 8
        with pytest.raises(BitstreamError):
            decode_values(bytes(broken), index, TABLES, backend=backend)
        with pytest.raises(BitstreamError):
            reader = stream.Reader(bytes(broken), TABLES)
            reader.read(index)
            reader.finish()


@given(st.lists(st.tuples(INT32, st.integers(0, 11)), max_size=40))
@settings(max_examples=100, deadline=None)
def test_any_values_come_back(pairs):
    values, index = np.array(pairs, np.int64).reshape(-1, 2).T
    data = encode_values(values, index, TABLES)
    np.testing.assert_array_equal(decode_values(data, index, TABLES), values)


def test_a_row_of_the_escape_alone_holds_any_value():
    tables = pmf_tables([np.zeros(0)], [5])
    values, index = np.array([5, 4, 6, -9, 2**31 - 1]), np.zeros(5, int)
    data = encode_values(values, index, tables)
    np.testing.assert_array_equal(decode_values(data, index, tables), values)


@pytest.mark.parametrize("shape", [(0,), (0, 3), (4, 0)])
def test_no_values_are_no_bytes(shape):
    none = np.zeros(shape, int)
    assert encode_values(none, none, TABLES) == b""
    assert decode_values(b"", none, TABLES).shape == shape
    with pytest.raises(BitstreamError, match="1 bytes"):
        decode_values(b"\0", none, TABLES)


def test_the_file_is_as_long_as_the_tables_say():
    values, index = gaussian_values(100_000)
    symbols, rows, beyond = split(values, index, TABLES)
    bits = TABLES.bits(symbols, rows) + 8 * len(encode_gamma(beyond))
    size = 8 * len(encode_values(values, index, TABLES))
    assert bits < size < 1.01 * bits  # half a percent for the lanes, as much for the coder


def test_distances_beyond_a_row():
    tables = pmf_tables([[0.5, 0.3]], [-1])  # -1, 0
    symbols, rows, beyond = split(np.array([-1, 0, 1, 2, -2, -5]), np.zeros(6, int), tables)
    np.testing.assert_array_equal(symbols, [0, 1, 2, 2, 2, 2])
    np.testing.assert_array_equal(beyond, [1, 2, -1, -4])
    np.testing.assert_array_equal(merge(symbols, rows, beyond, tables), [-1, 0, 1, 2, -2, -5])
    with pytest.raises(BitstreamError, match="int32"):
        merge(np.array([2]), np.array([0]), [2**33], tables)


def test_gamma_codes_are_elias():
    # 1: "1" "0";  -1: "1" "1";  2: "0" "10" "0";  -5: "00" "101" "1"
    assert encode_gamma(np.array([1, -1, 2, -5])) == bytes([0b10110100, 0b00101100])
    assert encode_gamma(np.zeros(0, int)) == b""


@given(st.lists(st.integers(-(2**40) + 1, 2**40 - 1).filter(bool), max_size=30))
@example([2**40 - 1, -(2**40) + 1])
@settings(deadline=None)
def test_gamma_round_trip(numbers):
    data = encode_gamma(np.array(numbers, np.int64))
    assert decode_gamma(data, len(numbers)).tolist() == numbers
    for bad in (data[:-1], data + b"\0"):
        if bad != data:
            with pytest.raises(BitstreamError):
                decode_gamma(bad, len(numbers))


@given(st.integers(0, 2**63 - 1))
@example(127)
@example(128)
def test_varint_round_trip(number):
    data = write_varint(number)
    assert read_varint(b"x" + data + b"y", 1) == (number, 1 + len(data))
    with pytest.raises(BitstreamError):
        read_varint(data[:-1])


def test_varint_has_one_form():
    for bad in (b"\x80\x00", b"\xff" * 10):
        with pytest.raises(BitstreamError):
            read_varint(bad)
    for number in (-1, 1 << 63):
        with pytest.raises(ValueError, match=str(number)):
            write_varint(number)


@given(st.binary(max_size=80), st.integers(0, 30))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_refused_or_decode(data, count):
    index = np.arange(count) % 12
    try:
        values = decode_values(data, index, TABLES)
    except BitstreamError:
        return
    assert values.shape == (count,) and values.dtype == np.int32


def test_damage_is_told():
    values, index = gaussian_values(400)
    values[::50] += 2000  # some escapes
    good = encode_values(values, index, TABLES)
    rng = np.random.default_rng(0)
    told = 0
    for _ in range(300):
        bad = bytearray(good)
        kind = rng.integers(3)
        if kind == 0:
            bad[rng.integers(len(bad))] ^= 1 << rng.integers(8)
        elif kind == 1:
            del bad[rng.integers(len(bad)) :]
        else:
            bad += rng.bytes(rng.integers(1, 9))
        try:
            again = decode_values(bytes(bad), index, TABLES)
        except BitstreamError:
            told += 1
        else:  # a distance that was altered: for the container's checksum to see
            assert kind == 0 and (again != values).sum() <= 16
    assert told > 280


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda: encode_values([1, 2], [0], TABLES), r"\(2,\) and index \(1,\)"),
        (lambda: encode_values([0.5], [0], TABLES), "float64"),
        (lambda: encode_values([2**31], [0], TABLES), "int32"),
        (lambda: encode_values([0], [12], TABLES), "12"),
        (lambda: encode_values([0], [0], TABLES, backend="torch"), "torch"),
        (lambda: decode_values(b"", [0], TABLES), "lanes"),
        (lambda: decode_values(b"\x0b\x00", [0], TABLES), "lanes"),
        (lambda: decode_values(b"\x90abc", [0], TABLES), "9 bytes"),
        (lambda: decode_values(b"\xf0\x02abc", [0], TABLES), "17 bytes"),
    ],
)
def test_wrong_arguments_are_named(wrong, told):
    with pytest.raises(ValueError, match=told):
        wrong()
