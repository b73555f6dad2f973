"""Which sources train and which validate: never blocks of one source on both sides.

Pixels of one frame at another quality, or of the next frame, are all but the same: a split by block
would measure memory.
"""

import hashlib
from collections.abc import Iterable, Mapping

TRAIN, VAL = "train", "val"


def split_sources(
    sources: Mapping[str, str | None],
    *,
    share: float = 0.2,
    seed: int = 42,
    val: Iterable[str] = (),
) -> dict[str, str]:
    """Source -> "train" or "val".

    `sources` gives the split of those that are held to one, such as the photographs; of the others
    a `share`, at least one if there is none else, is drawn by `seed`. `val` names those to validate
    on instead. The draw ranks names by hash: more sources move few of the others.

    Raises:
      ValueError: for fewer than two sources, a name in `val` that is none, a `share` not between 0
        and 1, or where one side would be empty.
    """
    if len(sources) < 2:
        raise ValueError(
            f"{len(sources)} source ({', '.join(sources)}) cannot be split: blocks of one source "
            "never train and validate; label a second one"
        )
    if not 0 < share < 1:
        raise ValueError(f"val-share={share} is not between 0 and 1")
    val = tuple(val)
    unknown = [name for name in val if name not in sources]
    if unknown:
        raise ValueError(f"val-sources {unknown[0]!r} is none of {', '.join(sorted(sources))}")
    if val:
        split = {name: VAL if name in val else TRAIN for name in sources}
    else:
        split = {name: held for name, held in sources.items() if held}
        free = sorted((name for name in sources if name not in split), key=lambda n: _rank(seed, n))
        count = max(round(share * len(free)), int(VAL not in split.values()))
        split |= {name: VAL if i < count else TRAIN for i, name in enumerate(free)}
    for side in (TRAIN, VAL):
        if side not in split.values():
            raise ValueError(
                f"no source is left to {side}: all of {', '.join(sorted(sources))} are held to the "
                "other side; name some by --val-sources, or label others"
            )
    return dict(sorted(split.items()))


def _rank(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed} {name}".encode()).digest()
