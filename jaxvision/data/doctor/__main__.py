"""The command line of the doctor: exit code 1 when something must be mended first."""

import argparse
import json
import sys
from pathlib import Path

import cv2

from jaxvision.data.doctor.finding import ERROR
from jaxvision.data.doctor.report import Report, examine
from jaxvision.data.doctor.sheet import draw_sheet


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m jaxvision.data.doctor",
        description="Examines a detection data set in COCO's format.",
    )
    parser.add_argument("root", nargs="?", type=Path, help="folder of the data set")
    parser.add_argument("--images", type=Path, help="folder of pictures, instead of root")
    parser.add_argument("--annotations", type=Path, help="COCO JSON, instead of root")
    parser.add_argument("--sheet", type=Path, help="PNG of 16 pictures with boxes; one per split")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.add_argument("--size", type=int, default=640, help="side of the model's input (640)")
    parser.add_argument("--stride", type=int, default=4, help="finest stride of the model (4)")
    parser.add_argument("--sample", type=int, default=0, help="files to open a split (0: all)")
    parser.add_argument("--workers", type=int, default=2, help="threads that read files (2)")
    options = vars(parser.parse_args(arguments))
    sheet, as_json = options.pop("sheet"), options.pop("json")
    try:
        report = examine(options.pop("root"), **options)
        written = [] if sheet is None else _write_sheets(report, sheet)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if as_json:
        print(json.dumps(report.as_dict(), indent=1, ensure_ascii=False))
    else:
        print("\n".join([report.text(), *(f"look at {path}" for path in written)]))
    return 1 if report.count(ERROR) else 0


def _write_sheets(report: Report, path: Path) -> list[Path]:
    """`sheet.png` for one split, `sheet-train.png` and so on for several."""
    written = []
    for table in report.tables:
        image = draw_sheet(table)
        if image is None:
            continue
        name = path if len(report.tables) == 1 else path.with_stem(f"{path.stem}-{table.name}")
        done, data = cv2.imencode(name.suffix or ".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        if not done:
            raise ValueError(f"cannot write {name}: give a name that ends in .png or .jpg")
        name.parent.mkdir(parents=True, exist_ok=True)
        name.write_bytes(data.tobytes())
        written.append(name)
    return written


if __name__ == "__main__":
    sys.exit(main())
