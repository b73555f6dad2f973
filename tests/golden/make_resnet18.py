# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy", "torch", "torchvision"]
# ///
"""Writes resnet18.npz: torchvision's ResNet-18 with made weights, on pictures that are grey.

    uv run tests/golden/make_resnet18.py

Weights and pictures come from NumPy's RandomState, whose streams are fixed for good; the tests make
them anew, so that the file holds only what comes out.
"""

from pathlib import Path

import numpy as np

STD = np.array([0.229, 0.224, 0.225])
LUMA_STD = 0.226
SIZES = (16, 64)


def shapes():
    """Names and shapes of `resnet18().state_dict()`, less its counters."""
    yield from conv_norm("conv1", "bn1", (64, 3, 7, 7))
    inputs = 64
    for i in range(4):
        width = 64 * 2**i
        for j in range(2):
            block = f"layer{i + 1}.{j}"
            yield from conv_norm(f"{block}.conv1", f"{block}.bn1", (width, inputs, 3, 3))
            yield from conv_norm(f"{block}.conv2", f"{block}.bn2", (width, width, 3, 3))
            if j == 0 and i > 0:
                down = f"{block}.downsample"
                yield from conv_norm(f"{down}.0", f"{down}.1", (width, inputs, 1, 1))
            inputs = width
    yield "fc.weight", (1000, 512)
    yield "fc.bias", (1000,)


def conv_norm(conv, norm, shape):
    yield f"{conv}.weight", shape
    for name in ("weight", "bias", "running_mean", "running_var"):
        yield f"{norm}.{name}", shape[:1]


def state_dict():
    """float32 by name; statistics and scales are far from those of a fresh network."""
    state = {}
    for seed, (name, shape) in enumerate(shapes()):
        random = np.random.RandomState(seed)
        if name.endswith("running_var"):
            value = random.uniform(0.5, 2, shape)
        elif len(shape) == 1:
            value = random.uniform(-0.5, 0.5, shape) + (name.endswith("weight"))
        else:
            value = random.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
        state[name] = value.astype(np.float32)
    return state


def luma(size):
    """Normalised luma `[2 size size]` float32."""
    return np.random.RandomState(size).standard_normal((2, size, size)).astype(np.float32)


def main():
    import torch
    from torchvision.models import resnet18

    model = resnet18(weights=None)
    state = {k: torch.from_numpy(v) for k, v in state_dict().items()}
    counters = [k for k in model.state_dict() if k.endswith("num_batches_tracked")]
    model.load_state_dict(state | {k: torch.tensor(0) for k in counters})
    model.eval()
    outputs = {}
    trunk = torch.nn.Sequential(*list(model.children())[:-2])
    for size in SIZES:
        grey = torch.from_numpy(luma(size))[:, None]
        rgb = grey * torch.tensor(LUMA_STD / STD, dtype=torch.float32)[:, None, None]
        with torch.no_grad():
            outputs[f"map{size}"] = trunk(rgb).permute(0, 2, 3, 1).numpy()
    np.savez_compressed(Path(__file__).with_name("resnet18.npz"), **outputs)


if __name__ == "__main__":
    main()
