"""python -m jaxvision.cnn_av1 VERB …: partition labels from a real encoder, step by step.

label   SOURCE … --out=ROOT [--cq=20,32,43,55] [--cpu-used=0]      the four steps in one
tables  SOURCE … --out=ROOT                 1: sources to tables of partitions (CSV)
import-logs LOGS --video=CLIP --out=ROOT    1: of an encoder's own logs
blocks  ROOT [--sizes=16] [--context=0]     2: the tables' blocks of luminance (uint16)
merge   ROOT                                3: one file a sequence
align   ROOT                                4: labels, QPs, index and manifest.json
check   ROOT                                whether all is as manifest.json says
import-raw FOLDER --out=ROOT [--size=16]    folders of blocks, labels and QPs, without a manifest
prepare ROOT --out=PREPARED [--size=16]     sets to train on, split by source
encode  IN.y4m OUT.ivf --model=MODEL.npz [--tau=0.9]   by libaom, its search narrowed by a model

A SOURCE is a .y4m or .yuv video (4:2:0; 8 or 10 bits), a finished AV1 stream (.ivf, .obu), whose
decoded pixels are then the blocks, or photo:NAME[:VARIANT] or photo:all, clips panned over the
photographs that come along. A step that was broken off goes on where it was.
"""

import argparse
import sys
from pathlib import Path

from jaxvision.cnn_av1 import commands, encode
from jaxvision.errors import one_line


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m jaxvision.cnn_av1",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    parents = {"out": _out, "library": _library, "split": _split, "video": _video}

    def verb(name: str, *of: str, about: str, root: str | None = None) -> argparse.ArgumentParser:
        one = verbs.add_parser(name, parents=[parents[key]() for key in of], help=about)
        if root:
            one.add_argument(root, type=Path)
        return one

    label = verb("label", "out", "library", "split", "video", about="the four steps in one")
    tables = verb("tables", "out", "library", "video", about="1: sources to tables")
    for one in (label, tables):
        _encoding(one)
    logs = verb("import-logs", "out", "video", about="1: an encoder's logs to tables", root="logs")
    logs.add_argument("--video", required=True, help="the .y4m or .yuv that the logs are of")
    logs.add_argument("--qp", type=int, help="base index, 0 to 255, of logs that do not tell it")
    blocks = verb("blocks", "library", about="2: blocks of the tables", root="root")
    for one in (label, blocks):
        one.add_argument("--sizes", type=commands.numbers, default=(16,), help="16, or 8,16,32,64")
        one.add_argument("--context", type=int, default=0, help="pixels around a block (0)")
    verb("merge", about="3: one file a sequence", root="root")
    verb("align", "split", about="4: labels, QPs and manifest.json", root="root")
    verb("check", about="whether all is as manifest.json says", root="root")
    raw = verb("import-raw", "out", "split", about="folders without a manifest", root="folder")
    prepare = verb("prepare", "out", "split", about="sets to train on", root="root")
    prepare.set_defaults(val_share=None, seed=None)  # what manifest.json says
    prepare.add_argument("--key-frames", action="store_true", help="leave other frames out")
    for one in (raw, prepare):
        one.add_argument("--size", type=int, default=16, help="of the blocks (16)")
    encode.add_arguments(verbs.add_parser("encode", help="a clip, as a model narrows the search"))
    return parser.parse_args(arguments)


def _out() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    return parser


def _library() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--library", type=Path, help="a libaom.so other than the one found")
    return parser


def _split() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--val-share", type=float, default=0.2, help="of the sources (0.2)")
    parser.add_argument("--seed", type=int, default=42, help="that draws them (42)")
    names = "NAME,NAME to validate on instead of drawn ones"
    parser.add_argument("--val-sources", type=commands.words, default=(), help=names)
    return parser


def _video() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--size", type=commands.size, help="WxH of a .yuv; of photographs' clips")
    parser.add_argument("--depth", type=int, choices=(8, 10), help="bits of a .yuv")
    parser.add_argument("--deepen", action="store_true", help="take 8-bit videos as 10-bit ones")
    parser.add_argument("--source", help="one name for all these files, which are of one film")
    return parser


def _encoding(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sources", nargs="+", metavar="SOURCE")
    parser.add_argument("--cq", type=commands.numbers, default=(20, 32, 43, 55), help="0 to 63")
    parser.add_argument("--cpu-used", type=int, default=0, help="0 searches all, 9 is fastest")
    parser.add_argument("--frames", type=commands.count, help="the first ones alone; 3 of photos")
    parser.add_argument("--variants", type=commands.count, default=1, help="clips a photograph")
    parser.add_argument("--jobs", type=commands.count, default=1, help="encoders at a time (1)")


def main(arguments: list[str] | None = None) -> int:
    args = parsed(arguments)
    verbs = {
        "label": commands.label,
        "tables": commands.tables,
        "import-logs": commands.import_logs,
        "blocks": commands.blocks,
        "merge": commands.merge,
        "align": commands.align,
        "check": commands.check,
        "import-raw": commands.import_raw,
        "prepare": commands.prepare,
        "encode": encode.run,
    }
    try:
        verbs[args.verb](args)
    except (OSError, ValueError) as error:
        places = {"--out": args.out} if getattr(args, "out", None) else {}
        print(f"error: {one_line(error, places)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped: what is finished is kept; run it again to go on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
