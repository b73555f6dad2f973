"""The command line of the doctor: exit code 1 when something must be mended first."""

import argparse
import json
import sys
from pathlib import Path

import cv2

from jaxvision.data.doctor.finding import ERROR
from jaxvision.data.doctor.report import Report, examine
from jaxvision.data.doctor.sheet import draw_sheet
from jaxvision.errors import one_line


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m jaxvision.data.doctor",
        description="Examines a detection data set in COCO's format.",
    )
    parser.add_argument("root", nargs="?", type=Path, help="folder of the data set")
    parser.add_argument("--images", type=Path, help="folder of pictures, instead of root")
    parser.add_argument("--annotations", type=Path, help="COCO JSON, instead of root")
    parser.add_argument("--train", default="train", help="split to train on, as data.train")
    parser.add_argument("--val", default="val", help="split to evaluate on, as data.val")
    parser.add_argument(
        "--holdout",
        nargs=3,
        default=(),
        metavar=("FIELD", "MODULUS", "REMAINDER"),
        help="what is not trained on, as data.holdout",
    )
    parser.add_argument(
        "--sheet",
        default="doctor.png",
        help='pictures of a split with their boxes, in doctor-SPLIT.png; "" for none',
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.add_argument("--size", type=_size, help="the model's input, HxW (that of :skywatch)")
    parser.add_argument("--stride", type=int, default=4, help="finest stride of the model (4)")
    parser.add_argument("--sample", type=int, default=0, help="files to open a split (0: all)")
    parser.add_argument("--workers", type=int, default=2, help="threads that read files (2)")
    options = vars(parser.parse_args(arguments))
    sheet, as_json = options.pop("sheet"), options.pop("json")
    options["size"] = options["size"] or default_size()
    try:
        options["holdout"] = (*options["holdout"][:1], *map(int, options["holdout"][1:]))
        report = examine(options.pop("root"), **options)
        written = _write_sheets(report, Path(sheet)) if sheet else []
    except (ValueError, OSError) as error:
        print(f"error: {one_line(error, {})}", file=sys.stderr)
        return 1
    if as_json:
        content = report.as_dict() | dict(sheets=[str(path) for path in written])
        print(json.dumps(content, indent=1, ensure_ascii=False))
    else:
        told = [f"look at {path}: are the boxes where the objects are?" for path in written]
        print("\n".join([report.text(), *told]))
    return 1 if report.count(ERROR) else 0


def default_size() -> tuple[int, int]:
    """The (h, w) of `configs/cofnet.py:skywatch` on this machine."""
    from jaxvision.config import has_gpu  # imports JAX

    return (512, 640) if has_gpu() else (256, 320)


def _size(text: str) -> tuple[int, int]:
    """`512x640`, or one number for both."""
    height, _, width = text.partition("x")
    return int(height), int(width or height)


def _write_sheets(report: Report, path: Path) -> list[Path]:
    """`sheet-train.png` and so on."""
    written = []
    for table in report.tables:
        image = draw_sheet(table)
        if image is None:
            continue
        name = path.with_stem(f"{path.stem}-{table.name}")
        done, data = cv2.imencode(name.suffix or ".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        if not done:
            raise ValueError(f"cannot write {name}: give a name that ends in .png or .jpg")
        name.parent.mkdir(parents=True, exist_ok=True)
        name.write_bytes(data.tobytes())
        written.append(name)
    return written


if __name__ == "__main__":
    sys.exit(main())
