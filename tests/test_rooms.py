"""The house: who may import whom, what is public, what starting up costs."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import danlu

SOURCE = Path(danlu.__file__).parent
TESTS = sorted(Path(__file__).parent.rglob("test_*.py"))
# Lower rooms first; rooms on one line do not know each other.
FLOORS = [
    ["errors", "rng", "fields"],
    ["statistics", "host", "guest", "memory", "formats"],
    ["files"],
    ["imported", "metrics"],
    ["data", "nn", "optim"],
    ["models"],
    ["recipe"],
    ["figures", "predict"],
    ["runs"],
    ["train"],
    ["diagnosis"],
    ["study"],
    ["labs"],
    ["report"],
    ["export"],
    ["web", "cli", "__init__"],
    ["__main__"],
]
# Rooms within a room, likewise; "" is what lies in the room itself. `__init__` files, which only
# pass names on, may import from all of them.
INNER_FLOORS = {
    "data": [[""], ["tables"], ["sources"]],
    "train": [["batches"], ["forward"], ["engine"], ["probes"], ["dispatch"]],
    "report": [["", "tables"], ["terminal", "pages"]],
}


def floor_of(floors: list[list[str]], room: str) -> int:
    return next(k for k, rooms in enumerate(floors) if room in rooms)


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def inner_room_of(path: Path) -> str:
    folders = path.relative_to(SOURCE).parts[1:-1]
    return folders[0] if folders else ""


def imported(path: Path) -> set[tuple[str, ...]]:
    """Modules of danlu that a file imports, also inside functions, without the `danlu`."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("danlu"):
            base = tuple((node.module or "").split(".")[1:])
            modules |= {(*base, alias.name) for alias in node.names}
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.startswith("danlu.")]
            modules |= {tuple(name.split(".")[1:]) for name in names}
    return modules - {("__version__",)}


PATHS = sorted(SOURCE.rglob("*.py"))


@pytest.mark.parametrize("path", PATHS, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_point_down(path: Path) -> None:
    room = room_of(path)
    floor = floor_of(FLOORS, room)
    for other, *_ in imported(path):
        assert other == room or floor_of(FLOORS, other) < floor, f"{room} must not import {other}"


@pytest.mark.parametrize(
    "path",
    [p for p in PATHS if room_of(p) in INNER_FLOORS and p.name != "__init__.py"],
    ids=lambda p: str(p.relative_to(SOURCE)),
)
def test_imports_within_a_room_point_down(path: Path) -> None:
    room, own = room_of(path), inner_room_of(path)
    floors = INNER_FLOORS[room]
    for other, *rest in imported(path):
        target = SOURCE / other / (rest[0] if rest else "")
        if other == room and rest and rest[0] != "__init__":
            inner = rest[0] if target.is_dir() else ""
            is_lower = inner == own or floor_of(floors, inner) < floor_of(floors, own)
            assert is_lower, f"{room}/{own} must not import {room}/{inner}: {rest}"


def test_every_room_has_a_floor_and_every_inner_room_too() -> None:
    rooms = {room_of(path) for path in PATHS}
    assert rooms <= {room for floor in FLOORS for room in floor}
    for path in PATHS:
        if room_of(path) in INNER_FLOORS:
            inner = [room for floor in INNER_FLOORS[room_of(path)] for room in floor]
            assert inner_room_of(path) in inner or path.name == "__init__.py"


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.name)
def test_tests_share_helpers_and_not_each_other(path: Path) -> None:
    """A test that needs another test's module runs only where that one is collected, too."""
    imported = re.findall(r"^\s*(?:from|import) (test_\w+)", path.read_text(), re.M)
    assert not imported


def test_inference_does_not_need_the_engine(tmp_path: Path) -> None:
    """A run predicts without anything of `danlu.train` being imported."""
    run = danlu.fit(danlu.Recipe(epochs=1), danlu.load("iris"), out=tmp_path / "run")
    code = f"import danlu; danlu.Run({str(run.path)!r}).predict([[1.0, 2.0, 3.0, 4.0]])"
    assert not {name for name in loaded_by(code) if name.startswith("danlu.train")}


VERBS = [
    "check",
    "compare",
    "cross_validate",
    "decompose",
    "diagnose",
    "ensemble",
    "fit",
    "gradcheck",
    "load",
    "resume",
    "suspects",
    "treat",
    "tune",
    "watch",
]


def test_the_public_names_are_pinned() -> None:
    assert danlu.__all__ == [
        "BiasVariance",
        "Checkup",
        "Comparison",
        "DanluError",
        "Data",
        "Diagnosis",
        "Ensemble",
        "Finding",
        "Folds",
        "GradientCheck",
        "Listener",
        "Recipe",
        "Run",
        "Study",
        "Suspects",
        "Treatment",
        "Tuning",
        "Watch",
        "__version__",
        *VERBS,
    ]
    for name in danlu.__all__:
        assert getattr(danlu, name) is not None


@pytest.mark.parametrize("room", ["optim", "train"])
def test_rooms_with_public_names_need_no_import(room: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module(f"danlu.{room}")
    monkeypatch.delattr(danlu, room)  # as before anything of it was imported
    assert getattr(danlu, room) is module


def loaded_by(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.splitlines()[-1].split())


def test_help_and_import_load_nothing_heavy() -> None:
    modules = loaded_by("import danlu, danlu.cli")
    assert not modules & {"torch", "numpy", "pydantic", "pandas", "plotly", "rich"}


@pytest.mark.parametrize(
    ("model", "source"),
    [
        ("'dense'", "'digits'"),
        pytest.param("{'name': 'resnet18', 'width': 0.1}", "'digits'", marks=pytest.mark.slow),
        pytest.param("{'name': 'lstm', 'hidden': (4,)}", "'dna'", marks=pytest.mark.slow),
    ],
)
def test_a_fit_loads_neither_compiler_nor_sklearn(model: str, source: str, tmp_path: Path) -> None:
    code = (
        "import danlu\n"
        f"recipe, data = danlu.Recipe(epochs=1, model={model}), danlu.load({source}, limit=150)\n"
        f"run = danlu.fit(recipe, data, out={str(tmp_path / 'run')!r})\n"
        "from danlu.report.pages.run_page import write_report; write_report(run)"
    )
    assert not loaded_by(code) & {
        "torch._dynamo",
        "torch._inductor",
        "sympy",
        "sklearn",
        "pandas",
        "datasets",
        "plotly.graph_objects",
    }


def test_a_small_study_loads_neither_compiler_nor_statistics_library(tmp_path: Path) -> None:
    code = (
        "import danlu\n"
        "recipe, data = danlu.Recipe(epochs=1), danlu.load('digits', limit=150)\n"
        "rates, out = {'optimizer.lr': [0.1, 0.01]}, " + repr(str(tmp_path / "study")) + "\n"
        "print(danlu.compare(data, rates, recipe=recipe, seeds=2, out=out))"
    )
    heavy = {"torch._dynamo", "torch._inductor", "sympy", "scipy.stats", "sklearn", "optuna"}
    assert not loaded_by(code) & heavy
