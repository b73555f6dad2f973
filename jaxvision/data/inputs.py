"""Files to predict on, from what a user names: images, videos, folders, patterns."""

import glob
from collections.abc import Sequence
from pathlib import Path

from jaxvision.data.video import IMAGES, VIDEOS, is_image, is_video


def expand(inputs: Sequence[str | Path], *, without: Path | None = None) -> dict[Path, Path]:
    """Image and video files, each with the relative path that its result can be written to.

    A folder gives everything within it by name, a pattern (`*`, `?`, `[…]`, `**`) what it matches.
    Hidden files and the folder `without` (where results go) are passed over. What yields nothing
    raises FileNotFoundError or ValueError naming it.
    """
    if not inputs:
        raise ValueError("nothing to predict on: name an image, a folder, a pattern or a video")
    files: dict[Path, Path] = {}
    for given in inputs:
        path = Path(given)
        if path.is_dir():
            if without is not None and path.resolve().is_relative_to(without.resolve()):
                raise ValueError(
                    f"{path}: results would go to {without} as well; name another folder"
                )
            found = {p: p.relative_to(path) for p in sorted(path.rglob("*")) if _media(p, without)}
            if not found:
                raise ValueError(f"{path}: no image or video in this folder ({_endings()})")
        elif path.is_file():
            if not (is_image(path) or is_video(path)):
                raise ValueError(f"{path}: neither an image nor a video by its name ({_endings()})")
            found = {path: Path(path.name)}
        elif glob.has_magic(str(path)):
            matches = sorted(Path(p) for p in glob.glob(str(path), recursive=True))
            found = {p: Path(p.name) for p in matches if _media(p, without)}
            if not found:
                raise FileNotFoundError(f"{path}: the pattern matches no image or video")
        else:
            raise FileNotFoundError(f"{path}: no such file or folder")
        for file, relative in found.items():
            files.setdefault(file, relative)
    return files


def _media(path: Path, without: Path | None) -> bool:
    results = without is not None and path.resolve().is_relative_to(without.resolve())
    known = is_image(path) or is_video(path)
    return known and path.is_file() and not path.name.startswith(".") and not results


def _endings() -> str:
    return " ".join(sorted(IMAGES | VIDEOS))
