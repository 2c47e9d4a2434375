"""Saying that a source is being read, where that takes long."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator

from danlu.errors import short_path

_PATIENCE = 1.0  # seconds that need no word


@contextlib.contextmanager
def reading_shown(source: str) -> Iterator[None]:
    """Show what is being read, and for how long, in a terminal and after a second."""
    if not sys.stderr.isatty():
        yield
        return
    is_read = threading.Event()
    watcher = threading.Thread(target=_watch, args=(source, is_read), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        is_read.set()
        watcher.join()


def _watch(source: str, is_read: threading.Event) -> None:
    if is_read.wait(_PATIENCE):
        return
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from danlu.report.terminal.console import get_console

    columns = (
        SpinnerColumn(),
        TextColumn("reading {task.description}", markup=False),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=get_console(error=True), transient=True) as progress:
        progress.add_task(short_path(source), total=None)
        is_read.wait()
