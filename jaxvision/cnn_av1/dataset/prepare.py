"""From a labelled set to what training reads: the scripts 001 and 002 of the seed.

`block_<size>/{train,val}.npz`, all blocks, and `block_<size>/metadata.json`; for sizes with such
partitions `stage3/rect/{train,val}.npz`, the stripes, and `stage3/ab_{1,2,3}/{train,val}.npz`, the
unequal ones in three drawings (`dataset/ensembles.py`; `stage3_<size>` where the size is not 16).
What validates is all of the sources held back, the same for all three.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from jaxvision.cnn_av1.classes import AB_TYPES, RECT_TYPES
from jaxvision.cnn_av1.dataset import records, rows
from jaxvision.cnn_av1.dataset.align import labels_of
from jaxvision.cnn_av1.dataset.blocks_set import BlockSet
from jaxvision.cnn_av1.dataset.check import check_files, check_sequence
from jaxvision.cnn_av1.dataset.ensembles import MEMBERS, bootstrap
from jaxvision.cnn_av1.dataset.manifest import NAME, held_sources, read_manifest
from jaxvision.cnn_av1.dataset.merge import merged
from jaxvision.cnn_av1.dataset.split import TRAIN, VAL, split_sources


def prepare(
    root: Path,
    out: Path,
    *,
    size: int = 16,
    share: float | None = None,
    seed: int | None = None,
    val: tuple[str, ...] = (),
    key_frames: bool = False,
    say: Callable[[str], None] = print,
) -> None:
    """Writes the sets of one size; files that are there and fit are kept.

    The split is the manifest's, unless `share`, `seed` or `val` ask for another. `key_frames`
    leaves out blocks of frames that lean on others.

    Raises:
      ValueError: for a set that is not whole, a size that it does not hold, fewer than two sources,
        and frames that are on both sides of the split under two names.
    """
    root, out = Path(root), Path(out)
    manifest = read_manifest(root)
    if str(size) not in manifest["contexts"]:
        there = ", ".join(manifest["contexts"])
        raise ValueError(f"{root} holds no blocks of {size}, but of {there}: run `blocks --sizes`")
    split = _split(manifest, share, seed, val)
    check_same_pixels(manifest["sequences"], split)
    made_of = {"manifest": records.sha256(root / NAME), "size": size, "split": split}
    made_of |= {"seed": 42 if seed is None else seed, "key_frames": key_frames}
    path = out / f"block_{size}" / "metadata.json"
    if _finished(out, path, made_of):
        say(f"{path}: all was made before, and kept")
        return
    path.unlink(missing_ok=True)  # void from now on
    sides = {
        side: _side(root, manifest, size, [n for n, s in split.items() if s == side], key_frames)
        for side in (TRAIN, VAL)
    }
    files, about = [], {}
    for name, chosen in _sets(sides, size, made_of["seed"], manifest).items():
        about[name] = {}
        for side, blocks in chosen.items():
            files.append(out / name / f"{side}.npz")
            blocks.save(files[-1])
            about[name][side] = _told(blocks)
        counts = ", ".join(f"{side} {len(blocks)} blocks" for side, blocks in chosen.items())
        say(f"{out / name}: {counts}")
        if not all(len(blocks) for blocks in chosen.values()):
            say(
                f"warning: {out / name} cannot be trained on and measured: label more, or give "
                "--val-share or --val-sources"
            )
    value = {
        "made_of": made_of,
        "size": size,
        "context": manifest["contexts"][str(size)],
        "depth": manifest["depth"],
        "split": {side: [n for n, s in split.items() if s == side] for side in (TRAIN, VAL)},
        "sequences": {side: list(sides[side].names) for side in sides},
        "sets": about,
        "files": records.described(out, files),
    }
    records.write_json(path, value)
    say(f"{path}: written")


def check_same_pixels(sequences: records.Record, split: dict[str, str]) -> None:
    """ValueError for a frame whose luminance trains under one name and validates under another."""
    seen: dict[str, tuple[str, str]] = {}
    for name, about in sequences.items():
        for frame, total in about.get("luma", {}).items():
            side = split[about["source"]]
            other, its = seen.setdefault(total, (f"{name}, frame {frame}", side))
            if its != side:
                raise ValueError(
                    f"{other} ({its}) and {name}, frame {frame} ({side}) are the same picture: "
                    "make them one source (--source), or put both on one side by --val-sources"
                )


def _split(manifest, share, seed, val) -> dict[str, str]:
    asked = share is not None or seed is not None or val
    if manifest["split"] and not asked:
        return manifest["split"]["sources"]
    return split_sources(
        held_sources(manifest["sequences"]),
        share=0.2 if share is None else share,
        seed=42 if seed is None else seed,
        val=val,
    )


def _finished(out: Path, path: Path, made_of: records.Record) -> bool:
    if not path.is_file():
        return False
    value = records.read_json(path)
    return value["made_of"] == made_of and all(
        (out / name).is_file() and records.sha256(out / name) == facts["sha256"]
        for name, facts in value["files"].items()
    )


def _side(root: Path, manifest, size: int, sources: list[str], key_frames: bool) -> BlockSet:
    """All blocks of some sources; ValueError if a file is not the manifest's."""
    side = size + 2 * manifest["contexts"][str(size)]
    names, arrays = [], []
    for name, about in manifest["sequences"].items():
        if about["source"] not in sources or str(size) not in about["blocks"]:
            continue
        path, (labels, qps, index) = merged(root, name, size), labels_of(root, name, size)
        own = {p.relative_to(root).as_posix() for p in (path, labels, qps, index)}
        check_files(root, {f: v for f, v in manifest["files"].items() if f in own})
        check_sequence(root, manifest, name, size)
        blocks = np.fromfile(path, "<u2").astype(np.uint16).reshape(-1, side, side)
        blocks <<= 10 - manifest["depth"]
        kept = np.ones(len(blocks), bool)
        if key_frames:
            if not index.is_file():
                raise ValueError(f"{index}: there is no such file to tell key frames by")
            kept = np.array([row.is_key == 1 for row in rows.read_rows(index)], bool)
        found = blocks, np.fromfile(labels, np.uint8), np.fromfile(qps, np.uint8)
        arrays.append([*(x[kept] for x in found), np.full(kept.sum(), len(names), np.int32)])
        names.append(name)
    if not sum(len(parts[0]) for parts in arrays):
        raise ValueError(f"{root}: {', '.join(sources)}: no block of {size}; label more, or others")
    joined = [np.concatenate(parts) for parts in zip(*arrays, strict=True)]
    return BlockSet(*joined, tuple(names), size, manifest["contexts"][str(size)])


