"""The house: who may import whom, what is public, what starting up costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import danlu

SOURCE = Path(danlu.__file__).parent
# Lower rooms first; rooms on one line do not know each other.
FLOORS = [
    ["errors", "streams"],
    ["data", "nn", "optim"],
    ["models"],
    ["recipe"],
    ["runs"],
    ["train"],
    ["diagnose", "study"],
    ["labs"],
    ["report"],
    ["web", "cli", "__init__"],
    ["__main__"],
]
FLOOR = {room: k for k, rooms in enumerate(FLOORS) for room in rooms}


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Rooms of danlu that a file imports, also inside functions."""
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("danlu"):
            parts = node.module.split(".")  # type: ignore[union-attr]
            rooms |= {parts[1]} if len(parts) > 1 else {a.name for a in node.names}
        elif isinstance(node, ast.Import):
            rooms |= {a.name.split(".")[1] for a in node.names if a.name.startswith("danlu.")}
    return rooms - {"__version__"}


@pytest.mark.parametrize(
    "path", sorted(SOURCE.rglob("*.py")), ids=lambda p: str(p.relative_to(SOURCE))
)
def test_imports_point_down(path: Path) -> None:
    room = room_of(path)
    assert room in FLOOR, f"{room} is in no floor"
    for other in imported(path):
        assert other == room or FLOOR[other] < FLOOR[room], f"{room} must not import {other}"


VERBS = ["compare", "fit", "load", "resume", "tune"]


def test_public_names() -> None:
    assert danlu.__all__ == [
        "Comparison",
        "DanluError",
        "Data",
        "Listener",
        "Recipe",
        "Run",
        "Study",
        "Tuning",
        "__version__",
        *VERBS,
    ]
    for name in danlu.__all__:
        assert getattr(danlu, name) is not None


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
        ("{'name': 'resnet18', 'width': 0.1}", "'digits'"),
        ("{'name': 'lstm', 'hidden': (4,)}", "'dna'"),
    ],
)
def test_a_fit_loads_neither_compiler_nor_sklearn(model: str, source: str, tmp_path: Path) -> None:
    code = (
        "import danlu\n"
        f"recipe, data = danlu.Recipe(epochs=1, model={model}), danlu.load({source}, limit=150)\n"
        f"run = danlu.fit(recipe, data, out={str(tmp_path / 'run')!r})\n"
        "from danlu.report.run_page import write_report; write_report(run)"
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
