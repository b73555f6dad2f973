"""Pictures that are there twice, within a split or in two."""

import collections
import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from jaxvision.data.doctor.finding import ERROR, OK, WARN, Finding, some
from jaxvision.data.doctor.pictures import Picture
from jaxvision.data.doctor.table import Table

NEAR = 3  # differing bits of 64 up to which two pictures are compared closely
BANDS = 4  # two hashes that differ in NEAR bits agree in at least one of BANDS parts
SAME_DETAIL = 0.95  # correlation of two thumbnails without their large shapes
PLAIN = 400  # pictures that share a part of the hash; more are featureless, and not compared

Place = tuple[str, int]  # split, position in its list of pictures


def check(tables: Sequence[Table], pictures: Mapping[str, list[Picture]]) -> list[Finding]:
    """Exact and near duplicates of all splits together."""
    files = {t.name: t.files for t in tables}

    def name(place: Place) -> str:
        split, k = place
        return f"{split}/{files[split][pictures[split][k].row]}"

    places = [(split, k) for split, seen in pictures.items() for k in range(len(seen))]
    equal = collections.defaultdict(list)
    for split, k in places:
        equal[pictures[split][k].digest].append((split, k))
    exact = {p for group in equal.values() for p in itertools.combinations(group, 2)}
    near, plain = _near(places, pictures)
    findings = []
    for pairs, how, leak in ((exact, "identical", ERROR), (near - exact, "nearly the same", WARN)):
        inside = sorted(p for p in pairs if p[0][0] == p[1][0])
        across = sorted(p for p in pairs if p[0][0] != p[1][0])
        if across:
            shown = some(f"{name(a)} = {name(b)}" for a, b in across)
            text = f"{len(across)} pairs of {how} pictures in two splits: {shown}"
            mend = "keep each in one split (split by clip or by place): scores would flatter"
            findings.append(Finding(leak, "leakage", text, mend))
        if inside:
            shown = some(f"{name(a)} = {name(b)}" for a, b in inside)
            text = f"{len(inside)} pairs of {how} pictures within a split: {shown}"
            mend = (
                "remove the copies" if leak == ERROR else "frames of one clip? then split by clip"
            )
            findings.append(Finding(WARN, "duplicates", text, mend))
    if not findings:
        text = f"no duplicates among {len(places)} pictures"
        text += f" ({plain} too plain to compare)" if plain else ""
        findings.append(Finding(OK, "duplicates", text))
    return findings


def _near(places: list[Place], pictures: Mapping[str, list[Picture]]) -> tuple[set, int]:
    """Pairs whose difference hashes and details agree, and how many pictures were not compared."""
    bands = collections.defaultdict(list)
    for split, k in places:
        value = pictures[split][k].dhash
        for band in range(BANDS):
            bands[band, value >> (16 * band) & 0xFFFF].append((split, k))
    pairs, plain = set(), set()
    for group in bands.values():
        if len(group) > PLAIN:
            plain.update(group)
            continue
        if len(group) < 2:
            continue
        hashes = np.array([pictures[s][k].dhash for s, k in group], np.uint64)
        close = np.bitwise_count(hashes[:, None] ^ hashes[None]) <= NEAR
        for i, j in np.argwhere(np.triu(close, 1)):
            a, b = (pictures[s][k].detail.astype(np.float32) for s, k in (group[i], group[j]))
            if float((a * b).sum()) > SAME_DETAIL:
                pairs.add((group[i], group[j]))
    return pairs, len(plain)
