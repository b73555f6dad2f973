"""Detection data in COCO's form: a folder of images and a JSON file of boxes."""

import dataclasses
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from absl import logging

from jaxvision.data import layout
from jaxvision.data.annotations import Annotations, Keep, read
from jaxvision.data.images import image_size, read_image
from jaxvision.data.layout import find as find

Broken = Literal["skip", "error"]

_GREY = 114
_SPOT_CHECKS = 8
_FEW, _MOST_FAULTY = 10, 0.1


class CocoSource:
    """Images with their objects, by index; made by `CocoSource.load`.

    `source[i]` is a dict of `image` uint8 `[h w 3]` RGB, `boxes` float32 `[n 4]` xyxy in its
    pixels, `labels` int32 `[n]`, `crowd` bool `[n]`, `area` float32 `[n]`, `index` i, `size` (h, w)
    and `broken`. Images without objects are images like others.

    With `broken="skip"` an image that cannot be read comes as a grey one of its recorded size with
    `broken` True; each is named in a warning with a running count, and kept in `unreadable`; more
    than a tenth of all are an error. What other processes have read, `note` counts. With
    `broken="error"` it raises a `ValueError` or `OSError` that names the file.
    """

    def __init__(self, annotations: Annotations, folder: Path, *, broken: Broken = "skip"):
        if broken not in ("skip", "error"):
            raise ValueError(f"broken={broken!r} must be 'skip' or 'error'")
        self.annotations, self.folder, self.broken = annotations, Path(folder), broken
        self.images: Sequence[Mapping[str, Any]] = annotations.images
        self.categories = annotations.categories
        self.category_ids = annotations.category_ids
        self.unreadable: dict[int, str] = {}
        self.missing: frozenset[int] = frozenset()

    @classmethod
    def load(
        cls,
        images: str | os.PathLike,
        annotations: str | os.PathLike,
        *,
        subset: Collection[Any] | Keep | None = None,
        holdout: tuple[str, int, int, bool] | None = None,
        broken: Broken = "skip",
    ) -> "CocoSource":
        """Reads and checks the annotations, looks for the image files, and logs what there is.

        `subset` is a collection of image ids or a predicate on an image's record in the JSON;
        `holdout` holds the arguments of the function of that name.
        """
        folder, path = Path(images), Path(annotations)
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder}: no such folder of images")
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such annotations file")
        tests: list[Keep] = [layout.holdout(*holdout)] if holdout else []
        if callable(subset):
            tests.append(subset)
        elif subset is not None:
            ids = frozenset(subset)
            tests.append(lambda image: image["id"] in ids)
        read_annotations = read(
            path,
            keep=lambda image: all(test(image) for test in tests),
            size_of=lambda name: image_size(folder / name),
        )
        source = cls(read_annotations, folder, broken=broken)
        source._find_files()
        source._spot_check()
        logging.info("%s", source.report())
        for problem in read_annotations.counts.problems():
            logging.warning("%s: %s", path, problem)
        return source

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.sample(index)

    def sample(self, index: int, *, reduce: int = 1) -> dict[str, Any]:
        """`source[index]`, decoded at `1/reduce` of its size where that is exact (`read_image`).

        `boxes` are in the pixels of the `image` given; `size` stays that of the file.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        record = self.images[index]
        size = (record["height"], record["width"])
        image, fault = self._image(index, reduce)
        sample = self.objects(index)
        sample["boxes"] = sample["boxes"] / (size[0] / image.shape[0])
        return sample | dict(image=image, index=index, size=np.array(size, np.int32), broken=fault)

    def objects(self, index: int) -> dict[str, np.ndarray]:
        """`boxes`, `labels`, `crowd` and `area` of an image, without reading it."""
        a = self.annotations
        span = slice(int(a.first[index]), int(a.first[index + 1]))
        return dict(
            boxes=a.boxes[span], labels=a.labels[span], crowd=a.crowd[span], area=a.area[span]
        )

    def note(self, batch: Mapping[str, np.ndarray]) -> None:
        """Counts and names the `broken` images of a batch, by looking at each new one again."""
        for index in batch["index"][batch["broken"]]:
            if index not in self.unreadable:
                self._image(int(index), 1)

    def path(self, index: int) -> Path:
        return self.folder / self.images[index]["file_name"]

    def report(self) -> str:
        """One line of counts."""
        c = self.annotations.counts
        return (
            f"{self.annotations.file}: {c.images} images ({c.empty} without objects), "
            f"{c.objects} objects of {len(self.categories)} classes, {c.crowds} crowd regions, "
            f"{len(self.missing)} image files missing, {c.clipped} boxes clipped, "
            f"{c.dropped} dropped"
        )

    @property
    def dataset(self) -> dict[str, Any]:
        """The data as read, in COCO's own form; images in the order of the indices."""
        a = self.annotations
        image_of = np.repeat(np.arange(len(self)), np.diff(a.first))
        annotations = [
            dict(
                id=k + 1,
                image_id=self.images[image]["id"],
                category_id=self.category_ids[label],
                bbox=[x0, y0, x1 - x0, y1 - y0],
                area=area,
                iscrowd=int(crowd),
            )
            for k, (image, (x0, y0, x1, y1), label, area, crowd) in enumerate(
                zip(image_of, a.boxes.tolist(), a.labels, a.area.tolist(), a.crowd, strict=True)
            )
        ]
        categories = [
            dict(id=i, name=name)
            for i, name in zip(self.category_ids, self.categories, strict=True)
        ]
        return dict(images=list(self.images), annotations=annotations, categories=categories)

    def with_categories(self, names: Sequence[str]) -> "CocoSource":
        """The same images with classes matched by name to `names`, in that order.

        Objects of other classes are left out (and counted in a warning). The ids stay where their
        order allows, else they become 1, 2, ….
        """
        to_new = np.array([names.index(n) if n in names else -1 for n in self.categories])
        if (to_new < 0).all():
            raise ValueError(
                f"{self.annotations.file}: no class in common: it has {list(self.categories)[:8]}, "
                f"wanted are {list(names)[:8]}"
            )
        old = self.annotations
        labels = to_new[old.labels]
        keep = labels >= 0
        if not keep.all():
            strange = ", ".join(n for n in self.categories if n not in names)
            text = "%s: %d objects left out, of classes not asked for: %s"
            logging.warning(text, old.file, (~keep).sum(), strange)
        ids = [dict(zip(self.categories, self.category_ids, strict=True)).get(n) for n in names]
        ordered = None not in ids and ids == sorted(ids)
        crowd = old.crowd[keep]
        first = np.concatenate([[0], np.cumsum(keep)])[old.first]
        renamed = dataclasses.replace(
            old,
            counts=dataclasses.replace(
                old.counts,
                objects=int((~crowd).sum()),
                crowds=int(crowd.sum()),
                empty=int((np.diff(first) == 0).sum()),
            ),
            categories=tuple(names),
            category_ids=tuple(ids if ordered else range(1, len(names) + 1)),
            labels=labels[keep].astype(np.int32),
            boxes=old.boxes[keep],
            crowd=crowd,
            area=old.area[keep],
            first=first,
        )
        source = CocoSource(renamed, self.folder, broken=self.broken)
        source.missing = self.missing
        return source

    def _image(self, index: int, reduce: int) -> tuple[np.ndarray, bool]:
        record = self.images[index]
        try:
            image = read_image(self.path(index), reduce=reduce)
            _check_size(image.shape[:2], record, self.path(index), reduce)
        except (OSError, ValueError) as error:
            if self.broken == "error":
                raise
            if index not in self.unreadable:
                self.unreadable[index] = str(error)
                text = f"{len(self.unreadable)} of {len(self)} images cannot be read"
                if self._too_many(self.unreadable):
                    raise ValueError(f"{text}, too many to go on; the last: {error}") from error
                logging.warning("%s: %s", text, error)
            return np.full((record["height"], record["width"], 3), _GREY, np.uint8), True
        return image, False

    def _find_files(self) -> None:
        missing = layout.missing_files(self.folder, [image["file_name"] for image in self.images])
        if not missing:
            return
        names = [self.images[i]["file_name"] for i in missing]
        text = f"{self.folder}: {len(names)} of {len(self)} image files are missing: "
        text += f"{', '.join(names[:3])}{', …' if len(names) > 3 else ''}"
        if len(missing) == len(self) or self.broken == "error" or self._too_many(missing):
            there = ", ".join(sorted(os.listdir(self.folder))[:3]) or "nothing"
            raise FileNotFoundError(f"{text}; the folder holds {there}")
        logging.warning("%s", text)
        self.missing = frozenset(missing)

    def _too_many(self, faulty: Collection[int]) -> bool:
        return len(faulty) > max(_FEW, _MOST_FAULTY * len(self))

    def _spot_check(self) -> None:
        """Refuses a source whose records give other sizes than the files, before a run reads it."""
        there = [i for i in range(len(self)) if i not in self.missing]
        chosen = there[:: max(1, len(there) // _SPOT_CHECKS)][:_SPOT_CHECKS]
        faults = []
        for index in chosen:
            try:
                _check_size(image_size(self.path(index)), self.images[index], self.path(index))
            except (OSError, ValueError) as error:
                faults.append(error)
        if len(faults) == len(chosen):
            raise ValueError(f"{faults[0]} (and so for all {len(chosen)} images looked at)")


def _check_size(
    size: tuple[int, int], record: Mapping[str, Any], path: Path, reduce: int = 1
) -> None:
    """Refuses an image that is not of its record's size, or that divided by `reduce`."""
    height, width = record["height"], record["width"]
    if (height, width) not in (tuple(size), (size[0] * reduce, size[1] * reduce)):
        raise ValueError(
            f"{path}: the image is {size[1]}x{size[0]} when upright, its record says "
            f"{width}x{height}: its boxes would not fit"
        )
