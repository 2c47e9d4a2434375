"""What runs do with text: weigh, write, tag, translate; and what they refuse."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from texts import SMALL, says

from danlu import Recipe, Run, fit, load
from danlu.data.vocabulary import EOS, PAD, UNK, Vocabulary
from danlu.diagnosis.verdict import verdict
from danlu.errors import DanluError, DataNotice, RunError
from danlu.predict import generate as generating
from danlu.predict import text
from danlu.predict import translate as translating
from danlu.rng import stream
from danlu.train import train


def test_a_text_s_score_is_the_sum_over_its_tokens(writer: Run) -> None:
    learnt, model = Vocabulary(writer.schema.vocabulary), writer.model()
    (found,) = text.score(writer, ["the cat sat."])
    row, nats = [EOS, *learnt.encode("the cat sat."), EOS], 0.0
    for k in range(1, len(row)):
        p = model(torch.tensor([row[:k]]))[0, -1].softmax(0)
        nats += math.log(float(p[row[k]].detach()))
    assert found.nats == pytest.approx(nats, rel=1e-4)
    assert found.tokens == len(row) - 1
    assert found.perplexity == pytest.approx(math.exp(-nats / found.tokens), rel=1e-4)


def test_a_long_text_is_read_in_pieces(writer: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    long = "the cat sat.the dog sat." * 12
    whole = text.score(writer, [long])[0].nats
    monkeypatch.setattr(text, "_LOGITS_AT_ONCE", 64 * writer.schema.tokens)
    assert text.score(writer, [long])[0].nats == pytest.approx(whole, rel=1e-6)
    monkeypatch.setattr(generating, "AT_ONCE", 7)
    in_pieces = "".join(generating.generate(writer, long, temperature=0, length=5))
    monkeypatch.undo()
    assert in_pieces == "".join(generating.generate(writer, long, temperature=0, length=5))


def test_texts_longer_than_in_training_are_cut_and_that_is_said(reader: Run) -> None:
    long = "number 1 is good " * 600
    with pytest.warns(DataNotice, match="1 text cut after 1,024 tokens, the first text 2"):
        p = reader.predict(["number 1 is good", long]).probabilities
    with pytest.warns(DataNotice):
        cut = reader.predict([long + "dull"]).probabilities
    assert torch.allclose(p[1], cut[0])


def test_the_likelier_of_two_sentences_scores_better(writer: Run) -> None:
    right, wrong = text.score(writer, ["the dog sat.", "teh dgo ats."])
    assert right.nats > wrong.nats + 5


def test_generated_text_ends_at_eos_and_is_drawn_by_seed(writer: Run) -> None:
    one = "".join(generating.generate(writer, "the ", temperature=0.5, seed=1))
    assert one == "".join(generating.generate(writer, "the ", temperature=0.5, seed=1))
    drawn = {"".join(generating.generate(writer, "", temperature=1.0, seed=k)) for k in range(30)}
    assert {"the cat sat.", "the dog sat.", "a cat ran."} <= drawn
    assert "".join(generating.generate(writer, "a", temperature=0)) == " cat ran."
    assert len("".join(generating.generate(writer, "", temperature=5.0, length=7))) <= 7


def test_draws_have_the_probabilities_of_the_logits() -> None:
    logits = torch.tensor([9.0, 9.0, 0.0, 1.0, 2.0])
    g = torch.Generator().manual_seed(0)
    for temperature, k in ((1.0, 0), (0.5, 0), (1.0, 2)):
        drawn = torch.tensor([generating.draw(logits, temperature, k, g) for _ in range(4000)])
        p = logits.clone()
        p[[PAD, UNK]] = -math.inf
        p[p < p.topk(k).values[-1] if k else p < -1e9] = -math.inf
        expected = (p / temperature).softmax(0)
        assert torch.allclose(torch.bincount(drawn, minlength=5) / 4000, expected, atol=0.03)


def test_an_exhaustive_beam_finds_the_likeliest(translator: Run) -> None:
    """Against all targets of up to three letters, weighed one by one."""
    learnt, model, s = (
        Vocabulary(translator.schema.vocabulary),
        translator.model(),
        translator.schema.source,
    )

    def weigh(source: list[int], target: list[int]) -> float:
        x = torch.tensor([source + [PAD] * (s - len(source)) + [EOS, *target]])
        logits = model(x)[0].double()
        logits[:, [PAD, UNK]] = -math.inf
        return float(
            logits.log_softmax(1).gather(1, torch.tensor([*target, EOS])[:, None]).sum().detach()
        )

    letters = learnt.encode("abc")
    every = [list(t) for n in range(4) for t in itertools.product(letters, repeat=n)]
    for word in ("a", "cb", "abc", "caa"):
        source = learnt.encode(word)
        best = max(every, key=lambda t: weigh(source, t))
        ((written, nats),) = translating.translate(translator, [word], beam=60)
        assert learnt.encode(written) == best
        assert nats == pytest.approx(weigh(source, best), abs=1e-4)
        ((greedy, low),) = translating.translate(translator, [word], beam=1)
        assert low <= nats + 1e-6 and greedy


def test_a_translator_learns_to_reverse(translator: Run) -> None:
    found = translating.translate(translator, ["abc", "ca", "b"], beam=3)
    assert [t for t, _ in found] == ["cba", "ac", "b"]


def test_a_classifier_reads_texts_of_any_length(reader: Run) -> None:
    texts = ["good", "number 3 is dull", "number number number is is is good"]
    found = reader.predict(text.encode(reader, texts))
    assert found.labels == ["up", "down", "up"]
    for sentence, p in zip(texts, found.probabilities, strict=True):  # type: ignore[arg-type]
        alone = reader.predict(text.encode(reader, [sentence])).probabilities
        torch.testing.assert_close(alone[0], p)  # type: ignore[index]


def test_runs_take_plain_texts_and_refuse_bad_ones(
    writer: Run, reader: Run, translator: Run
) -> None:
    texts = ["good", "number 3 is dull"]
    for given in (texts, tuple(texts), np.array(texts), np.array(texts, object), iter(texts)):
        assert reader.predict(given).labels == ["up", "down"]
    assert writer.score(["the cat sat."]) == text.score(writer, ["the cat sat."])
    assert "".join(writer.generate("a", temperature=0)) == " cat ran."
    assert translator.translate(["abc"], beam=3) == translating.translate(
        translator, ["abc"], beam=3
    )
    for bad, said in (
        ("good", "`texts` is one string, but must be a list of them"),
        ([], "there is no text"),
        (["good", " "], "text 2 is empty"),
        (torch.tensor([[1, 999]]), "`x` must hold numbers of tokens"),
        (torch.tensor([[-1]]), "`x` must hold numbers of tokens"),
        (torch.tensor([[0.5]]), "`x` must hold numbers of tokens"),
        (torch.zeros(0, 4, dtype=torch.int32), "`x` holds no example"),
        (torch.zeros(2, 0, dtype=torch.int32), "`x` holds no example"),
        (None, "`texts` is None, but must be a list of strings"),
    ):
        with pytest.raises(RunError, match=said):
            reader.predict(bad)
    for bad, said in (
        (2.5, "must be a whole number"),
        (0, "must be at least 1"),
        (1001, "must be at most 1,000"),
    ):
        with pytest.raises(RunError, match=f"`beam` is {bad}, but {said}; try 5"):
            translator.translate(["a"], beam=bad)  # type: ignore[arg-type]
    with pytest.raises(RunError, match="text 1 is empty"):
        translator.translate(["  "])
    with pytest.raises(RunError, match=r"predicts something for every token; use run\.translate"):
        translator.predict(["a"])


def test_pairs_longer_than_those_of_training_are_evaluated(translator: Run) -> None:
    words = ["abcabca", "b"]
    data = load((words * 10, [w[::-1] for w in words] * 10), task="pairs", like=translator.schema)
    assert data.schema.source == 7
    short = load((["b"] * 10, ["b"] * 10), task="pairs", like=translator.schema)
    among = [
        load((["b"] * 9 + [w], ["b"] * 9 + ["b"]), task="pairs", like=translator.schema)
        for w in words
    ]
    assert translator.evaluate(short, "all").loss == pytest.approx(
        translator.evaluate(among[1], "all").loss, rel=1e-4
    )
    assert translator.evaluate(data, "all").n == 10 * (8 + 2)


def test_diverged_runs_of_text_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "t.txt").write_text("the cat sat on the mat.\n" * 60)
    data = load(str(tmp_path / "t.txt"), length=20)
    base = Recipe(
        model={"name": "rnn", "cell": ("rnn-relu",), **SMALL},
        clip={"norm": 0.0},
        epochs=3,
        batch_size=4,
    )
    study = train(
        [base.with_(["optimizer=sgd", f"lr={lr}"]) for lr in (1e30, 0.01)],
        data,
        out=tmp_path / "study",
    )
    assert study.run(0).status == "diverged"
    for command in (("generate",), ("score", "the cat"), ("evaluate",)):
        code, _, err = says(capsys, command[0], f"{tmp_path / 'study'}:0", *command[1:])
        assert (
            code
            and "diverged, so it has nothing to predict with; train it again with a smaller optimizer.lr"
            in err
        )
    assert study.run(1).score(["the cat"])[0].nats < 0


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (
            lambda r: r.predict(torch.zeros(1, 5, dtype=torch.int32)),
            "predicts something for every token",
        ),
        (lambda r: list(generating.generate(r, "王")), "no token of '王' was in the training text"),
        (
            lambda r: list(generating.generate(r, "the", temperature=-1)),
            "`temperature` is -1, but must be at least 0",
        ),
        (
            lambda r: list(generating.generate(r, "the", top_k=-1, length=0)),
            "`length` is 0, but must be at least 1",
        ),
        (lambda r: text.score(r, ["", "the"]), "text 1 is empty"),
        (
            lambda r: text.tag(r, ["the"]),
            "was trained for language of text, but this needs tagging of text",
        ),
        (lambda r: translating.translate(r, ["the"]), "needs pairs of text"),
        (lambda r: text.score(r, [1]), "1 is not text, but int"),
        (
            lambda r: r.generate("the", top_k=2.5),
            "`top_k` is 2.5, but must be a whole number; try 40",
        ),
    ],
)
def test_impossible_requests_are_refused_in_a_sentence(writer: Run, wanted: Any, said: str) -> None:
    with pytest.raises(RunError, match=said):
        wanted(writer)


def test_weights_for_another_vocabulary_are_refused(writer: Run, tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("eht tac tas xno.\n" * 60)
    data = load(str(tmp_path / "t.txt"), lines=True)
    recipe = writer.recipe.with_(epochs=1, **{"init.weights": str(writer.path)})
    file = {"init.weights": str(writer.path / "weights.safetensors")}
    for start in (recipe, recipe.with_(**file)):
        with pytest.raises(DanluError, match="are for another vocabulary than these data have"):
            fit(start, data, out=tmp_path / "run")
    assert (
        fit(recipe.with_(**{"init.prefix": ("layers",)}), data, out=tmp_path / "run").status
        == "finished"
    )
    assert fit(recipe, writer.load_data(), out=tmp_path / "more").result["train_loss"] < 1


def test_the_unigram_baseline_is_in_nats(writer: Run) -> None:
    _, y = writer.load_data().part("train")
    p = torch.bincount(y[y >= 0].long()).double()
    p = p[p > 0] / p.sum()
    assert f"({float(-(p * p.log()).sum()):.3f} nats)" in " ".join(verdict(writer))
    assert "nothing usable" not in " ".join(verdict(writer))


def test_a_language_model_worse_than_the_unigram_baseline_has_not_learnt(
    tmp_path: Path,
) -> None:
    recipe = Recipe(model={"name": "gru", "hidden": (4,), "embedding": 2}, optimizer={"name": "sgd", "lr": 1e-9}, epochs=1,
                    batch_size=10)  # fmt: skip
    run = fit(recipe, load("prose", limit=20), out=tmp_path / "run")
    assert "no better than the frequency of tokens" in " ".join(verdict(run))


@pytest.mark.parametrize("tokens", ["chars", "words", "bpe"])
def test_streamed_pieces_join_to_the_whole_text(tokens: str, tmp_path: Path) -> None:
    """Also where a sign is of several tokens, or words are set apart; to the last of them."""
    (tmp_path / "t.txt").write_text("王刚 和 李明 去 上班 了 。\n" * 40, encoding="utf-8")
    data = load(str(tmp_path / "t.txt"), tokens=tokens, length=20)
    recipe = Recipe(
        model={"name": "gru", **SMALL},
        optimizer={"name": "adam", "lr": 0.03},
        epochs=6,
        batch_size=4,
    )
    run = fit(recipe, data, out=tmp_path / "run")
    learnt = Vocabulary(run.schema.vocabulary)
    for seed in range(4):
        pieces = list(generating.generate(run, "王刚 和", temperature=1.0, length=41, seed=seed))
        row, g, states, now = (
            learnt.encode("王刚 和"),
            stream(seed, "generate"),
            None,
            [EOS, *learnt.encode("王刚 和")],
        )
        model: Any = run.model()
        for _ in range(41):
            logits, states = model.step(torch.tensor([now]), states)
            now = [generating.draw(logits[0].detach(), 1.0, 0, g)]
            row += now
        assert learnt.decode(learnt.encode("王刚 和")) + "".join(pieces) == learnt.decode(row)


def test_temperatures_near_zero_are_greedy_and_infinite_ones_refused(writer: Run) -> None:
    coldest = "".join(generating.generate(writer, "a", temperature=1e-320))
    assert coldest == "".join(generating.generate(writer, "a", temperature=0))
    for bad in (math.inf, math.nan):
        with pytest.raises(RunError, match="must be at least 0, and finite"):
            generating.generate(writer, "a", temperature=bad)
