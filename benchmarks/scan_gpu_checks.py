"""The kernels against their references on JAX's device; `scan_gpu.py` begins with it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxvision_kernels import (
    bidirectional_scan,
    causal_conv1d,
    quasiseparable_scan,
    selective_scan,
    ssd,
)


def operands(shape, dtype, *, seed=0) -> dict[str, jax.Array]:
    """Mamba's ranges: steps from 1e-3 to 1e-1 by softplus of a bias, A = -(1 … n)."""
    b, length, d, n = shape
    rng = np.random.default_rng(seed)
    x = {k: rng.standard_normal((b, length, d), dtype="f4") for k in ("u", "delta", "z")}
    x["delta"] *= 0.3
    x |= {k: rng.standard_normal((b, length, n), dtype="f4") for k in "BC"}
    x = {k: jnp.asarray(v, dtype) for k, v in x.items()}
    x["A"] = -jnp.tile(jnp.arange(1.0, n + 1), (d, 1))
    x["D"] = jnp.ones(d)
    step = np.exp(rng.uniform(np.log(1e-3), np.log(1e-1), d))
    x["delta_bias"] = jnp.asarray(step + np.log(-np.expm1(-step)), "float32")
    return x


def checks():
    """Name, ours, reference, operands: of all operations, forms and dtypes."""
    scan = functools.partial(selective_scan, delta_softplus=True)
    ids = jnp.asarray(np.sort(np.random.default_rng(0).integers(0, 5, (2, 197)), axis=1))
    cases = {
        "": {},
        "reverse": dict(reverse=True),
        "packed": dict(segment_ids=ids),
    }
    for dtype in ("float32", "bfloat16", "float16"):
        for name, options in cases.items():
            for n in (1, 16, 64):
                f = functools.partial(scan, **options)
                ours, reference = (functools.partial(f, backend=b) for b in ("pallas", "reference"))
                yield (
                    f"selective_scan {name} n{n}",
                    ours,
                    reference,
                    operands((2, 197, 96, n), dtype),
                )
        long = operands((1, 5000, 40, 16), dtype)
        yield (
            "selective_scan split",
            functools.partial(scan, backend="pallas"),
            functools.partial(scan, backend="reference"),
            long,
        )
        for f in (bidirectional_scan, quasiseparable_scan):
            f = functools.partial(f, delta_softplus=True)
            pair = (functools.partial(f, backend=b) for b in ("pallas", "reference"))
            yield f.func.__name__, *pair, operands((2, 130, 64, 16), dtype)
        heads = {
            k: v.reshape(2, 130, 4, 16) if k in ("u", "z") else v
            for k, v in operands((2, 130, 64, 16), dtype).items()
        }
        heads |= {"delta": heads["delta"][..., :4], "A": -jnp.arange(1.0, 5), "D": jnp.ones(4)}
        heads["delta_bias"] = heads["delta_bias"][:4]
        f = functools.partial(ssd, delta_softplus=True)
        yield "ssd", f, functools.partial(f, backend="reference"), heads
        x = operands((2, 130, 64, 4), dtype)
        weights = {"x": x["u"], "weight": x["A"].T / 4, "bias": x["D"]}
        yield (
            "causal_conv1d",
            functools.partial(causal_conv1d, activation="silu"),
            convolved,
            weights,
        )


def convolved(x, weight, bias):
    """The convolution as one of XLA's own."""
    taps = weight[:, None].astype(jnp.float32)
    y = jax.lax.conv_general_dilated(
        x.astype(jnp.float32),
        taps,
        (1,),
        [(len(weight) - 1, 0)],
        dimension_numbers=("NWC", "WIO", "NWC"),
        feature_group_count=x.shape[2],
        precision="highest",
    )
    return jax.nn.silu(y + bias).astype(x.dtype)


def check() -> list[dict]:
    rows = []
    for name, ours, reference, x in checks():
        narrow = x.get("u", x.get("x")).dtype
        wide = jax.tree.map(lambda a: a.astype(jnp.float32), x)
        (y, grads), (expected, exact) = evaluate(ours, x), evaluate(reference, wide)
        eps = float(jnp.finfo(narrow).eps)
        limits = {"values": 1e-5 + 2 * eps, "gradients": 1e-4 + 32 * eps}
        if name == "ssd" and narrow != jnp.float32:
            limits = {k: 4 * v for k, v in limits.items()}  # its products take narrow operands
        errors = {"values": relative(y, expected)}
        errors["gradients"] = max(relative(grads[k], exact[k]) for k in x)
        rows.append({"name": name, "dtype": narrow.name, **errors})
        print(f"  {name:28} {narrow.name:9}" + "".join(f" {k} {v:.1e}" for k, v in errors.items()))
        for k, error in errors.items():
            if not error <= limits[k]:
                raise SystemExit(
                    f"error: {name} {narrow.name}: {k} off by {error:.1e} > {limits[k]:.1e}"
                )
    return rows


@functools.partial(jax.jit, static_argnums=0)
def evaluate(f, x):
    """y and the gradients of a fixed sum of it."""

    def loss(x):
        y = f(**x).astype(jnp.float32)
        weights = jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape)
        return (y * weights).sum(), y

    (_, y), grads = jax.value_and_grad(loss, has_aux=True)(x)
    return y, grads


def relative(a, b) -> float:
    a, b = (np.asarray(x, np.float64) for x in (a, b))
    return float(abs(a - b).max() / abs(b).max())
