"""python -m jaxvision.wavenet_mv {encode,decode,info,verify}: pictures to files and back.

encode --model=MODEL.npz PICTURE FILE.wvmv [--quality=1 | --target-bpp=0.3 | --target-psnr=32]
encode --lossless PICTURE FILE.wvmv
decode [--model=MODEL.npz] FILE.wvmv PICTURE.png [--levels=2] [--features=FEATURES.npz]
info   FILE.wvmv [--bits]
verify [--model=MODEL.npz] FILE.wvmv … [--against=PICTURE]

CLIP.y4m is coded to a file of its frames, each by itself, and decoded to one; `decode --frame=7`
gives a picture. Lossless files need no model.
"""

import argparse
import os
import sys
from pathlib import Path

import jax

from jaxvision.wavenet_mv import commands, inspection
from jaxvision.wavenet_mv.codec import FORMATS
from jaxvision.wavenet_mv.refusal import REFUSALS, refusal


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m jaxvision.wavenet_mv",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    model = argparse.ArgumentParser(add_help=False)
    model.add_argument("--model", type=Path, help="a trained codec, MODEL.npz, or demo")

    encode = verbs.add_parser("encode", parents=[model], help="a picture to a file")
    encode.add_argument("picture", type=Path, help="a picture, or a clip as .y4m")
    encode.add_argument("file", type=Path)
    rate = encode.add_mutually_exclusive_group()
    rate.add_argument("--quality", type=float, help="0, the smallest file, to 2; 1 if not given")
    rate.add_argument("--target-bpp", type=float, help="the best quality of at most so many bits")
    rate.add_argument("--target-psnr", type=float, help="the smallest file of so many dB")
    rate.add_argument("--lossless", action="store_true", help="to the bit; needs no model")
    encode.add_argument(
        "--coder", choices=tuple(FORMATS), default="rans", help="tfc: TensorFlow's format"
    )
    encode.add_argument(
        "--tile", type=int, help="side of the tiles; 0 for one piece; 1024 for large pictures"
    )
    encode.add_argument("--verify", action="store_true", help="decode it before it is written")

    decode = verbs.add_parser("decode", parents=[model], help="a file to a picture")
    decode.add_argument("file", type=Path)
    decode.add_argument("picture", type=Path, help="a picture, or .y4m of a clip")
    decode.add_argument("--levels", type=int, help="the first levels alone: a smaller picture")
    decode.add_argument("--features", type=Path, help="also what heads read, as .npz")
    decode.add_argument("--frame", type=int, help="of a clip, one frame as a picture; from 0")

    info = verbs.add_parser("info", parents=[model], help="what a file says of itself")
    info.add_argument("file", type=Path)
    info.add_argument("--bits", action="store_true", help="of each part; with --model each band's")

    verify = verbs.add_parser("verify", parents=[model], help="whether files decode")
    verify.add_argument("file", type=Path, nargs="+")
    verify.add_argument("--against", type=Path, help="a picture or clip to compare with")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    args = parsed(arguments)
    verbs = {
        "encode": commands.encode,
        "decode": commands.decode,
        "info": inspection.info,
        "verify": inspection.verify,
    }
    try:
        verbs[args.verb](args)
    except REFUSALS as error:
        path = args.picture if args.verb == "encode" else args.file
        print(f"error: {refusal(error, path)}", file=sys.stderr)
        return 1
    return 0


def keep_programs() -> None:
    """Compiled programs stay on disk: the next picture of a size that was seen starts at once."""
    if jax.config.jax_compilation_cache_dir is None:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(folder / "jaxvision" / "programs"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


if __name__ == "__main__":
    keep_programs()
    sys.exit(main())
