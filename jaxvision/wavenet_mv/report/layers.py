"""Whether the networks are those that they are said to be: run with drawn weights, layer by layer.

The layers' own kernels say their sizes. What lies between them is seen by behaviour: the network's
result must be, to the bit, that of its layers put together here.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from jaxvision.entropy.exact import power_of_two
from jaxvision.wavenet_mv.adamix import AdaMixNet
from jaxvision.wavenet_mv.model import WavenetMV
from jaxvision.wavenet_mv.wavelet import CORRECTION, Branch, FloatBranch
from jaxvision.wavenet_mv.whole import MOST, SHARP, WEIGHTS, WholeConv, softmax

KERNELS = ((3, 3), (3, 3), (1, 1))
GRID = (1, 5, 6)


def branches(model: WavenetMV) -> dict[str, nnx.Module]:
    """PredictCNN and UpdateCNN of every level, by name."""
    wavelet = model.wavelet
    steps = {"": wavelet} if hasattr(wavelet, "predict") else dict(enumerate(wavelet.steps))
    return {
        f"{name}{f' {level}' if level != '' else ''}": getattr(step, part)
        for level, step in steps.items()
        for name, part in (("PredictCNN", "predict"), ("UpdateCNN", "update"))
        if hasattr(step, part)
    }


def kernels(module: nnx.Module) -> tuple[tuple[int, int], ...]:
    """The sizes of a module's convolutions, in the order of their names."""
    found = [
        (path, tuple(layer.kernel[...].shape[:2]))
        for path, layer in nnx.iter_graph(module)
        if isinstance(layer, WholeConv | nnx.Conv)
    ]
    return tuple(size for _, size in sorted(found, key=lambda pair: tuple(map(str, pair[0]))))


def branch_fault(branch: nnx.Module) -> str | None:
    """Why a branch is not 3×3, ReLU, 3×3, ReLU, 1×1; None if it is."""
    if kernels(branch) != KERNELS:
        shown = ", ".join(f"{a}×{b}" for a, b in kernels(branch))
        return f"its convolutions are {shown or 'none'}"
    branch = drawn(branch)
    if isinstance(branch, Branch):
        x = _whole_input(branch.conv1.kernel[...].shape[2])
        hidden = _ceiled_relu(branch.conv2, _ceiled_relu(branch.conv1, x))
        expected = CORRECTION * _sums(branch.conv3, hidden)
    elif isinstance(branch, FloatBranch):
        x = _whole_input(branch.conv1.kernel[...].shape[2]) / MOST
        hidden = nnx.relu(branch.conv2(nnx.relu(branch.conv1(x))))
        expected = branch.conv3(hidden)
    else:
        return f"it is a {type(branch).__name__}"
    if not np.any(expected):
        return "its result is 0 for any weights"
    if not np.array_equal(branch(x), expected):
        return "its result is not that of its layers with ReLU between them"
    return None


def mixers(model: WavenetMV) -> list[AdaMixNet]:
    return [x for _, x in nnx.iter_graph(model) if isinstance(x, AdaMixNet)]


def mixer_fault(mixer: AdaMixNet, *, count: int = 4) -> str | None:
    """Why an AdaMixNet is not `count` filters mixed by a softmax over them; None if it is.

    Weights are whole, of 127: they add up to that or, rounded down, up to one less for each.
    """
    if len(mixer.branches) != count:
        return f"it has {len(mixer.branches)} branches"
    if mixer.logits.kernel[...].shape[-1] != count:
        return f"its attention has {mixer.logits.kernel[...].shape[-1]} weights"
    mixer = drawn(mixer)
    channels = count * mixer.branches[0].kernel[...].shape[2]
    own = channels - mixer.padding
    x = _whole_input(channels).at[..., own:].set(0)
    logits = mixer.logits(mixer.attention(x), low=-128)
    weights = softmax(logits)
    smooth = WEIGHTS * nnx.softmax(logits / (1 << SHARP))
    if abs(weights - smooth).max() > 2:  # one for rounding down, one for the exponentials' table
        return "its weights are not the softmax of its logits"
    total = weights.sum(-1)
    if not (WEIGHTS - count < total.min() and total.max() <= WEIGHTS):
        return f"its weights add up to {total.min() / WEIGHTS:.3f} … {total.max() / WEIGHTS:.3f}"
    filtered = [f(s) for f, s in zip(mixer.branches, jnp.split(x, count, axis=-1), strict=True)]
    mixed = sum(f * weights[..., i : i + 1] for i, f in enumerate(filtered))
    expected = _sums(mixer.out, jnp.clip(jnp.floor(mixed / (WEIGHTS + 1)), 0, WEIGHTS))
    if not np.any(expected):
        return "its result is 0 for any weights"
    if not np.array_equal(mixer(x[..., :own] / np.exp2(np.float32(mixer.bits))), expected):
        return "its result is not the mixture of its filters by these weights"
    return None


def drawn(module: nnx.Module, seed: int = 0) -> nnx.Module:
    """A copy whose weights are drawn: a network that begins at zero would show nothing."""
    graph, state = nnx.split(module)
    rng = np.random.default_rng(seed)

    def values(x):
        deviation = (2 / max(np.prod(x.shape[:-1]), 1)) ** 0.5 if x.ndim > 1 else 0.1
        return jnp.asarray(deviation * rng.normal(size=x.shape), jnp.float32)

    return nnx.merge(graph, jax.tree.map(values, state))


def _whole_input(channels: int) -> jax.Array:
    """Whole numbers of both signs, as the networks of whole numbers take them."""
    rng = np.random.default_rng(1)
    return jnp.asarray(rng.integers(-60, 61, (*GRID, channels)), jnp.float32)


def _sums(layer: WholeConv, x: jax.Array) -> jax.Array:
    """A layer's sums as the numbers that they stand for, by a convolution of XLA's."""
    weight, bias, shift = layer.whole()
    sums = lax.conv_general_dilated(
        x,
        weight,
        (1, 1),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=lax.Precision.HIGHEST,
    )
    return (sums + bias) * power_of_two(-shift - SHARP)


def _ceiled_relu(layer: WholeConv, x: jax.Array) -> jax.Array:
    """Sixteenths of the sums' positive part, up to the largest activation there is."""
    return jnp.clip(jnp.floor((1 << SHARP) * _sums(layer, x)), 0, MOST)
