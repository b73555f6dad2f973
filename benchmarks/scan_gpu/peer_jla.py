"""jax-linear-attention's selective scan on the shapes of `scan_gpu`, which starts this.

    python benchmarks/scan_gpu/peer_jla.py [--shapes …] [--tiny] [--impl=mosaic_gpu]

It wants Python 3.12, its own JAX and a Hopper GPU. Prints a line of JSON after each measurement,
the last with all. Operands, options, cotangents, timing and memory are those of `scan_gpu`.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import os

from clock import reason, seconds
from shapes import KINDS, NARROW, SHAPES, TINY_SHAPES, operands

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # others are on this GPU


def measured(shape, impl: str) -> dict[str, dict]:
    """Forward, and forward with backward: `ms` and `memory_mib`."""
    import jax
    import jax.numpy as jnp

    x = {
        k: jnp.asarray(v, "bfloat16" if k in NARROW else "float32")
        for k, v in operands(shape).items()
    }
    dy = jnp.ones_like(x["u"])

    def both(x, dy):
        y, pull = jax.vjp(lambda x: scan(x, impl), x)
        return y, pull(dy)[0]

    rows = {}
    for kind, f in zip(KINDS, (lambda x, dy: scan(x, impl), both), strict=True):
        try:
            program = jax.jit(f).lower(x, dy).compile()
            time = seconds({kind: lambda run=program: run(x, dy)}, jax.block_until_ready)[kind]
            if isinstance(time, Exception):
                raise time
        except Exception as error:  # another GPU or JAX than it is made for
            rows[kind] = {"not measured": reason(error)}
            continue
        plan = program.memory_analysis()
        memory = plan.temp_size_in_bytes + plan.output_size_in_bytes
        rows[kind] = {"ms": 1e3 * time, "memory_mib": memory / 2**20}
    return rows


def scan(x: dict, impl: str):
    """`selective_scan` of our operands in its words; y alone."""
    from jla.ops import linear_attention

    gates = {"dt": x["delta"], "a": x["A"], "dt_bias": x["delta_bias"], "dt_softplus": True}
    gates |= {"d": x["D"], "z": x["z"]}
    return linear_attention("mamba1", x["C"], x["B"], x["u"], impl=impl, **gates)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--tiny", action="store_true", help="tiny sizes, of a dry run")
    parser.add_argument("--impl", default="mosaic_gpu", help="'reference' runs on a CPU")
    args = parser.parse_args()
    if importlib.util.find_spec("jla") is None:
        print(json.dumps({"not measured": "jax-linear-attention is not installed here"}))
        return
    shapes = TINY_SHAPES if args.tiny else SHAPES
    record: dict = {"scan": {}}
    try:
        record |= {k: importlib.metadata.version(k) for k in ("jax", "jax-linear-attention")}
        for name in (k for k in args.shapes if k in shapes):
            record["scan"][name] = measured(shapes[name], args.impl)
            print(json.dumps(record), flush=True)
    except Exception as error:
        record["not measured"] = reason(error)
    print(json.dumps(record), flush=True)


if __name__ == "__main__":
    main()
