"""Writes the pages of the docs that are made from the code: `make docs`.

docs/recipe.md from the recipe's fields, docs/plain-loop.md from what `danlu recipe show --as-code`
writes, docs/causes.md from the rules of the diagnosis, and docs/techniques.md from
docs/techniques.toml. Tests hold the pages to what this writes.
"""

from __future__ import annotations

import importlib
import inspect
import re
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from danlu.diagnosis import catalogue
from danlu.diagnosis.rules import RULES
from danlu.export.plain_loop import as_code
from danlu.recipe import Recipe, fields
from danlu.report.tables.fields import markdown

DOCS = Path(__file__).parent
ROOT = DOCS.parent
NOT_BUILT = "not built yet"

HEAD = """# Techniques

Every technique of the five study notes on deep learning: the recipe field or command that uses it,
where its code is, the test that holds it, and the experiment (lab) that shows what the notes claim
of it. Written by `make docs` from [techniques.toml](techniques.toml)."""
COLUMNS = "| | technique | fields and commands | code | test | lab |\n|---|---|---|---|---|---|"


def techniques() -> str:
    """Return the page of techniques."""
    table = read_table()
    sections = [HEAD]
    for group in table["group"]:
        lines = [_line(row) for row in group["row"]]
        sections.append("\n".join([f"## {group['name']}", "", COLUMNS, *lines]))
    labs = [f"| {lab['name']} | {lab.get('built', NOT_BUILT)} |" for lab in table["lab"]]
    sections.append("\n".join(["## Labs", "", "| experiment | how to run it |\n|---|---|", *labs]))
    return "\n\n".join(sections) + "\n"


def read_table() -> dict[str, Any]:
    """Return docs/techniques.toml."""
    return tomllib.loads((DOCS / "techniques.toml").read_text(encoding="utf-8"))


def _line(row: dict[str, Any]) -> str:
    what = row["what"] + (f". {row['note']}" if "note" in row else "")
    if "code" not in row:
        what = f"{what}. **{NOT_BUILT.capitalize()}.**"
    used = [f"`{words}`" for words in [*fields_of(row), *row.get("options", [])]]
    if variants := variants_of(row):
        used.append(f"({', '.join(variants)})")
    used += [f"`{command}`" for command in row.get("try", [])]
    cells = [
        row["id"],
        what,
        "<br>".join(used) or "–",
        _listed(row.get("code", []), place),
        _listed(row.get("test", []), test_place),
        _listed(row.get("labs", []), _lab),
    ]
    return f"| {' | '.join(cells)} |"


def _lab(name: str) -> str:
    (lab,) = (lab for lab in read_table()["lab"] if lab["name"] == name)
    return name if "built" in lab else f"{name} ({NOT_BUILT})"


def _listed(items: Iterable[str], shown: Callable[[str], str]) -> str:
    return "<br>".join(map(shown, items)) or "–"


def fields_of(row: dict[str, Any]) -> list[str]:
    """Return the recipe's fields that a row names; `augment.*` stands for the whole section."""
    named = []
    for path in row.get("fields", []):
        section, star, _ = path.partition("*")
        named += [field for field in fields() if field.startswith(section)] if star else [path]
    return named


def variants_of(row: dict[str, Any]) -> list[str]:
    """Return the names of the table rows that count as a technique."""
    if "table" in row:
        return list(find(row["table"]))
    return list(row.get("variants", []))


def find(path: str) -> Any:
    """Return the object at `package.module:name`."""
    module, _, name = path.partition(":")
    found = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found


def place(path: str) -> str:
    """Return where an object is, as a link to its file and line."""
    found = inspect.unwrap(find(path))
    if isinstance(found, property):
        found = found.fget
    source = Path(inspect.getsourcefile(found) or "").relative_to(ROOT)
    line = inspect.getsourcelines(found)[1]
    shown = f"{source.relative_to('src/danlu')}:{line}"
    return f"[{shown}](../{source}#L{line}) `{path.partition(':')[2]}`"


def test_place(path: str) -> str:
    """Return where a test is, as a link."""
    file, _, name = path.partition("::")
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    numbers = [k for k, line in enumerate(lines, 1) if re.match(rf"def {name}\(", line)]
    if not numbers:
        raise SystemExit(f"docs/techniques.toml names {path}, but there is no such test")
    return f"[{name}](../{file}#L{numbers[0]})"


def plain_loop() -> str:
    """Return the page of the plain loop, with its code as it is now."""
    recipe = Recipe().with_(["model=softmax", "optimizer=momentum", "epochs=3"])
    code = as_code(recipe, "digits").strip()
    text = (DOCS / "plain-loop.md").read_text(encoding="utf-8")
    before, _, rest = text.partition("```python\n")
    _, _, after = rest.partition("\n```")
    return f"{before}```python\n{code}\n```{after}"


CAUSES = """# Causes

What `danlu diagnose` may name, `run.diagnose()` and `danlu.watch(…).diagnose()` too, as far as it
can be seen there, and what shows it. Written by `make docs` from
[diagnosis/rules](../src/danlu/diagnosis/rules)."""


def causes() -> str:
    """Return the page of causes."""
    lines = ["| cause | | 中文 | what shows it |", "|---|---|---|---|"]
    rules: dict[str, list[str]] = {}
    for rule in RULES:
        shown = (rule.recognise.__doc__ or "").partition("\n\n")[0]
        rules.setdefault(rule.cause, []).append(" ".join(shown.split()))
    for cause, shown in sorted(rules.items()):
        names = [catalogue.title(cause, language) for language in ("en", "zh")]
        lines.append(f"| `{cause}` | {names[0]} | {names[1]} | {' '.join(dict.fromkeys(shown))} |")
    return f"{CAUSES}\n\n" + "\n".join(lines) + "\n"


PAGES = {
    "causes.md": causes,
    "recipe.md": lambda: markdown() + "\n",
    "plain-loop.md": plain_loop,
    "techniques.md": techniques,
}


if __name__ == "__main__":
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), encoding="utf-8")
