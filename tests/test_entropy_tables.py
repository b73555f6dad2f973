"""Integer tables: quantised as tensorflow-compression does, checked, and carried as arrays."""

import io
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxvision.entropy.gaussian import scale_table
from jaxvision.entropy.quantize import gaussian_tables, pmf_tables, quantize_pmf
from jaxvision.entropy.tables import Tables

GOLDEN = np.load(Path(__file__).parent / "golden" / "tfc_goldens.npz")
CASES = sorted(k for k in GOLDEN.files if k.startswith("cdf"))
# Of a symmetric Gaussian's equals tensorflow-compression takes whichever its sort leaves first.
TIED = {"cdf16/gauss_4.0", "cdf16/gauss_30.0"}


@pytest.mark.parametrize("case", CASES)
def test_frequencies_are_tensorflow_compressions(case):
    precision, name = case.removeprefix("cdf").split("/")
    ours, theirs = quantize_pmf(GOLDEN[f"pmf/{name}"], int(precision)), GOLDEN[case]
    if case in TIED:
        ours, theirs = (np.sort(np.diff(cdf)) for cdf in (ours, theirs))
    np.testing.assert_array_equal(ours, theirs)


def test_equals_are_changed_from_the_first():
    np.testing.assert_array_equal(np.diff(quantize_pmf(np.full(3, 1 / 3), 4)), [6, 5, 5])
    np.testing.assert_array_equal(np.diff(quantize_pmf(np.full(5, 1 / 5), 1 + 2)), [1, 1, 2, 2, 2])


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=60), st.integers(6, 16))
@settings(max_examples=60, deadline=None)
def test_any_distribution_gives_every_symbol_a_frequency(masses, precision):
    pmf = np.array(masses) + 1e-9
    cdf = quantize_pmf(pmf / pmf.sum(), precision)
    assert cdf[0] == 0 and cdf[-1] == 1 << precision and (np.diff(cdf) >= 1).all()


def test_no_single_step_makes_the_code_shorter():
    pmf = np.random.default_rng(0).dirichlet(np.full(40, 0.2)).astype(np.float32).astype(float)
    q = np.diff(quantize_pmf(pmf, 12)).astype(float)
    gain = pmf * (np.log2(q + 1) - np.log2(q))
    with np.errstate(divide="ignore"):
        loss = np.where(q > 1, pmf * (np.log2(q) - np.log2(q - 1)), np.inf)
    assert gain.max() <= loss.min()


def test_gaussian_rows_are_those_of_the_goldens():
    for precision in (12, 16):
        tables = gaussian_tables(GOLDEN["table/scales"], precision=precision)
        np.testing.assert_array_equal(tables.offset, GOLDEN[f"table{precision}/offset"])
        np.testing.assert_array_equal(tables.length + 1, GOLDEN[f"table{precision}/len"])
        flat = GOLDEN[f"table{precision}/flat"]
        for row, length, end in zip(
            tables.cdf, tables.length, np.cumsum(tables.length + 2), strict=True
        ):
            ours, theirs = np.diff(row[: length + 1]), np.diff(flat[end - length - 1 : end])
            np.testing.assert_array_equal(np.sort(ours), np.sort(theirs))


def test_tables_cost_little_over_the_gaussian():
    scales = scale_table()
    tables = gaussian_tables(scales)
    for row, (scale, length) in enumerate(zip(scales, tables.length, strict=True)):
        q = np.diff(tables.cdf[row, : length + 1])[:-1] / 65536
        edges = (tables.offset[row] + np.arange(length) - 0.5) / (scale * math.sqrt(2))
        p = np.diff([math.erf(edge) for edge in edges]) / 2
        kept = p > 0  # erf ends at 1; what is lost lies below 1e-16
        cost = float((p[kept] * np.log2(p[kept] / q[kept])).sum())
        # The divergence is at most log2(e) sum (p - q)^2 / q. Off by one step of 2^-16, and with no
        # q below a step, each symbol adds a step at most.
        assert cost < math.log2(math.e) * length / 65536


def test_any_distribution_has_a_row_with_an_escape():
    tables = pmf_tables([[0.5, 0.25, 0.25], [0.2]], [-1, 7], precision=8)
    np.testing.assert_array_equal(tables.length, [4, 2])
    np.testing.assert_array_equal(tables.offset, [-1, 7])
    np.testing.assert_array_equal(np.diff(tables.cdf[1])[:2], [51, 205])
    assert np.diff(tables.cdf[0])[3] == 1


