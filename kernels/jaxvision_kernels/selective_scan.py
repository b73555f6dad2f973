"""The selective scan of Mamba (S6), channels last, with a choice of backends."""

import functools
import importlib
import importlib.util
import logging

import jax
import jax.numpy as jnp

from jaxvision_kernels import associative, checkpointed, meshes, operands, reference, segments, xla

PLAIN = {
    "reference": reference.scan,
    "associative": associative.scan,
    "scan": checkpointed.scan,
    "xla": xla.scan,
}
CHUNKED = ("scan", "xla")
KERNELS = {  # loaded when asked for
    "pallas": "jaxvision_kernels.pallas_triton",
    "mosaic": "jaxvision_kernels.pallas_mosaic",
}
BACKENDS = (*PLAIN, *KERNELS)
LEAST_CAPABILITY = {"pallas": 8.0, "mosaic": 9.0}
MOST_STATES = 32  # of "mosaic", which keeps those of a channel in one thread's registers
log = logging.getLogger(__name__)


def selective_scan(
    u: jax.Array,
    delta: jax.Array,
    A: jax.Array,
    B: jax.Array,
    C: jax.Array,
    D: jax.Array | None = None,
    z: jax.Array | None = None,
    delta_bias: jax.Array | None = None,
    delta_softplus: bool = False,
    *,
    h0: jax.Array | None = None,
    return_last_state: bool = False,
    reverse: bool = False,
    segment_ids: jax.Array | None = None,
    backend: str = "auto",
    chunk: int | None = None,
) -> jax.Array | tuple[jax.Array, jax.Array]:
    """Runs `h[t] = exp(dt[t] A) h[t-1] + dt[t] B[t] u[t]`, `y[t] = <C[t], h[t]> + D u[t]`.

    Gu and Dao 2023 (arXiv 2312.00752), eq. 2 and algorithm 2, with `dt = delta + delta_bias`,
    through softplus if `delta_softplus`; the output is `y silu(z)` if `z` is given. States and sums
    are float32 whatever the inputs are. Every float array is differentiable, the last state too.

    Args:
      u, delta, z: `[b l d]`, float32, bfloat16 or float16 in any mix.
      A: `[d n]`, float or complex64. A complex state stands for itself and its conjugate: y is then
        `2 Re <C, h> + D u`, B and C may be complex64, and so are h0 and the last state.
      B, C: `[b l n]`; or `[b l g n]`, where each of g groups serves d / g neighbouring channels; or
        `[d n]`, constant in time. B and C need not have the same form.
      D, delta_bias: `[d]`.
      h0: `[b d n]`, the state before the first step (before the last one if `reverse`), else zeros.
      return_last_state: return `(y, state)`, the state after the scan's final step, float32
        `[b d n]`.
      reverse: scan from the end to the start, so that `y[t]` depends on steps t, t+1, …; y keeps
        the order of u.
      segment_ids: integers `[b l]`; the state is cleared wherever the id differs from that of the
        step scanned before, so packed sequences do not see one another. h0 enters the first one.
      backend: "xla" (fast on a CPU, O(b l d) memory, no forward mode), "pallas" (NVIDIA GPUs of
        compute capability 8.0 and later, that memory too), "mosaic" (the same by Pallas' other
        compiler, 9.0 and later, n <= 32), "scan" (that memory too, forward mode and second
        derivatives, ONNX on its own), "associative" (parallel in time, O(b l d n) memory) or
        "reference" (a plain `lax.scan`). "auto" is "pallas" where JAX's default device is such a
        GPU, else "xla", and says in the log which and why; what it chooses when tracing on one
        machine is what runs on another.
      chunk: steps between two kept states, of the backends "xla" and "scan"; near sqrt(l) if None.

    Returns:
      `[b l d]` in the dtype of `u`, with `return_last_state` a pair.
    """
    y, state = scan_as(
        None,
        u,
        delta,
        A,
        B,
        C,
        D,
        z,
        delta_bias,
        delta_softplus,
        h0=h0,
        reverse=reverse,
        segment_ids=segment_ids,
        backend=backend,
        chunk=chunk,
    )
    return (y, state) if return_last_state else y


