"""Files as text: unpacked where they are packed, and decoded."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from danlu.data.reading_memory import PER_BYTE_OF_TEXT, check_fits, reading_budget
from danlu.data.sources.tree import is_about
from danlu.errors import DataError, reason_of, some, wrong

PACKED = (".gz", ".bz2", ".xz", ".lzma", ".zip")
_GZIP, _BZIP2, _XZ, _ZIP = b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"PK\x03\x04"
_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_CHINESE = 0.9  # of the signs beyond ASCII: in Chinese text nearly all are in GB 2312
_LOOKED_AT = 1 << 20  # bytes by which an encoding is told
_BLOCK = 1 << 22  # bytes unpacked at once
_HIDDEN = ("__MACOSX", ".")


@dataclass(frozen=True)
class Opened:
    """The text of a file, what its name ends with when unpacked, and how it was read."""

    text: str
    suffix: str
    notices: tuple[str, ...] = ()


def suffix_of(path: Path) -> str:
    """Return what a file's name ends with, in lower case; of a packed one before that."""
    suffix = path.suffix.lower()
    if suffix in PACKED:
        inner = Path(path.stem).suffix.lower()
        return inner or suffix
    return suffix


def open_text(path: Path, encoding: str | None = None) -> Opened:
    """Return a file's text. Raises DataError for what cannot be read or is no text."""
    content, name = unpacked(path)
    text, used = decode(content, name, encoding)
    notices = []
    if used not in ("utf-8", "ascii") and encoding is None:
        notices.append(f"{name} is read as {used}; --encoding reads it otherwise")
    return Opened(text, Path(name).suffix.lower(), tuple(notices))


def unpacked(path: Path) -> tuple[bytes, str]:
    """Return a file's bytes and its name, both unpacked where the bytes say that it is packed."""
    name = path.name
    try:
        check_fits(PER_BYTE_OF_TEXT * path.stat().st_size, name)
        content = path.read_bytes()
    except OSError as e:
        raise DataError(f"{name} cannot be read: {(e.strerror or str(e)).lower()}") from e
    packed = io.BytesIO(content)
    try:
        if content.startswith(_ZIP) and path.suffix.lower() not in (".xlsx", ".npz"):
            return _of_zip(content, name)
        if content.startswith(_GZIP):
            return _all_of(gzip.open(packed), name), path.stem
        if content.startswith(_BZIP2) and path.suffix.lower() == ".bz2":
            return _all_of(bz2.open(packed), name), path.stem
        if content.startswith(_XZ):
            return _all_of(lzma.open(packed), name), path.stem
    except (OSError, EOFError, ValueError, lzma.LZMAError, zipfile.BadZipFile, zlib.error) as e:
        raise DataError(f"{name} is damaged and cannot be unpacked: {reason_of(e)}") from e
    except (RuntimeError, NotImplementedError) as e:  # a password, or a method nobody here knows
        raise DataError(f"{name} cannot be unpacked: {reason_of(e)}; unpack it first") from e
    return content, name


def _all_of(packed: IO[bytes] | gzip.GzipFile, name: str) -> bytes:
    """Return what is packed. Raises DataError when it becomes more than may be read."""
    content = bytearray()
    with packed as file:
        while block := file.read(_BLOCK):
            content += block
            size = PER_BYTE_OF_TEXT * len(content)
            if size > reading_budget():
                check_fits(size, f"{name}, unpacked,", least=True)
    return bytes(content)


def _of_zip(content: bytes, name: str) -> tuple[bytes, str]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = members_of_zip(archive.namelist())
        if len(members) != 1:
            raise DataError(
                f"{name} holds {len(members)} files ({some(members)}), but must hold one; unpack "
                "it and name the one to read"
            )
        return _all_of(archive.open(members[0]), name), members[0].split("/")[-1]


def members_of_zip(names: Sequence[str]) -> list[str]:
    """Return the files of an archive, without hidden ones, and without texts about the data."""
    members = [
        name
        for name in names
        if not name.endswith("/")
        and not name.split("/")[-1].startswith(_HIDDEN)
        and not name.startswith(_HIDDEN)
    ]
    of_data = [member for member in members if not is_about(Path(member))]
    return of_data or members


def decode(content: bytes, name: str, encoding: str | None = None) -> tuple[str, str]:
    """Return bytes as text, and the encoding they were read in.

    Without one, UTF-8 is tried, then UTF-16, GB 18030 and Latin-1: the first that makes sense.
    """
    if encoding is not None:
        return _decoded_as(content, name, encoding), encoding
    if content.startswith(codecs.BOM_UTF8):
        return _decoded_as(content[3:], name, "utf-8", offset=3), "utf-8"
    if content.startswith(_UTF16_MARKS):
        return _decoded_as(content, name, "utf-16"), "utf-16"
    head = content[:_LOOKED_AT]
    if b"\0" in head:
        # No text but UTF-16 holds this byte.
        without_mark = _utf16_without_mark(head)
        if without_mark:
            return _decoded_as(content, name, without_mark), "utf-16"
        raise DataError(
            f"{name} is no text: byte 0x00 at offset {head.index(0):,} is of no known encoding; "
            "name one with --encoding, or save it as UTF-8"
        )
    try:
        return content.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        pass
    if _is_chinese(head):
        return content.decode("gb18030", errors="replace"), "gb18030"
    if not any(0x80 <= byte < 0xA0 for byte in content):
        return content.decode("latin-1"), "latin-1"
    # As it is used under Windows: with curly quotes and the sign of the euro.
    try:
        return content.decode("cp1252"), "latin-1 (windows-1252)"
    except UnicodeDecodeError:
        return content.decode("latin-1"), "latin-1"


def _decoded_as(content: bytes, name: str, encoding: str, offset: int = 0) -> str:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as e:
        byte = f"0x{e.object[e.start]:02x}"
        raise DataError(
            f"{name} is no {encoding} text: byte {byte} at offset {e.start + offset:,}; name "
            "another encoding, such as --encoding gb18030, or save it as UTF-8"
        ) from e
    except (LookupError, ValueError, TypeError) as e:
        # Some codecs are of Python's own, and for no text.
        rule = "must be one of text that Python knows"
        raise DataError(wrong("encoding", encoding, rule, "try utf-8 or gb18030")) from e


def _utf16_without_mark(head: bytes) -> str | None:
    """Return the byte order of UTF-16, where every other byte of western text is 0."""
    pairs = len(head) // 2
    if pairs < 2:
        return None
    for first, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        if head[first::2].count(0) > 0.7 * pairs and head[1 - first :: 2].count(0) == 0:
            return encoding
    return None


def _is_chinese(head: bytes) -> bool:
    """Whether bytes make common Chinese characters in GB 18030."""
    # The last character may be cut.
    text = head.decode("gb18030", errors="ignore")
    if "�" in head.decode("gb18030", errors="replace")[:-2]:
        return False
    beyond = [sign for sign in text if ord(sign) > 127]
    if not beyond:
        return False
    common = "".join(beyond).encode("gb2312", errors="ignore")
    return len(common) / 2 >= _CHINESE * len(beyond)
