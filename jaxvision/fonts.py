"""Fonts that can show a name, in whatever script it is written."""

import functools
import warnings
from pathlib import Path

import matplotlib
from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

# Carried by matplotlib: Latin, Greek, Cyrillic, Arabic.
DEJAVU = Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"


@functools.lru_cache(maxsize=512)
def font_for(text: str) -> Path:
    """DejaVu Sans, or where it lacks a character of `text` the installed font that lacks least.

    Warns of characters that the chosen font lacks too; they are drawn as boxes.
    """
    wanted = {ord(c) for c in text if c.isprintable() and not c.isspace()}
    best, lacking = DEJAVU, wanted - _characters(DEJAVU)
    for path in installed() if lacking else ():
        missing = wanted - _characters(path)
        if len(missing) < len(lacking):
            best, lacking = path, missing
        if not lacking:
            break
    if lacking:
        absent = "".join(map(chr, sorted(lacking)))
        warnings.warn(
            f"no installed font has {absent!r} of {text!r}: pictures show boxes in their place; "
            "install a font of that script (fonts-noto-cjk for Chinese, Japanese and Korean)",
            stacklevel=2,
        )
    return best


def families(names: list[str]) -> list[str]:
    """matplotlib's `font.family` that shows all the names: DejaVu Sans, then what they need."""
    needed = [font_manager.get_font(font_for(name)).family_name for name in names]
    return list(dict.fromkeys(["DejaVu Sans", *needed]))


@functools.cache
def installed() -> tuple[Path, ...]:
    """The system's fonts, upright ones of usual weight first, without those that only mark gaps."""
    fonts = [f for f in font_manager.fontManager.ttflist if "last resort" not in f.name.lower()]
    fonts.sort(key=lambda f: (f.style != "normal", f.weight not in (400, "normal"), f.fname))
    return tuple(dict.fromkeys(Path(f.fname) for f in fonts))


@functools.cache
def _characters(path: Path) -> frozenset[int]:
    try:
        return frozenset(FT2Font(path).get_charmap())
    except (OSError, RuntimeError):  # matplotlib's list may be older than the system's fonts
        return frozenset()
