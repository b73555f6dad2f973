"""What each word of the command line does."""

import argparse

from jaxvision.cnn_av1.dataset.align import align as align_labels
from jaxvision.cnn_av1.dataset.blocks import make_blocks
from jaxvision.cnn_av1.dataset.check import check as check_set
from jaxvision.cnn_av1.dataset.import_logs import import_logs as import_tables
from jaxvision.cnn_av1.dataset.merge import merge as merge_blocks
from jaxvision.cnn_av1.dataset.prepare import prepare as prepare_sets
from jaxvision.cnn_av1.dataset.raw import import_raw as import_folders
from jaxvision.cnn_av1.dataset.sources import Source, sources
from jaxvision.cnn_av1.dataset.tables import make_tables
from jaxvision.data.av1.library import Library, open_library


def say(text: str) -> None:
    print(text, flush=True)


def tables(args: argparse.Namespace) -> None:
    library = _library(args)
    say(f"libaom {library.version}: {library.path}")
    make_tables(
        args.out,
        _sources(args, args.sources, frames=args.frames, variants=args.variants),
        library,
        qualities=args.cq,
        cpu_used=args.cpu_used,
        jobs=args.jobs,
        say=say,
    )


def import_logs(args: argparse.Namespace) -> None:
    video = _sources(args, [args.video])[0]
    import_tables(args.out, args.logs, video, qp=args.qp, say=say)


def blocks(args: argparse.Namespace) -> None:
    make_blocks(
        args.root, sizes=args.sizes, context=args.context, library=lambda: _library(args), say=say
    )


def merge(args: argparse.Namespace) -> None:
    merge_blocks(args.root, say=say)


def align(args: argparse.Namespace) -> None:
    align_labels(args.root, share=args.val_share, seed=args.seed, val=args.val_sources, say=say)


def label(args: argparse.Namespace) -> None:
    """The four steps."""
    args.root = args.out
    for step in (tables, blocks, merge, align):
        step(args)


def check(args: argparse.Namespace) -> None:
    check_set(args.root, say=say)


def import_raw(args: argparse.Namespace) -> None:
    import_folders(
        args.out,
        args.folder,
        size=args.size,
        share=args.val_share,
        seed=args.seed,
        val=args.val_sources,
        say=say,
    )


def prepare(args: argparse.Namespace) -> None:
    prepare_sets(
        args.root,
        args.out,
        size=args.size,
        share=args.val_share,
        seed=args.seed,
        val=args.val_sources,
        key_frames=args.key_frames,
        say=say,
    )


def _library(args: argparse.Namespace) -> Library:
    return open_library(args.library)


def _sources(
    args: argparse.Namespace, texts: list[str], *, frames: int | None = None, variants: int = 1
) -> list[Source]:
    return sources(
        texts,
        variants=variants,
        size=args.size,
        depth=args.depth,
        frames=frames,
        deepen=args.deepen,
        source=args.source,
    )


def size(text: str) -> tuple[int, int]:
    """`352x288` as width and height."""
    width, cross, height = text.lower().partition("x")
    if not (cross and width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"{text!r} is no size as 352x288")
    return int(width), int(height)


def numbers(text: str) -> tuple[int, ...]:
    """`20,32,43,55`."""
    if not all(word.isdecimal() for word in text.split(",")):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers as 20,32")
    return tuple(dict.fromkeys(map(int, text.split(","))))


def count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1")
    return int(text)


def words(text: str) -> tuple[str, ...]:
    return tuple(word for word in text.split(",") if word)