def scan_as(
    dtype,
    u,
    delta,
    A,
    B,
    C,
    D=None,
    z=None,
    delta_bias=None,
    delta_softplus=False,
    *,
    h0=None,
    reverse=False,
    segment_ids=None,
    backend="auto",
    chunk=None,
) -> tuple[jax.Array, jax.Array]:
    """`selective_scan`'s y in `dtype`, by default u's, rounded once, and its last state."""
    if backend not in ("auto", *BACKENDS):
        raise ValueError(f"backend={backend!r} is none of {('auto', *BACKENDS)}")
    u, delta, A, B, C = operands.arrays(u=u, delta=delta, A=A, B=B, C=C)
    D, z, delta_bias, h0, segment_ids = operands.arrays_or_none(
        D=D, z=z, delta_bias=delta_bias, h0=h0, segment_ids=segment_ids
    )
    operands.check(u, delta, A, B, C, D, z, delta_bias, h0)
    segments.check(segment_ids, u.shape[:2])
    if backend == "auto":
        backend = automatic(A)
    check_device(backend)
    if chunk is not None and backend not in CHUNKED:
        raise ValueError(f"chunk={chunk} has no meaning for backend={backend!r}; leave it out")
    dtype = u.dtype if dtype is None else dtype
    arrays = (u, delta, A, B, C, D, z, delta_bias, h0, segment_ids)
    if backend in KERNELS and any(meshes.varying(x) for x in arrays if x is not None):
        raise ValueError(f"backend={backend!r} needs jax.shard_map(…, check_vma=False)")
    extra = {"chunk": operands.chunk_length(u.shape[1], chunk)} if backend in CHUNKED else {}

    def run(u, delta, A, B, C, D, z, delta_bias, h0, segment_ids):
        keep = segments.kept(segment_ids, reverse)
        if backend in KERNELS:
            kernels = importlib.import_module(KERNELS[backend])
            x = dict(u=u, delta=delta, A=A, B=B, C=C, D=D, z=z, bias=delta_bias, h0=h0, keep=keep)
            options = dict(softplus=delta_softplus, reverse=reverse, dtype=jnp.dtype(dtype))
            return kernels.scan(x, **options)

        dt = operands.step_sizes(delta, delta_bias, delta_softplus)
        A = operands.widen(A)
        y, state = PLAIN[backend](u, dt, A, B, C, h0, keep, reverse=reverse, **extra)
        y = 2 * y.real if jnp.iscomplexobj(y) else y
        return operands.skip_and_gate(y, u, D, z).astype(dtype), state

    return meshes.run(run, arrays, *(meshes.spec(u, "bld", axes) for axes in ("bld", "bdn")))


def check_device(backend: str) -> None:
    """Raises `ValueError` where JAX's default device is a GPU that a backend's code cannot run on.

    From a CPU kernels are lowered for a GPU elsewhere: there is nothing to check.
    """
    device = _default_device()
    if backend in LEAST_CAPABILITY and device.platform == "gpu":
        least, capability = LEAST_CAPABILITY[backend], _capability(device)
        if capability < least:
            raise ValueError(
                f"backend={backend!r} needs an NVIDIA GPU of compute capability {least} or more; "
                f"{device} has {capability or 'none'}: use backend='xla'"
            )


def automatic(A: jax.Array) -> str:
    """What backend="auto" stands for on JAX's default device, said once to the log."""
    return _automatic(_default_device(), jnp.iscomplexobj(A), A.shape[1] <= MOST_STATES)


def _default_device():
    device = jax.config.jax_default_device
    if device is None or isinstance(device, str):  # None, or a platform's name
        device = jax.devices(device)[0]
    return device


def _capability(device) -> float:
    return float(getattr(device, "compute_capability", None) or 0)


@functools.cache
def _automatic(device, complex_states: bool, few_states: bool) -> str:
    choice, reason = "xla", "JAX's default device is no NVIDIA GPU"
    if device.platform == "gpu":
        capability = _capability(device)
        if capability < LEAST_CAPABILITY["pallas"]:
            reason = f"the GPU has compute capability {capability or 'unknown'}, not 8.0 or more"
        elif complex_states:
            reason = "A is complex"
        elif _found("triton"):
            choice, reason = "pallas", f"the GPU has compute capability {capability}"
        elif _found("mosaic_gpu") and capability >= LEAST_CAPABILITY["mosaic"] and few_states:
            choice, reason = "mosaic", "this JAX has no Pallas backend for Triton"
        else:
            reason = "this JAX has no Pallas backend for this GPU and as many states"
    log.info("selective_scan: backend='auto' means %r: %s", choice, reason)
    return choice


def _found(backend: str) -> bool:
    return importlib.util.find_spec(f"jax.experimental.pallas.{backend}") is not None
