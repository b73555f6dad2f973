"""Writes SkyWatch scenes to a folder: `python -m jaxvision.data.skywatch OUT`."""

import argparse
import inspect
import sys

from jaxvision.data.skywatch.annotations import table
from jaxvision.data.skywatch.folder import CLIP_FORMATS, generate


def main(arguments: list[str] | None = None) -> int:
    default = {name: p.default for name, p in inspect.signature(generate).parameters.items()}
    parser = argparse.ArgumentParser(prog="python -m jaxvision.data.skywatch", description=__doc__)
    parser.add_argument("out", help="folder to write, in COCO's layout")
    for name, what in (
        ("train", "training scenes"),
        ("val", "validation scenes"),
        ("size", "height and width in pixels"),
        ("seed", "seed of everything drawn"),
        ("rare", "share of meteorites among the training boxes"),
        ("val-rare", "share of meteorites among the validation boxes"),
        ("clips", "clips with motion"),
        ("frames", "frames of each clip"),
        ("workers", "threads that draw"),
    ):
        value = default[name.replace("-", "_")]
        parser.add_argument(
            f"--{name}", type=type(value), default=value, help=f"{what} (default {value})"
        )
    parser.add_argument(
        "--clip-format",
        choices=CLIP_FORMATS,
        default=default["clip_format"],
        help=f"write clips as folders of JPEGs or as videos (default {default['clip_format']})",
    )
    options = vars(parser.parse_args(arguments))
    try:
        root = generate(options.pop("out"), **options)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{root}\n{table(root)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
