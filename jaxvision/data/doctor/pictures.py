"""What the image files of one split look like: readable, of the stated size, not twice there."""

import collections
import dataclasses
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from jaxvision.data.doctor.finding import ERROR, OK, WARN, Finding, some
from jaxvision.data.doctor.table import Table
from jaxvision.data.images import read_image
from jaxvision.data.layout import missing_files

IMAGE_ENDINGS = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"))
ORIENTATION, TURNED = 0x0112, (5, 6, 7, 8)  # the EXIF tag, and its values that swap the sides
THUMB = 32


@dataclasses.dataclass(frozen=True)
class Picture:
    """What is kept of an image: (width, height) upright, hashes, a thumbnail of its detail."""

    row: int
    size: tuple[int, int]
    turned: bool
    digest: bytes
    dhash: int
    detail: np.ndarray


def look(table: Table, *, sample: int, workers: int) -> tuple[list[Picture], list[Finding]]:
    """Opens `sample` files evenly spread over the split, all for 0; says what is wrong."""
    missing = set(missing_files(table.folder, table.files))
    there = [i for i in range(len(table.files)) if i not in missing]
    if sample and len(there) > sample:
        there = [there[i] for i in np.linspace(0, len(there) - 1, sample).astype(int)]
    with ThreadPoolExecutor(workers) as pool:
        seen = list(pool.map(lambda row: _open(table.folder / table.files[row], row), there))
    pictures = [s for s in seen if isinstance(s, Picture)]
    broken = [s for s in seen if isinstance(s, str)]
    findings = []
    if missing:
        text = f"{len(missing)} of {len(table.files)} files are missing in {table.folder.name}/: "
        mend = "copy them there, or write file_name relative to the images folder"
        text += some(table.files[i] for i in sorted(missing))
        findings.append(Finding(ERROR, "files", text, mend))
    if broken:
        text = f"{len(broken)} files cannot be read: {some(broken)}"
        findings.append(
            Finding(ERROR, "files", text, "copy them again, or remove them and their boxes")
        )
    if not findings:
        text = f"{len(pictures)} of {len(table.files)} files opened, all whole"
        findings.append(Finding(OK, "files", text))
    return pictures, [*findings, *_sizes(table, pictures), *_unlisted(table)]


def _open(path: Path, row: int) -> Picture | str:
    try:
        data = path.read_bytes()
        image = read_image(path)
        with Image.open(path) as opened:
            turned = opened.getexif().get(ORIENTATION, 1) in TURNED
    except (OSError, ValueError) as error:
        reason = str(error).removeprefix(f"{path}: ")
        return f"{path.name} ({reason})"
    height, width = image.shape[:2]
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (9, 8), interpolation=cv2.INTER_AREA)
    bits = (small[:, 1:] > small[:, :-1]).ravel()
    thumb = cv2.resize(grey, (THUMB, THUMB), interpolation=cv2.INTER_AREA).astype(np.float32)
    detail = thumb - cv2.blur(thumb, (9, 9))
    return Picture(
        row=row,
        size=(width, height),
        turned=turned,
        digest=hashlib.blake2b(data, digest_size=16).digest(),
        dhash=int.from_bytes(np.packbits(bits).tobytes(), "big"),
        detail=(detail / max(float(np.linalg.norm(detail)), 1e-6)).astype(np.float16),
    )


def _sizes(table: Table, pictures: list[Picture]) -> list[Finding]:
    swapped, other = [], []
    for picture in pictures:
        stated = tuple(table.sizes[picture.row])
        if np.isnan(stated).any() or stated == picture.size:
            continue
        name = table.files[picture.row]
        if picture.turned and stated == picture.size[::-1]:
            swapped.append(name)
        else:
            told, real = ("x".join(f"{v:.0f}" for v in s) for s in (stated, picture.size))
            other.append(f"{name} (JSON {told}, file {real})")
    findings = []
    if swapped:
        text = (
            f"{len(swapped)} files are rotated by EXIF, but the JSON has the size before rotation, "
            f"so their boxes lie elsewhere: {some(swapped)}"
        )
        mend = (
            "boxes drawn on the unrotated picture: remove the EXIF tag; else swap width and height"
        )
        findings.append(Finding(ERROR, "rotation", text, mend))
    if other:
        text = f"{len(other)} files are not of the size that the JSON states: {some(other)}"
        mend = "were the images resized after labelling? scale the boxes, or restore the images"
        findings.append(Finding(ERROR, "size", text, mend))
    return findings or [Finding(OK, "size", "files have the size that the JSON states")]


def _unlisted(table: Table) -> list[Finding]:
    """Images in the folders that the listed files lie in."""
    listed = collections.defaultdict(set)
    for name in table.files:
        path = table.folder / name
        listed[path.parent].add(path.name)
    extra = [
        entry.name
        for folder, names in listed.items()
        if folder.is_dir()
        for entry in os.scandir(folder)
        if Path(entry.name).suffix.lower() in IMAGE_ENDINGS and entry.name not in names
    ]
    if not extra:
        return []
    text = f"{len(extra)} image files are not listed: {some(sorted(extra))}"
    return [
        Finding(WARN, "unlisted", text, "list them (also those without objects), or remove them")
    ]
