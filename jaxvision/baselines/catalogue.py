"""Which baselines there are, which of them run on this machine, and why the others do not."""

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path

from jaxvision.baselines.codec import Codec
from jaxvision.baselines.floor import Coder, wavelet_floor
from jaxvision.baselines.stills import STILLS
from jaxvision.baselines.video import VIDEO
from jaxvision.spelling import nearest


@dataclasses.dataclass(frozen=True)
class Available:
    """The codecs that run here, and the reason of each that does not, both by name."""

    codecs: Mapping[str, Codec]
    missing: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class NotRun:
    """Stands in a table where a codec could not be measured."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"not run: {self.reason}"


def codecs(*, coder: Coder | None = None) -> dict[str, Codec]:
    """All baselines by name; `coder` makes real files of the wavelets' symbols."""
    floors = [
        wavelet_floor(wavelet, coder=coder, jaxwt=jaxwt)
        for jaxwt in (False, True)
        for wavelet in ("haar", "97")
    ]
    return {codec.name: codec for codec in (*STILLS, *VIDEO, *floors)}


def available(names: Iterable[str] | None = None, *, coder: Coder | None = None) -> Available:
    """Those of `names` (by default all) that run here, and why the others do not."""
    known = codecs(coder=coder)
    names = list(known if names is None else names)
    for name in names:
        if name not in known:
            raise ValueError(f"codec {name!r} is unknown{nearest(name, known)}")
    reasons = {name: known[name].missing() for name in names}
    return Available(
        {name: known[name] for name, reason in reasons.items() if reason is None},
        {name: reason for name, reason in reasons.items() if reason is not None},
    )


def dvc(checkpoint: Path | None = None) -> NotRun:
    """DVC (Lu et al. 2019), whose weights its authors share by hand only: never a number of ours.

    Raises:
        FileNotFoundError: `checkpoint` is given, but is no file.
    """
    if checkpoint is None:
        return NotRun("dvc", "no checkpoint; give --dvc-checkpoint PATH")
    if not Path(checkpoint).is_file():
        raise FileNotFoundError(f"{checkpoint}: no such file; give another --dvc-checkpoint")
    return NotRun("dvc", f"jaxvision has no DVC network to load {Path(checkpoint).name} into")
