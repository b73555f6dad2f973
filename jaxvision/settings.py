"""A run's config on its way in and out: config files, overrides, `config.json`."""

import difflib
import json
import os
import runpy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags
from ml_collections.config_dict import placeholder

from jaxvision.spelling import nearest

SAVED = "config.json"


def load(spec: str) -> ConfigDict:
    """The config of `FILE.py[:PRESET]`, unlocked."""
    name, colon, preset = spec.partition(":")
    path = Path(name)
    if not path.is_file():
        there = sorted(str(p) for p in (path.parent.glob("*.py") if path.parent.is_dir() else ()))
        raise FileNotFoundError(f"no config file {name}{nearest(name, there)}")
    try:
        module = runpy.run_path(str(path))
    except SyntaxError as error:
        raise ValueError(f"{name}, line {error.lineno}: {error.msg}") from error
    if "get_config" not in module:
        raise ValueError(f"{name} is not a config file: it has no get_config(preset)")
    presets = module.get("PRESETS", ())
    if colon and presets and preset not in presets:
        raise ValueError(f"{name} has no preset {preset!r}{nearest(preset, presets)}")
    return module["get_config"](*([preset] if colon else []))


def override(config: ConfigDict, arguments: Sequence[str]) -> ConfigDict:
    """Applies `--config.a.b=value` arguments and locks the config; a misspelt key is named."""
    for argument in arguments:
        name = argument.split("=", 1)[0].lstrip("-")
        if argument.startswith("-") and "config." in name:
            _check_key(config, name.partition(".")[2])
    _make_optional(config)
    values = flags.FlagValues()
    try:
        config_flags.DEFINE_config_dict(
            "config", config, flag_values=values, sys_argv=list(arguments)
        )
        rest = values(["", *arguments])[1:]
    except flags.Error as error:
        raise ValueError(str(error).removeprefix("flag ")) from error
    if rest:
        raise ValueError(
            f"unexpected argument {rest[0]!r}: the verb comes first, flags begin with --"
        )
    return values["config"].value


def read(workdir: Path) -> ConfigDict:
    """The config that a run was started with, unlocked."""
    path = Path(workdir) / SAVED
    if not path.is_file():
        raise FileNotFoundError(f"{workdir} holds no run (no {SAVED}); {_what_is_there(workdir)}")
    try:
        return ConfigDict(_tuples(json.loads(path.read_text(encoding="utf-8"))))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}): give the config by --config") from error


def write(config: ConfigDict, workdir: Path) -> Path:
    """Saves the config whole or not at all."""
    path = Path(workdir) / SAVED
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{SAVED}")
    with new.open("w", encoding="utf-8") as file:
        json.dump(config.to_dict(), file, indent=2, ensure_ascii=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    return path


def differences(old: ConfigDict, new: ConfigDict) -> dict[str, tuple[Any, Any]]:
    """The dotted keys whose values differ, with both values; None for a key that is not there."""
    old, new = _flat(old), _flat(new)
    keys = sorted(k for k in {**old, **new} if old.get(k) != new.get(k))
    return {k: (old.get(k), new.get(k)) for k in keys}


def _check_key(config: ConfigDict, key: str) -> None:
    """Raises unless `key` is the dotted name of a value."""
    node, seen = config, []
    for part in key.split("."):
        if not isinstance(node, ConfigDict):
            raise ValueError(
                f"--config.{key}: {'.'.join(seen)} is a value, it has no keys below it"
            )
        if part not in node:
            same = [k for k in _flat(config) if k.split(".")[-1] == key.split(".")[-1]]
            siblings = [".".join([*seen, name]) for name in node]
            wanted = ".".join([*seen, part])
            like = max(
                same, key=lambda k: difflib.SequenceMatcher(None, k, key).ratio(), default=""
            )
            hint = f"; did you mean {like!r}?" if like else nearest(wanted, siblings)
            raise ValueError(f"--config.{key}: the config has no key {wanted!r}{hint}")
        node, seen = node[part], [*seen, part]
    if isinstance(node, ConfigDict):
        raise ValueError(f"--config.{key} is a group: override its keys, {', '.join(node)}")


def _make_optional(config: ConfigDict) -> None:
    """Lets a flag set what is None so far: a ConfigDict would accept nothing but None for it."""
    for name, value in config.items():
        if isinstance(value, ConfigDict):
            _make_optional(value)
        elif value is None:
            with config.unlocked():
                del config[name]
                config[name] = placeholder(object)


def _flat(config: Any, prefix: str = "") -> dict[str, Any]:
    """`{"a": {"b": (1,)}}` -> `{"a.b": (1,)}`."""
    flat = {}
    for name, value in config.items():
        deeper = isinstance(value, ConfigDict | Mapping)
        flat |= _flat(value, f"{prefix}{name}.") if deeper else {prefix + name: _tuples(value)}
    return flat


def _tuples(value: Any) -> Any:
    """JSON knows only lists, configs hold tuples."""
    if isinstance(value, Mapping):
        return {k: _tuples(v) for k, v in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value


def _what_is_there(workdir: Path) -> str:
    """The runs below or beside a folder, or else what the folder holds."""
    folder = Path(workdir)
    around = folder if folder.is_dir() else folder.parent
    runs = sorted(str(p.parent) for p in around.glob(f"*/{SAVED}"))
    if runs:
        return "runs there: " + ", ".join(runs)
    names = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []
    if names:
        return f"it holds {', '.join(names[:8])}" + (" …" if len(names) > 8 else "")
    return "it is empty" if folder.is_dir() else "there is no such folder"
