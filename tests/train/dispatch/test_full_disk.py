"""A disk that is full, or may not be written."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from resuming import RECIPE, assert_same, part_way

from danlu import Run, fit, load, resume
from danlu.errors import StorageError
from danlu.runs import folder


def limited_disk(code: str, size: int) -> subprocess.CompletedProcess[str]:
    """Run code under a limit on the size of any file, the nearest thing to a full disk without one."""
    prelude = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))\n"
    return subprocess.run([sys.executable, "-c", prelude + code], capture_output=True, text=True)


def test_a_write_that_fails_loses_nothing_saved(tmp_path: Path, whole: Path) -> None:
    run = part_way(tmp_path / "run")
    before = sorted(p.name for p in run.path.glob("checkpoint/*"))
    done = limited_disk(
        f"import danlu; danlu.resume({str(run.path)!r}, checkpoint_every=0.0)", 4096
    )
    assert "cannot be written: file too large; what was saved before is intact" in done.stderr
    assert sorted(p.name for p in run.path.glob("checkpoint/*")) == before
    assert not list(run.path.glob("**/.0*"))
    resume(run)
    assert_same(run.path, whole)


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("mount") is None, reason="needs root to mount a small disk"
)
def test_a_full_disk_is_reported_and_the_run_resumes_elsewhere(tmp_path: Path, whole: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)], capture_output=True
    ).returncode:
        pytest.skip("this machine does not let us mount")
    try:
        filler = disk / "filler"
        with pytest.raises(
            StorageError, match="no space left on device; what was saved before is intact"
        ):
            recipe = RECIPE.with_(["model.hidden=200,200"])
            fit(recipe, load("digits"), out=disk / "run", checkpoint_every=0.0)
        assert Run(disk / "run").status == "interrupted"
        filler.unlink(missing_ok=True)
        shutil.copytree(disk / "run", tmp_path / "saved")
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    resume(tmp_path / "saved")
    assert Run(tmp_path / "saved").status == "finished"


def test_a_read_only_folder_is_refused(tmp_path: Path) -> None:
    """As a user without rights there (root may write anywhere)."""
    place = tmp_path / "readonly"
    place.mkdir()
    place.chmod(0o555)
    for parent in place.parents:
        if parent == Path("/tmp") or not os.access(parent, os.W_OK):
            break
        parent.chmod(0o755)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        said = "nothing"
        try:
            if os.geteuid() == 0:
                os.setuid(65534)
            folder.create(place / "new", "x", "run.json", {}, {})
        except StorageError as e:
            said = str(e)
        finally:
            os.write(write, said.encode())
            os._exit(0)
    os.waitpid(child, 0)
    os.close(write)
    said = os.read(read, 4096).decode()
    assert "cannot be written: permission denied; what was saved before is intact" in said
