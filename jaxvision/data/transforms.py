"""From a source of images to the rows of a detector's batches, for training and for evaluation."""

import dataclasses

import grain
import numpy as np

from jaxvision.data.coco import CocoSource
from jaxvision.data.colour import colour_jitter, motion_blur, noise
from jaxvision.data.geometry import GREY, Sample, fit_scale, flip, scale_jitter
from jaxvision.data.geometry import letterbox as letterbox
from jaxvision.data.mosaic import copy_paste, mosaic, quadrants
from jaxvision.data.pipeline import repeat_factors, shuffled
from jaxvision.data.rows import boxes_needed, to_batch_row


@dataclasses.dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """How training images are changed; `AugmentConfig.none()` only fits them onto the canvas.

    `flip`, `mosaic`, `copy_paste`, `blur` and `noise` are probabilities. `scale` are the smallest
    and the largest size relative to the one that fits, drawn log-uniformly; see `scale_jitter` for
    `focus` and `min_visible`, `colour_jitter` for the four colours. Objects up to `paste_small`
    pixels of area are pasted, `paste_count` at a time. Images with a class that is in less than the
    fraction `rare` of images come more often (`repeat_factors`); 0 leaves all alike.
    """

    flip: float = 0.5
    scale: tuple[float, float] = (0.6, 1.6)
    focus: float = 0.5
    min_visible: float = 0.3
    brightness: float = 0.3
    contrast: float = 0.3
    saturation: float = 0.4
    hue: float = 0.02
    mosaic: float = 0.0
    copy_paste: float = 0.0
    paste_count: int = 3
    paste_small: float = 32.0**2
    blur: float = 0.0
    blur_length: float = 7.0
    noise: float = 0.0
    noise_sigma: float = 8.0
    rare: float = 0.0
    pad: int = GREY

    def __post_init__(self):
        for name in ("flip", "focus", "min_visible", "mosaic", "copy_paste", "blur", "noise"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"augment.{name}={getattr(self, name)} must be from 0 to 1")
        for name in ("brightness", "contrast", "saturation", "hue", "rare"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"augment.{name}={getattr(self, name)} must be from 0 to below 1")
        if len(self.scale) != 2 or not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"augment.scale={self.scale} must be (smallest, largest), above 0")

    @classmethod
    def none(cls) -> "AugmentConfig":
        nothing = dict.fromkeys(("flip", "brightness", "contrast", "saturation", "hue"), 0.0)
        return cls(scale=(1.0, 1.0), **nothing)


