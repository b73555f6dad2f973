"""Blocks with their labels in memory, and as one file."""

import dataclasses
import os
import zipfile
from pathlib import Path

import numpy as np

from jaxvision.data.av1 import partitions
from jaxvision.written import whole_file

FORMAT = "jaxvision blocks 1"
LARGEST = 1023  # 10 bits
BASIC = 4  # partitions whose costs are known


@dataclasses.dataclass(frozen=True, eq=False)
class BlockSet:
    """Luminance of nodes of one size, and what the encoder made of them.

    `blocks` uint16 `[n p p]`, 10 bits (those of 8-bit video are shifted left by 2), with
    p = size + 2 context; `labels` uint8 `[n]`, partition types; `qps` uint8 `[n]`, the frame's base
    index; `sequence` int32 `[n]`, an index into `names`; `costs` float32 `[n 4]`, the encoder's
    rate-distortion costs of NONE, HORZ, VERT and SPLIT, NaN for what it did not search.

    Raises:
      ValueError: on construction, for unequal numbers, other shapes and types, values out of range.
    """

    blocks: np.ndarray
    labels: np.ndarray
    qps: np.ndarray
    sequence: np.ndarray
    names: tuple[str, ...]
    size: int
    context: int = 0
    costs: np.ndarray | None = None

    def __post_init__(self):
        counts = {key: len(getattr(self, key)) for key in ("blocks", "labels", "qps", "sequence")}
        counts |= {} if self.costs is None else {"costs": len(self.costs)}
        if len(set(counts.values())) > 1:
            told = ", ".join(f"{count} {key}" for key, count in counts.items())
            raise ValueError(f"a set of blocks has as many of each, not {told}")
        n, side = counts["blocks"], self.size + 2 * self.context
        wanted = {
            "blocks": ((n, side, side), np.uint16),
            "labels": ((n,), np.uint8),
            "qps": ((n,), np.uint8),
            "sequence": ((n,), np.int32),
        } | ({} if self.costs is None else {"costs": ((n, BASIC), np.float32)})
        for key, (shape, dtype) in wanted.items():
            array = getattr(self, key)
            if array.shape != shape or array.dtype != dtype:
                raise ValueError(
                    f"{key} are {array.dtype} {array.shape}, not {np.dtype(dtype)} {shape} (size "
                    f"{self.size}, context {self.context})"
                )
        if not n:
            return
        if self.blocks.max() > LARGEST:
            raise ValueError(f"a pixel is {self.blocks.max()}, beyond 10 bits")
        impossible = ~np.isin(self.labels, partitions.possible(self.size))
        if impossible.any():
            label = self.labels[impossible.argmax()]
            raise ValueError(f"label {label} is none that a node of {self.size} pixels can have")
        if self.sequence.min() < 0 or self.sequence.max() >= len(self.names):
            raise ValueError(f"a sequence's number is not from 0 to {len(self.names) - 1}")

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: np.ndarray) -> "BlockSet":
        """The blocks that integers `[m]` or a mask `[n]` choose; `names` stay."""
        arrays = {key: getattr(self, key)[index] for key in ("blocks", "labels", "qps", "sequence")}
        costs = None if self.costs is None else self.costs[index]
        return dataclasses.replace(self, **arrays, costs=costs)

    def counts(self) -> dict[str, int]:
        """How many blocks there are of each of the ten types, by name, in the order of ids."""
        found = np.bincount(self.labels, minlength=len(partitions.NAMES))
        return {name: int(n) for name, n in zip(partitions.NAMES, found, strict=True)}

    def save(self, path: Path) -> None:
        """Writes `path`, an `.npz`, whole or not at all; the same set makes the same bytes."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays = {key: getattr(self, key) for key in ("blocks", "labels", "qps", "sequence")}
        arrays |= {} if self.costs is None else {"costs": self.costs}
        about = {"format": FORMAT, "names": np.array(self.names, dtype=np.str_)}
        about |= {"size": self.size, "context": self.context}
        with whole_file(path) as part, part.open("wb") as file:
            np.savez(file, **arrays, **about)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "BlockSet":
        """ValueError, with the file's name, for what is no such set; OSError if it is not there."""
        try:
            with np.load(path, allow_pickle=False) as file:
                if str(file["format"]) != FORMAT:
                    raise ValueError(f"its format is {file['format']}, not {FORMAT}")
                arrays = {key: file[key] for key in ("blocks", "labels", "qps", "sequence")}
                return cls(
                    **arrays,
                    names=tuple(map(str, file["names"])),
                    size=int(file["size"]),
                    context=int(file["context"]),
                    costs=file["costs"] if "costs" in file else None,
                )
        except (KeyError, TypeError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"{os.fspath(path)} is no set of blocks: {error}") from error
