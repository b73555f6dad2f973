"""How COFNet puts its parts together, with parts that answer what is known."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from fake_cofnet import FakeCOFNet, alpha_bar

from jaxvision.cofnet.backbone import BackboneConfig
from jaxvision.cofnet.model import COFNet, CofnetConfig, Fields

SMALL = dict(
    classes=3,
    size=(32, 48),
    width=32,
    backbone=BackboneConfig(dims=(8, 8), depths=(1, 1), mixers=("conv", "scan")),
)


def test_pixels_are_normalised_by_the_mean_and_deviation_of_imagenet():
    neck = SimpleNamespace(levels=lambda maps: maps, grid=lambda levels, i: levels[i])
    cfg = SimpleNamespace(size=(1, 2), dtype="float32")
    fake = SimpleNamespace(cfg=cfg, backbone=lambda x: [x], neck=neck, dense=lambda grids: {})
    images = np.array([[[[255, 0, 51], [0, 255, 102]]]], np.uint8)
    pixels = COFNet.encode(fake, images).levels[0]
    mean, deviation = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    expected = (np.array([[1, 0, 0.2], [0, 1, 0.4]]) - mean) / deviation
    np.testing.assert_allclose(pixels[0, 0], expected, rtol=1e-5)


@pytest.mark.parametrize("objective", ["x0", "eps"])
def test_denoise_asks_the_refiner_at_its_time_and_tells_the_noise(objective):
    t, mask = np.array([[99, 199, 499], [499, 99, 299]]), np.eye(3, dtype=bool)
    x, last = np.random.default_rng(0).normal(size=(2, 2, 3, 4)).astype(np.float32)
    answer = np.full((2, 3, 4), 0.4, np.float32)
    asked, levels = {}, [np.zeros((2, 2, 2, 8), np.float32)]

    def refiner(boxes, spread, t, neck, levels, canvas, mask):
        asked["refiner"] = boxes, t, mask
        asked["spread"] = spread
        return [answer], ["logits"], last

    def classifier(slots, boxes, spread, time, neck, levels, context, canvas, mask):
        asked["classifier"] = boxes, time, mask
        assert not spread.any()  # what it reads has been denoised
        return None, None, "classes"

    fake = FakeCOFNet(answer, x, cells=answer, cell_logits=answer, objective=objective)
    fake.cfg.width, fake.cfg.dtype = 8, "float32"
    fake.neck, fake.refiner, fake.classifier = None, refiner, classifier
    out = COFNet.denoise(fake, Fields(levels, {}), jnp.asarray(x), jnp.asarray(t), mask)

    boxes = lambda x: np.clip((np.clip(x, -2, 2) / 2 + 1) / 2, [0, 0, 1e-3, 1e-3], 1)  # noqa: E731
    np.testing.assert_allclose(asked["refiner"][0], boxes(x), atol=1e-6)
    np.testing.assert_array_equal(asked["refiner"][1], t)
    np.testing.assert_array_equal(asked["refiner"][2], mask)
    share = alpha_bar(t)[..., None]
    np.testing.assert_allclose(asked["spread"], np.sqrt(1 - share) / 4, rtol=1e-4)
    if objective == "x0":
        noise = (x - np.sqrt(share) * 2 * (2 * answer - 1)) / np.sqrt(1 - share)
        np.testing.assert_allclose(out.noise, noise, atol=1e-4)  # divided by √0.03
        assert out.logits == ["logits"] and out.boxes == [answer]
    else:
        start = boxes((x - np.sqrt(1 - share) * last) / np.sqrt(share))
        np.testing.assert_allclose(out.boxes[0], start, atol=1e-5)
        np.testing.assert_array_equal(asked["classifier"][0], out.boxes[0])
        assert not asked["classifier"][1].any() and asked["classifier"][2] is mask
        assert out.logits == ["classes"] and out.noise is last


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        (dict(neck="fnp"), "'fnp' is none of"),
        (dict(objective="v"), "'v' is neither"),
        (dict(schedule="quadratic"), "'quadratic' is none of"),
        (dict(classes=0), "classes=0"),
        (dict(rounds=0), "rounds=0 must be above 0"),
        (dict(width=100), "width=100 must be even and divide among 3 heads"),
        (dict(tower=-1), "tower=-1"),
        (dict(size=(30, 48)), "multiples of the last stride"),
    ],
)
def test_model_config_names_what_is_wrong(fields, named):
    with pytest.raises(ValueError, match=named):
        CofnetConfig(**SMALL | fields)


def test_an_image_of_another_size_is_refused():
    fake = SimpleNamespace(cfg=CofnetConfig(**SMALL))
    with pytest.raises(ValueError, match="are not"):
        COFNet.encode(fake, jnp.zeros((1, 32, 32, 3), jnp.uint8))
