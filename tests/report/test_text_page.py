"""What a page shows of taggers and translators."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from folders import reseal

from danlu import Recipe, fit, load
from danlu.diagnosis.verdict import verdict
from danlu.files import read_tensors, write_tensors
from danlu.report.pages.data_page import write_page
from danlu.report.pages.run_page import write_report
from danlu.report.pages.text_page import marked

SMALL: dict[str, Any] = {"hidden": (12,), "embedding": 6}


def test_entities_are_marked_and_named() -> None:
    tokens = ["the", "<b>", "of", "New", "York"]
    assert (
        marked(tokens, [(3, 5, "LOC")], " ")
        == "the &lt;b&gt; of <mark>New York <small>LOC</small></mark>"
    )
    assert (
        marked(list("王刚走了"), [(0, 2, "NAME")], "")
        == "<mark>王刚 <small>NAME</small></mark>走了"
    )
    assert marked(tokens, [], " ") == "the &lt;b&gt; of New York"


def test_mistaken_sentences_are_shown_with_the_right_tags(tmp_path: Path) -> None:
    sentences = [["in", "Rome", "<i>"], ["we", "saw", "Bonn"], ["in", "May"]] * 40
    data = load(
        (sentences, [["B-LOC" if t in ("Rome", "Bonn") else "O" for t in s] for s in sentences])
    )
    run = fit(
        Recipe(model={"name": "gru", **SMALL}, epochs=1, batch_size=16), data, out=tmp_path / "run"
    )
    kept = read_tensors(run.path / "test.safetensors")
    assert kept["tokens"].shape == kept["tags"].shape and int(kept["sizes"].sum()) == len(
        kept["tokens"]
    )
    page = write_report(run).read_text(encoding="utf-8")
    shown = page[page.index("<h2>Sentences</h2>") : page.index("<h2>Recipe</h2>")]
    assert (
        ("should be:" in shown) == (run.result["test_f1"] < 1)
        and 'class="sentence"' in shown
        and "<i>" not in shown
    )
    kept["tags"] = kept["targets"].clone()
    kept["tags"][kept["targets"].nonzero()[:3]] = 0  # three of the entities are not told
    write_tensors(run.path / "test.safetensors", kept)
    reseal(run.path)
    assert "by sentences)" in verdict(run)[0] and "should be:" in write_report(run).read_text(
        encoding="utf-8"
    )


def test_pairs_are_shown_beside_the_generated_text(tmp_path: Path) -> None:
    words = [a + b for a in "abc" for b in "abc"] * 8
    data = load((words, [w[::-1] for w in words]), task="pairs")
    recipe = Recipe(model={"name": "gru", "hidden": (24,), "embedding": 8, "attention": True},
                    optimizer={"name": "adam", "lr": 0.02}, epochs=12, batch_size=8)  # fmt: skip
    run = fit(recipe, data, out=tmp_path / "run")
    page = write_report(run).read_text(encoding="utf-8")
    shown = page[page.index("<h2>What it writes</h2>") : page.index("<h2>Recipe</h2>")]
    x, s = data.part("test")[0][0], data.schema.source
    from danlu.data.vocabulary import Vocabulary

    learnt = Vocabulary(data.schema.vocabulary)
    source, (written, _) = (
        learnt.decode(x[:s].tolist()),
        run.translate([learnt.decode(x[:s].tolist())])[0],
    )
    assert f"<td>{source}</td><td>{source[::-1]}</td><td>{written}</td>" in shown
    assert "<td>yes</td>" in shown


def test_curves_of_different_quantities_are_explained(tmp_path: Path) -> None:
    recipe = Recipe(epochs=1, loss={"label_smoothing": 0.1}, model={"dropout": 0.2})
    page = write_report(fit(recipe, load("iris"), out=tmp_path / "run")).read_text(encoding="utf-8")
    assert "taken with <code>model.dropout</code>, <code>loss.label_smoothing</code>, which" in page
    assert "1 epoch ·" in page
    plain = write_report(fit(Recipe(epochs=2), load("iris"), out=tmp_path / "plain")).read_text(
        encoding="utf-8"
    )
    assert "taken with" not in plain and "2 epochs ·" in plain


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("names", "<mark>"),
        ("agreement", "<th>text</th><th>class</th>"),
        ("dates", "<th>source</th><th>target</th>"),
        ("prose", "<pre>The &quot;assert&quot; statement\n"),
    ],
)
def test_pages_of_data_show_text_as_it_is(source: str, shown: str, tmp_path: Path) -> None:
    data = load(source)
    page = write_page(data, tmp_path / "data.html").read_text(encoding="utf-8")
    assert shown in page and "<th>tokens</th>" in page and "\\n" not in page
