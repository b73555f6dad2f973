"""Strings of tensorflow-compression (ops 2.17.0 and all of 2.14.1), byte for byte."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxvision.entropy import tfc
from jaxvision.entropy.errors import BitstreamError
from jaxvision.entropy.quantize import gaussian_tables

FOLDER = Path(__file__).parent / "golden"
GOLDENS = {name: np.load(FOLDER / f"{name}_goldens.npz") for name in ("tfc", "tfc214")}
INT32 = st.integers(-(2**31), 2**31 - 1)


@pytest.mark.parametrize("golden", GOLDENS)
@pytest.mark.parametrize("precision", [12, 16])
@pytest.mark.parametrize("case", ["rc", "small", "carry", "empty"])
def test_strings_are_tensorflow_compressions(golden, precision, case):
    golden = GOLDENS[golden]
    flat, offset = golden[f"table{precision}/flat"], golden[f"table{precision}/offset"]
    tables = tfc.from_flat(flat, offset)
    np.testing.assert_array_equal(tfc.flat_tables(tables), flat)
    none = np.zeros(0, int)
    index, values = (golden.get(f"{case}{precision}/{k}", none) for k in ("index", "value"))
    string = golden[f"{case}{precision}/string"].tobytes()
    assert tfc.encode_values(values, index, tables) == string
    np.testing.assert_array_equal(tfc.decode_values(string, index, tables), values)


def test_a_whole_models_string():
    """LocationScaleIndexedEntropyModel of 2.14.1, which codes rounded differences from `loc`."""
    golden = GOLDENS["tfc214"]
    tables = tfc.from_flat(golden["em/cdf"], golden["em/cdf_offset"])
    index, loc, string = golden["em/index"], golden["em/loc"], golden["em/string"].tobytes()
    values = np.rint(golden["em/y"] - loc).astype(np.int32)
    assert tfc.encode_values(values, index, tables) == string
    decoded = tfc.decode_values(string, index, tables) + loc
    np.testing.assert_array_equal(decoded, golden["em/decoded"])


@given(st.lists(st.tuples(INT32, st.integers(0, 2)), max_size=30), st.sampled_from([6, 12, 16]))
@settings(max_examples=100, deadline=None)
def test_any_values_come_back(pairs, precision):
    tables = gaussian_tables([0.2, 1.0, 4.0], precision=precision)
    values, index = np.array(pairs, np.int64).reshape(-1, 2).T
    string = tfc.encode_values(values, index, tables)
    np.testing.assert_array_equal(tfc.decode_values(string, index, tables), values)


@pytest.mark.parametrize("likely", [True, False])
def test_long_runs_carry(likely):
    tables = gaussian_tables([0.11])
    values = np.full((5, 400), 0 if likely else 1)
    values[2] = -1
    index = np.zeros_like(values)
    string = tfc.encode_values(values, index, tables)
    np.testing.assert_array_equal(tfc.decode_values(string, index, tables), values)


@given(st.binary(max_size=60), st.integers(0, 30))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_refused_or_decode(data, count):
    tables = gaussian_tables([0.2, 1.0, 4.0])
    index = np.arange(count) % 3
    try:
        values = tfc.decode_values(data, index, tables)
    except BitstreamError:
        return
    assert values.shape == (count,) and values.dtype == np.int32


def test_a_string_too_long_is_told():
    tables = gaussian_tables([1.0])
    values = np.arange(50) % 3
    string = tfc.encode_values(values, np.zeros(50, int), tables)
    for bad in (string + b"\0", string + b"abcd"):
        with pytest.raises(BitstreamError, match="do not end"):
            tfc.decode_values(bad, np.zeros(50, int), tables)


@pytest.mark.parametrize("flat", [[], [16, 0, 65536], [-12, 0, 4096, -11, 0, 2048], [-4, 0, 3]])
def test_wrong_tables_are_refused(flat):
    with pytest.raises(ValueError, match="flat|shapes"):
        tfc.from_flat(np.array(flat, np.int32), np.zeros(1, np.int32))
