"""The kernels against their references on JAX's device, values and gradients of everything."""

import functools
import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from cases import Case, Sizes, cases
from clock import Deadline, reason
from programs import compiled

# Of the largest element. In float32, sums of some thousand terms of either sign, rounded at each
# step, are off by the root of their number times 6e-8; a gradient sums over batch and channels too.
# On a CPU, in these sizes, they are off by 1e-7 and 1e-6; a GPU's exponentials are coarser.
VALUES, GRADIENTS = 1e-5, 3e-5
# States and sums being float32, a narrow result is that of the float32 reference of the same
# narrow operands, rounded: off by eps / 2, for which eps is allowed. k terms that are rounded and
# added up in the narrow type are rounded 2 k - 1 times: k eps. Of a product of matrices one operand
# is rounded, by eps / 2, and two lie in a row before y, which is rounded itself; a gradient passes
# as many again.
PRODUCTS = {"values": 2, "gradients": 3}
HUGE = 1e30  # in place of NaN and infinity, which JSON lacks
BATCH = 6  # cases that are compiled side by side


def check(sizes: Sizes, deadline: Deadline, *, report: Callable = lambda rows: None) -> list[dict]:
    """A row for each case and backend; `report` gets all of them after each few."""
    rows: list[dict] = []
    rest = cases(sizes)
    while batch := list(itertools.islice(rest, BATCH)):
        pairs = [(case, backend) for case in batch for backend in case.ours]
        if deadline.left() < 0:
            late = {"skipped": "the minutes are over"}
            rows += [{"case": case.name, "backend": backend} | late for case, backend in pairs]
            continue
        jobs = {f"{c.name}/{b}": (functools.partial(outcome, c.ours[b]), (c.x,)) for c, b in pairs}
        for case in batch:
            f = functools.partial(outcome, case.reference)
            jobs[case.name] = (f, (jax.tree.map(widened, case.x),))
        programs = compiled(jobs)
        for case, backend in pairs:
            ours, reference = programs[f"{case.name}/{backend}"], programs[case.name]
            rows.append({"case": case.name, "backend": backend} | judged(case, ours, reference))
            print(f"  {line(rows[-1])}", flush=True)
        report(rows)
    return rows


def failures(rows: list[dict]) -> list[dict]:
    """What is wrong, or did not run; but a second backend that does not run here is none."""
    return [r for r in rows if r.get("wrong") or ("failed" in r and r["backend"] != "mosaic")]


def line(row: dict) -> str:
    about = f"{row['case']:38} {row['backend']:7}"
    for word in ("failed", "skipped"):
        if word in row:
            return f"{about} {word}: {row[word]}"
    worst = max(row["errors"], key=lambda k: row["errors"][k] / row["limits"][k])
    told = f"{worst} {row['errors'][worst]:.1e} of {row['limits'][worst]:.1e}"
    return f"{about} {'WRONG, beyond' if row['wrong'] else 'right, nearest'} its limit: {told}"


def judged(case: Case, ours, reference) -> dict:
    """The errors of each result, relative to its largest element, and their limits."""
    for program in (ours, reference):
        if isinstance(program, str):
            return {"failed": program}
    try:
        actual = jax.block_until_ready(ours(case.x))
        expected = reference(jax.tree.map(widened, case.x))
    except Exception as error:  # the compiler's, the driver's, the allocator's
        return {"failed": reason(error)}
    errors = {k: relative(v, expected[k]) for k, v in actual.items()}
    limits = {k: limit(case, k, v.dtype) for k, v in actual.items()}
    errors = {k: e if e < HUGE else HUGE for k, e in errors.items()}  # NaN too
    wrong = [k for k, e in errors.items() if not e <= limits[k]]
    return {"errors": errors, "limits": limits, "wrong": wrong}


def limit(case: Case, name: str, dtype) -> float:
    kind = "values" if name in ("y", "state") else "gradients"
    exact = {"values": VALUES, "gradients": GRADIENTS}[kind]
    eps = 0.0 if dtype in (jnp.float32, jnp.complex64) else float(jnp.finfo(dtype).eps)
    if case.products:  # those of float32 results are bfloat16 too
        return exact + PRODUCTS[kind] * float(jnp.finfo(jnp.bfloat16).eps)
    return exact + eps * (case.terms if kind == "gradients" else 1)


def outcome(f: Callable, x: dict) -> dict[str, jax.Array]:
    """y, the last state if there is one, and the gradients of a fixed sum of them."""

    def loss(x):
        y, *state = out if isinstance(out := f(**x), tuple) else (out,)
        out = {"y": y} | dict(zip(("state",), state, strict=False))
        return sum(weighted(v) for v in out.values()), out

    (_, out), grads = jax.value_and_grad(loss, has_aux=True)(x)
    return out | {"d" + k: g for k, g in grads.items()}


def weighted(y: jax.Array) -> jax.Array:
    """A sum whose weights every dtype holds exactly: no backend sees a rounded cotangent."""
    weights = jnp.round(64 * jnp.cos(jnp.arange(y.size, dtype=jnp.float32))) / 64
    y = y.real + y.imag if jnp.iscomplexobj(y) else y
    return (y.astype(jnp.float32) * weights.reshape(y.shape)).sum()


def widened(x: jax.Array) -> jax.Array:
    return x if jnp.iscomplexobj(x) else x.astype(jnp.float32)


def relative(a, b) -> float:
    a, b = (np.asarray(x, np.complex128) for x in (a, b))
    return float(abs(a - b).max() / max(abs(b).max(), 1e-30))
