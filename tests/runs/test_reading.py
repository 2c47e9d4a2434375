"""What runs do with text: weigh, write, tag, translate; and what they refuse."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from danlu import Recipe, Run, fit, load
from danlu.data.vocabulary import EOS, PAD, UNK, Vocabulary
from danlu.errors import RunError
from danlu.runs import reading

SMALL: dict[str, Any] = {"hidden": (12,), "embedding": 6}


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("writer")
    (folder / "lines.txt").write_text("the cat sat.\nthe dog sat.\na cat ran.\n" * 40, encoding="utf-8")
    data = load(str(folder / "lines.txt"), lines=True)
    recipe = Recipe(model={"name": "lstm", **SMALL}, optimizer={"name": "adam", "lr": 0.02}, epochs=12, batch_size=8)
    return fit(recipe, data, out=folder / "run")


@pytest.fixture(scope="module")
def translator(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("translator")
    words = ["".join(w) for n in (1, 2, 3) for w in itertools.product("abc", repeat=n)]
    (folder / "pairs.tsv").write_text("\n".join(f"{w}\t{w[::-1]}" for w in words * 6))
    data = load(str(folder / "pairs.tsv"), task="pairs")
    recipe = Recipe(model={"name": "gru", "hidden": (24,), "embedding": 8, "attention": True},
                    optimizer={"name": "adam", "lr": 0.02}, epochs=15, batch_size=16)  # fmt: skip
    return fit(recipe, data, out=folder / "run")


def test_a_score_is_the_sum_of_every_token_s(writer: Run) -> None:
    learnt, model = Vocabulary(writer.schema.vocabulary), writer.model()
    (found,) = reading.score(writer, ["the cat sat."])
    row, nats = [EOS, *learnt.encode("the cat sat."), EOS], 0.0
    for k in range(1, len(row)):
        p = model(torch.tensor([row[:k]]))[0, -1].softmax(0)
        nats += math.log(float(p[row[k]].detach()))
    assert found.nats == pytest.approx(nats, rel=1e-4)
    assert found.tokens == len(row) - 1
    assert found.perplexity == pytest.approx(math.exp(-nats / found.tokens), rel=1e-4)


def test_the_likelier_of_two_sentences(writer: Run) -> None:
    right, wrong = reading.score(writer, ["the dog sat.", "teh dgo ats."])
    assert right.nats > wrong.nats + 5


def test_written_text_ends_at_eos_and_is_drawn_by_seed(writer: Run) -> None:
    one = "".join(reading.generate(writer, "the ", temperature=0.5, seed=1))
    assert one == "".join(reading.generate(writer, "the ", temperature=0.5, seed=1))
    drawn = {"".join(reading.generate(writer, "", temperature=1.0, seed=k)) for k in range(30)}
    assert {"the cat sat.", "the dog sat.", "a cat ran."} <= drawn
    assert "".join(reading.generate(writer, "a", temperature=0)) == " cat ran."
    assert len("".join(reading.generate(writer, "", temperature=5.0, length=7))) <= 7


def test_draws_have_the_probabilities_of_the_logits() -> None:
    logits = torch.tensor([9.0, 9.0, 0.0, 1.0, 2.0])
    g = torch.Generator().manual_seed(0)
    for temperature, k in ((1.0, 0), (0.5, 0), (1.0, 2)):
        drawn = torch.tensor([reading.draw(logits, temperature, k, g) for _ in range(4000)])
        p = logits.clone()
        p[[PAD, UNK]] = -math.inf
        p[p < p.topk(k).values[-1] if k else p < -1e9] = -math.inf
        expected = (p / temperature).softmax(0)
        assert torch.allclose(torch.bincount(drawn, minlength=5) / 4000, expected, atol=0.03)


def test_a_beam_of_everything_finds_the_likeliest(translator: Run) -> None:
    """Against all targets of up to three letters, weighed one by one."""
    learnt, model, s = Vocabulary(translator.schema.vocabulary), translator.model(), translator.schema.source

    def weigh(source: list[int], target: list[int]) -> float:
        x = torch.tensor([source + [PAD] * (s - len(source)) + [EOS, *target]])
        logits = model(x)[0].double()
        logits[:, [PAD, UNK]] = -math.inf
        return float(logits.log_softmax(1).gather(1, torch.tensor([*target, EOS])[:, None]).sum().detach())

    letters = learnt.encode("abc")
    every = [list(t) for n in range(4) for t in itertools.product(letters, repeat=n)]
    for word in ("a", "cb", "abc", "caa"):
        source = learnt.encode(word)
        best = max(every, key=lambda t: weigh(source, t))
        ((text, nats),) = reading.translate(translator, [word], beam=60)
        assert learnt.encode(text) == best
        assert nats == pytest.approx(weigh(source, best), abs=1e-4)
        ((greedy, low),) = reading.translate(translator, [word], beam=1)
        assert low <= nats + 1e-6 and greedy


def test_a_translator_has_learnt(translator: Run) -> None:
    found = reading.translate(translator, ["abc", "ca", "b"], beam=3)
    assert [t for t, _ in found] == ["cba", "ac", "b"]


def test_the_notes_sentence_is_tagged(tmp_path: Path) -> None:
    """王刚 is somebody, 王府 is not: what follows tells."""
    recipe = Recipe(model={"name": "lstm", "hidden": (24,), "embedding": 16, "bidirectional": True, "crf": True},
                    optimizer={"name": "adam", "lr": 0.01}, epochs=5, batch_size=16)  # fmt: skip
    run = fit(recipe, load("names"), out=tmp_path / "run")
    assert run.result["test_f1"] > 0.95
    notes = ["王刚和李明去上班了", "王刚已经离开学校了", "王府内已经没有差事可做了"]
    found = reading.tag(run, notes)
    people = [["".join(s.tokens[a:b]) for a, b, kind in s.entities if kind == "NAME"] for s in found]
    assert people == [["王刚", "李明"], ["王刚"], []]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Run:
    texts = [f"number {k} is {'good' if k % 2 else 'dull'}" for k in range(120)]
    data = load((texts, ["up" if k % 2 else "down" for k in range(120)]), tokens="words")
    recipe = Recipe(model={"name": "gru", **SMALL}, optimizer={"name": "adam", "lr": 0.02}, epochs=8, batch_size=16)
    return fit(recipe, data, out=tmp_path_factory.mktemp("reader") / "run")


def test_a_classifier_reads_texts_of_any_length(reader: Run) -> None:
    texts = ["good", "number 3 is dull", "number number number is is is good"]
    found = reader.predict(reading.encode(reader, texts))
    assert found.labels == ["up", "down", "up"]
    for text, p in zip(texts, found.probabilities, strict=True):  # type: ignore[arg-type]
        alone = reader.predict(reading.encode(reader, [text])).probabilities
        torch.testing.assert_close(alone[0], p)  # type: ignore[index]


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (lambda r: r.predict(torch.zeros(1, 5, dtype=torch.int32)), "says something of every token"),
        (lambda r: list(reading.generate(r, "王")), "no token of '王' was in the training text"),
        (lambda r: list(reading.generate(r, "the", temperature=-1)), "`temperature` is -1, but must be at least 0"),
        (lambda r: list(reading.generate(r, "the", top_k=-1, length=0)), "`length` is 0, but must be at least 1"),
        (lambda r: reading.score(r, ["", "the"]), "a text is empty"),
        (lambda r: reading.tag(r, ["the"]), "was trained for language of text, but this needs tagging of text"),
        (lambda r: reading.translate(r, ["the"]), "needs pairs of text"),
    ],
)
def test_what_cannot_be_is_refused(writer: Run, wanted: Any, said: str) -> None:
    with pytest.raises(RunError, match=said):
        wanted(writer)


def test_commands(writer: Run, translator: Run, reader: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    import sys

    from danlu.cli import main

    def said(*args: str) -> str:
        sys.argv = ["danlu", *args]
        with pytest.raises(SystemExit) as e:
            main()
        assert not e.value.code
        return capsys.readouterr().out

    lines = [json.loads(x) for x in said("score", str(writer.path), "teh dgo", "the dog sat.", "--json").splitlines()]
    assert lines[0]["text"] == "the dog sat." and lines[0]["nats"] > lines[1]["nats"]
    assert said("generate", str(writer.path), "--prompt", "a", "--temperature", "0") == "a cat ran.\n"
    assert json.loads(said("predict", str(reader.path), "number 7 is good", "--json"))["class"] == "up"
    assert "perplexity" in said("evaluate", str(writer.path)) and "lstm" in said("show", str(writer.path))
    (tmp_path / "words.txt").write_text("abc\nca\n")
    rows = [json.loads(x) for x in said("predict", str(translator.path), str(tmp_path / "words.txt"), "--json").splitlines()]
    assert [r["target"] for r in rows] == ["cba", "ac"]
