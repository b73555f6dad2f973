"""What is labelled: photographs, videos and AV1 streams, by the words that name them."""

import dataclasses
import itertools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from jaxvision.cnn_av1.clips import Clip, deepened, photo_clip, photo_names, read_clip
from jaxvision.data.av1 import ivf, obu
from jaxvision.data.av1.decoder import LabelledFrame, labelled_frames
from jaxvision.data.av1.library import Library
from jaxvision.data.y4m import Planes

PHOTO, VIDEO, STREAM = "photo", "video", "stream"
STREAMS = (".ivf", ".obu")
FRAMES = 3  # of a clip made from a photograph


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """One sequence. `source` is what must not be on both sides of a split.

    `place` is a path or a photograph's name; `split` is set where the library holds a photograph to
    one. `size` and `depth` are those of a `.yuv`, `size` also of a clip made from a photograph;
    `frames` is how many to take, None for all; 8 bits become 10 where `deepen` is set.
    """

    name: str
    source: str
    kind: str
    place: str
    split: str | None = None
    variant: int = 0
    size: tuple[int, int] | None = None
    depth: int | None = None
    frames: int | None = None
    deepen: bool = False

    def as_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self) | {"size": list(self.size) if self.size else None}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Source":
        return cls(**value | {"size": tuple(value["size"]) if value["size"] else None})


def sources(
    texts: Iterable[str],
    *,
    variants: int = 1,
    size: tuple[int, int] | None = None,
    depth: int | None = None,
    frames: int | None = None,
    deepen: bool = False,
    source: str | None = None,
) -> list[Source]:
    """The sequences that words of a command line name.

    `photo:coffee`, `photo:coffee:2` for one variant of its clip, `photo:all`; else paths of `.y4m`,
    `.yuv`, `.ivf` or `.obu`. With `variants` a photograph stands for that many clips. `source`
    makes files one source, such as parts of one film.
    """
    found: list[Source] = []
    for text in texts:
        if text.startswith("photo:"):
            found += _photo(text, variants, size, FRAMES if frames is None else frames)
            continue
        path = Path(text)
        if path.is_dir():
            raise ValueError(f"{text} is a folder: name the files within, as {text}/*.y4m")
        if not path.is_file():
            raise ValueError(f"{text}: there is no such file; photographs are named photo:coffee")
        name = sequence_name(path.stem)
        kind = STREAM if path.suffix.lower() in STREAMS else VIDEO
        raw = path.suffix.lower() == ".yuv"
        found.append(
            Source(
                name=name,
                source=source or name,
                kind=kind,
                place=str(path.absolute()),
                size=size if raw else None,
                depth=depth if raw else None,
                frames=frames,
                deepen=deepen and kind == VIDEO,
            )
        )
    by_name: dict[str, Source] = {}
    for one in found:
        other = by_name.setdefault(one.name, one)
        if other is not one:
            raise ValueError(
                f"{other.place} and {one.place} would both be sequence {one.name}: rename one"
            )
    return found


def sequence_name(stem: str) -> str:
    """A file's stem as a name that any file system takes."""
    return re.sub(r"[^A-Za-z0-9.+-]+", "_", stem).strip("_.") or "sequence"


def _photo(text, variants, size, frames) -> Iterator[Source]:
    _, name, *rest = text.split(":")
    known = photo_names()
    if name != "all" and name not in known:
        raise ValueError(f"{text}: there are photo:all and photo:{', photo:'.join(sorted(known))}")
    if len(rest) > 1 or not all(number.isdecimal() for number in rest):
        raise ValueError(f"{text}: a photograph's clip is named as photo:coffee or photo:coffee:2")
    numbers = [int(number) for number in rest] or range(variants)
    for photo, number in itertools.product(known if name == "all" else [name], numbers):
        yield Source(
            name=f"{photo}_v{number}" if number else photo,
            source=photo,
            kind=PHOTO,
            place=photo,
            split=known[photo],
            variant=number,
            size=size or (352, 288),
            frames=frames,
        )


def opened(source: Source) -> Clip:
    """The pixels of a photograph's clip or a video."""
    if source.kind == PHOTO:
        width, height = source.size
        frames = photo_clip(
            source.place, width=width, height=height, frames=source.frames, variant=source.variant
        )
        return Clip(width, height, 10, frames)
    clip = read_clip(Path(source.place), size=source.size, depth=source.depth)
    frames = clip.frames
    if source.deepen and clip.depth == 8:
        frames = map(deepened, frames)
        clip = dataclasses.replace(clip, depth=10)
    return dataclasses.replace(clip, frames=itertools.islice(frames, source.frames))


def stream_frames(source: Source, library: Library) -> Iterator[LabelledFrame]:
    """The frames of an AV1 stream, hidden ones too."""
    packets = itertools.islice(ivf.read_stream(Path(source.place))[1], source.frames)
    try:
        yield from labelled_frames(library, packets)
    except ValueError as error:
        named = str(error).startswith(source.place)
        raise ValueError(str(error) if named else f"{source.place}: {error}") from error


def depth_of(source: Source) -> int:
    """Bits of a pixel, from the header alone."""
    if source.kind == PHOTO:
        return 10
    if source.kind == VIDEO:
        return opened(source).depth
    first = next(iter(ivf.read_stream(Path(source.place))[1]), None)
    if first is None:
        raise ValueError(f"{source.place}: the stream has no frame")
    return obu.sequence(first.data).depth


def pictures(source: Source, library: Library | None) -> Iterator[tuple[int, Planes]]:
    """Frames by number: of a stream those that are shown, as they were decoded."""
    if source.kind != STREAM:
        yield from enumerate(opened(source).frames)
        return
    for frame in stream_frames(source, library):
        if frame.planes is not None:
            yield frame.number, frame.planes
