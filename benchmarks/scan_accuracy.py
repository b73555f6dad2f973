"""The selective scan's error against a float64 recurrence, beside what mamba_ssm's tests allow.

    PYTHONPATH=kernels:kernels/tests python benchmarks/scan_accuracy.py [--backends xla …]

Inputs are as in mamba_ssm's test (tests/ops/test_selective_scan.py), B2 D4 N8 with all options on,
and rounded to the dtype first: what is measured is the scan's error alone. The test allows
`atol + rtol |y|` an element, in float32; its tolerances for float16 and bfloat16 stand in it too,
though it does not run them. Gradients are compared with those of the float32 reference on the same
inputs, as a part of the largest. Writes benchmarks/results/scan_accuracy.json.
"""

import argparse
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import recurrence
from jaxvision_kernels import selective_scan

ALLOWED = {  # rtol, atol
    "float32": (6e-4, 2e-3),
    "float16": (3e-3, 5e-3),
    "bfloat16": (3e-2, 5e-2),
}
LENGTHS = (128, 1024, 4096)


def inputs(length: int, dtype: str) -> dict[str, jax.Array]:
    rng = np.random.default_rng(0)
    b, d, n = 2, 4, 8
    x = {k: rng.standard_normal((b, length, d)) for k in ("u", "z")}
    x |= {"delta": 0.5 * rng.uniform(size=(b, length, d)), "A": -0.5 * rng.uniform(size=(d, n))}
    x |= {k: rng.standard_normal((b, length, n)) for k in "BC"}
    x |= {"D": rng.standard_normal(d), "delta_bias": 0.5 * rng.uniform(size=d)}
    full = ("A", "D", "delta_bias")
    return {k: jnp.asarray(v, "float32" if k in full else dtype) for k, v in x.items()}


def gradients(x, backend):
    """Of a sum of y weighted alike in every dtype."""
    weights = np.random.default_rng(1).standard_normal(x["u"].shape).astype("f4")

    def loss(x):
        y = selective_scan(**x, delta_softplus=True, backend=backend)
        return (y.astype(jnp.float32) * weights).sum()

    return jax.jit(jax.grad(loss))(x)


def measure(length: int, dtype: str, backend: str) -> dict:
    x = inputs(length, dtype)
    scan = jax.jit(lambda x: selective_scan(**x, delta_softplus=True, backend=backend))
    y = np.asarray(scan(x), np.float64)
    doubles = {k: np.asarray(v, np.float64) for k, v in x.items()}
    exact = recurrence.selective_scan(**doubles, softplus=True, reverse=False, ids=None)[0]
    rtol, atol = ALLOWED[dtype]
    wide = jax.tree.map(lambda a: a.astype(jnp.float32), x)
    pairs = zip(
        jax.tree.leaves(gradients(x, backend)),
        jax.tree.leaves(gradients(wide, "reference")),
        strict=True,
    )
    grads = [float(abs(np.float64(a) - np.float64(b)).max() / abs(b).max()) for a, b in pairs]
    return {
        "error": float(abs(y - exact).max() / abs(exact).max()),
        "share": float((abs(y - exact) / (atol + rtol * abs(exact))).max()),
        "gradients": max(grads),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backends", nargs="+", default=["xla", "associative"])
    args = parser.parse_args()
    rows = []
    for backend in args.backends:
        for dtype in ALLOWED:
            for length in LENGTHS:
                row = measure(length, dtype, backend)
                rows.append({"backend": backend, "dtype": dtype, "length": length, **row})
                print(
                    f"{backend:12} {dtype:9} L {length:5}  error {row['error']:.1e} of the "
                    f"largest, {100 * row['share']:.2g} % of what is allowed; "
                    f"gradients {row['gradients']:.1e}"
                )
    out = Path(__file__).parent / "results" / "scan_accuracy.json"
    out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    print(f"written to {out}")


if __name__ == "__main__":
    main()
