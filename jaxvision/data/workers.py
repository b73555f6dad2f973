"""What a worker process of the loader needs: memory to share, and manners."""

import multiprocessing
import os
import shutil
import signal
import threading
from multiprocessing import connection
from pathlib import Path

import cv2
from absl import logging

_SHARED_MEMORY_NEEDED = 2**30
_GRACE = 60.0  # seconds


def has_shared_memory() -> bool:
    """Whether workers can hand over batches: a container's /dev/shm is often 64 MiB.

    Writing past its end kills a worker (SIGBUS).
    """
    folder = Path("/dev/shm")
    return not folder.is_dir() or shutil.disk_usage(folder).free >= _SHARED_MEMORY_NEEDED


def start_worker(index: int, count: int) -> None:
    """Makes a worker process leave signals, devices, warnings and other cores to its parent.

    Ctrl-C, and a scheduler's SIGTERM, reach all processes of a run: the parent still needs its
    workers to reach the next checkpoint, and closes them. What each worker would warn of, the
    parent says once (`batches`, `seen`).
    """
    del index, count
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end_later)
    os.environ["JAX_PLATFORMS"] = "cpu"
    cv2.setNumThreads(1)
    logging.set_verbosity(logging.ERROR)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_later(*_) -> None:
    timer = threading.Timer(_GRACE, os._exit, (1,))
    timer.daemon = True
    timer.start()


def _end_with_parent() -> None:
    """Ends this process when its parent is gone: a killed parent cannot stop its workers."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
