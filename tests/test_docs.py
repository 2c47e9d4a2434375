"""The documentation says what the program does."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from danlu.export.plain_loop import as_code
from danlu.models import MODELS
from danlu.nn.cells import CELLS
from danlu.recipe import Recipe
from danlu.report.tables.fields import markdown

ROOT = Path(__file__).parent.parent


def test_the_page_of_fields_is_current() -> None:
    assert (ROOT / "docs/recipe.md").read_text() == markdown() + "\n"


def test_the_plain_loop_is_current_and_runs(tmp_path: Path) -> None:
    code = as_code(Recipe().with_(["model=softmax", "optimizer=momentum", "epochs=3"]), "digits")
    text = (ROOT / "docs/plain-loop.md").read_text()
    assert code.strip() == re.search(r"```python\n(.*)```", text, re.S)[1].strip()  # type: ignore[index]
    script = tmp_path / "loop.py"
    script.write_text(code)
    out = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=True
    ).stdout
    assert "epoch 3" in out


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


@pytest.mark.parametrize("code", EXAMPLES, ids=lambda code: code.splitlines()[0].strip('".'))
def test_the_worked_examples_run(code: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr


def test_there_is_a_worked_example_of_each_kind() -> None:
    assert len(EXAMPLES) == 4


@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md"])
def test_the_python_of_the_readme_runs(name: str, tmp_path: Path) -> None:
    """On digits instead of MNIST, with a dense net: the same lines."""
    code = "".join(re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(), re.S))
    code = (
        code.replace('"mnist"', '"digits"')
        .replace('model="cnn"', 'model="dense"')
        .replace("trials=100", "trials=9")
    )
    code = code.replace("seeds=10", "seeds=2")
    assert all(f"danlu.{verb}(" in code for verb in ("load", "fit", "compare", "tune"))
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, capture_output=True)


def test_the_table_of_networks_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
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
