"""PSNR and MS-SSIM against float64 computations that share no code with them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage, signal

from jaxvision.metrics.image_quality import LEAST, ms_ssim, ms_ssim_db, psnr

EPS = np.finfo(np.float32).eps


def pictures(height, width, *, noise, seed=0):
    """A smooth picture in [0, 1] and one with noise: two float64 `[1 h w 3]`."""
    rng = np.random.default_rng(seed)
    a = ndimage.gaussian_filter(rng.normal(size=(height, width, 3)), (6, 6, 0))
    a = (a - a.min()) / np.ptp(a)
    b = np.clip(a + noise * rng.normal(size=a.shape), 0, 1)
    return a[None], b[None]


def ms_ssim_float64(a, b):
    """Of two `[h w]`: Wang's recipe with a two-dimensional window and scipy's convolution."""
    grid = np.mgrid[-5:6, -5:6]
    window = np.exp(-(grid**2).sum(axis=0) / (2 * 1.5**2))
    window /= window.sum()

    def mean(x):
        return signal.convolve2d(x, window, mode="valid")

    result = 1.0
    for i, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        ma, mb = mean(a), mean(b)
        va, vb, cov = mean(a * a) - ma**2, mean(b * b) - mb**2, mean(a * b) - ma * mb
        term = (2 * cov + 0.0009) / (va + vb + 0.0009)
        if i == 4:
            term = term * (2 * ma * mb + 0.0001) / (ma**2 + mb**2 + 0.0001)
        result *= max(term.mean(), 0) ** weight
        # what imfilter and a stride of 2 do in Wang's own program: mirrored behind the end
        box = np.ones((2, 2)) / 4
        a, b = (
            signal.convolve2d(np.pad(x, ((0, 1), (0, 1)), mode="symmetric"), box, mode="valid")
            for x in (a, b)
        )
        a, b = a[::2, ::2], b[::2, ::2]
    return result


@pytest.mark.parametrize("noise", [0.01, 0.1, 0.5])
@pytest.mark.parametrize("size", [(176, 192), (LEAST, 175)])
def test_ms_ssim_matches_float64(size, noise):
    a, b = pictures(*size, noise=noise)
    expected = np.mean([ms_ssim_float64(a[0, ..., c], b[0, ..., c]) for c in range(3)])
    # A window's sums round some 22 times at values up to 1/4; what is left of it is divided by
    # C2 and the variances, here above 1e-3, and its sign is random over the windows.
    tol = 22 * EPS / 4 / 2e-3 / np.sqrt(3)
    np.testing.assert_allclose(ms_ssim(jnp.array(a), jnp.array(b)), [expected], rtol=0, atol=tol)


def test_ms_ssim_of_equal_and_of_opposite_images():
    a, _ = pictures(LEAST, LEAST, noise=0)
    a = jnp.array(a)
    np.testing.assert_allclose(ms_ssim(a, a), [1.0], rtol=0, atol=8 * EPS)
    assert float(ms_ssim(a, 1 - a)[0]) == 0  # structure is the negative: no power of that


def test_each_image_by_itself():
    pairs = [pictures(LEAST, LEAST, noise=noise) for noise in (0.05, 0.2)]
    a, b = (jnp.concatenate(images) for images in zip(*pairs, strict=True))
    for metric in (psnr, ms_ssim):
        whole = jax.jit(metric)(a, b)
        assert whole.shape == (2,) and whole.dtype == jnp.float32 and whole[0] > whole[1]
        single = [metric(a[i : i + 1], b[i : i + 1])[0] for i in range(2)]
        np.testing.assert_allclose(whole, single, rtol=32 * EPS)  # sums in another order


def test_psnr():
    a = np.random.default_rng(0).integers(0, 246, (2, 5, 7, 3))
    b = a + np.array([1, 10])[:, None, None, None]
    expected = 20 * np.log10(255 / np.array([1, 10]))
    # the difference of two values near 1 is known to half an ulp each: eps * 255 of 1/255
    tol = 20 / np.log(10) * 255 * EPS
    np.testing.assert_allclose(psnr(a / 255.0, b / 255.0), expected, rtol=0, atol=tol)
    assert np.isinf(psnr(a / 255.0, a / 255.0)).all()


def test_decibels():
    x = jnp.array([0.9, 0.99, 1.0])
    # 1 - x has the rounding of x, of which it is a hundredth
    np.testing.assert_allclose(ms_ssim_db(x), [10, 20, np.inf], rtol=0, atol=100 * 10 * EPS)


def test_wrong_input_is_named():
    a = jnp.zeros((1, 160, 300, 3))
    with pytest.raises(ValueError, match="160x300 are too small .* the least is 161x161"):
        ms_ssim(a, a)
    with pytest.raises(ValueError, match="not uint8: divide by 255"):
        psnr(a, a.astype(jnp.uint8))
    with pytest.raises(ValueError, match=r"not \(1, 160, 300, 3\) and \(160, 300, 3\)"):
        psnr(a, a[0])
