"""Detections on images, folders and videos: COCO-results JSON, pictures and videos to look at."""

import contextlib
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from jaxvision.cofnet.tiling import Found
from jaxvision.cofnet.views import Detect, Frame, Views, detect_frames
from jaxvision.data.images import read_image
from jaxvision.data.inputs import expand
from jaxvision.data.video import Video, VideoWriter, is_video, write_gif
from jaxvision.draw import draw_boxes

GIF_FPS = 10
SAVE_EVERY = 60  # seconds between writes of the results while they grow
SPEAK_EVERY = 5  # seconds between progress lines where they cannot overwrite one another


def predict(
    detect: Detect,
    inputs: Sequence[str | Path],
    output: Path,
    *,
    names: Sequence[str],
    size: int | tuple[int, int],
    category_ids: Sequence[int] | None = None,
    score: float = 0.3,
    tile: int | None = None,
    batch: int = 8,
    gif: int | None = None,
    echo: Callable[[str], None] | None = None,
) -> Iterator[dict]:
    """Detects on every input; yields one record for each, once its files lie in `output`.

    `detections.json` holds COCO results (boxes xywh in pixels of the original) with file and
    category names added, `images.json` what the image ids stand for, also where nothing was found.
    Each image becomes a picture with its boxes drawn in, each video an mp4. What an interruption
    leaves is whole: both JSON files and the video as far as it came. A file that cannot be read
    whole is named in its record's `error`; once all others are done, ValueError tells of it.

    Args:
        detect: canvases uint8 `[batch h w 3]` -> boxes `[batch n 4]` xyxy normalised to the canvas,
            scores `[batch n]` (0 = empty) and labels `[batch n]`; never called with another shape.
        inputs: images, videos, folders (with all within), patterns.
        names: of the classes; `category_ids` are their ids in the annotations, 1, 2, … by default.
        size: of the canvas that `detect` was trained for, (h, w) or one side.
        score: below it nothing is kept.
        tile: also look at overlapping tiles of this many pixels, for objects that are small in
            large frames; their boxes are merged with those of the whole frame.
        gif: width of a GIF written beside each video.
        echo: takes progress and warnings; stderr by default.
    """
    size = (size, size) if isinstance(size, int) else tuple(size)
    views = Views(size=size, batch=batch, tile=tile, score=score)
    category_ids = range(1, len(names) + 1) if category_ids is None else category_ids
    if len(category_ids) != len(names):
        raise ValueError(f"{len(category_ids)} category_ids for {len(names)} names")
    files = expand(inputs, without=Path(output))
    results = _Results(Path(output), names, category_ids, inputs=files)
    progress = _Progress(echo)
    frames = itertools.chain.from_iterable(_read(path) for path in files)
    errors: list[str] = []
    with results:
        found_frames = detect_frames(detect, frames, views)
        for path, group in itertools.groupby(found_frames, key=lambda pair: pair[0].path):
            progress.begin(path)
            if is_video(path):
                target = results.place(files[path], ".mp4")
                record = _predict_video(path, group, target, results, progress, gif)
            else:
                record = _predict_image(group, results.place(files[path], ".jpg"), results)
            if "error" in record:
                errors.append(record["error"])
                progress.warn(record["error"])
            yield {"file": str(path), **record}
    if errors:
        raise ValueError(
            f"{len(errors)} of {len(files)} inputs could not be read whole ({errors[0]}); what was "
            f"found in the others is in {output}"
        )


def _read(path: Path) -> Iterator[Frame]:
    """The frames of one file; what cannot be read is a frame with an error."""
    try:
        if is_video(path):
            for number, image in enumerate(Video(path)):
                yield Frame(path=path, image=image, number=number)
        else:
            yield Frame(path=path, image=read_image(path))
    except (OSError, ValueError) as error:
        yield Frame(path=path, image=None, error=str(error))


def _predict_image(group: Iterable, target: Path, results: "_Results") -> dict:
    ((frame, found),) = group
    if frame.error:
        return {"error": frame.error}
    results.add(frame, found)
    target.parent.mkdir(parents=True, exist_ok=True)
    picture = draw_boxes(frame.image, found.boxes, found.labels, results.names, found.scores)
    Image.fromarray(picture).save(target, quality=92)
    return {"detections": len(found.scores), "written": str(target)}


