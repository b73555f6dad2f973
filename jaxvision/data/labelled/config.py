"""Which labelled pictures to take, and what to do to them."""

import dataclasses

KINDS = ("scenes", "coco", "davis")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScenesConfig:
    """Drawn scenes: how many to call an epoch, how many to evaluate on, and what is in them.

    A scene has up to `objects` objects, or with probability `empty` none; lengths are fractions of
    the picture's side.
    """

    train: int = 4096
    val: int = 128
    objects: int = 4
    empty: float = 0.05
    length: tuple[float, float] = (0.15, 0.45)

    def __post_init__(self):
        for name in ("train", "val", "objects"):
            if getattr(self, name) < 1:
                raise ValueError(f"labelled.scenes.{name}={getattr(self, name)} must be at least 1")
        if not 0 <= self.empty < 1:
            raise ValueError(f"labelled.scenes.empty={self.empty} must be from 0 to below 1")
        if len(self.length) != 2 or not 0 < self.length[0] <= self.length[1] <= 1:
            raise ValueError(
                f"labelled.scenes.length={self.length} must be (shortest, longest), from 0 to 1"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class CropConfig:
    """How training pictures from a folder are changed.

    `scale` are the smallest and the largest size relative to the one that fits the row, drawn
    log-uniformly. With probability `focus` a crop holds an object drawn at random. Objects of which
    less than `min_visible` is seen become regions to ignore. `flip` is a probability; the colours'
    numbers are those of `colour_jitter`.
    """

    scale: tuple[float, float] = (0.7, 2.0)
    focus: float = 0.7
    min_visible: float = 0.3
    flip: float = 0.5
    brightness: float = 0.15
    contrast: float = 0.15
    saturation: float = 0.2
    hue: float = 0.01

    def __post_init__(self):
        for name in ("focus", "min_visible", "flip"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"labelled.crops.{name}={getattr(self, name)} must be from 0 to 1")
        for name in ("brightness", "contrast", "saturation", "hue"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(
                    f"labelled.crops.{name}={getattr(self, name)} must be from 0 to below 1"
                )
        if len(self.scale) != 2 or not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(
                f"labelled.crops.scale={self.scale} must be (smallest, largest), above 0"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelledConfig:
    """Where labelled pictures come from.

    `kind` is one of

    * `scenes`: objects drawn on photographs, those of `root` or, where it is "", the embedded ones;
    * `coco`: a folder `root` in COCO's layout with the splits `train` and `val`, or `images` and
      `annotations` (`val_images`, `val_annotations`) name its parts. Where `group` names a field of
      the image records, `train` alone is read and every `holdout`-th group (a clip, say) of each
      category is held out. `masks` is a folder of class ids as PNGs, `root`/masks if it is "";
    * `davis`: a folder of DAVIS 2017.

    `segment_classes` is how many classes of the masks are kept, the most frequent by pixels in the
    training split, 0 for all. With `actions` the class of a picture is that of its objects where
    they have one. Rows are `size` pixels high and wide, to evaluate `val_size` (0: `size`); they
    hold `max_boxes` objects, 0 for as many as the training pictures need. `seed` chooses the scenes
    that are evaluated on, and is no part of the run's seed so that runs can be compared.
    """

    kind: str = "scenes"
    root: str = ""
    train: str = "train"
    val: str = "val"
    images: str = ""
    annotations: str = ""
    val_images: str = ""
    val_annotations: str = ""
    group: str = ""
    holdout: int = 5
    masks: str = ""
    segment_classes: int = 0
    actions: bool = True
    size: int = 128
    val_size: int = 0
    max_boxes: int = 0
    seed: int = 0
    scenes: ScenesConfig = ScenesConfig()
    crops: CropConfig = CropConfig()

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(f"labelled.kind={self.kind!r} is none of {KINDS}")
        parts = self.kind == "coco" and self.images and self.annotations
        if self.kind != "scenes" and not (self.root or parts):
            raise ValueError(
                f"labelled: no pictures for kind {self.kind!r}: give labelled.root=FOLDER"
            )
        for name, least in (("size", 32), ("holdout", 2), ("max_boxes", 0), ("seed", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"labelled.{name}={getattr(self, name)} must be at least {least}")
        if self.val_size and self.val_size < 32:
            raise ValueError(f"labelled.val_size={self.val_size} must be at least 32, or 0")
        if not 0 <= self.segment_classes <= 255:
            raise ValueError(
                f"labelled.segment_classes={self.segment_classes} must be from 0 to 255"
            )
