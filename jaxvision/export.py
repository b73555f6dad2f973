"""A trained model for other programs: StableHLO with `jax.export`, or ONNX.

StableHLO is a folder of three files: `model.stablehlo` (any batch size, all of the platforms
named), `params.npz` (the parameters, which are an argument, so that the program stays small and
compiles fast), `model.json` (what goes in and out). To run it, a program needs JAX and NumPy alone:

    program = jax.export.deserialize(open("model.stablehlo", "rb").read())
    params = dict(np.load("params.npz"))
    outputs = program.call(params, {"image": images})

ONNX is one file with the parameters inside, for batches of the example's size (one image): the
converter cannot keep all shapes symbolic.
"""

import importlib
import json
import logging
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax import export as jax_export

from jaxvision.names import flatten
from jaxvision.plain import plain
from jaxvision.spelling import nearest
from jaxvision.stage import Batch

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
BATCHES = (1, 3)  # sizes at which an export is compared with the original
Forward = Callable[[nnx.Module, Batch], Mapping[str, jax.Array]]
# Both sides compute the same float32 operations in another order and fusion. Where an output is
# ordered by score or thresholded, equal to rounding still means that single rows may change places:
# those are counted, and few must be so.
RTOL, OUTLIERS = 1e-3, 0.01
CONVERSION_ERRORS = (NotImplementedError, TypeError, ValueError, RuntimeError, KeyError, IndexError)


def export(
    forward: Forward,
    model: nnx.Module,
    example: Batch,
    folder: Path,
    *,
    platforms: Sequence[str] = ("cpu", "cuda"),
    about: Mapping[str, Any],
    say: Callable[[str], None] = print,
) -> Path:
    """Writes StableHLO that takes any batch size, once it has been compared with `forward`."""
    for platform in platforms:
        if platform not in PLATFORMS:
            raise ValueError(f"no platform {platform!r}{nearest(platform, PLATFORMS)}")
    here = jax.default_backend().replace("gpu", "cuda")
    if here not in platforms:
        raise ValueError(f"cannot check an export for {', '.join(platforms)} on {here}: add {here}")
    call, params = functional(forward, model)
    (batch,) = jax_export.symbolic_shape("b")
    shapes = {k: jax.ShapeDtypeStruct((batch, *x.shape[1:]), x.dtype) for k, x in example.items()}
    types = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params)
    exported = jax_export.export(jax.jit(call), platforms=tuple(platforms))(types, shapes)

    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unchecked-", dir=folder) as name:
        new = Path(name)
        (new / "model.stablehlo").write_bytes(exported.serialize())
        np.savez(new / "params.npz", **jax.device_get(params))
        program = jax_export.deserialize((new / "model.stablehlo").read_bytes())
        reloaded = dict(np.load(new / "params.npz"))
        difference = compare(
            lambda inputs: jax.jit(call)(params, inputs),
            lambda inputs: program.call(reloaded, inputs),
            example,
            say=say,
        )
        description = {
            **about,
            "platforms": list(platforms),
            "inputs": {k: _type(x) for k, x in example.items()},
            **_description(exported),
            "parameters": sum(x.size for x in params.values()),
            "max_difference": difference,
        }
        (new / "model.json").write_text(json.dumps(description, indent=1) + "\n")
        for file in sorted(new.iterdir()):
            file.replace(folder / file.name)
    say(f"done: {folder}/ for {', '.join(platforms)}, any batch size")
    return folder


def export_onnx(
    forward: Forward,
    model: nnx.Module,
    example: Batch,
    path: Path,
    *,
    say: Callable[[str], None] = print,
) -> Path:
    """Writes ONNX for batches of the example's size, compared in onnxruntime with `forward`."""
    jax2onnx, onnxruntime = _extra("jax2onnx"), _extra("onnxruntime")
    call, params = functional(forward, model)
    names = sorted(example)
    outputs = sorted(jax.eval_shape(call, params, example))

    def positional(*arrays):
        out = call(params, dict(zip(names, arrays, strict=True)))
        return tuple(out[name] for name in outputs)

    shapes = [jax.ShapeDtypeStruct(example[k].shape, example[k].dtype) for k in names]
    logging.getLogger("onnx_ir").setLevel(logging.ERROR)  # a warning for each shape it leaves out
    try:
        converted = jax2onnx.to_onnx(
            plain(positional, *shapes), shapes, input_names=names, output_names=outputs
        )
    except CONVERSION_ERRORS as error:
        raise ValueError(_inexpressible(error)) from error
    content = converted.SerializeToString()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    runtime = onnxruntime.capi.onnxruntime_pybind11_state
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except (runtime.Fail, runtime.InvalidGraph, runtime.NotImplemented) as error:
        raise ValueError(_inexpressible(error)) from error

    def run(inputs):
        return dict(zip(outputs, session.run(outputs, dict(inputs)), strict=True))

    rows = next(iter(example.values())).shape[0]
    original = lambda inputs: jax.jit(call)(params, inputs)  # noqa: E731
    compare(original, run, example, batches=(rows,), say=say)
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(path, content)
    inputs = ", ".join(f"{k} {example[k].dtype}{_dims(example[k].shape)}" for k in names)
    say(f"done: {path}; inputs {inputs}")
    return path


