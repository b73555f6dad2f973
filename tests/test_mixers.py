"""Mixers against the PyTorch originals: golden values, gradients, and converted weights."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from modules import made, run

from jaxvision.nn.hydra import HydraConfig, HydraMixer, QuasiseparableMixer
from jaxvision.nn.mamba import BiMambaMixer, MambaConfig, MambaMixer, MambaVisionMixer
from jaxvision.nn.torch_weights import load_torch_weights, read_weights, torch_weights

GOLDEN = Path(__file__).parent / "golden"

MIXERS = {
    "mamba1_block": MambaMixer,
    "mambavision_mixer_paper": MambaVisionMixer,
    "mambavision_mixer_seed": MambaVisionMixer,
    "seed_qs_mixer": QuasiseparableMixer,
    "hydra_mixer_g1": HydraMixer,
    "hydra_mixer_g2": HydraMixer,
}


def golden(name):
    data = np.load(GOLDEN / f"{name}.npz")
    groups = {g: {} for g in ("in", "param", "grad", "meta")}
    for k in data.files:
        group, _, rest = k.partition("/")
        if group in groups:
            groups[group][rest] = data[k]
    return data, groups


def build(name, meta):
    size = {k: int(v) for k, v in meta.items()}
    if name.startswith("hydra"):
        cfg = HydraConfig(
            state=size["d_state"],
            conv=size["d_conv"],
            expand=size["expand"],
            head=size["headdim"],
            groups=size["ngroups"],
        )
    else:
        cfg = MambaConfig(
            state=size["d_state"], conv=size["d_conv"], expand=size["expand"], rank=size["dt_rank"]
        )
    return made(lambda: MIXERS[name](size["d_model"], cfg, rngs=nnx.Rngs(0)))


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(k, marks=pytest.mark.slow if k.endswith(("_seed", "_g2")) else ())
        for k in MIXERS
    ],
)
def test_golden_vectors(name):
    data, groups = golden(name)
    mixer = build(name, groups["meta"])
    load_torch_weights(mixer, groups["param"])
    graph, params, rest = nnx.split(mixer, nnx.Param, ...)

    def loss(params, x):
        y = nnx.merge(graph, params, rest)(x)
        return (y * data["ct"]).sum(), y

    f = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))
    (_, y), (grads, dx) = f(params, jnp.asarray(groups["in"]["x"]))
    assert relative(y, data["out/y"]) < 1e-5
    assert relative(dx, groups["grad"].pop("x")) < 1e-4
    ours = torch_weights(nnx.merge(graph, grads, rest))
    assert set(ours) == set(groups["grad"])
    for k, expected in groups["grad"].items():
        assert relative(ours[k], expected) < 1e-4, k


def relative(actual, expected):
    return abs(np.asarray(actual, np.float64) - expected).max() / abs(expected).max()


def test_prefill_then_decode_equals_one_pass():
    mixer = MambaMixer(16, MambaConfig(state=4), rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(0), (2, 9, 16))
    graph, params = nnx.split(mixer)
    advance = jax.jit(lambda x, state: nnx.merge(graph, params).advance(x, state))
    whole, _ = advance(x, mixer.initial(2))
    np.testing.assert_allclose(mixer(x), whole, rtol=1e-5, atol=1e-6)
    y, state = advance(x[:, :5], mixer.initial(2))
    parts = [y]
    for steps in (x[:, 5:6], x[:, 6:8], x[:, 8:]):
        y, state = advance(steps, state)
        parts.append(y)
    np.testing.assert_allclose(jnp.concatenate(parts, axis=1), whole, rtol=1e-5, atol=1e-6)


def test_bidirectional_mixer_is_two_mambas_on_one_projection():
    mixer = BiMambaMixer(8, MambaConfig(state=4), rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(0), (2, 7, 8))
    weights = torch_weights(mixer)
    total = 0.0
    for end, flip in (("", False), ("_b", True)):
        own = {k: v for k, v in weights.items() if "_b" not in k}
        if end:
            own |= {k.replace("_b", "", 1): v for k, v in weights.items() if "_b" in k}
        single = MambaMixer(8, MambaConfig(state=4), rngs=nnx.Rngs(1))
        load_torch_weights(single, own)
        y = run(single, x[:, ::-1] if flip else x)
        total = total + (y[:, ::-1] if flip else y)
    np.testing.assert_allclose(run(mixer, x), total, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("mixer", [MambaMixer, BiMambaMixer, MambaVisionMixer, QuasiseparableMixer])
def test_narrow_compute_stays_near(mixer):
    x = jax.random.normal(jax.random.key(0), (2, 6, 16))
    cfg = MambaConfig(state=4)
    wide = run(made(lambda: mixer(16, cfg, rngs=nnx.Rngs(0))), x)
    narrow = run(made(lambda: mixer(16, cfg, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))), x)
    assert narrow.dtype == jnp.bfloat16
    assert relative(narrow, np.asarray(wide, np.float64)) < 0.05  # some twelve roundings of 0.4 %


def test_weights_go_to_files_and_back(tmp_path):
    from safetensors.numpy import save_file

    mixer = BiMambaMixer(8, MambaConfig(state=4), rngs=nnx.Rngs(0))
    weights = torch_weights(mixer, "layers.3.mixer.") | {"norm.weight": np.ones(8, "f4")}
    save_file({k: np.ascontiguousarray(v) for k, v in weights.items()}, tmp_path / "m.safetensors")
    np.savez(tmp_path / "m.npz", **weights)
    for file in ("m.safetensors", "m.npz"):
        other = BiMambaMixer(8, MambaConfig(state=4), rngs=nnx.Rngs(1))
        load_torch_weights(other, read_weights(tmp_path / file), "layers.3.mixer.")
        for k, v in torch_weights(other, "layers.3.mixer.").items():
            np.testing.assert_array_equal(v, weights[k])


def test_weights_that_do_not_fit_are_named():
    mixer = MambaMixer(8, MambaConfig(state=4), rngs=nnx.Rngs(0))
    weights = torch_weights(mixer)
    with pytest.raises(ValueError, match="no weight begins with 'layers.0.'; there are A_log"):
        load_torch_weights(mixer, weights, "layers.0.")
    with pytest.raises(ValueError, match="lack A_log"):
        load_torch_weights(mixer, {k: v for k, v in weights.items() if k != "A_log"})
    with pytest.raises(ValueError, match="MambaMixer has no place for conv2d.weight"):
        load_torch_weights(mixer, weights | {"conv2d.weight": np.ones(3)})
    with pytest.raises(ValueError, match=r"A_log has shape \(16, 8\).*wants \(16, 4\)"):
        load_torch_weights(mixer, weights | {"A_log": np.ones((16, 8))})
    with pytest.raises(ValueError, match=r"wants \(16, 1, 4\)"):
        load_torch_weights(mixer, weights | {"conv1d.weight": np.ones((16, 1, 3))})


def test_files_that_cannot_be_read_are_named(tmp_path):
    np.savez(tmp_path / "whole.npz", x=np.arange(1000))
    (tmp_path / "cut.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:500])
    (tmp_path / "empty.npz").write_bytes(b"")
    np.save(tmp_path / "one.npy", np.ones(3))
    (tmp_path / "one.npy").rename(tmp_path / "one.npz")
    for name in ("broken.npz", "broken.safetensors"):
        (tmp_path / name).write_bytes(b"nothing of the kind")
    for name in ("broken.npz", "broken.safetensors", "cut.npz", "empty.npz", "one.npz"):
        with pytest.raises(ValueError, match=f"{name} is no readable"):
            read_weights(tmp_path / name)
    with pytest.raises(ValueError, match="neither .safetensors nor .npz"):
        read_weights(tmp_path / "model.pt")
    for name in ("none.npz", "none.safetensors"):
        with pytest.raises(FileNotFoundError, match=name):
            read_weights(tmp_path / name)


BAD = {
    "mamba.state=0": lambda: MambaConfig(state=0),
    "mamba.rank=0": lambda: MambaConfig(rank=0),
    "mamba.backend 'cuda' is none of": lambda: MambaConfig(backend="cuda"),
    "hydra.head=0": lambda: HydraConfig(head=0),
    "hydra.backend 'pallas' is none of": lambda: HydraConfig(backend="pallas"),
    "24 inner channels do not split into heads of 64": lambda: HydraMixer(
        12, HydraConfig(), rngs=nnx.Rngs(0)
    ),
    "9 inner channels do not split in halves": lambda: MambaVisionMixer(
        9, MambaConfig(expand=1), rngs=nnx.Rngs(0)
    ),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_sizes_are_named(message):
    with pytest.raises(ValueError, match=message):
        BAD[message]()
