"""Standard output and error of the command line, whatever they are connected to.

A terminal that knows no UTF-8 gets plain characters. Where whoever reads our output leaves
(`danlu fit … | head`), what only prints stops, and what trains goes on in silence.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import sys
import unicodedata
from collections.abc import Iterator
from typing import Any

_PLAIN = {"…": "...", "–": "-", "—": "-", "×": "x", "·": "|", "→": "->", "−": "-", "µ": "u"}
_BRAILLE = 0x2800
_HANDLER = "danlu-plain"


def _plain(e: UnicodeError) -> tuple[str, int]:
    """Return plain characters for those that an encoding lacks."""
    if not isinstance(e, UnicodeEncodeError):
        raise e
    found = []
    for character in e.object[e.start : e.end]:
        found.append(_PLAIN.get(character) or _dots(character) or _without_accents(character))
    return "".join(found), e.end


def _dots(character: str) -> str:
    """Return as dark a sign as a braille cell of a chart is; nothing for other characters."""
    number = ord(character) - _BRAILLE
    if not 0 <= number < 256:
        return ""
    return " ..::##@@"[number.bit_count()]


def _without_accents(character: str) -> str:
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    is_sign = unicodedata.category(character).startswith("S")
    return plain or ("*" if is_sign else "?")


class _Stream:
    """A stream that outlasts its reader when asked to."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.outlasts_reader = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._as_asked():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._as_asked():
            self._stream.flush()

    @contextlib.contextmanager
    def _as_asked(self) -> Iterator[None]:
        try:
            yield
        except OSError:  # the pipe is closed, the terminal gone, the disk full
            _silence(self._stream)
            if not self.outlasts_reader:
                raise BrokenPipeError from None


def _silence(stream: Any) -> None:
    """Let nothing that is written to a stream from now on fail, not even at the very end."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


@contextlib.contextmanager
def sturdy_streams() -> Iterator[None]:
    """Have standard output and error take every text."""
    codecs.register_error(_HANDLER, _plain)
    before = sys.stdout, sys.stderr
    for stream in before:
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=_HANDLER)
    sys.stdout, sys.stderr = _Stream(before[0]), _Stream(before[1])
    try:
        yield
        sys.stdout.flush()
    finally:
        sys.stdout, sys.stderr = before


def outlast_readers() -> None:
    """Go on when whoever reads our output leaves: what is under way is worth more than its log."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, _Stream):
            stream.outlasts_reader = True