def _sets(sides: dict[str, BlockSet], size: int, seed: int, manifest):
    """Folder -> side -> the set to write there."""
    sets = {f"block_{size}": sides}
    if size == 8:  # whose partitions are the four basic ones
        return sets
    stage3 = "stage3" if size == 16 else f"stage3_{size}"
    rect, ab = (
        {side: blocks.take(np.isin(blocks.labels, kinds)) for side, blocks in sides.items()}
        for kinds in (RECT_TYPES, AB_TYPES)
    )
    sets[f"{stage3}/rect"] = rect
    train = ab[TRAIN]
    of = [manifest["sequences"][name]["source"] for name in train.names]
    source = np.array([sorted(set(of)).index(one) for one in of], np.int32)[train.sequence]
    for member in range(1, MEMBERS + 1):
        drawn = bootstrap(source, train.labels, seed=seed, member=member)
        sets[f"{stage3}/ab_{member}"] = {TRAIN: train.take(drawn), VAL: ab[VAL]}
    return sets


def _told(blocks: BlockSet) -> records.Record:
    counts = blocks.counts()
    return {
        "blocks": len(blocks),
        "counts": counts,
        "shares": {name: round(n / max(1, len(blocks)), 6) for name, n in counts.items()},
        "sequences": {
            name: int((blocks.sequence == i).sum()) for i, name in enumerate(blocks.names)
        },
        "qps": {str(qp): int((blocks.qps == qp).sum()) for qp in np.unique(blocks.qps)},
    }
