"""Real files of a codec's model against those of every codec that is installed: BD-rates, curves.

    PYTHONPATH=.:kernels python benchmarks/rate_distortion.py --model=demo --pictures=FOLDER --out=F

JPEG, WebP, JPEG 2000 and AVIF come with the library; JPEG XL, x265, AV1 and VVC take part after
`uv sync --extra baselines`. Every file is written and decoded in this one process. Prints BD-rates
with their bootstrap intervals over pictures; the folder --out then holds `RESULTS.md`, `codec.csv`,
`baselines.csv` and `fig/`.
"""

import argparse
import sys
from pathlib import Path

from jaxvision.data.images import read_image
from jaxvision.data.pictures import find_pictures
from jaxvision.wavenet_mv.codec import Codec
from jaxvision.wavenet_mv.report.write import write_report


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True, help="a codec's file, or demo")
    parser.add_argument("--pictures", type=Path, required=True, help="folder of pictures")
    parser.add_argument("--out", type=Path, required=True, help="folder of the report")
    options = parser.parse_args()
    try:
        codec = Codec.load(options.model)
        paths = find_pictures(options.pictures)
        pictures = {str(path.relative_to(options.pictures)): read_image(path) for path in paths}
        found = write_report(
            codec, pictures, options.out, echo=lambda text: print(text, flush=True)
        )
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for name, value in found.items():
        if name.startswith("bd_rate_") and not name.endswith(("_low", "_high")):
            low, high = found[f"{name}_low"], found[f"{name}_high"]
            other = name.removeprefix("bd_rate_")
            print(
                f"against {other:10} {value:+6.1f} % bits at equal PSNR [{low:+.1f}, {high:+.1f}]"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
