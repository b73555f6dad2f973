"""BD-rates of curves whose answer is known, and the pictures of curves."""

import numpy as np
import pytest
from scipy.interpolate import PchipInterpolator

from jaxvision.metrics.bd_rate import bd_rate, bd_rates, quality_overlap
from jaxvision.metrics.rd_figures import rd_figure

QUALITY = np.array([27.0, 30.5, 33.0, 37.0, 40.0])


def curve(*, factor=1.0, quality=QUALITY, bend=0.0):
    """About 6 dB a doubling of rate, as `[n 2]`."""
    quality = np.asarray(quality, float)
    return np.stack([factor * 2 ** ((quality - 30) / 6 + bend * (quality - 33) ** 2), quality], 1)


@pytest.mark.parametrize("form", ["pchip", "cubic"])
@pytest.mark.parametrize("factor", [0.5, 0.87, 1.0, 1.4])
def test_a_constant_factor_is_that_percentage(form, factor):
    a, b = curve(bend=0.004), curve(bend=0.004, factor=factor)
    # float64 through logs, sums of some 10 terms below 100, and exp
    tol = 100 * 100 * np.finfo(np.float64).eps
    np.testing.assert_allclose(bd_rate(a, b[::-1], form=form), 100 * (factor - 1), atol=tol)
    np.testing.assert_allclose(bd_rate(b, a, form=form), 100 * (1 / factor - 1), atol=tol)


def test_points_at_other_places_of_a_line():
    for form in ("pchip", "cubic"):  # log-rate is linear in quality: no form errs
        other = curve(factor=1.25, quality=[25, 29, 31, 36, 39])
        np.testing.assert_allclose(bd_rate(curve(), other, form=form), 25, rtol=1e-10)
    ends = curve(factor=0.9, quality=[28, 39])
    np.testing.assert_allclose(bd_rate(curve(), ends), -10, rtol=1e-10)


def test_the_cubic_form_knows_a_cubic():
    x = QUALITY
    rates = [np.exp(0.1 * (x - 30) + 0.001 * (x - 33) ** 3), np.exp(0.2 * (x - 33) - 0.5)]
    a, b = (np.stack([rate, x], axis=1) for rate in rates)
    fine = np.linspace(x[0], x[-1], 200_001)
    gap = 0.2 * (fine - 33) - 0.5 - 0.1 * (fine - 30) - 0.001 * (fine - 33) ** 3
    expected = 100 * np.expm1(np.trapezoid(gap, fine) / np.ptp(fine))
    np.testing.assert_allclose(bd_rate(a, b, form="cubic"), expected, rtol=1e-8)


@pytest.mark.parametrize("seed", range(20))
def test_pchip_is_that_of_scipy(seed):
    rng = np.random.default_rng(seed)
    curves = []
    for count in rng.integers(2, 9, size=2):
        quality = rng.uniform(28, 30) + np.cumsum(rng.uniform(2, 9, count))
        order = rng.permutation(count)  # not monotone either, in some
        log_rate = np.cumsum(rng.normal(0.3, 0.5, count))
        curves.append(np.stack([np.exp(log_rate), quality], axis=1)[order])
    low, high = quality_overlap(*curves)
    areas = []
    for points in curves:
        points = points[np.argsort(points[:, 1])]
        areas.append(PchipInterpolator(points[:, 1], np.log(points[:, 0])).integrate(low, high))
    expected = 100 * np.expm1((areas[1] - areas[0]) / (high - low))
    np.testing.assert_allclose(bd_rate(*curves), expected, rtol=1e-9, atol=1e-9)


