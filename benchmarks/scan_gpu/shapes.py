"""What `scan_gpu` and its peers measure: sizes, and operands as NumPy arrays, float32."""

import math

import numpy as np

SHAPES = {  # b l d n
    "Vim-S": (64, 197, 768, 16),
    "B8 L4096 D1536": (8, 4096, 1536, 16),
    "B1 L65536 D768": (1, 65536, 768, 16),
}
HYDRA = (8, 4096, 24, 64, 64)  # b l heads channels states
TINY_SHAPES = {"Vim-S": (2, 9, 8, 4), "B8 L4096 D1536": (1, 20, 12, 4)}  # of a dry run
TINY_HYDRA = (1, 20, 2, 4, 4)
KINDS = ("forward", "forward+backward")


def normals(rng: np.random.Generator, shape) -> np.ndarray:
    """Normal numbers, in large arrays the same million again and again: drawing takes seconds."""
    return np.resize(rng.standard_normal(min(math.prod(shape), 1_000_003), dtype="f4"), shape)


def operands(shape, *, seed=0) -> dict[str, np.ndarray]:
    """Of a selective scan, in Mamba's ranges: steps from 1e-3 to 1e-1, A = -(1 … n)."""
    b, length, d, n = shape
    rng = np.random.default_rng(seed)
    x = {k: normals(rng, (b, length, d)) for k in ("u", "delta", "z")}
    x["delta"] *= 0.3
    x |= {k: normals(rng, (b, length, n)) for k in "BC"}
    x["A"] = -np.tile(np.arange(1.0, n + 1, dtype="f4"), (d, 1))
    x["D"] = normals(rng, (d,))
    x["delta_bias"] = step_bias(rng, d)
    return x


def hydra_operands(shape, *, seed=0) -> dict[str, np.ndarray]:
    """Of `ssd`, without skip and gate, as Hydra calls it."""
    b, length, h, p, n = shape
    rng = np.random.default_rng(seed)
    x = {"u": normals(rng, (b, length, h, p)), "delta": 0.3 * normals(rng, (b, length, h))}
    x |= {k: normals(rng, (b, length, n)) for k in "BC"}
    return x | {"A": -np.arange(1.0, h + 1, dtype="f4"), "delta_bias": step_bias(rng, h)}


def step_bias(rng: np.random.Generator, d: int) -> np.ndarray:
    """What softplus takes to steps that are uniform in their logarithm."""
    step = np.exp(rng.uniform(np.log(1e-3), np.log(1e-1), d))
    return (step + np.log(-np.expm1(-step))).astype("f4")


NARROW = ("u", "delta", "z", "B", "C")  # bfloat16 when timed; the rest is float32