def _predict_video(path, group, target, results, progress, gif) -> dict:
    frames = detections = 0
    record: dict = {}
    with contextlib.ExitStack() as stack:
        for frame, found in group:
            if frame.error:
                record["error"] = frame.error
                break
            if not frames:
                video = Video(path)
                target.parent.mkdir(parents=True, exist_ok=True)
                height, width = frame.image.shape[:2]
                writer = VideoWriter(target, fps=video.fps, height=height, width=width)
                stack.enter_context(writer)
            results.add(frame, found)
            names, image = results.names, frame.image
            writer.write(draw_boxes(image, found.boxes, found.labels, names, found.scores))
            frames, detections = frames + 1, detections + len(found.scores)
            progress.step(frames, video.count)
    if frames:
        record |= {"frames": frames, "detections": detections, "written": str(target)}
        if gif is not None:
            small = target.with_suffix(".gif")
            write_gif(small, _shrunk(target, gif), fps=GIF_FPS)
            record["gif"] = str(small)
    return record


def _shrunk(path: Path, width: int) -> Iterator[np.ndarray]:
    """The frames of a video at `GIF_FPS` or slower, `width` pixels wide."""
    video = Video(path)
    height = max(1, round(video.height * width / video.width))
    due = 0.0
    for number, frame in enumerate(video):
        if number / video.fps >= due - 1e-9:
            due += 1 / GIF_FPS
            yield cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)


class _Results:
    """The JSON files, written whole each time, and the names of what lies beside them."""

    def __init__(self, folder: Path, names, category_ids, *, inputs: Iterable[Path]):
        self.folder = folder
        self.names = tuple(names)
        self.category_ids = category_ids
        self._results: list[dict] = []
        self._images: list[dict] = []
        self._taken = {path.resolve() for path in inputs}  # nothing overwrites an input
        self._saved = time.monotonic()

    def place(self, relative: Path, suffix: str) -> Path:
        """Where the result of an input goes; two inputs of one name get two places."""
        wanted = self.folder / relative.with_suffix(suffix)
        place = wanted
        for number in itertools.count(2):
            if place.resolve() not in self._taken:
                break
            place = wanted.with_stem(f"{wanted.stem}-{number}")
        self._taken.add(place.resolve())
        return place

    def add(self, frame: Frame, found: Found) -> None:
        height, width = frame.image.shape[:2]
        origin = {"image_id": len(self._images) + 1, "file_name": str(frame.path)}
        if frame.number is not None:
            origin["frame"] = frame.number
        self._images.append(origin | {"width": width, "height": height})
        for box, score, label in zip(found.boxes, found.scores, found.labels, strict=True):
            if not 0 <= label < len(self.names):
                raise ValueError(f"the model found class {label}; {len(self.names)} have names")
            x0, y0, x1, y1 = (float(v) for v in box)
            self._results.append({
                **origin,
                "category_id": int(self.category_ids[label]),
                "category_name": self.names[label],
                "bbox": [round(v, 3) for v in (x0, y0, x1 - x0, y1 - y0)],
                "score": round(float(score), 6),
            })  # fmt: skip
        if time.monotonic() - self._saved > SAVE_EVERY:
            self.save()

    def save(self) -> None:
        for name, content in (("detections", self._results), ("images", self._images)):
            path = self.folder / f"{name}.json"
            partial = path.with_suffix(".json.partial")
            lines = (json.dumps(entry, ensure_ascii=False) for entry in content)
            partial.write_text("[" + ",\n".join(lines) + "]\n", encoding="utf-8")
            partial.replace(path)
        self._saved = time.monotonic()

    def __enter__(self) -> "_Results":
        self.folder.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *_) -> None:
        self.save()


class _Progress:
    """One line that overwrites itself on a terminal, a line now and then elsewhere."""

    def __init__(self, echo: Callable[[str], None] | None):
        self._rewrites = echo is None and sys.stderr.isatty()
        self._echo = echo or (lambda text: print(text, file=sys.stderr, flush=True))

    def begin(self, path: Path) -> None:
        self._path, self._start, self._spoke = path, time.monotonic(), time.monotonic()

    def step(self, done: int, total: int) -> None:
        now = time.monotonic()
        last = done == total
        if not last and now - self._spoke < (0.2 if self._rewrites else SPEAK_EVERY):
            return
        self._spoke = now
        rate = done / max(now - self._start, 1e-6)
        left = f", {max(0, total - done) / rate:.0f} s left" if total else ""
        text = f"{self._path.name}: frame {done}/{total or '?'}, {rate:.1f} frames/s{left}"
        if self._rewrites:
            print(f"\r\x1b[K{text}", end="\n" if last else "", file=sys.stderr, flush=True)
        else:
            self._echo(text)

    def warn(self, text: str) -> None:
        self._echo(f"warning: {text}")
