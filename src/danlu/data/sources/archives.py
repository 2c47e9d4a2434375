"""Archives of several files (ZIP, tar), unpacked once into the user's cache and read as folders."""

from __future__ import annotations

import hashlib
import lzma
import re
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

from danlu.data.memmap import cache_folder
from danlu.data.sources.opened import members_of_zip
from danlu.errors import DataError, StorageError, reason_of
from danlu.memory import as_bytes

# What tells of the file after it: long names, times, sizes.
_HEADERS = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE,
            tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)  # fmt: skip
_LONGEST_HEADER = 1 << 20
_TAR = re.compile(r"\.(tar(\.\w+)?|tgz|tbz2?|txz)$", re.IGNORECASE)


class _Member(tarfile.TarInfo):
    """A file of a tar archive whose headers, which are read into memory, are of usual sizes."""

    # The library has no public place between a header's first block and the rest of it.
    def _proc_member(self, archive: tarfile.TarFile) -> Any:
        if self.type in _HEADERS and self.size > _LONGEST_HEADER:
            raise DataError(
                f"{Path(str(archive.name)).name} has a header of {as_bytes(self.size)}, but may "
                f"have {as_bytes(_LONGEST_HEADER)}; it is no usual archive"
            )
        return super()._proc_member(archive)  # type: ignore[misc]


def unpacked_archive(path: Path) -> Path | None:
    """Return the folder of an archive's files; None for a file that is no archive of several.

    Raises DataError for a damaged archive, StorageError where the cache has no room.
    """
    is_tar = bool(_TAR.search(path.name))
    if not is_tar and path.suffix.lower() != ".zip":
        return None
    try:
        if not is_tar and not _holds_several(path):
            return None
        return _unpack(path, is_tar)
    except (RuntimeError, NotImplementedError) as e:  # a password, or a method nobody here knows
        raise DataError(f"{path.name} cannot be unpacked: {reason_of(e)}; unpack it first") from e
    except PermissionError as e:
        raise DataError(f"{path.name} cannot be read: permission denied") from e
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, lzma.LZMAError, zlib.error) as e:
        raise DataError(f"{path.name} is damaged and cannot be unpacked: {reason_of(e)}") from e


def _holds_several(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        return len(members_of_zip(archive.namelist())) > 1


def _refuse_cut(archive: tarfile.TarFile) -> None:
    """Raise ReadError for an archive cut between two files: it must end in blocks of zeros."""
    stream = archive.fileobj
    if stream is not None:
        stream.seek(archive.offset)
        if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("it ends before its end mark")


def _refuse_large(size: int, name: str, folder: Path) -> None:
    """Raise StorageError for an archive that would fill the disk, of which half is left alone."""
    room = shutil.disk_usage(folder).free / 2
    if size > room:
        raise StorageError(
            f"{name} unpacks to {as_bytes(size)} or more, but may take {as_bytes(room)} of the "
            f"disk with {folder}; unpack it elsewhere and name the folder"
        )


def _unpack(path: Path, is_tar: bool) -> Path:
    """Return the folder into which the archive is unpacked, now or before."""
    facts = path.stat()
    state = f"{path.resolve()} {facts.st_size} {facts.st_mtime_ns}"
    digest = hashlib.blake2b(state.encode(), digest_size=8).hexdigest()
    parent = cache_folder("archives")
    folder = parent / f"{digest}-{path.name.partition('.')[0]}"
    if folder.is_dir():
        return folder
    try:
        with tempfile.TemporaryDirectory(dir=parent) as unfinished:
            target = Path(unfinished) / "files"
            if is_tar:
                with tarfile.open(path, tarinfo=_Member) as archive:
                    size = 0
                    for member in archive:
                        size += tarfile.BLOCKSIZE  # an empty file takes room, too
                        size += member.size
                        _refuse_large(size, path.name, parent)
                        # Names that lead out of the folder are refused.
                        archive.extract(member, target, filter="data")
                    _refuse_cut(archive)
            else:
                with zipfile.ZipFile(path) as archive:
                    size = sum(member.file_size for member in archive.infolist())
                    _refuse_large(size, path.name, parent)
                    archive.extractall(target)
            target.rename(folder)
    except (tarfile.TarError, zipfile.BadZipFile):
        raise
    except OSError as e:
        if e.errno is None:  # of a compressed stream that ends early
            raise DataError(f"{path.name} is damaged and cannot be unpacked: {e}") from e
        raise StorageError(
            f"{path.name} cannot be unpacked into {parent}: {(e.strerror or str(e)).lower()}"
        ) from e
    return folder