def test_wrong_curves_are_named():
    good = curve()
    for bad, message in (
        (good[:1], "test has 1 points; 2 are needed"),
        (good + [0, 50], "no quality in common: anchor 27 to 40, test 77 to 90"),
        (np.concatenate([good, good[:1]]), "test has two points of quality 27"),
        (good * [-1, 1], "test has the point .* rates must be positive"),
        (good * [1, np.nan], "test has the point .*nan"),
        (good.T, r"test must be \[n 2\] of rate and quality, not \(2, 5\)"),
    ):
        with pytest.raises(ValueError, match=message):
            bd_rate(good, bad)
    with pytest.raises(ValueError, match="anchor has 3 points; 4 are needed"):
        bd_rate(good[:3], good, form="cubic")
    with pytest.raises(ValueError, match="'spline' is unknown; there are 'pchip', 'cubic'"):
        bd_rate(good, good, form="spline")


def test_the_mean_over_images_has_an_interval():
    factors = {f"kodim{i:02d}": 0.8 + 0.02 * i for i in range(1, 13)}
    anchors = {name: curve() for name in factors}
    tests = {name: curve(factor=factor) for name, factor in factors.items()}
    found = bd_rates(anchors, tests)
    each = 100 * (np.array(list(factors.values())) - 1)
    np.testing.assert_allclose(list(found.images.values()), each, atol=1e-9)
    np.testing.assert_allclose(found.mean, each.mean(), atol=1e-9)
    # the bootstrap's spread is that of the mean; 1.96 of them on either side, less for 12 images
    half = 1.96 * each.std() / np.sqrt(len(each))
    np.testing.assert_allclose([found.mean - found.low, found.high - found.mean], half, rtol=0.1)
    assert found == bd_rates(anchors, tests) and found.high != bd_rates(anchors, tests, seed=1).high


def test_one_image_has_no_interval_and_wrong_images_are_named():
    one = bd_rates({"a": curve()}, {"a": curve(factor=2)})
    assert np.isnan(one.low) and np.isnan(one.high) and round(one.mean, 9) == 100
    with pytest.raises(ValueError, match=r"anchor \['a'\], test \['b'\]"):
        bd_rates({"a": curve()}, {"b": curve()})
    with pytest.raises(ValueError, match="a: the curves have no quality in common"):
        bd_rates({"a": curve()}, {"a": curve() + [0, 99]})


def rd_curves():
    rates = np.geomspace(0.1, 2, 5)
    return {
        name: np.stack([rates * f, 35 + 6 * np.log2(rates), 15 + 5 * np.log2(rates)], axis=1)
        for name, f in (("JPEG 4:2:0", 1.0), ("ours, $λ$", 0.6), ("VVC", 0.4))
    }


@pytest.mark.parametrize("scale", ["log", "linear"])
def test_curves_become_pdf_and_png(tmp_path, scale):
    stem = tmp_path / "figures" / "rd 0.5"
    paths = rd_figure(stem, rd_curves(), scale=scale, bold="ours, $λ$", title="Kodak")
    assert [path.name for path in paths] == ["rd 0.5.pdf", "rd 0.5.png"]
    pdf, png = (path.read_bytes() for path in paths)
    assert pdf.startswith(b"%PDF") and png.startswith(b"\x89PNG")
    rd_figure(stem, rd_curves(), scale=scale, bold="ours, $λ$", title="Kodak")
    assert pdf == paths[0].read_bytes()


def test_curves_without_ms_ssim_are_drawn(tmp_path):
    curves = rd_curves()
    curves["VVC"][:, 2] = np.nan
    rd_figure(tmp_path / "rd", curves)
    rd_figure(tmp_path / "rd", {"one point": [[0.5, 30, 12]]})


def test_wrong_figures_are_named(tmp_path):
    good = rd_curves()
    for curves, options, message in (
        ({}, {}, "no curves"),
        (good, dict(scale="cubic"), "'cubic' is unknown"),
        (good, dict(bold="x"), "bold 'x' is none of the curves JPEG 4:2:0, ours"),
        ({"x": [[1, 2]]}, {}, r"'x' must be \[n 3\], n >= 1, not \(1, 2\)"),
        ({"x": [[0, 2, 3]]}, {}, "'x' has 0.0 bits per pixel"),
    ):
        with pytest.raises(ValueError, match=message):
            rd_figure(tmp_path / "rd", curves, **options)