def functional(forward: Forward, model: nnx.Module) -> tuple[Callable, dict[str, jax.Array]]:
    """`forward` as a function of named arrays and a batch, and those arrays."""
    graph, state = nnx.split(model)
    names, tree = flatten(nnx.as_pure(state)), jax.tree.structure(nnx.as_pure(state))

    def call(params, batch):
        pure = jax.tree.unflatten(tree, [params[name] for name in names])
        return dict(forward(nnx.merge(graph, pure), batch))

    return call, names


def compare(
    original: Callable,
    copy: Callable,
    example: Batch,
    *,
    batches: Sequence[int] = BATCHES,
    say: Callable[[str], None],
) -> float:
    """The largest difference between two functions of a batch; raises where it is no rounding.

    An integer input is filled with random numbers where it is an image (uint8), a float with normal
    ones; the rest is repeated from the example.
    """
    worst = 0.0
    for size in batches:
        inputs = random_batch(example, size)
        expected, found = jax.device_get(original(inputs)), jax.device_get(copy(inputs))
        for name, e in expected.items():
            e, f = np.asarray(e, np.float64), np.asarray(found[name], np.float64)
            if e.shape != f.shape:
                raise ValueError(f"the export gives {name} as {f.shape}, the original as {e.shape}")
            gap = np.where((e == f) | (np.isnan(e) & np.isnan(f)), 0.0, abs(e - f))
            outliers = float(np.mean(~(gap <= RTOL * np.maximum(1.0, abs(e))))) if e.size else 0.0
            largest = float(gap.max(initial=0.0))
            text = f"batch {size}, {name} {list(e.shape)}: largest difference {largest:.3g}"
            say(text + (f", {outliers:.2%} of the numbers beyond {RTOL}" if outliers else ""))
            if outliers > OUTLIERS:
                raise ValueError(
                    f"the export computes something else: {name} differs by {largest:.3g} at batch "
                    f"{size}, and {outliers:.1%} of it by more than rounding"
                )
            worst = max(worst, largest)
    return worst


def random_batch(example: Batch, size: int) -> dict[str, np.ndarray]:
    """A batch of `size` rows shaped like `example`."""
    rng = np.random.default_rng(size)
    batch = {}
    for name, x in example.items():
        x = np.asarray(x)
        shape = (size, *x.shape[1:])
        if x.dtype == np.uint8:
            batch[name] = rng.integers(0, 256, shape, dtype=np.uint8)
        elif np.issubdtype(x.dtype, np.floating):
            batch[name] = rng.normal(size=shape).astype(x.dtype)
        else:
            batch[name] = np.repeat(x[:1], size, axis=0)
    return batch


def _extra(name: str):
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"ONNX needs the package {error.name}: start with `uv run --extra onnx …`"
        ) from error


def _inexpressible(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return (
        f"ONNX cannot express this model: {lines[0]}; set config.onnx to settings that avoid it "
        "(a scan's backend 'reference', for one), or export StableHLO"
    )


def _write(path: Path, content: bytes) -> None:
    new = path.with_name(f".{path.name}")
    new.write_bytes(content)
    os.replace(new, path)


def _description(exported: jax_export.Exported) -> dict[str, Any]:
    outputs = jax.tree.unflatten(exported.out_tree, exported.out_avals)
    return {
        "outputs": {k: f"{x.dtype}{_dims(x.shape)}" for k, x in outputs.items()},
        "jax": jax.__version__,
        "calling_convention": exported.calling_convention_version,
    }


def _dims(shape) -> str:
    return f"[{', '.join(map(str, shape))}]"


def _type(x) -> str:
    return f"{x.dtype}{_dims(('b', *x.shape[1:]))}"
