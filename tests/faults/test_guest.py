"""Every public function in every state that a host may be in: the same bits, and nothing changed."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from danlu import Recipe, Run, Study, compare, cross_validate, fit, load, resume, tune
from danlu.errors import Interrupted
from danlu.files import digest_of, read_tensors
from danlu.study.opening import open_tuning
from danlu.train import Listener

RECIPE = Recipe(model={"name": "dense", "hidden": [6], "dropout": 0.2}, epochs=2)
NETS = """
import sys
from torch import nn
sys.path.insert(0, "/nowhere")
def net(input_shape, outputs):
    return nn.Sequential(nn.Linear(input_shape[0], 5), nn.ReLU(), nn.Linear(5, outputs))
"""


def state() -> dict[str, Any]:
    """Everything of the process that others share."""
    return {
        "threads": torch.get_num_threads(),
        "denormals": float(torch.tensor(1e-40, dtype=torch.float32, device="cpu") * 1.0) == 0,
        "dtype": torch.get_default_dtype(),
        "device": str(torch.get_default_device()),
        "gradients": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "torch": torch.get_rng_state().tolist(),
        "numpy": np.random.get_state()[1].tolist(),  # noqa: NPY002
        "python": random.getstate(),
        "warnings": list(warnings.filters),
        "signals": [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)],
        "csv": csv.field_size_limit(),
        "path": list(sys.path),
        "environment": dict(os.environ),
        "folder": os.getcwd(),
    }


class Stop(Listener):
    """Stops a training as a user would."""

    interval = 0.0

    def step(self, done: int, loss: float, accuracy: float) -> None:
        os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs and studies to be used."""
    root = tmp_path_factory.mktemp("made")
    iris = load("iris")
    fit(RECIPE, iris, out=root / "run")
    with pytest.raises(Interrupted):
        fit(RECIPE, iris, out=root / "stopped", listener=Stop(), checkpoint_every=0.0)
    compare(iris, ["lr=0.01,0.1"], recipe=RECIPE, seeds=2, out=root / "compare")
    tune(iris, ["lr=1e-3..1e-1:log"], recipe=RECIPE, trials=4, out=root / "tune")
    text = root / "t.txt"
    text.write_text("the cat sat on the mat. the dog sat on the log.\n" * 40)
    net = {"name": "gru", "hidden": [6], "embedding": 4}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        words = load(str(text), length=16)
    fit(Recipe(model=net, epochs=1, batch_size=8), words, out=root / "text")
    return root


def _bits(run: Run) -> str:
    return digest_of(run.model().state_dict())


def _resume(made: Path, out: Path) -> object:
    import shutil

    shutil.copytree(made / "stopped", out)
    return _bits(resume(out))


def _own_network(made: Path, out: Path) -> object:
    with contextlib.chdir(made):
        (made / "hostnets.py").write_text(NETS)
        found = fit(Recipe(model="hostnets:net", epochs=1), load("iris"), out=out)
    sys.modules.pop("hostnets", None)
    return digest_of(read_tensors(found.path / "weights.safetensors"))


X = [[5.0, 3.4, 1.5, 0.2], [6.0, 3.0, 4.5, 1.4]]
WORK: dict[str, Callable[[Path, Path], object]] = {
    "load": lambda made, out: load("iris").fingerprint,
    "load csv": lambda made, out: load("digits", resize=6).fingerprint,
    "fit": lambda made, out: _bits(fit(RECIPE, load("iris"), out=out)),
    "fit own network": _own_network,
    "resume": _resume,
    "compare": lambda made, out: (
        compare(load("iris"), ["lr=0.01,0.1"], recipe=RECIPE, seeds=2, out=out).figures
    ),
    "tune": lambda made, out: tune(
        load("iris"), ["lr=1e-3..1e-1:log"], recipe=RECIPE, trials=4, out=out
    ).best_lines(),
    "cross_validate": lambda made, out: (
        cross_validate(RECIPE, load("iris"), folds=3, out=out).figures
    ),
    "predict": lambda made, out: Run(made / "run").predict(X).probabilities.tolist(),
    "predict samples": lambda made, out: Run(made / "run").predict(X, samples=5).spread.tolist(),
    "evaluate": lambda made, out: Run(made / "run").evaluate().loss,
    "score": lambda made, out: Run(made / "text").score(["the cat"])[0].nats,
    "generate": lambda made, out: "".join(Run(made / "text").generate("the", length=12)),
    "member": lambda made, out: _bits(Study(made / "compare").run(1)),
    "importance": lambda made, out: open_tuning(Study(made / "tune")).importance,
    "recipe": lambda made, out: Recipe.read("digits").to_toml(),
}


@contextlib.contextmanager
def _double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextlib.contextmanager
def _flushing() -> Iterator[None]:
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


