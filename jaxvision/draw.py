"""Boxes with class and score drawn on an image, and images side by side in a grid."""

import colorsys
import functools
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from jaxvision.fonts import font_for

Colour = tuple[int, int, int]

BACKGROUND = 24  # grey of the grid between images
TINY = 12  # line widths: a box with a shorter side than this gets a gap between object and frame
GAP = 3  # line widths of that gap
SMALLEST_FONT = 10
PALETTE: tuple[Colour, ...] = (
    (255, 64, 64),
    (0, 200, 90),
    (64, 128, 255),
    (255, 170, 0),
    (220, 70, 240),
    (0, 210, 220),
    (255, 110, 180),
    (170, 220, 0),
    (150, 100, 255),
    (255, 225, 60),
    (0, 150, 130),
    (200, 120, 60),
)


def class_colour(label: int) -> Colour:
    """The colour of a class in every picture: from the palette, then hues by the golden ratio."""
    if label < len(PALETTE):
        return PALETTE[label]
    hue = label * 0.618034 % 1
    return tuple(round(255 * c) for c in colorsys.hsv_to_rgb(hue, 0.75, 1.0))


def draw_boxes(
    image: np.ndarray,
    boxes: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str],
    scores: np.ndarray | None = None,
    *,
    colours: Sequence[Colour] | None = None,
    captions: Sequence[str] | None = None,
    line: int | None = None,
    font: int | None = None,
) -> np.ndarray:
    """Frames every box and writes its class, and its score when given, beside it.

    The frame lies outside the box, at a distance when the object is tiny, so that no pixel of the
    object is covered unless it touches the image's border. The best scored are drawn last, on top.

    Args:
        image: uint8 `[h w 3]` RGB; a new image is returned.
        boxes: `[n 4]` xyxy in pixels, clipped to the image here.
        labels: `[n]` indices into `names`.
        colours: one per box instead of the class colours.
        captions: one per box instead of class and score; "" writes none.
        line: width of the frame; font: height of the text. Both in pixels, default by image size.
    """
    image = _checked_image(image).copy()
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    labels = np.asarray(labels).reshape(-1)
    given = {"labels": labels, "scores": scores, "colours": colours, "captions": captions}
    for name, value in given.items():
        if value is not None and len(value) != len(boxes):
            raise ValueError(f"{name}: {len(value)} for {len(boxes)} boxes; give one for each")
    if not np.isfinite(boxes).all():
        raise ValueError(f"boxes[{np.where(~np.isfinite(boxes))[0][0]}] is not finite: {boxes}")
    if len(labels) and not (0 <= labels.min() and labels.max() < len(names)):
        raise ValueError(
            f"labels {sorted(set(labels.tolist()))} do not all index {len(names)} names"
        )

    extent = (image.shape[0] + image.shape[1]) / 2
    line = line or max(1, round(extent * 0.003))
    font = font or max(SMALLEST_FONT, round(extent * 0.018))
    order = np.arange(len(boxes)) if scores is None else np.argsort(scores, kind="stable")
    colours = colours or [class_colour(int(label)) for label in labels]
    frames = np.zeros((len(boxes), 4), int)
    for i in order:
        frames[i] = _draw_frame(image, boxes[i], colours[i], line)
    taken: list[np.ndarray] = []
    for i in order[::-1]:  # the best scored chooses the place of its caption first
        if captions is not None:
            text = captions[i]
        elif scores is not None:
            text = f"{names[labels[i]]} {scores[i]:.2f}"
        else:
            text = names[labels[i]]
        if text:
            taken.append(_draw_caption(image, frames[i], text, colours[i], font, frames, taken))
    return image


