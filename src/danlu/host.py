"""Settings of the whole process: changed for the length of a call, and restored afterwards.

danlu is a guest in its user's program. Everything that others share is in this file: threads,
denormal numbers, `sys.path`, the csv module's limit, the hub's offline switch, Ray's log printer.
How memory is kept is among them, too, though glibc has no way to ask what it was.
"""

from __future__ import annotations

import contextlib
import csv
import ctypes
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from typing import Any, TypeVar

_TUNED = ("GLIBC_TUNABLES", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")
_LARGEST_OWN = 32 << 20  # bytes: up to there glibc raises its own limit for large blocks
_T = TypeVar("_T")
_keeping = threading.Lock()
_keepers = 0  # trainings under way that keep freed memory
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


@contextlib.contextmanager
def compute_threads(n: int) -> Iterator[None]:
    """Compute on n threads, and with denormal numbers (below 10⁻³⁸ in float32) flushed to 0.

    What decays towards 0, such as a dead unit's momentum, would otherwise become a number that
    processors take ten times as long for.
    """
    import torch

    threads_before = torch.get_num_threads()
    # PyTorch can set it, but not tell it.
    was_flushing = float(torch.tensor(1e-40) * 1.0) == 0
    torch.set_num_threads(n)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_num_threads(threads_before)
        torch.set_flush_denormal(was_flushing)


@contextlib.contextmanager
def importable(folder: str) -> Iterator[None]:
    """Let modules in a folder be imported."""
    if folder in sys.path or (folder == os.getcwd() and "" in sys.path):
        yield
        return
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # someone else may have taken it out
            sys.path.remove(folder)


def importable_working_folder() -> contextlib.AbstractContextManager[None]:
    """Let modules in the working folder be imported, as by `python -m`."""
    return importable(os.getcwd())


@contextlib.contextmanager
def environment(**values: str) -> Iterator[None]:
    """Set variables of the environment, unless the user has set them."""
    # What the user has set wins, and stays.
    added = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def serial_tokenizers() -> contextlib.AbstractContextManager[None]:
    """Have `tokenizers` start no threads: it would warn of every process that is forked later."""
    return environment(TOKENIZERS_PARALLELISM="false")


def interruptible(call: Callable[[], _T]) -> _T:
    """Return what a long call of a library returns that hears no Ctrl-C.

    It runs in a thread: an interrupt leaves it there, to end with the process or when it is done.
    """
    done: Future[_T] = Future()

    def run() -> None:
        try:
            done.set_result(call())
        except BaseException as e:  # whatever it is, the caller's thread raises it
            done.set_exception(e)

    threading.Thread(target=run, daemon=True).start()
    while not done.done():
        wait([done], timeout=1)  # without a limit, Ctrl-C would not be heard on Windows
    return done.result()


@contextlib.contextmanager
def csv_cells_of(length: int) -> Iterator[None]:
    """Let a cell of a CSV file be that many characters long: it may be a whole document."""
    before = csv.field_size_limit()
    csv.field_size_limit(max(before, length))
    try:
        yield
    finally:
        csv.field_size_limit(before)


@contextlib.contextmanager
def hub_offline() -> Iterator[None]:
    """Have the hub's client look into its cache only: what is not there fails at once."""
    import datasets.config
    import huggingface_hub.constants

    holders: tuple[Any, ...] = (datasets.config, huggingface_hub.constants)
    before = [holder.HF_HUB_OFFLINE for holder in holders]
    for holder in holders:
        holder.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        for holder, value in zip(holders, before, strict=True):
            holder.HF_HUB_OFFLINE = value


@contextlib.contextmanager
def quiet_ray(ray: Any) -> Iterator[None]:
    """Keep Ray from printing the logs of machines that died to standard output.

    They would stand within danlu's tables and its JSON. Ray has no public switch for it.
    """
    worker = ray._private.worker
    before = worker.print_to_stdstream
    worker.print_to_stdstream = lambda *args, **options: None
    try:
        yield
    finally:
        worker.print_to_stdstream = before


@contextlib.contextmanager
def freed_memory_kept(most: int = 1 << 28) -> Iterator[None]:
    """Let glibc reuse freed blocks of up to `most` bytes instead of returning them to the system.

    Every step allocates the same activations; without this each costs page faults, a quarter of a
    small convolutional network's time. Afterwards what is free is returned, and so will be what the
    host frees: glibc goes on with the limits that it would have come to by itself. Elsewhere than
    on glibc, and where the user has set its limits, nothing happens.
    """
    global _keepers
    libc = _glibc()
    if libc is None:
        yield
        return
    with _keeping:
        _keepers += 1
        libc.mallopt(_M_TRIM_THRESHOLD, most)
        libc.mallopt(_M_MMAP_THRESHOLD, most)
    try:
        yield
    finally:
        with _keeping:
            _keepers -= 1
            if not _keepers:  # no other thread is training
                libc.mallopt(_M_TRIM_THRESHOLD, 2 * _LARGEST_OWN)
                libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST_OWN)
                libc.malloc_trim(0)


def _glibc() -> Any:
    """Return glibc, where the process uses it and its user has not tuned it."""
    is_tuned = any(name in os.environ for name in _TUNED)
    if sys.platform != "linux" or is_tuned:
        return None
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        if libc.mallopt and libc.malloc_trim:
            return libc
    return None
