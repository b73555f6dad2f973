"""The codec beside JPEG, WebP, JPEG 2000, JPEG XL, HEVC, AV1, VVC and an untrained wavelet.

    PYTHONPATH=.:kernels python benchmarks/compare_baselines.py --model=model.npz --pictures=FOLDER
    … --reader=runs/wavenet_mv-base       # its heads read what every codec decodes to

Writes `baseline_comparison.csv` and `.md` to --out: ours at each lambda, by files that were written
and decoded, and every other codec at the quality whose bits on these pictures are nearest to ours.
Codecs that are not installed (`uv sync --extra baselines`) are "not run", with the reason.

With --reader, a run that has trained `heads`, mAP and IoU are those of its labelled pictures, held
out from training: of our files by decoded features, of the others' by the analysis of the pictures
that they decode to. There the others' quality is found anew, for as many bits as our files take of
the labelled pictures: `BPP heads`, a pixel being one of the square canvas that the heads see, its
border included. `Clamped` counts those coded at the end of a codec's dial, whose bits are not ours.
With --labelled-batches the batches are spread over all of them. Latency is decode time a picture in
seconds; what starts a process (HEVC, AV1, VVC) pays for that.

DVC's weights are shared by its authors by hand, and its network is PyTorch's: "not run", also with
--dvc-checkpoint, which is only looked for.
"""

import argparse
import sys
from pathlib import Path

import jax

from jaxvision import config as configs
from jaxvision import loop, settings
from jaxvision.baselines.catalogue import dvc
from jaxvision.bench import hardware
from jaxvision.data.images import read_image
from jaxvision.data.labelled import LabelledConfig, LabelledData
from jaxvision.data.video import IMAGES, is_image
from jaxvision.wavenet_mv import task
from jaxvision.wavenet_mv.codec import Codec
from jaxvision.wavenet_mv.reader import Names
from jaxvision.wavenet_mv.report.comparison import CODECS, compared, remarks, write
from jaxvision.wavenet_mv.report.reading import Labelled

STAGE = "heads"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, help="a codec's file")
    parser.add_argument("--reader", type=Path, help="workdir of a run with heads")
    parser.add_argument("--pictures", type=Path, required=True, help="folder of pictures")
    parser.add_argument("--labelled", nargs="+", default=[], metavar="KEY=VALUE")
    parser.add_argument("--labelled-batches", type=int, default=0, help="0: all")
    parser.add_argument("--codecs", nargs="+", default=CODECS, metavar="NAME")
    parser.add_argument("--dvc-checkpoint", type=Path, help="weights of DVC")
    parser.add_argument("--out", type=Path, default=Path("."))
    options = parser.parse_args(arguments)
    try:
        run(options)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def run(options: argparse.Namespace) -> None:
    not_run = [dvc(options.dvc_checkpoint)]
    pictures = pictures_of(options.pictures)
    codec = None if options.model is None else Codec.load(options.model)
    notes, labelled = [f"{len(pictures)} pictures of {options.pictures.name}"], None
    if options.reader is not None:
        labelled, codec = read_run(options, codec)
        count = sum(int(batch["mask"].sum()) for batch in labelled.batches)
        side = labelled.batches[0]["image"].shape[1]
        notes.append(f"heads on {count} labelled pictures, canvas {side}×{side}")
    if codec is None:
        raise ValueError("give --model or --reader")
    notes += [f"model {codec.digest.hex()[:16]}", f"{hardware(jax.devices()[0])}"]
    say = lambda text: print(text, file=sys.stderr, flush=True)  # noqa: E731
    lines = compared(
        codec, pictures, labelled=labelled, names=options.codecs, not_run=not_run, echo=say
    )
    table = write(options.out, lines, ["; ".join(notes) + ".", *remarks(lines)])[1]
    print(table.read_text(encoding="utf-8"))


def pictures_of(folder: Path) -> dict:
    """The pictures of a folder by name."""
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    found = {path.name: read_image(path) for path in sorted(folder.iterdir()) if is_image(path)}
    if not found:
        raise ValueError(f"{folder} holds no image ({' '.join(sorted(IMAGES))})")
    return found


def read_run(options: argparse.Namespace, codec: Codec | None) -> tuple[Labelled, Codec]:
    """The heads of a run with its held-out pictures, and the codec that they were trained beside.

    ValueError if `codec` is another one.
    """
    config = settings.read(options.reader)
    words = [f"--config.labelled.{word}" for word in options.labelled]
    config = settings.override(config, words)
    experiment = task.build(config)
    if STAGE not in experiment.stages:
        raise ValueError(f"{options.reader} has no stage {STAGE!r}: {list(experiment.stages)}")
    stage = experiment.stages[STAGE]
    reader, _ = loop.restore_model(stage, options.reader)
    own = Codec(reader.codec)
    if codec is not None and codec.digest != own.digest:
        raise ValueError(
            f"--model is {codec.digest.hex()[:16]}, but the heads of {options.reader} were trained "
            f"beside {own.digest.hex()[:16]}"
        )
    data = LabelledData(
        configs.from_config(LabelledConfig, config.labelled, path="labelled."), seed=config.seed
    )
    names = configs.from_config(Names, config.names, path="names.")
    dataset = stage.data("val")
    count = min(options.labelled_batches or len(dataset), len(dataset))
    batches = [dataset[len(dataset) * i // count] for i in range(count)]
    return Labelled(reader, batches, names, data.source("val")), own


if __name__ == "__main__":
    sys.exit(main())
