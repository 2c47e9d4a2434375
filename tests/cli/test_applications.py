"""The notes' applications of recurrent networks: each trains and predicts, from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from danlu.data.sources.load import load
from danlu.data.vocabulary import Vocabulary

pytestmark = pytest.mark.slow

PROMOTER = "GATTACAGGTTATAAACCGATCGGATCCTTAGCAGGCTTACGGATCCATTGCAGGCTTAG"


def sentiments() -> str:
    """Return a table of short reviews, whose last word tells the sentiment."""
    signs = {"good": ["wonderful", "moving", "funny"], "bad": ["dull", "tiresome", "clumsy"]}
    things = ["film", "book", "play", "score", "cast", "story"]
    rows = ["review,label"]
    for k in range(300):
        label = ("good", "bad")[k % 2]
        word = signs[label][k % 3]
        rows.append(f"the {things[k % 6]} of {things[k // 6 % 6]} {k} was {word},{label}")
    return "\n".join(rows) + "\n"


def predicted(danlu: Any, source: object, text: str, folder: Path, *edits: str) -> Any:
    fitted = danlu("fit", source, "--out", folder, *edits)
    assert fitted.code == 0, fitted.err
    said = danlu("predict", folder, text, "--json")
    assert said.code == 0, said.err
    return json.loads(said.out)


def test_sentiment_is_learnt_from_many_tokens_to_one_class(danlu: Any, tmp_path: Path) -> None:
    table = tmp_path / "reviews.csv"
    table.write_text(sentiments())
    said = predicted(danlu, table, "the play was tiresome", tmp_path / "run", "epochs=5")
    assert said["class"] == "bad" and said["probability"] > 0.9


def test_dna_is_classified_from_many_tokens_to_one_class(danlu: Any, tmp_path: Path) -> None:
    """Over four seeds the probability was 0.990 to 0.997."""
    said = predicted(danlu, "dna", PROMOTER, tmp_path / "run", "epochs=4")
    assert said["class"] == "promoter" and said["probability"] > 0.9


def test_translation_learns_targets_of_another_length(danlu: Any, tmp_path: Path) -> None:
    said = predicted(danlu, "dates", "3 May 1998", tmp_path / "run", "epochs=3")
    assert said["target"] == "1998-05-03"


def test_one_token_is_translated_into_many(danlu: Any, tmp_path: Path) -> None:
    """A number, one token, is spelt in words; all numbers are in every part."""
    data = load("spelling")
    vocabulary = Vocabulary(data.schema.vocabulary)
    row = data.x[0].tolist()
    number = vocabulary.decode(row[: data.schema.source])
    words = vocabulary.decode(row[data.schema.source :])
    said = predicted(danlu, "spelling", number, tmp_path / "run", "epochs=20")
    assert said["target"] == words
