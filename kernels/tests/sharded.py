"""Run by test_shards.py on eight simulated devices: errors and collectives, printed as JSON."""

import json
import re

import jax

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_disable_most_optimizations", True)

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from jax.sharding import AxisType, NamedSharding  # noqa: E402
from jax.sharding import PartitionSpec as P  # noqa: E402
from jaxvision_kernels import selective_scan, sequence_parallel_scan  # noqa: E402
from scan_cases import interpreted  # noqa: E402

B, L, D, N = 8, 64, 16, 4
TIMED = ("u", "delta", "B", "C", "z")
REDUCED = ("A", "D", "delta_bias")


def arrays(groups):
    rng = np.random.default_rng(0)
    shapes = {"u": (B, L, D), "z": (B, L, D), "C": (B, L, N), "B": (B, L, groups, N)}
    shapes |= {"D": (D,), "delta_bias": (D,), "h0": (B, D, N)}
    x = {k: rng.standard_normal(s) for k, s in shapes.items()}
    x |= {"delta": rng.uniform(0.01, 0.3, (B, L, D)), "A": -rng.uniform(0.2, 2, (D, N))}
    return {k: jnp.asarray(v, "float32") for k, v in x.items()}


def loss_of(scan):
    rng = np.random.default_rng(1)
    wy, wh = (rng.standard_normal(s).astype("f4") for s in ((B, L, D), (B, D, N)))

    def loss(x, ids):
        y, state = scan(x, ids)
        return (y * wy).sum() + (state * wh).sum(), (y, state)

    return jax.value_and_grad(loss, has_aux=True)


def scan_with(backend, **options):
    def scan(x, ids):
        return selective_scan(
            **x,
            delta_softplus=True,
            segment_ids=ids,
            return_last_state=True,
            backend=backend,
            **options,
        )

    return scan


def compare(scan, expected, x, ids):
    """The largest relative error of values and gradients, and the collectives of the program."""
    with interpreted():
        compiled = jax.jit(loss_of(scan)).lower(x, ids).compile()
    (_, out), grads = compiled(x, ids)
    errors = [
        float(abs(np.asarray(a) - np.asarray(b)).max() / abs(np.asarray(b)).max())
        for a, b in zip(jax.tree.leaves((out, grads)), jax.tree.leaves(expected), strict=True)
    ]
    kinds = "all-gather|all-reduce|reduce-scatter|collective-permute|all-to-all"
    found = re.findall(rf"= (.*?) ({kinds})(?:-start)?\(", compiled.as_text())
    sizes = [
        [kind, *(shape for shape in re.findall(r"\[([\d,]*)\]", types))] for types, kind in found
    ]
    return {"error": max(errors), "collectives": sizes}


def place(x, ids, mesh, channels):
    """Batch over `data`, channels over the axis `channels` or not at all."""
    specs = {k: P("data", None, channels) for k in ("u", "delta", "z")}
    specs |= {"A": P(channels), "D": P(channels), "delta_bias": P(channels)}
    specs |= {"B": P("data"), "C": P("data"), "h0": P("data", channels)}
    put = {k: jax.device_put(v, NamedSharding(mesh, specs[k])) for k, v in x.items()}
    return put, jax.device_put(ids, NamedSharding(mesh, P("data")))


def main():
    ids = np.zeros((B, L), np.int32)
    ids[0, 8:30], ids[0, 30:], ids[1, 40:] = 1, 2, 1
    ids = jnp.asarray(ids)
    results = {}
    auto = (AxisType.Auto,)
    for reverse in (False, True):
        x = arrays(2)
        (_, out), grads = jax.jit(loss_of(scan_with("reference", reverse=reverse)))(x, ids)
        mesh = jax.make_mesh((8,), ("seq",), axis_types=auto)
        steps = P(None, "seq")

        def part(x, ids, reverse=reverse):
            return sequence_parallel_scan(
                **x,
                delta_softplus=True,
                axis_name="seq",
                reverse=reverse,
                segment_ids=ids,
                return_last_state=True,
            )

        scan = jax.shard_map(
            part,
            mesh=mesh,
            in_specs=({k: steps if k in TIMED else P() for k in x}, steps),
            out_specs=(steps, P()),
            check_vma=not reverse,
        )
        name = f"sequence{' reversed' if reverse else ''}"
        results[name] = compare(scan, (out, grads), x, ids)
    for groups, types in ((1, auto), (2, (AxisType.Explicit,))):
        mesh = jax.make_mesh((4, 2), ("data", "tensor"), axis_types=types * 2)
        x = arrays(groups)
        (_, out), grads = jax.jit(loss_of(scan_with("reference")))(x, ids)
        for backend in ("xla", "pallas"):
            for channels in (None, "tensor") if groups == 1 else ("tensor",):
                name = f"{backend} {'batch and channels' if channels else 'batch'} {groups}"
                args = place(x, ids, mesh, channels)
                with jax.set_mesh(mesh if groups == 2 else None):
                    results[name] = compare(scan_with(backend), (out, grads), *args)
    results |= mapped_and_propagated(ids)
    print(json.dumps(results))


def mapped_and_propagated(ids):
    """A scan within `jax.vmap`, and one by XLA's older partitioner, batch and channels sharded."""
    x, scan = arrays(1), scan_with("xla")
    (_, out), grads = jax.jit(loss_of(scan_with("reference")))(x, ids)
    mesh = jax.make_mesh((4, 2), ("data", "tensor"), axis_types=(AxisType.Auto,) * 2)
    x, ids = place(x, ids, mesh, "tensor")

    def twice(x, ids):  # A is mapped as well, B is not
        many = {k: jnp.stack([v, v]) for k, v in x.items() if k != "B"}
        y, state = jax.vmap(lambda many: scan({"B": x["B"], **many}, ids))(many)
        return (y[0] + y[1]) / 2, (state[0] + state[1]) / 2

    results = {"mapped": compare(twice, (out, grads), x, ids)}
    jax.config.update("jax_use_shardy_partitioner", False)
    return results | {"GSPMD": compare(scan, (out, grads), x, ids)}


if __name__ == "__main__":
    main()
