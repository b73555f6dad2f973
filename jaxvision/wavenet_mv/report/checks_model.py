"""The checklist's questions to the code: layers, mixing, probabilities, what heads depend on."""

import math
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxvision.entropy.tables import Tables
from jaxvision.stage import path_name
from jaxvision.step import INFERENCE
from jaxvision.wavenet_mv import layout
from jaxvision.wavenet_mv.codec import Codec
from jaxvision.wavenet_mv.contexts import SCALES
from jaxvision.wavenet_mv.model import WavenetMV
from jaxvision.wavenet_mv.report.layers import branch_fault, branches, mixer_fault, mixers

LAMBDAS = (256, 512, 1024)
COST = 0.005  # of its bits that a number may cost more than by exact masses; Laplace's: 1 to 5 %
FEW = 0.2  # bits a number, below which that share is one of these
PIXELS = ("wavelet/", "mixer/")  # where the parameters lie that make pixels, and read them


class Answer(NamedTuple):
    """Whether a claim holds, and by what evidence."""

    holds: bool
    evidence: str


class Reader(Protocol):
    """Heads beside a codec: `read` makes features `[b h/8 w/8 k]` of a file's symbols."""

    codec: WavenetMV
    heads: nnx.Module

    def read(self, symbols: list[jax.Array], quality: jax.Array) -> jax.Array: ...


def wavelet_layers(model: WavenetMV) -> Answer:
    """1: PredictCNN and UpdateCNN are 3×3, ReLU, 3×3, ReLU, 1×1."""
    found = branches(model)
    faults = {name: branch_fault(branch) for name, branch in found.items()}
    wrong = [f"{name}: {fault}" for name, fault in faults.items() if fault]
    for kind in ("PredictCNN", "UpdateCNN"):
        if not any(name.startswith(kind) for name in found):
            wrong.append(f"there is no {kind}")
    if wrong:
        return Answer(False, "; ".join(wrong))
    return Answer(
        True,
        f"{', '.join(found)}: kernels 3×3, 3×3, 1×1; with drawn weights each gives, to the bit, "
        "what these three give with ReLU between them",
    )


def mixing(model: WavenetMV) -> Answer:
    """2: AdaMixNet has four parallel filters and mixes them by a softmax."""
    found = mixers(model)
    wrong = [fault for fault in map(mixer_fault, found) if fault]
    if not found or wrong:
        return Answer(False, "; ".join(wrong) or "there is no AdaMixNet")
    return Answer(
        True,
        f"{len(found)} AdaMixNets with 4 filters each; with drawn weights each gives, to the bit, "
        "their sum by the softmax of its attention, whose whole weights add up to 1 at every "
        "position but for rounding down",
    )


def gaussian_coding(model: WavenetMV, tables: Tables) -> Answer:
    """3: symbols are coded by Gaussians of learned scale, at the three lambdas."""
    lambdas = tuple(model.cfg.compressor.lambdas)
    rows = enumerate(SCALES[: len(tables.cdf)])
    cost = max((_cost(tables, row, scale) for row, scale in rows), default=math.inf)
    form = "a network's" if model.cfg.compressor.sigma == "hyper" else "a parameter of each channel"
    evidence = (
        f"{len(tables.cdf)} tables of Gaussians with deviations {SCALES[0]:g} to {SCALES[-1]:g}, "
        f"which cost at most {100 * cost:.2f} % more bits than the exact masses would (here up to "
        f"{100 * COST:g} % may be); "
        f"the deviation is {form}; lambdas {lambdas}. The Gaussian conditional is this library's "
        "(jaxvision.entropy): CompressAI's needs PyTorch"
    )
    return Answer(len(tables.cdf) == len(SCALES) and cost <= COST and lambdas == LAMBDAS, evidence)


def _cost(tables: Tables, row: int, scale: float) -> float:
    """What a row costs above its Gaussian (Kullback-Leibler), as a share of the Gaussian's bits."""
    count, offset = int(tables.length[row]) - 1, int(tables.offset[row])
    shares = np.diff(tables.cdf[row][: count + 2]) / 2.0**tables.precision
    edges = (offset + np.arange(count + 1) - 0.5) / (scale * math.sqrt(2))
    below = np.array([0.5 * math.erfc(-x) for x in edges])
    mass = np.diff(below)
    mass = np.append(mass, max(1 - mass.sum(), 0.0))
    real = mass > 0
    bits = -(mass[real] * np.log2(mass[real])).sum()
    return float((mass[real] * np.log2(mass[real] / shares[real])).sum() / max(bits, FEW))


def without_pixels(codec: Codec, reader: Reader | None) -> Answer:
    """4: what heads say follows from the symbols, whatever would make pixels of them."""
    if reader is None:
        return Answer(False, "no heads were given")
    side = 4 * codec.multiple
    image = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    latents = codec.programs.analysis(image)
    symbols = codec.programs.symbols(codec.programs.in_steps(latents, 0.0))
    symbols = [x.astype(np.float32) for x in symbols]
    if len(symbols) != layout.has_side(reader.codec) + len(reader.codec.compressor.planes):
        return Answer(False, "the heads' codec has other planes than the codec")
    graph, state = nnx.split(reader)

    @jax.jit
    def said(state, symbols):
        module = nnx.merge(graph, state)
        module = nnx.view(module, **INFERENCE)
        features = module.read(symbols, jnp.zeros((1,)))
        return [x for x in jax.tree.leaves(module.heads(features)) if isinstance(x, jax.Array)]

    def changed(state, symbols) -> bool:
        pairs = zip(said(state, symbols), first, strict=True)
        return any(not np.array_equal(a, b) for a, b in pairs)

    first = said(state, symbols)
    pixels = tuple(f"codec/{part}" for part in PIXELS)
    if changed(_moved(state, pixels), symbols):
        return Answer(False, "what heads say changes with the parameters that make pixels")
    if not changed(_moved(state, ("heads/",)), symbols):
        return Answer(False, "what heads say does not change with the heads' parameters")
    if not changed(state, [x + 1 for x in symbols]):
        return Answer(False, "what heads say does not change with the symbols")
    count = sum(path.startswith(pixels) for path in _paths(state))
    return Answer(
        True,
        f"what heads say stays the same, to the bit, when all {count} parameters of the wavelet "
        "and of the mixer, without which no pixel is made, are replaced; it changes with the "
        "symbols and with the heads' parameters",
    )


def _moved(state, beginnings: tuple[str, ...]):
    """The state with all parameters whose path begins so replaced by others."""

    def other(path, x):
        moves = path_name(path).startswith(beginnings) and jnp.issubdtype(x.dtype, jnp.floating)
        return x * 0.7 + 0.05 if moves else x

    pure = jax.tree_util.tree_map_with_path(other, nnx.to_pure_dict(state))
    copy = jax.tree.map(lambda x: x, state)
    nnx.replace_by_pure_dict(copy, pure)
    return copy


def _paths(state) -> list[str]:
    leaves = jax.tree_util.tree_leaves_with_path(nnx.to_pure_dict(state))
    return [path_name(path) for path, _ in leaves]
