"""The ffmpeg of imageio-ffmpeg, which carries encoders that few distributions do."""

import functools
import importlib.util
import subprocess

from jaxvision.baselines.codec import INSTALL, CodecError


def missing(coder: str) -> str | None:
    """Why this machine's ffmpeg lacks an encoder, such as "libx265"; None if it has it."""
    if importlib.util.find_spec("imageio_ffmpeg") is None:
        return f"imageio-ffmpeg is not installed: {INSTALL}"
    try:
        return None if coder in encoders() else f"{binary()} has no {coder}: {INSTALL} --upgrade"
    except (OSError, RuntimeError) as error:  # no binary for this system, or one that cannot start
        return f"imageio-ffmpeg does not run here: {error}"


@functools.cache
def binary() -> str:
    """The path of the binary; `IMAGEIO_FFMPEG_EXE` names another."""
    import imageio_ffmpeg  # optional

    return imageio_ffmpeg.get_ffmpeg_exe()


@functools.cache
def encoders() -> frozenset[str]:
    """The names of the binary's encoders."""
    lines = run(["-encoders"], b"").decode().splitlines()
    return frozenset(words[1] for words in map(str.split, lines) if len(words) > 1)


def run(arguments: list[str], data: bytes) -> bytes:
    """What ffmpeg writes to `pipe:1` when `data` come from `pipe:0`."""
    command = [binary(), "-hide_banner", "-loglevel", "error", *arguments]
    done = subprocess.run(command, input=data, capture_output=True)
    if done.returncode or (data and not done.stdout):
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        raise CodecError(f"ffmpeg ended with {done.returncode}: {said[0]}")
    return done.stdout
