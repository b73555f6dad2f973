"""Programs in the plain operations that a converter knows: for ONNX.

`jax2onnx` replaces some functions of JAX while it traces a model (`nnx.max_pool`,
`jax.lax.fori_loop`) and stumbles over its own replacements. Traced before, a program shows it
primitives alone. Here they are simplified further: what no input reaches becomes a constant (random
numbers of a fixed key among it), calls are inlined with their derivative rules left off, and unused
results are dropped.
"""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.extend
import jax.numpy as jnp
from jax import lax

CALLS = {  # primitive: the parameter that holds the program it calls
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "remat2": "jaxpr",
    "checkpoint": "jaxpr",
}


def plain(function: Callable[..., Sequence[jax.Array]], *shapes: jax.ShapeDtypeStruct) -> Callable:
    """`function`, of arrays of these shapes to a sequence of arrays, in plain operations."""
    program = jax.make_jaxpr(function)(*shapes)
    for _ in range(2):  # the second time without what the first has folded
        program = _without_dead(jax.make_jaxpr(lambda *xs: _run(program, xs))(*shapes))  # noqa: B023
    return jax.extend.core.jaxpr_as_fun(program)


def _run(program: Any, arguments: Sequence[Any]) -> list[Any]:
    """Evaluates a closed jaxpr; what depends on no tracer is computed now."""
    jaxpr, consts = getattr(program, "jaxpr", program), getattr(program, "consts", ())
    values = dict(zip(jaxpr.constvars, consts, strict=True))
    values |= dict(zip(jaxpr.invars, arguments, strict=True))

    def read(atom):
        return atom.val if hasattr(atom, "val") else values[atom]

    for equation in jaxpr.eqns:
        name, inputs = equation.primitive.name, [read(atom) for atom in equation.invars]
        if name in CALLS:
            outputs = _run(equation.params[CALLS[name]], inputs)
        elif name == "optimization_barrier":
            outputs = inputs
        elif name == "scan":
            outputs = _scan(inputs, **equation.params)
        elif name == "reduce_window_max":
            outputs = [_window_max(*inputs, **equation.params)]
        elif name == "gather" and _is_slice(inputs[1], equation.params):
            outputs = [_slice(*inputs, **equation.params)]
        else:
            traced = any(isinstance(x, jax.core.Tracer) for x in inputs)
            with contextlib.nullcontext() if traced else jax.ensure_compile_time_eval():
                outputs = equation.primitive.bind(*inputs, **equation.params)
            outputs = outputs if equation.primitive.multiple_results else [outputs]
        values.update(zip(equation.outvars, outputs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _scan(inputs, *, jaxpr, length, reverse, unroll, **arity) -> list[Any]:
    """A loop whose body is plain as well."""
    if "num_carry" in arity:
        consts, carry = arity["num_consts"], arity["num_carry"]
    else:  # from JAX 0.12 on
        consts, carry, _ = (len(part) for part in arity["ft_in"].unpack())

    def body(state, xs):
        outputs = _run(jaxpr, [*inputs[:consts], *state, *xs])
        return outputs[:carry], outputs[carry:]

    begin, xs = inputs[consts : consts + carry], inputs[consts + carry :]
    state, ys = lax.scan(body, begin, xs, length=length, reverse=reverse, unroll=unroll)
    return [*state, *ys]


def _is_slice(indices: jax.Array, params: dict[str, Any]) -> bool:
    """Whether a gather reads one block: what indexing with a loop's counter becomes under vmap."""
    numbers = params["dimension_numbers"]
    whole = not (numbers.collapsed_slice_dims or numbers.operand_batching_dims)
    return indices.ndim == 1 and whole and params["mode"] == lax.GatherScatterMode.CLIP


def _slice(operand, indices, *, dimension_numbers, slice_sizes, **_) -> jax.Array:
    starts = [jnp.zeros((), indices.dtype)] * operand.ndim
    for i, axis in enumerate(dimension_numbers.start_index_map):
        starts[axis] = indices[i]
    return lax.dynamic_slice(operand, starts, slice_sizes)


def _window_max(
    x, *, window_dimensions, window_strides, padding, base_dilation, window_dilation
) -> jax.Array:
    """A pooling as the largest of shifted slices: ONNX pools only the last dimensions."""
    if set((*base_dilation, *window_dilation)) != {1}:
        raise NotImplementedError("a dilated max pooling")
    low = -jnp.inf if jnp.issubdtype(x.dtype, jnp.floating) else jnp.iinfo(x.dtype).min
    for axis, (window, stride, pad) in enumerate(
        zip(window_dimensions, window_strides, padding, strict=True)
    ):
        if (window, stride, pad) == (1, 1, (0, 0)):
            continue
        pads = [(*pad, 0) if i == axis else (0, 0, 0) for i in range(x.ndim)]
        x = lax.pad(x, jnp.asarray(low, x.dtype), pads)
        count = (x.shape[axis] - window) // stride + 1
        slices = [
            lax.slice_in_dim(x, i, i + (count - 1) * stride + 1, stride, axis)
            for i in range(window)
        ]
        x = slices[0]
        for other in slices[1:]:
            x = lax.max(x, other)
    return x


def _without_dead(program: Any) -> Any:
    """A closed jaxpr without the equations, also in loops, whose results nobody uses."""
    from jax.interpreters import partial_eval

    jaxpr, _ = partial_eval.dce_jaxpr(
        program.jaxpr, [True] * len(program.jaxpr.outvars), instantiate=True
    )
    return jax.extend.core.ClosedJaxpr(jaxpr, program.consts)
