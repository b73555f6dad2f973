"""The sampler around a denoiser whose answers are known."""

import functools
from typing import NamedTuple

import jax
import numpy as np
import pytest
from fake_cofnet import SIGNAL, FakeCOFNet, alpha_bar, logit

from jaxvision.cofnet.sampler import SamplerConfig, sample

# Two images, three cells, two slots: the peaks are cell 2, then cell 0.
CELLS = np.random.default_rng(0).uniform(0.2, 0.8, (2, 3, 4))
CELL_SCORES = np.array([[[0.5, 0.1], [0.3, 0.1], [0.2, 0.8]]] * 2)
PEAKS, PRIOR = CELLS[:, [2, 0]], CELL_SCORES[:, [2, 0]]
BOXES = np.random.default_rng(1).uniform(0.2, 0.8, (2, 2, 4))
SCORES = np.array([[[0.9, 0.2], [0.4, 0.3]]] * 2)  # the first slot is sure, the second is not
DRIFT = 0.1
ATOL = 1e-5  # a dozen roundings of numbers up to 6: 12 · 6 · 2^-24 = 4e-6


class Run(NamedTuple):
    """What the denoiser was asked at each step, and what came out."""

    x: np.ndarray  # [steps b n 4]
    t: np.ndarray  # [steps b n]
    boxes: np.ndarray
    scores: np.ndarray


@functools.cache
def run(cfg) -> Run:
    model = FakeCOFNet(
        BOXES, logit(SCORES), cells=CELLS, cell_logits=logit(CELL_SCORES), drift=DRIFT
    )
    out = jax.jit(lambda key: sample(model, model.fields, key, cfg=cfg))(jax.random.key(0))
    jax.effects_barrier()
    return Run(*map(np.stack, zip(*model.asked, strict=True)), *map(np.asarray, out))


def config(**fields):
    return SamplerConfig(steps=3, slots=2, **fields)


def state(boxes):
    return (2 * boxes - 1) * SIGNAL


def answer(t):
    """The boxes that the denoiser answers at time t."""
    return BOXES + np.array([DRIFT * t / 1000, 0, 0, 0])


def ddim(x, t, t_next, eta=0.0):
    """Song et al. 2021, eq. 12 and 16: the mean of the next x, and its σ."""
    now, then, x0 = alpha_bar(t), alpha_bar(t_next), state(answer(t))
    noise = (x - np.sqrt(now) * x0) / np.sqrt(1 - now)
    sigma = eta * np.sqrt((1 - then) / (1 - now)) * np.sqrt(1 - now / then)
    return np.sqrt(then) * x0 + np.sqrt(1 - then - sigma**2) * noise, sigma


TIMES = {  # linspace from the first time to -1, without its end
    config(): [299, 199, 99],
    config(start=0.6): [599, 399, 199],
    config(proposals="random"): [999, 666, 332],
    config(proposals="random", restart=True): [999, 999, 999],
}


@pytest.mark.parametrize("cfg", TIMES)
def test_times_fall_evenly_from_the_start(cfg):
    np.testing.assert_array_equal(run(cfg).t, np.full((2, 2, 3), TIMES[cfg]).T)


@pytest.mark.parametrize(("steps", "start"), [(2, 0.002), (8, 0.008), (8, 0.01), (5, 0.007)])
def test_no_time_comes_twice_and_none_is_without_noise(steps, start):
    t = run(SamplerConfig(steps=steps, slots=2, start=start)).t[:, 0, 0]
    assert len(t) == steps and (np.diff(t) < 0).all() and t[-1] >= 0
    assert t[0] == round(1000 * start) - 1


def test_more_steps_than_times_are_refused():
    with pytest.raises(ValueError, match="leaves 2 of 1000 times to sampler.steps=4: .* 0.004 at"):
        SamplerConfig(steps=4, start=0.002)
    SamplerConfig(steps=4, start=0.002, proposals="random")
    SamplerConfig(steps=0, start=0.0001)


