"""Whether another decoder shows the same pictures: dav1d, or a libaom of another version."""

import functools
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from jaxvision.cnn_av1.steering.coding import Report, digest
from jaxvision.data import yuv
from jaxvision.data.av1.decoder import Decoder
from jaxvision.data.av1.ivf import write_ivf
from jaxvision.data.av1.library import open_library, places
from jaxvision.data.av1.structs import AomError, Library, Packet, Planes

Decode = Callable[[Sequence[Packet], int, int, int], Iterator[Planes]]
LONGEST = 600  # seconds of a decoding


def second_decoder(first: Library) -> tuple[str, Decode]:
    """The name of a decoder that is not `first`, and how to use it.

    Raises:
      ValueError: if there is none, with the mend.
    """
    program = shutil.which("dav1d")
    if program is not None:
        done = subprocess.run([program, "--version"], capture_output=True, text=True)
        version = (done.stdout + done.stderr).strip()  # some write it there
        return f"dav1d {version}", functools.partial(_by_program, program)
    for place in places():
        try:
            library = open_library(place)
        except AomError:
            continue  # one that does not work here is no second decoder
        if library.version != first.version:
            return f"libaom {library.version}", functools.partial(_by_library, library)
    raise ValueError(
        f"no second decoder beside libaom {first.version}: apt-get install dav1d, or"
        " pip install imagecodecs"
    )


def verify(report: Report, decode: Decode, name: str, *, size: tuple[int, int], depth: int) -> None:
    """ValueError unless the decoder shows every picture as the first one did, to the bit."""
    width, height = size
    shown = [digest(planes) for planes in decode(report.packets, width, height, depth)]
    if len(shown) != len(report.digests):
        raise ValueError(f"{name} shows {len(shown)} pictures, not {len(report.digests)}")
    wrong = [i for i, (a, b) in enumerate(zip(shown, report.digests, strict=True)) if a != b]
    if wrong:
        raise ValueError(f"{name} shows other pictures than libaom: frame {wrong[0]} is the first")


def _by_program(
    program: str, packets: Sequence[Packet], width: int, height: int, depth: int
) -> Iterator[Planes]:
    with tempfile.TemporaryDirectory() as folder:
        stream, raw = Path(folder) / "stream.ivf", Path(folder) / "stream.yuv"
        write_ivf(stream, packets, width=width, height=height)
        command = [program, "-q", "-i", str(stream), "-o", str(raw)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST)
        if done.returncode:
            why = (done.stderr.strip().splitlines() or [f"code {done.returncode}"])[-1]
            raise ValueError(f"dav1d does not decode the stream: {why}")
        yield from yuv.frames(raw, width, height, depth)


def _by_library(
    library: Library, packets: Sequence[Packet], width: int, height: int, depth: int
) -> Iterator[Planes]:
    with Decoder(library) as decoder:
        for packet in packets:
            decoder.decode(packet.data)
            yield from decoder.frames()
