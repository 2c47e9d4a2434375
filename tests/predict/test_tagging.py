"""Taggers: the notes' sentences, and what a CRF chooses."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from folders import reseal
from texts import SMALL

from danlu import Recipe, fit, load
from danlu.errors import RunError
from danlu.files import write_tensors
from danlu.predict import text
from danlu.report.pages.run_page import write_report


@pytest.mark.slow
def test_the_notes_example_sentence_is_tagged(tmp_path: Path) -> None:
    """王刚 is somebody, 王府 is not: what follows tells."""
    run = fit(Recipe.read("tagging").with_(epochs=10), load("names"), out=tmp_path / "run")
    assert run.result["test_f1"] > 0.95
    assert "While a conditional random field trains" in write_report(run).read_text(
        encoding="utf-8"
    )
    notes = ["王刚和李明去上班了", "王刚已经离开学校了", "王府内已经没有差事可做了"]
    found = text.tag(run, notes)
    people = [
        ["".join(s.tokens[a:b]) for a, b, kind in s.entities if kind == "NAME"] for s in found
    ]
    assert people == [["王刚", "李明"], ["王刚"], []]


def test_a_crf_chooses_whole_paths_and_entities_have_kinds(tmp_path: Path) -> None:
    """P(XX) = 0.4, P(OO) = P(OY) = 0.3: the likeliest path begins with X, though O is the likelier first tag."""
    x, o, y = "a B-X\nb B-X\n\n", "a O\nb O\n\n", "a O\nb B-Y\n\n"
    (tmp_path / "t.bio").write_text((x * 10 + o + y) * 4)
    data = load(str(tmp_path / "t.bio"))
    recipe = Recipe(model={"name": "gru", **SMALL, "crf": True}, epochs=1, batch_size=16)
    run = fit(recipe, data, out=tmp_path / "run")
    weights = run.model().state_dict()
    kinds = {c: k for k, c in enumerate(data.schema.classes)}
    for name in ("output.weight", "output.bias", "crf.first", "crf.last"):
        weights[name].zero_()
    weights["crf.after"].fill_(-30)
    for before, after, p in (("B-X", "B-X", 0.4), ("O", "O", 0.3), ("O", "B-Y", 0.3)):
        weights["crf.after"][kinds[before], kinds[after]] = math.log(p)
    write_tensors(tmp_path / "run/weights.safetensors", weights)
    reseal(tmp_path / "run")
    assert text.tag(run, ["ab"])[0].tags == ("B-X", "B-X")
    with pytest.raises(RunError, match="text 2 has 100,001 tokens, but may have 100,000; give it"):
        text.tag(run, ["ab", "a" * 100_001])
    found = run.evaluate(data, "all")
    assert found.accuracy == pytest.approx(80 / 96)
    assert found.entities is not None
    assert (found.entities.true, found.entities.predicted, found.entities.right) == (84, 96, 80)