@pytest.mark.parametrize("cfg", [config(), config(proposals="random")])
def test_each_step_goes_on_from_where_ddim_leads(cfg):
    found = run(cfg)
    for i, t_next in enumerate(found.t[1:, 0, 0]):
        expected, _ = ddim(found.x[i], found.t[i, 0, 0], t_next)
        np.testing.assert_allclose(found.x[i + 1], expected, rtol=0, atol=ATOL)


def test_eta_adds_noise_of_its_share_of_the_posterior():
    units = []
    for eta in (0.5, 1.0):
        found = run(config(proposals="random", eta=eta))
        mean, sigma = ddim(found.x[0], *found.t[:2, 0, 0], eta)
        units.append((found.x[1] - mean) / sigma)
    assert np.abs(units[0]).min() > 0
    np.testing.assert_allclose(units[0], units[1], atol=1e-4)  # ATOL over σ
    np.testing.assert_allclose(units[0][0], units[0][1], atol=1e-4)  # for every image the same


def unit_noise(x, boxes, t):
    """The noise that led from boxes to x at time t."""
    return (x - np.sqrt(alpha_bar(t)) * state(boxes)) / np.sqrt(1 - alpha_bar(t))


def test_learned_proposals_are_noised_to_the_start_and_random_ones_are_noise():
    noise = run(config(proposals="random")).x[0]
    np.testing.assert_array_equal(noise[0], noise[1])
    for cfg in (config(), config(start=0.6)):
        found = run(cfg)
        unit = unit_noise(found.x[0], PEAKS, found.t[0, 0, 0])
        np.testing.assert_allclose(unit, noise, atol=4 * ATOL)  # over √(1-ᾱ), about a half


@pytest.mark.parametrize("proposals", ["learned", "random"])
def test_renewal_redraws_the_slots_that_score_less_around_their_proposals(proposals):
    found = run(config(proposals=proposals, renewal=0.5))
    t, t_next = found.t[:2, 0, 0]
    x = found.x[1]
    kept, _ = ddim(found.x[0], t, t_next)
    np.testing.assert_allclose(x[:, 0], kept[:, 0], rtol=0, atol=ATOL)
    noise = unit_noise(x, PEAKS, t_next) if proposals == "learned" else x
    # Answers and proposals of the two images differ; their fresh noise is the same.
    np.testing.assert_allclose(noise[0, 1], noise[1, 1], atol=4 * ATOL)
    assert np.abs(noise[0, 1] - run(config(proposals="random")).x[0][0, 1]).min() > 0.01


def test_restart_draws_every_step_anew():
    x = run(config(proposals="random", restart=True)).x
    np.testing.assert_array_equal(x[:, 0], x[:, 1])  # though the answers for the images differ
    assert len({float(v) for v in x[:, 0].ravel()}) == x[:, 0].size


def test_the_last_step_answers_and_ensembles_and_restarts_pool_all():
    steps = {
        config(): [99],
        config(ensemble=True): [299, 199, 99],
        config(proposals="random", restart=True): [999] * 3,
    }
    for cfg, times in steps.items():
        expected = np.concatenate([answer(t) for t in times], axis=1)
        np.testing.assert_allclose(run(cfg).boxes, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("fields", "trusted", "pooled"),
    [
        (dict(), 0.3, 1),
        (dict(ensemble=True), 0.3, 3),
        (dict(renewal=0.5), 0, 1),  # a renewed slot has left its proposal
        (dict(proposals="random"), 0, 1),  # and a random box has none
        (dict(proposals="random", restart=True), 0, 3),
    ],
)
def test_trust_mixes_in_the_score_of_the_proposal(fields, trusted, pooled):
    expected = np.tile(SCORES ** (1 - trusted) * PRIOR**trusted, (1, pooled, 1))
    np.testing.assert_allclose(run(config(**fields)).scores, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        (dict(proposals="lerned"), "'lerned' is none of"),
        (dict(steps=-1), "steps=-1"),
        (dict(nms=1.5), "nms=1.5 must be from 0 to 1"),
        (dict(top=0), "top=0"),
        (dict(restart=True), "set sampler.proposals=random"),
    ],
)
def test_sampler_config_names_what_is_wrong(fields, named):
    with pytest.raises(ValueError, match=named):
        SamplerConfig(**fields)
