"""The training step: a pure function of (state, batch, key)."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from flax import nnx

from jaxvision import sharding
from jaxvision.names import flatten, types
from jaxvision.stage import FROZEN, Batch, Logs, Stage, label_params, path_name
from jaxvision.streams import streams

INFERENCE = dict(deterministic=True, use_running_average=True, raise_if_not_found=False)
STATE = nnx.Not(nnx.Any(nnx.Param, nnx.Intermediate))


@flax.struct.dataclass
class TrainState:
    """Everything that training changes, as plain arrays."""

    step: jax.Array
    params: Any
    model_state: Any  # batch statistics, codebook averages, …
    opt_state: Any
    ema: Any  # averages of the trained parameters (None at frozen ones); None without `ema`


@dataclasses.dataclass(frozen=True)
class Program:
    """The pure functions of a stage, to be jitted over a mesh, and who owns which parameter."""

    init: Callable[[jax.Array], TrainState]
    restart: Callable[[Any, Any], TrainState]  # (params, model_state) with a fresh optimizer
    step: Callable[[TrainState, Batch, jax.Array], tuple[TrainState, Logs]]
    apply: Callable[[TrainState], nnx.Module]  # the model in inference mode, averaged if it can be
    evaluators: Mapping[str, Callable]  # jitted (state, batch, key, index) -> predictions, metrics
    labels: Any  # the objective's name or 'frozen', per parameter


def build(stage: Stage) -> Program:
    """Makes the functions of `stage`; nothing is computed or compiled yet."""
    model = nnx.eval_shape(lambda: stage.model(streams(0)))
    shapes, _ = split(model)
    labels = label_params(shapes, stage.objectives)
    _check_params(stage, shapes, model)
    train_def = nnx.graphdef(nnx.view(model, only=_frozen_modules(labels), **INFERENCE))
    eval_def = nnx.graphdef(nnx.view(model, **INFERENCE))
    optimizers = {name: objective.optimizer for name, objective in stage.objectives.items()}
    optimizer = optax.partition(optimizers | {FROZEN: optax.set_to_zero()}, labels)

    def init(key):
        return restart(*split(stage.model(streams(key))))

    def restart(params, model_state):
        step = jnp.zeros((), jnp.int32)
        ema = _select(params, labels, stage.objectives) if stage.ema else None
        return TrainState(step, params, model_state, optimizer.init(params), ema)

    def gradient(name, params, model_state, batch, key):
        """Differentiates one objective in the parameters it owns."""

        def loss_fn(own):
            merged = jax.tree.map(
                lambda p, o: jax.lax.stop_gradient(p) if o is None else o, params, own
            )
            model = nnx.merge(train_def, merged, model_state)
            loss, logs = stage.objectives[name].loss(model, batch, nnx.Rngs(key))
            return loss, ({**logs, "loss": loss}, nnx.to_pure_dict(nnx.state(model, STATE)))

        own = _select(params, labels, [name])
        gradients, (logs, new_state) = jax.grad(loss_fn, has_aux=True)(own)
        _check_unchanged(f"objective {name!r}: model state", model_state, new_state)
        return gradients, new_state, {f"{name}/{k}": _scalar(name, k, v) for k, v in logs.items()}

    def gradients_of(params, model_state, batch, key):
        gradients, logs = {}, {}
        for name, sub in zip(optimizers, jax.random.split(key, len(optimizers)), strict=True):
            gradients[name], model_state, more = gradient(name, params, model_state, batch, sub)
            logs |= more
        return gradients, model_state, logs

    def accumulated(params, model_state, batch, key):
        """The mean gradient over `accumulate` micro-batches, one in memory at a time."""
        n = stage.accumulate
        if n == 1:
            return gradients_of(params, model_state, batch, key)
        micro = jax.tree.map(lambda x: _micro_batches(x, n), batch)

        def body(carry, xs):
            total, model_state = carry
            gradients, model_state, logs = gradients_of(params, model_state, *xs)
            return (jax.tree.map(jnp.add, total, gradients), model_state), logs

        zeros = {k: jax.tree.map(jnp.zeros_like, _select(params, labels, [k])) for k in optimizers}
        (total, model_state), logs = jax.lax.scan(
            body, (zeros, model_state), (micro, jax.random.split(key, n))
        )
        return jax.tree.map(lambda g: g / n, total), model_state, jax.tree.map(jnp.mean, logs)

    def step(state, batch, key):
        key = jax.random.fold_in(key, state.step)
        parts, model_state, logs = accumulated(state.params, state.model_state, batch, key)
        logs |= {f"{name}/grad_norm": optax.tree.norm(part) for name, part in parts.items()}
        zeros = jax.tree.map(jnp.zeros_like, state.params)
        gradients = jax.tree.map(_first, zeros, *parts.values())
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        updated = optax.apply_updates(state.params, updates)
        # Frozen parameters are not even added to: -0.0 + 0.0 is 0.0.
        params = jax.tree.map(
            lambda label, old, new: old if label == FROZEN else new, labels, state.params, updated
        )
        ema = state.ema
        if stage.ema:
            decay = jnp.minimum(stage.ema, (1 + state.step) / (10 + state.step))
            ema = jax.tree.map(lambda e, p: e + (1 - decay) * (p - e), ema, _like(params, ema))
        new = TrainState(state.step + 1, params, model_state, opt_state, ema)
        _check_unchanged("training state", state, new)
        return new, logs | _learning_rates(opt_state, optimizers)

    def apply(state):
        params = jax.tree.map(_first, state.params, state.ema) if stage.ema else state.params
        return nnx.merge(eval_def, params, state.model_state)

    def evaluator(ev):
        def run(state, batch, key, index):
            rngs = nnx.Rngs(jax.random.fold_in(key, index))
            predictions = ev.predict(apply(state), batch, rngs)
            if ev.metrics is None:
                return predictions, None
            outputs = {k: batch[k] for k in ("mask",) if k in batch} | dict(predictions)
            metrics = ev.metrics.single_from_model_output(**outputs)
            return predictions, jax.tree.map(sharding.constrain, metrics)

        return jax.jit(run)

    evaluators = {name: evaluator(ev) for name, ev in stage.evals.items()}
    return Program(init, restart, step, apply, evaluators, labels)


def split(model: nnx.Module) -> tuple[Any, Any]:
    """The model's parameters and its other state, as nested dicts of arrays."""
    _, params, _, rest = nnx.split(model, nnx.Param, nnx.Intermediate, ...)
    return nnx.to_pure_dict(params), nnx.to_pure_dict(rest)