class TrainExamples(grain.MapDataset[dict[str, np.ndarray]]):
    """Augmented rows: example g depends on (seed, g) alone. See `train_examples`."""

    def __init__(
        self,
        source: CocoSource,
        augment: AugmentConfig,
        *,
        size: tuple[int, int],
        max_boxes: int,
        seed: int,
    ):
        super().__init__()
        self._source, self._augment, self._seed = source, augment, seed
        self._size, self._max_boxes = size, max_boxes
        labels = [source.objects(i)["labels"] for i in range(len(source))]
        weights = repeat_factors(labels, classes=len(source.categories), rare=augment.rare)
        weights[list(source.missing)] = 0
        self._order = shuffled(len(source), seed=seed, weights=weights)

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return self.slice(index)
        rng = np.random.default_rng((self._seed, 1, int(index)))
        sample = self._augmented(self._order[int(index)], rng)
        return to_batch_row(sample, self._max_boxes, rng=rng)

    def _augmented(self, index: int, rng: np.random.Generator) -> Sample:
        augment, size = self._augment, self._size
        if rng.random() < augment.mosaic:
            regions = quadrants(size, rng)
            chosen = [index, *(self._other(rng) for _ in regions[1:])]
            tiles = [
                self._jittered(i, region[2:], rng)
                for i, region in zip(chosen, regions, strict=True)
            ]
            sample = mosaic(tiles, regions, size)
        else:
            sample = self._jittered(index, size, rng)
        if rng.random() < augment.copy_paste:
            donor = self._jittered(self._other(rng), size, rng)
            limits = dict(count=augment.paste_count, small=augment.paste_small)
            sample = copy_paste(sample, donor, rng, **limits)
        if rng.random() < augment.flip:
            sample = flip(sample)
        return sample | dict(image=self._photographed(sample["image"], rng))

    def _photographed(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        augment = self._augment
        colours = {k: getattr(augment, k) for k in ("brightness", "contrast", "saturation", "hue")}
        if any(colours.values()):
            image = colour_jitter(image, rng, **colours)
        if rng.random() < augment.blur:
            image = motion_blur(image, rng, length=augment.blur_length)
        if rng.random() < augment.noise:
            image = noise(image, rng, sigma=augment.noise_sigma)
        return image

    def _other(self, rng: np.random.Generator) -> int:
        """Another image, drawn as the order of an epoch draws them."""
        return self._order[int(rng.integers(len(self._order)))]

    def _jittered(self, index: int, size: tuple[int, int], rng: np.random.Generator) -> Sample:
        augment = self._augment
        ratio = float(np.exp(rng.uniform(*np.log(augment.scale))))
        sample = _read(self._source, index, size, ratio)
        if sample["broken"]:  # its objects cannot be seen
            none = {key: sample[key][:0] for key in ("boxes", "labels", "crowd")}
            sample = sample | none
        return scale_jitter(
            sample,
            size,
            rng,
            ratio=ratio,
            focus=augment.focus,
            pad=augment.pad,
            min_visible=augment.min_visible,
        )


def train_examples(
    source: CocoSource,
    augment: AugmentConfig,
    *,
    size: tuple[int, int],
    max_boxes: int,
    seed: int,
) -> grain.MapDataset:
    """Augmented rows on a canvas of `size` (h, w), shuffled anew each epoch, for `batches`.

    Of a mosaic with more than `max_boxes` objects a random part is kept; a single image with more
    is refused, for what is left out would be learned as background. An image that cannot be read
    gives a grey row without objects, unless the source raises.
    """
    counts = np.diff(source.annotations.first)
    if counts.max() > max_boxes:
        name = source.images[int(counts.argmax())]["file_name"]
        raise ValueError(
            f"max_boxes={max_boxes} is too few to train on {source.annotations.file}: {name} has "
            f"{counts.max()} objects; set data.max_boxes={max_boxes_of(source, augment)}, or 0 to "
            "follow the annotations"
        )
    return TrainExamples(source, augment, size=tuple(size), max_boxes=max_boxes, seed=seed)


def max_boxes_of(source: CocoSource, augment: AugmentConfig) -> int:
    """The `max_boxes` that training on `source` needs."""
    most = int(np.diff(source.annotations.first).max())
    return boxes_needed(most, pasted=augment.paste_count if augment.copy_paste else 0)


class EvalExamples(grain.MapDataset[dict[str, np.ndarray]]):
    """Every image once, in the source's order, letterboxed. See `eval_examples`."""

    def __init__(self, source: CocoSource, *, size: tuple[int, int], max_boxes: int):
        super().__init__()
        self._source, self._size, self._max_boxes = source, size, max_boxes

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return self.slice(index)
        sample = _read(self._source, int(index) % len(self), self._size, 1.0)
        canvas, fit = letterbox(sample["image"], self._size)
        boxes = sample["boxes"] * fit[0] + fit[[1, 2, 1, 2]]
        fit[0] *= sample["image"].shape[0] / sample["size"][0]  # from the pixels of the file
        row = sample | dict(image=canvas, boxes=boxes)
        return to_batch_row(row, self._max_boxes, letterbox=fit)


def eval_examples(source: CocoSource, *, size: tuple[int, int], max_boxes: int) -> grain.MapDataset:
    """One row an image, fitted onto a canvas of `size` (h, w), for `batches`.

    A row holds up to `max_boxes` objects; metrics take all of them from the source. An image that
    cannot be read is grey and keeps its objects: they count as missed.
    """
    return EvalExamples(source, size=tuple(size), max_boxes=max_boxes)


def _read(source: CocoSource, index: int, size: tuple[int, int], ratio: float) -> Sample:
    """Reads an image, to be seen at `ratio` times the size that fits, no larger than needed."""
    record = source.images[index]
    scale = fit_scale(record["height"], record["width"], size) * ratio
    reduce = next((r for r in (8, 4, 2) if r * scale <= 1), 1)
    return source.sample(index, reduce=reduce)
