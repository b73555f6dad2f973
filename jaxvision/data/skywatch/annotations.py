"""The boxes of scenes and clips as COCO JSON, and counted in a table."""

import collections
import json
import os
from pathlib import Path

import numpy as np

from jaxvision.data.skywatch.looks import CLASSES
from jaxvision.data.skywatch.preset import VERSION


def stills_json(rows: list, parameters: dict) -> bytes:
    """COCO for rows of (image record, boxes, labels)."""
    size, images, annotations = parameters["size"], [], []
    for image, boxes, labels in rows:
        images.append({"id": len(images) + 1, **image, "width": size, "height": size})
        _annotations(annotations, len(images), boxes, labels)
    return _json(_header(parameters) | {"images": images, "annotations": annotations})


def clips_json(rows: list, parameters: dict) -> bytes:
    """COCO with the video fields of YouTube-VIS and TAO: videos, video_id, frame_id, track_id."""
    size, videos, images, annotations = parameters["size"], [], [], []
    shape = {"width": size, "height": size}
    for video, frames in rows:
        videos.append({"id": len(videos) + 1, **video, **shape})
        for frame_id, (name, boxes, labels, tracks) in enumerate(frames):
            place = {"video_id": len(videos), "frame_id": frame_id}
            images.append({"id": len(images) + 1, "file_name": name, **place, **shape})
            _annotations(annotations, len(images), boxes, labels, tracks)
    body = {"videos": videos, "images": images, "annotations": annotations}
    return _json(_header(parameters) | body)


def table(root: str | os.PathLike) -> str:
    """Boxes of each split, by class and by size, as text."""
    bounds = (8, 16, 32, 96)
    bins = ["<8 px", *(f"{a}-{b}" for a, b in zip(bounds, bounds[1:], strict=False)), "≥96"]
    lines = []
    for path in sorted((Path(root) / "annotations").glob("instances_*.json")):
        data = json.loads(path.read_text())
        names = {c["id"]: c["name"] for c in data["categories"]}
        counts = collections.Counter()
        for a in data["annotations"]:
            column = int(
                np.searchsorted(bounds, (a["bbox"][2] * a["bbox"][3]) ** 0.5, side="right")
            )
            counts[names[a["category_id"]], column] += 1
        total = max(1, len(data["annotations"]))
        empty = len(data["images"]) - len({a["image_id"] for a in data["annotations"]})
        lines.append(
            f"{path.stem.removeprefix('instances_')}: {len(data['images'])} images "
            f"({empty} without an object), {len(data['annotations'])} boxes, by root of area"
        )
        lines.append(
            f"  {'class':11s}{'boxes':>7s}{'share':>8s}" + "".join(f"{b:>8s}" for b in bins)
        )
        for name in names.values():
            row = [counts[name, i] for i in range(len(bins))]
            share = f"{sum(row) / total:8.1%}"
            lines.append(f"  {name:11s}{sum(row):7d}{share}" + "".join(f"{n:8d}" for n in row))
    return "\n".join(lines)


def _header(parameters: dict) -> dict:
    return dict(
        info={"description": "SkyWatch scenes", "version": VERSION, "parameters": parameters},
        licenses=[],
        categories=[
            {"id": i + 1, "name": name, "supercategory": "sky"} for i, name in enumerate(CLASSES)
        ],
    )


def _annotations(annotations: list, image: int, boxes, labels, tracks=None) -> None:
    """Appends a picture's boxes; `area` is the area of the box."""
    for i, (box, label) in enumerate(zip(boxes, labels, strict=True)):
        x0, y0, x1, y1 = (float(v) for v in box)
        record = dict(
            id=len(annotations) + 1,
            image_id=image,
            category_id=int(label) + 1,
            bbox=[x0, y0, x1 - x0, y1 - y0],
            area=(x1 - x0) * (y1 - y0),
            iscrowd=0,
        )
        annotations.append(record if tracks is None else record | {"track_id": int(tracks[i]) + 1})


def _json(data: dict) -> bytes:
    return json.dumps(data, separators=(",", ":")).encode()
