"""Shared fixtures. Nothing is written outside the test's own folders."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

# How long an example takes says something about the machine, not about the code.
settings.register_profile("danlu", deadline=None)
settings.load_profile("danlu")
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="danlu-test-cache-")
atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)
torch.set_num_threads(1)
# A warning that comes once in a process meets whichever test runs first.
torch.set_warn_always(True)
# A suite in a shell's background inherits an ignored Ctrl-C, and so would every program it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)


# Networks as deep as these take long. The shallower ones of their families pass the same code, and
# ResNet-18 is trained in the same ways as GoogLeNet.
_DEEP = {"resnet34", "resnet50", "resnet101", "resnet152"}
_DEEP |= {"googlenet", "googlenet-naive", "googlenet-factorised", "googlenet-torch"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    folder = os.environ.get("DANLU_DATA")
    no_data = pytest.mark.skip(reason="DANLU_DATA names no folder with the real data")
    no_gpu = pytest.mark.skip(reason="no CUDA device")
    for item in items:
        callspec = getattr(item, "callspec", None)
        names = {str(value) for value in callspec.params.values()} if callspec else set()
        if _DEEP & names:
            item.add_marker(pytest.mark.slow)
        if item.get_closest_marker("data") and not (folder and Path(folder).is_dir()):
            item.add_marker(no_data)
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(no_gpu)


@pytest.fixture(autouse=True)
def runs_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Runs go into the test's folder."""
    folder = tmp_path / "runs"
    monkeypatch.setenv("DANLU_RUNS", str(folder))
    return folder


@pytest.fixture(autouse=True, scope="session")
def typical_speeds() -> Iterator[None]:
    """Plans do not depend on the machine that runs the tests, and nothing is measured."""
    from danlu.train.dispatch import choose, speeds

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choose, "speeds", lambda device, threads: speeds._TYPICAL)
        yield


@pytest.fixture
def real_data() -> Path:
    return Path(os.environ["DANLU_DATA"])
