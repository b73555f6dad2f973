"""The whole report of a trained codec into the folder of its run."""

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from jaxvision.wavenet_mv.codec import Codec
from jaxvision.wavenet_mv.model import WavenetMV
from jaxvision.wavenet_mv.report import checklist, others, rates, results
from jaxvision.wavenet_mv.report.checks_model import Reader
from jaxvision.wavenet_mv.report.facts import facts_of
from jaxvision.wavenet_mv.report.pictures import draw_pictures
from jaxvision.written import whole_file


def write_report(
    model: WavenetMV | Codec,
    pictures: Mapping[str, np.ndarray],
    workdir: Path,
    *,
    output: Path | None = None,
    reader: Reader | None = None,
    tasks: Path | None = None,
    readme: Path | None = None,
    baselines: Sequence[str] = others.OTHERS,
    between: int = rates.BETWEEN,
    echo: Callable[[str], None] = print,
) -> dict[str, float]:
    """Writes tables, curves, pictures, RESULTS.md and checklist_report.md about a run.

    They land in its folder `workdir`, or in `output`, every file whole or not at all. `pictures`
    are uint8 `[h w 3]` by name, `tasks` the `tasks.csv` of the heads, `reader` the model that wrote
    it, `readme` by default that of the source tree.

    Returns:
        `bpp_<λ>`, `psnr_<λ>`, `ms_ssim_<λ>`, `file_over_model_<λ>`, the seconds, `bd_rate_<codec>`
        with `_low` and `_high` (of PSNR; left out where there is none), and `checklist`, how many
        of its lines say YES.
    """
    if not pictures:
        raise ValueError("there are no pictures to report on")
    codec = model if isinstance(model, Codec) else Codec(model)
    workdir, output = Path(workdir), Path(output or workdir)
    (output / "fig").mkdir(parents=True, exist_ok=True)
    echo(f"report: {len(pictures)} pictures, model {codec.digest.hex()[:16]}")
    measured = rates.measure_all(codec, pictures, between=between, echo=echo)
    rates.write(output / "codec.csv", measured)
    rows, missing = others.measure_others(pictures, baselines, echo=echo)
    others.write_rows(output / "baselines.csv", rows)
    ours = [rate.row() for rate in measured]
    others.draw_curves(output / "fig" / "rd", [*ours, *rows])
    draw_pictures(output / "fig" / "pictures.png", codec, pictures)
    bring(tasks, output / "tasks.csv")
    results.write(output, facts_of(codec, workdir), missing)
    checks = checklist.check_all(codec, workdir, output=output, reader=reader, readme=readme)
    checklist.write(output / "checklist_report.md", checks)
    for number, (claim, answer) in enumerate(checks, 1):
        echo(f"{number} {'YES' if answer.holds else 'NO'}: {claim}")
    echo(f"report: {output}/RESULTS.md, checklist_report.md, codec.csv, fig/")
    found = _scalars(measured, codec.cfg.compressor.lambdas)
    for name, metrics in others.savings(ours, rows).items():
        if not isinstance(metrics["PSNR"], str):
            images = metrics["PSNR"].images
            ends = {"": images.mean, "_low": images.low, "_high": images.high}
            found |= {f"bd_rate_{name}{end}": value for end, value in ends.items()}
    found["checklist"] = float(sum(answer.holds for _, answer in checks))
    return {name: value for name, value in found.items() if not math.isnan(value)}


def _scalars(measured: Sequence[rates.Rate], lambdas: Sequence[int]) -> dict[str, float]:
    names = {
        **{name: name for name in ("bpp", "psnr", "ms_ssim", "encode_s", "decode_s")},
        "over": "file_over_model",
    }
    table = results.means(measured)
    return {
        f"{shown}_{weight}": table[float(k)][name]
        for k, weight in enumerate(lambdas)
        for name, shown in names.items()
    }


def bring(source: Path | None, target: Path) -> None:
    """A copy in the report's folder; without a source what an earlier report left is no answer."""
    if source is None:
        target.unlink(missing_ok=True)
    elif Path(source).resolve() != target.resolve():
        with whole_file(target) as part:
            shutil.copyfile(source, part)
