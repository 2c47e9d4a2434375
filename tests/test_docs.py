"""The documentation says what the program does."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from danlu.cli import app
from danlu.models import MODELS
from danlu.nn.cells import CELLS
from danlu.nn.init import INITS
from danlu.nn.losses import LOSSES
from danlu.optim.optimizers import OPTIMIZERS
from danlu.optim.schedules import SCHEDULES
from danlu.recipe import Recipe, fields
from danlu.study.strategies import STRATEGIES

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "docs"))
import build  # noqa: E402


@pytest.mark.parametrize("name", build.PAGES)
def test_pages_made_from_the_code_are_current(name: str) -> None:
    assert (ROOT / "docs" / name).read_text() == build.PAGES[name](), "make docs writes it anew"


def test_the_plain_loop_runs(tmp_path: Path) -> None:
    code = re.search(r"```python\n(.*)```", build.plain_loop(), re.S)
    assert code is not None
    script = tmp_path / "loop.py"
    script.write_text(code[1])
    out = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=True
    ).stdout
    assert "epoch 3" in out


TECHNIQUES = [row for group in build.read_table()["group"] for row in group["row"]]


def test_every_field_of_a_recipe_is_a_technique() -> None:
    named = {field for row in TECHNIQUES for field in build.fields_of(row)}
    assert named == set(fields())


@pytest.mark.parametrize("table", [MODELS, CELLS, OPTIMIZERS, SCHEDULES, INITS, LOSSES, STRATEGIES])
def test_every_variant_is_named_by_a_technique(table: dict[str, object]) -> None:
    named = {name for row in TECHNIQUES for name in build.variants_of(row)}
    # No cell of its own to a user, who says model.reset_after=false.
    assert set(table) - {"gru-reset-before"} <= named


COMMANDS = [command for row in TECHNIQUES for command in row.get("try", [])]


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_to_copy_hold_recipes_that_are_right(command: str) -> None:
    words = command.split()
    preset = words[words.index("--recipe") + 1] if "--recipe" in words else None
    recipe = Recipe.read(preset) if preset else Recipe()
    recipe.with_([word for word in words if "=" in word and ".." not in word])


@pytest.mark.parametrize("row", TECHNIQUES, ids=lambda row: row["id"])
def test_commands_and_options_of_a_technique_exist(row: dict[str, list[str]]) -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for written in row.get("options", []):
        words = written.split()
        named = [commands[words[1]]] if words[0] == "danlu" else commands.values()
        flags = {
            flag for command in named for p in command.params for flag in p.opts + p.secondary_opts
        }
        assert all(word in flags for word in words if word.startswith("--")), written


def test_every_row_of_the_notes_is_listed_built_or_not() -> None:
    ids = [row["id"] for row in TECHNIQUES]
    wanted = {"D": 6, "A": 11, "G": 9, "H": 2, "C": 9, "R": 9, "B": 4}
    assert ids == [f"{letter}{k}" for letter, n in wanted.items() for k in range(1, n + 1)]
    for row in TECHNIQUES:
        assert ("code" in row) == ("test" in row), f"{row['id']} is tested if it is built"


PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])


def links_of(path: Path) -> list[str]:
    return re.findall(r"\]\(([^)#:]+)\)", path.read_text())


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in links_of(path):
        assert (path.parent / target).exists(), target


def test_the_readme_leads_to_every_page() -> None:
    linked = {(ROOT / target).resolve() for target in links_of(ROOT / "README.md")}
    contributing = {(ROOT / target).resolve() for target in links_of(ROOT / "CONTRIBUTING.md")}
    assert {*ROOT.glob("docs/*.md")} <= linked | contributing


EXAMPLES = re.findall(r"```python\n(.*?)```", (ROOT / "docs/extending.md").read_text(), re.S)


@pytest.mark.slow
@pytest.mark.parametrize("code", EXAMPLES, ids=lambda code: code.splitlines()[0].strip('".'))
def test_the_worked_examples_run(code: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr


def test_there_is_a_worked_example_of_each_kind() -> None:
    assert len(EXAMPLES) == 5


def python_of(name: str) -> str:
    return "".join(re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(), re.S))


def test_both_readmes_have_the_same_python() -> None:
    english, chinese = (ast.parse(python_of(name)) for name in ("README.md", "README.zh-CN.md"))
    assert ast.dump(english) == ast.dump(chinese)


@pytest.mark.slow
def test_the_python_of_the_readme_runs(tmp_path: Path) -> None:
    """On digits instead of MNIST, with a dense net: the same lines."""
    code = (
        python_of("README.md")
        .replace('"mnist"', '"digits"')
        .replace('model="cnn"', 'model="dense"')
        .replace("trials=100", "trials=9")
    )
    code = code.replace("seeds=10", "seeds=2")
    assert all(f"danlu.{verb}(" in code for verb in ("load", "fit", "compare", "tune"))
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, capture_output=True)


def test_the_table_of_networks_lists_every_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every row of the zoo and every cell, with the parameters it has today, and every check right."""
    monkeypatch.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])
    import networks

    text = (ROOT / "docs/networks.md").read_text()
    rows = {
        name.strip("`"): count
        for name, count in re.findall(r"^\| (\S[^|]*?) \| ([\d,]+) \|", text, re.M)
    }
    pictures = [k for k, m in MODELS.items() if not m.reads_text]
    assert list(rows) == [*pictures, *networks.READ] and set(CELLS) <= set(networks.READ)
    for name in pictures:
        assert rows[name] == f"{networks.parameters(name)[0]:,}"
    assert f"{len(rows)} of {len(rows)} networks have every check right" in text
