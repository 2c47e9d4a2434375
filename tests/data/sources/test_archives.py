"""Archives of several files are folders."""

from __future__ import annotations

import io
import shutil
import tarfile
from pathlib import Path

import pytest
from samples import make_pictures, quietly, refused

FORMATS = {
    "zip": ".zip",
    "tar": ".tar",
    "gztar": ".tar.gz",
    "bztar": ".tar.bz2",
    "xztar": ".tar.xz",
}


@pytest.mark.parametrize("form", FORMATS)
def test_an_archive_of_a_folder_is_that_folder(form: str, tmp_path: Path) -> None:
    plain = make_pictures(tmp_path / "pets")
    archive = Path(shutil.make_archive(str(tmp_path / "packed"), form, tmp_path, "pets"))
    data = quietly(archive)
    assert data.fingerprint == quietly(plain).fingerprint
    assert data.schema.classes == ("cat", "dog")
    assert "packed" in data.notices[0] and "read as a folder" in data.notices[0]
    # Another archive under the same name is another folder.
    shutil.rmtree(plain / "dog")
    (plain / "cat").rename(plain / "emu")
    make_pictures(plain)
    shutil.make_archive(str(tmp_path / "packed"), form, tmp_path, "pets")
    assert quietly(archive).schema.classes == ("cat", "dog", "emu")


@pytest.mark.parametrize("form", FORMATS)
def test_a_broken_archive_is_refused(form: str, tmp_path: Path) -> None:
    make_pictures(tmp_path / "pets")
    archive = Path(shutil.make_archive(str(tmp_path / "packed"), form, tmp_path, "pets"))
    whole = archive.read_bytes()
    archive.write_bytes(whole[: len(whole) // 2 + 100])
    assert "is damaged and cannot be unpacked" in refused(archive)


def test_a_file_beside_the_archive_s_folder_is_not_written(tmp_path: Path) -> None:
    archive = tmp_path / "evil.tar"
    with tarfile.open(archive, "w") as file:
        entry = tarfile.TarInfo("../../outside.csv")
        content = b"a,b,target\n1,2,3\n"
        entry.size = len(content)
        file.addfile(entry, io.BytesIO(content))
    assert "cannot be unpacked" in refused(archive)


def test_an_archive_with_a_password_says_so(tmp_path: Path) -> None:
    make_pictures(tmp_path / "pets")
    archive = Path(shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path, "pets"))
    content = bytearray(archive.read_bytes())
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = content.find(mark)
        while place >= 0:
            content[place + flags] |= 1  # encrypted
            place = content.find(mark, place + 1)
    archive.write_bytes(content)
    assert "password" in refused(archive) and "unpack it first" in refused(archive)