HOSTS: dict[str, Callable[[], Any]] = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "float64": _double,
    "meta device": lambda: torch.device("meta"),
    "flushed denormals": _flushing,
}


@pytest.mark.parametrize("what", sorted(WORK))
def test_a_host_s_state_changes_no_bit_and_is_left_as_it_was(
    what: str, made: Path, tmp_path: Path
) -> None:
    random.seed(7)
    torch.manual_seed(7)
    plain = WORK[what](made, tmp_path / "plain")
    with warnings.catch_warnings():
        # As strict programs have it, and with a filter of their own.
        warnings.filterwarnings("ignore", message="of the host")
        for name, context in HOSTS.items():
            with context():
                before = state()
                found = WORK[what](made, tmp_path / name)
                after = state()
            assert {k: v for k, v in after.items() if v != before[k]} == {}, name
            assert found == plain, name


def test_threads_asyncio_and_processes_give_the_same(made: Path, tmp_path: Path) -> None:
    plain = WORK["fit"](made, tmp_path / "plain")
    found: dict[str, object] = {}

    def work(name: str) -> None:
        found[name] = WORK["fit"](made, tmp_path / name)

    threads = [threading.Thread(target=work, args=(f"thread {i}",)) for i in range(3)]
    before = state()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert state() == before

    async def main() -> None:
        work("coroutine")
        await asyncio.to_thread(work, "thread of a coroutine")

    asyncio.run(main())
    assert set(found.values()) == {plain}, found
    fork = multiprocessing.get_context("fork")
    pipe = fork.SimpleQueue()
    process = fork.Process(target=lambda: pipe.put(WORK["fit"](made, tmp_path / "forked")))
    process.start()
    assert pipe.get() == plain
    process.join()


@pytest.mark.slow
def test_a_spawned_process_gives_the_same(made: Path, tmp_path: Path) -> None:
    code = (
        "import torch; torch.set_num_threads(1)\n"
        f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r})\n"
        "from pathlib import Path\n"
        "from faults.test_guest import WORK\n"
        f"print(WORK['fit'](None, Path({str(tmp_path / 'spawned')!r})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == WORK["fit"](made, tmp_path / "plain")


CELLS = (
    "import sys; sys.path.insert(0, {tests!r})",
    "import torch; torch.set_num_threads(1)",
    "from pathlib import Path; from faults.test_guest import RECIPE, Stop, WORK, state",
    "import danlu; danlu.load('iris'); before = state()",
    "print(WORK['fit'](None, Path({out!r}) / 'jupyter'))",
    "print({{key for key, value in state().items() if value != before[key]}})",
    "recipe = RECIPE.with_(epochs=10_000)",
    "danlu.fit(recipe, danlu.load('iris'), out=Path({out!r}) / 'stopped', listener=Stop())",
    "print(danlu.Run(Path({out!r}) / 'stopped').status)",
)


@pytest.mark.slow
def test_a_notebook_gives_the_same(made: Path, tmp_path: Path) -> None:
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel(kernel_name="python3")
    said: list[str] = []

    def hear(message: dict[str, Any]) -> None:
        content = message["content"]
        if content.get("name") == "stdout":
            said.append(content["text"].strip())
        if message["msg_type"] == "error":
            said.append(content["ename"])

    try:
        for cell in CELLS:
            filled = cell.format(tests=str(Path(__file__).parents[1]), out=str(tmp_path))
            client.execute_interactive(filled, timeout=120, output_hook=hear)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    plain = WORK["fit"](made, tmp_path / "plain")
    assert said == [str(plain), "set()", "Interrupted", "interrupted"]


# In a program of its own: what tests before it have freed moves the C library's thresholds.
_FREES = """
import resource, sys
from danlu import Recipe, fit, load

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() / 1e6

fit(Recipe(epochs=2), load("iris"), out=sys.argv[1])
sizes = [resident()]
blocks = [bytearray(10_000_000) for _ in range(60)]
for block in blocks:
    block[::4096] = b"x" * len(block[::4096])
sizes.append(resident())
del blocks, block
print(*sizes, resident())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc")
def test_memory_that_the_host_frees_is_given_back(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _FREES, str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    before, full, after = map(float, done.stdout.split()[-3:])
    assert full > before + 500
    assert after < before + 100


@pytest.mark.gpu
def test_the_gpu_s_random_state_is_left_as_it_was(made: Path, tmp_path: Path) -> None:
    torch.cuda.init()
    before = torch.cuda.get_rng_state_all()
    run = fit(RECIPE, load("iris"), out=tmp_path / "run", device="cuda")
    with torch.device("cuda"), torch.inference_mode():
        other = fit(RECIPE, load("iris"), out=tmp_path / "other", device="cuda")
    assert _bits(run) == _bits(other)
    assert all(
        torch.equal(a, b) for a, b in zip(torch.cuda.get_rng_state_all(), before, strict=True)
    )