def test_tables_travel_as_arrays():
    tables = gaussian_tables(scale_table(levels=5, high=4.0), precision=12)
    file = io.BytesIO()
    np.savez(file, **tables.to_arrays())
    file.seek(0)
    again = Tables.from_arrays(np.load(file))
    assert again.digest == tables.digest and len(tables.digest) == 32 and again.precision == 12
    for name, array in tables.to_arrays().items():
        np.testing.assert_array_equal(again.to_arrays()[name], array)


def test_digest_tells_tables_apart_but_not_their_padding():
    tables = gaussian_tables([0.5, 2.0])
    wide = np.pad(tables.cdf, ((0, 0), (0, 3)), constant_values=65536)
    assert Tables(wide, tables.length, tables.offset).digest == tables.digest
    assert Tables(tables.cdf, tables.length, tables.offset + 1).digest != tables.digest
    assert gaussian_tables([0.5, 2.01]).digest != tables.digest
    # pinned: a digest that changes makes every stored model a stranger to its files
    pinned = pmf_tables([[0.5, 0.25, 0.25]], [-1], precision=8)
    assert pinned.digest.hex()[:16] == "8f8f17706009a274"


def test_lookup_and_steps_restate_the_rows():
    tables = pmf_tables([[0.5, 0.25, 0.25], [0.2]], [-1, 7], precision=8)
    for row in range(2):
        for slot in range(256):
            symbol = int(tables.lookup[row, slot])
            low, high = tables.cdf[row, symbol : symbol + 2]
            assert low <= slot < high
            assert tables.steps[row, slot] == (high - low - 1) << 16 | slot - low


def test_a_certain_symbol_fills_its_row():
    tables = Tables(np.array([[0, 1 << 16]]), [1], [0])
    assert (tables.steps >> 16 == 65535).all() and tables.bits(
        np.zeros(9, int), np.zeros(9, int)
    ) == 0


@pytest.mark.parametrize(
    ("cdf", "length", "offset", "precision", "told"),
    [
        ([[0, 8, 16]], [2], [0], 17, "precision=17"),
        ([[0, 8, 16]], [2], [0], -1, "precision=-1"),
        ([[0, 2**31 - 1, -(2**31), 16]], [3], [0], 4, "cdf=-2147483648"),
        ([[0, 8, 16]], [3], [0], 4, "length=3"),
        ([[0, 8, 16]], [0], [0], 4, "length=0"),
        ([[0, 8, 8, 16]], [3], [0], 4, "row 0"),
        ([[0, 16, 16], [0, 9, 15]], [1, 2], [0, 0], 4, "row 1"),
        ([[0, 8, 16]], [1], [0], 4, "row 0"),
        ([[0.0, 8.0, 16.0]], [2], [0], 4, "float64"),
        ([[0, 8, 16]], [2], [0, 1], 4, "shapes"),
        ([[0, 8, 16]], [2], [2**31], 4, "offset"),
        (np.zeros((0, 3), int), np.zeros(0, int), np.zeros(0, int), 4, "shapes"),
    ],
)
def test_wrong_tables_are_refused(cdf, length, offset, precision, told):
    with pytest.raises(ValueError, match=told):
        Tables(np.asarray(cdf), np.asarray(length), np.asarray(offset), precision)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda: quantize_pmf([0.5, np.nan]), "nan"),
        (lambda: quantize_pmf([0.5, -0.1]), "-0.1"),
        (lambda: quantize_pmf([0.0, 0.0]), "no distribution"),
        (lambda: quantize_pmf([0.1] * 5, 2), "1 … 4"),
        (lambda: quantize_pmf([0.5, 0.5], 0), "precision=0"),
        (lambda: gaussian_tables([1.0, 0.0]), "scales"),
        (lambda: gaussian_tables([1.0], tail_mass=0), "tail_mass=0"),
        (lambda: Tables.from_arrays({"cdf": 1}), "length, offset, precision"),
        (lambda: gaussian_tables([1.0]).rows([0, 1]), "index=0 … 1"),
        (lambda: gaussian_tables([1.0]).rows([0.5]), "float64"),
        (lambda: gaussian_tables([1.0]).spans([99], np.array([0])), "symbols.0.=99"),
        (lambda: gaussian_tables([1.0]).spans([1, 1], np.array([0])), "2,"),
    ],
)
def test_wrong_arguments_are_named(wrong, told):
    with pytest.raises(ValueError, match=told):
        wrong()
