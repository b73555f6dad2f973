"""Small labelled sets and videos, made without an encoder, for the tests of CNN-AV1's data."""

from pathlib import Path

import numpy as np

from jaxvision.data import y4m

SEQUENCES = {"ape": 40, "bee": 30, "cat": 50, "dog": 20, "elk": 35, "fox": 25}  # blocks of each


def raw_folder(folder: Path, *, size: int = 16, sequences=None) -> Path:
    """The seed's layout: a block's first pixel tells its place in all of them."""
    rng, place = np.random.default_rng(0), 0
    for name in ("intra_raw_blocks", "labels", "qps"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name, count in (SEQUENCES if sequences is None else sequences).items():
        blocks = rng.integers(0, 1024, (count, size, size)).astype("<u2")
        blocks[:, 0, 0] = place + np.arange(count)
        labels = (np.arange(count) % 10).astype(np.uint8)
        (folder / "intra_raw_blocks" / f"{name}_{size}.bin").write_bytes(blocks.tobytes())
        (folder / "labels" / f"{name}_{size}.bin").write_bytes(labels.tobytes())
        qps = np.full(count, 100 + place % 100, np.uint8)
        (folder / "qps" / f"{name}_{size}.bin").write_bytes(qps.tobytes())
        place += count
    return folder


def video(
    path: Path, *, width=72, height=40, depth=10, frames=3, seed=0, content=None
) -> list[y4m.Planes]:
    """Writes a `.y4m` of noise, or of `content`, and returns its frames."""
    rng = np.random.default_rng(seed)
    kind = "420jpeg" if depth == 8 else "420p10"
    header = y4m.parsed(f"YUV4MPEG2 W{width} H{height} F30:1 C{kind}\n".encode(), depths=(8, 10))
    dtype = np.uint8 if depth == 8 else np.uint16
    made = content or [
        tuple(rng.integers(0, 1 << depth, shape).astype(dtype) for shape in header.shapes)
        for _ in range(frames)
    ]
    with path.open("wb") as file:
        y4m.write(file, header, made)
    return made
