"""`checklist_report.md`: seven claims, each asked of the code or of a run's folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from jaxvision.wavenet_mv.codec import Codec
from jaxvision.wavenet_mv.report import checks_model, checks_run
from jaxvision.wavenet_mv.report.checks_model import Answer, Reader
from jaxvision.written import whole_file

CLAIMS = (
    "WaveletTransformCNN includes PredictCNN and UpdateCNN, each 3×3, ReLU, 3×3, ReLU, 1×1",
    "AdaMixNet has 4 parallel convolutions and softmax attention that mixes them",
    "The compressor codes by a Gaussian conditional, at λ ∈ {256, 512, 1024}",
    "The heads read compressed features, without reconstructing pixels",
    "Every training stage saves checkpoints and TensorBoard logs",
    "The evaluation writes CSV and rate-distortion curves under fig/",
    "The README has the download of the data sets and the commands to run",
)


class Check(NamedTuple):
    claim: str
    answer: Answer


def check_all(
    codec: Codec,
    workdir: Path,
    *,
    output: Path | None = None,
    reader: Reader | None = None,
    readme: Path | None = None,
) -> list[Check]:
    """The claims in order, of a run and of its report in `output`, by default its own folder.

    `readme` is by default that of the source tree.
    """
    workdir = Path(workdir)
    answers = (
        checks_model.wavelet_layers(codec.model),
        checks_model.mixing(codec.model),
        checks_model.gaussian_coding(codec.model, codec.tables),
        checks_model.without_pixels(codec, reader),
        checks_run.saved(workdir),
        checks_run.reported(Path(output or workdir)),
        checks_run.documented(readme),
    )
    return [Check(*pair) for pair in zip(CLAIMS, answers, strict=True)]


def write(path: Path, checks: Sequence[Check]) -> None:
    lines = ["# Validation checklist", ""]
    for number, (claim, answer) in enumerate(checks, 1):
        lines += [f"{number}. {claim}: **{'YES' if answer.holds else 'NO'}**", ""]
        lines += [f"   {answer.evidence}.", ""]
    with whole_file(path) as part:
        part.write_text("\n".join(lines), encoding="utf-8")