def _select(params, labels, names):
    """The parameters with one of these labels; None in place of the others."""
    return jax.tree.map(lambda p, label: p if label in names else None, params, labels)


def _first(default, *candidates):
    """The candidate that is not None; without one, `default`."""
    return next((c for c in candidates if c is not None), default)


def _like(params, ema):
    return jax.tree.map(lambda p, e: None if e is None else p, params, ema)


def _micro_batches(x, n):
    """`[b …] -> [n b/n …]`, taking every n-th row so that each device keeps rows it already has."""
    return x.reshape(x.shape[0] // n, n, *x.shape[1:]).swapaxes(0, 1)


def _scalar(name, key, value):
    if jnp.shape(value) != ():
        raise ValueError(
            f"objective {name!r} logs {key!r} of shape {jnp.shape(value)}: logs are scalars"
        )
    return value


def _learning_rates(opt_state, names):
    """What `optax.inject_hyperparams` has written down; nothing for other optimizers."""
    rates = {}
    for name in names:
        found = optax.tree_utils.tree_get_all_with_path(
            opt_state.inner_states[name],
            "learning_rate",
            filtering=lambda _, value: isinstance(value, jax.Array) and value.ndim == 0,
        )
        rates |= {f"{name}/learning_rate": value for _, value in found[:1]}
    return rates


def _frozen_modules(labels) -> Callable[[tuple, Any], bool]:
    """A filter for the modules that hold parameters, none of which is trained.

    Modules without parameters (Dropout) go with the nearest module around them that has some.
    """
    owners, trained = {""}, {""}
    for path, label in jax.tree_util.tree_leaves_with_path(labels):
        prefixes = {path_name(path[:i]) for i in range(1, len(path))}
        owners |= prefixes
        trained |= prefixes if label != FROZEN else set()

    def is_frozen(path, _):
        around = (path_name(path[:i]) for i in range(len(path), -1, -1))
        return next(name for name in around if name in owners) not in trained

    return is_frozen


def _check_params(stage: Stage, params, model: nnx.Module) -> None:
    """Parameters are float32 whatever the model computes in; random streams are arguments."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if not jnp.issubdtype(leaf.dtype, jnp.inexact) or jnp.finfo(leaf.dtype).bits < 32:
            raise ValueError(
                f"stage {stage.name!r}: parameter {path_name(path)} is {leaf.dtype}; "
                "keep parameters in float32 (param_dtype) and let the model compute in another"
            )
    for path, _ in nnx.to_flat_state(nnx.state(model, nnx.RngState)):
        raise ValueError(
            f"stage {stage.name!r}: the model keeps a random stream at {'/'.join(map(str, path))}; "
            "pass rngs when calling it instead"
        )


def _check_unchanged(what: str, old, new) -> None:
    """Raises where a step would change the type of its own input: a cast that nobody asked for."""
    before, after = types(flatten(old)), types(flatten(new))
    if before != after:
        names = sorted(k for k in before | after if before.get(k) != after.get(k))[:4]
        raise TypeError(
            f"{what} changes within a step: "
            + ", ".join(f"{k} {before.get(k, 'absent')} -> {after.get(k, 'absent')}" for k in names)
        )