def grid(
    images: Sequence[np.ndarray],
    columns: int,
    size: int | tuple[int, int],
    titles: Sequence[str] | None = None,
) -> np.ndarray:
    """Images in rows of `columns`, each fitted into a cell of `size` pixels (side, or (h, w))."""
    if not len(images) or columns < 1:
        raise ValueError(f"a grid needs images and columns >= 1, got {len(images)} and {columns}")
    if titles is not None and len(titles) != len(images):
        raise ValueError(f"titles: {len(titles)} for {len(images)} images; give one for each")
    height, width = (size, size) if isinstance(size, int) else size
    columns = min(columns, len(images))
    font = max(SMALLEST_FONT, round(width * 0.035))
    strip = 0 if titles is None else round(1.6 * font)
    rows = -(-len(images) // columns)
    margin = max(2, width // 100)
    cell = (height + strip + margin, width + margin)
    sheet = np.full((rows * cell[0] + margin, columns * cell[1] + margin, 3), BACKGROUND, np.uint8)
    for i, image in enumerate(images):
        image = _checked_image(image)
        scale = min(height / image.shape[0], width / image.shape[1])
        fitted = tuple(max(1, round(n * scale)) for n in image.shape[:2])
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
        image = cv2.resize(image, fitted[::-1], interpolation=how)
        top = margin + i // columns * cell[0]
        left = margin + i % columns * cell[1]
        if titles is not None:
            text = _text(titles[i], font, (BACKGROUND,) * 3, width)
            sheet[top : top + text.shape[0], left : left + text.shape[1]] = text[: cell[0]]
        y = top + strip + (height - fitted[0]) // 2
        x = left + (width - fitted[1]) // 2
        sheet[y : y + fitted[0], x : x + fitted[1]] = image
    return sheet


def _checked_image(image: np.ndarray) -> np.ndarray:
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(f"an image is uint8 [h w 3], not {image.dtype} {list(image.shape)}")
    return image


def _draw_frame(image: np.ndarray, box: np.ndarray, colour: Colour, line: int) -> np.ndarray:
    """Draws around `box`, kept inside the image; returns the frame's outer edge, xyxy int."""
    h, w = image.shape[:2]
    x0, y0, x1, y1 = box
    tiny = min(x1 - x0, y1 - y0) < TINY * line
    grow = line * (1 + GAP) if tiny else line
    x0, y0 = int(np.floor(x0)) - grow, int(np.floor(y0)) - grow
    x1, y1 = int(np.ceil(x1)) + grow, int(np.ceil(y1)) + grow
    x0, x1 = np.clip([x0, x1], 0, w)
    y0, y1 = np.clip([y0, y1], 0, h)
    image[y0 : min(y0 + line, y1), x0:x1] = colour
    image[max(y1 - line, y0) : y1, x0:x1] = colour
    image[y0:y1, x0 : min(x0 + line, x1)] = colour
    image[y0:y1, max(x1 - line, x0) : x1] = colour
    return np.array([x0, y0, x1, y1])


def _draw_caption(image, own, text, colour, font, frames, taken):
    """Writes on a strip of `colour`: above its own frame, below it, beside it, or else inside it.

    Kept within the image; of these places the one that hides least of the framed objects and of the
    captions in `taken` wins. Returns the strip's rectangle.
    """
    h, w = image.shape[:2]
    strip = _text(text, font, colour, w)[:h]
    sh, sw = strip.shape[:2]
    x0, y0, x1, y1 = own
    outside = [(x0, y0 - sh), (x0, y1), (x1 - sw, y0 - sh), (x1 - sw, y1), (x1, y0), (x0 - sw, y0)]
    wished = np.array([*outside, (x0, y0)])
    corners = np.clip(wished, 0, (w - sw, h - sh))
    places = np.concatenate([corners, corners + (sw, sh)], axis=1)
    hidden = _overlaps(places, frames) / np.maximum(
        np.prod(frames[:, 2:] - frames[:, :2], axis=1), 1
    )
    cost = strip[..., 0].size * hidden.sum(axis=1)  # in pixels, a whole object counts as a caption
    cost += _overlaps(places, np.reshape(taken, (-1, 4))).sum(axis=1)
    cost += abs(corners - wished).sum(axis=1) + 3 * np.arange(len(places))
    x, y = corners[int(np.argmin(cost))]
    image[y : y + sh, x : x + sw] = strip
    return np.array([x, y, x + sw, y + sh])


def _overlaps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Areas shared by xyxy rectangles `[n 4]` and `[m 4]`: `[n m]`."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    return np.prod(np.maximum(high - low, 0), axis=2)


@functools.lru_cache(maxsize=512)
def _text(text: str, size: int, colour: Colour, widest: int) -> np.ndarray:
    """A strip of `colour` with `text` in black or white, at most `widest` pixels: `[h w 3]`."""
    font = _font(font_for(text), size)
    pad = max(1, size // 6)
    while len(text) > 1 and font.getlength(text) + 2 * pad > widest:
        text = text[:-2] + "…" if text.endswith("…") else text[:-1] + "…"
    ascent, descent = font.getmetrics()
    width = min(widest, int(np.ceil(font.getlength(text))) + 2 * pad)
    strip = Image.new("RGB", (width, ascent + descent), tuple(colour))
    luminance = float(np.dot(colour, (0.299, 0.587, 0.114)))
    ImageDraw.Draw(strip).text(
        (pad, 0), text, fill="black" if luminance > 140 else "white", font=font
    )
    array = np.asarray(strip)
    array.setflags(write=False)
    return array


@functools.lru_cache(maxsize=32)
def _font(path: Path, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size)
