"""The commands on texts: score, generate, predict, evaluate, compare."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from texts import SMALL, says

from danlu import Recipe, Run, fit, load
from danlu.errors import RunError
from danlu.metrics import title_of
from danlu.predict import generate as generating
from danlu.predict import text


def test_spaces_between_words_are_not_doubled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "t.txt").write_text("the cat sat on the mat\n" * 60)
    data = load(str(tmp_path / "t.txt"), length=20, tokens="words")
    fit(Recipe(model={"name": "gru", **SMALL}, epochs=1, batch_size=4), data, out=tmp_path / "run")
    out = says(capsys, "generate", str(tmp_path / "run"), "--prompt", "the cat ", "--length", "3")[
        1
    ]
    assert out.startswith("the cat ") and "  " not in out


def test_file_names_are_not_taken_for_texts(
    reader: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name, what in (
        ("nofile.txt", "the name of a file that does not exist"),
        (str(tmp_path), "this is a folder"),
    ):
        code, _, err = says(capsys, "predict", str(reader.path), "good", name)
        assert code and what in err
    assert says(capsys, "predict", str(reader.path), "what is good in nofile.txt")[0] == 0


def test_odd_bytes_from_a_terminal_are_read_or_refused(
    writer: Run, reader: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Bytes that are no text, spaces, line separators, other encodings."""
    for command in (
        ("generate", str(writer.path), "--prompt", "\udcff"),
        ("score", str(writer.path), "the \udcff"),
    ):
        code, _, err = says(capsys, *command)
        assert (
            code
            and "the text holds U+DCFF, half of a surrogate pair" in err
            and "Traceback" not in err
        )
    assert "".join(generating.generate(writer, " ", temperature=0))  # a sign that it knows
    (tmp_path / "t.txt").write_bytes("good\u2028bad\ngood é\n".encode("latin-1", "replace"))
    (tmp_path / "u.txt").write_text("good\u2028bad\ngood\n", encoding="utf-8")
    for args in ((str(tmp_path / "t.txt"), "--encoding", "latin-1"), (str(tmp_path / "u.txt"),)):
        assert (
            len(says(capsys, "predict", str(reader.path), *args, "--json")[1].strip().split("\n"))
            == 2
        )
    code, _, err = says(capsys, "predict", str(reader.path), "good", "--length", "9", "--resize")
    assert (
        "`resize` is True, but must be left out" in err
        and "`length` is 9, but must be left out" in err
    )


def test_unknown_tokens_are_counted_and_reported(
    writer: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    some, none = text.score(writer, ["the ξ cat ξ", "the cat"])
    assert (some.unknown, none.unknown) == (2, 0)
    out = says(capsys, "score", str(writer.path), "the ξ cat", "the cat")[1]
    assert (
        "unknown tokens" in out
        and "unknown" not in says(capsys, "score", str(writer.path), "the cat")[1]
    )
    code, _, err = says(
        capsys, "generate", str(writer.path), "--prompt", "the ξ cat ξ", "--length", "3"
    )
    assert code == 0 and err == "2 tokens of the prompt were not in the training text\n"


def test_score_generate_predict_evaluate_and_show_work_on_text(
    writer: Run, translator: Run, reader: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def said(*args: str) -> str:
        code, out, _ = says(capsys, *args)
        assert code == 0
        return out

    lines = [
        json.loads(x)
        for x in said("score", str(writer.path), "teh dgo", "the dog sat.", "--json").splitlines()
    ]
    assert lines[0]["text"] == "the dog sat." and lines[0]["nats"] > lines[1]["nats"]
    assert (
        said("generate", str(writer.path), "--prompt", "a", "--temperature", "0") == "a cat ran.\n"
    )
    assert (
        json.loads(said("predict", str(reader.path), "number 7 is good", "--json"))["class"] == "up"
    )
    assert "perplexity" in said("evaluate", str(writer.path)) and "lstm" in said(
        "show", str(writer.path)
    )
    (tmp_path / "words.txt").write_text("abc\nca\n")
    rows = [
        json.loads(x)
        for x in said(
            "predict", str(translator.path), str(tmp_path / "words.txt"), "--json"
        ).splitlines()
    ]
    assert [r["target"] for r in rows] == ["cba", "ac"]


def test_other_texts_are_scored_by_the_run_s_vocabulary(
    writer: Run, translator: Run, reader: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """What is told of a file is what the network says of its texts; windows and lengths may be others."""
    lines = ["the dog ran.", "a cat sat.", "zq the dog sat."]
    (tmp_path / "other.txt").write_text("\n".join(lines))
    told = json.loads(
        says(capsys, "evaluate", str(writer.path), str(tmp_path / "other.txt"), "--json")[1]
    )
    weighed = text.score(writer, lines)
    assert told["tokens"] == sum(w.tokens for w in weighed)
    assert told["loss"] == pytest.approx(-sum(w.nats for w in weighed) / told["tokens"], rel=1e-4)
    (tmp_path / "more.tsv").write_text("ab\tba\nabc\tcba\n")
    told = json.loads(
        says(capsys, "evaluate", str(translator.path), str(tmp_path / "more.tsv"), "--json")[1]
    )
    assert told["accuracy"] > 0.8 and told["tokens"] == 7
    (tmp_path / "more.csv").write_text("text,label\nnumber 5 is good,up\nnumber 900 is good,up\n")
    told = json.loads(
        says(capsys, "evaluate", str(reader.path), str(tmp_path / "more.csv"), "--json")[1]
    )
    assert told["accuracy"] == 1 and told["examples"] == 2
    with pytest.raises(RunError, match=r"another vocabulary than the run.s; use danlu\.load"):
        reader.evaluate(
            load((["other words", "of all kinds"] * 20, ["up", "down"] * 20), tokens="words")
        )


def test_texts_longer_than_a_file_name_are_texts(
    reader: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = says(
        capsys, "predict", str(reader.path), "number 3 is good " * 20, "王" * 100 + " good"
    )
    assert code == 0 and "up" in out
    code, _, err = says(capsys, "predict", str(reader.path), "good", "--beam", "3")
    assert code and "`beam` is 3, but must be left out: the run is for classification" in err


def test_unreadable_text_is_the_only_mistake_reported(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A field that only networks for text have is no mistake because the text cannot be read."""
    (tmp_path / "bad.txt").write_bytes(b"ab\0\xff\xfe" * 30)
    _, _, err = says(capsys, "fit", str(tmp_path / "bad.txt"), "model.embedding=8")
    assert "is no text" in err and "model.embedding" not in err and len(err.splitlines()) == 1


@pytest.mark.slow
def test_compare_and_tune_use_the_metric_of_a_text_task(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """By the loss of a language model, by whole entities of a tagger, by accuracy of a translator."""
    (tmp_path / "l.txt").write_text("the cat sat on the mat.\n" * 30)
    (tmp_path / "p.tsv").write_text(
        "\n".join(f"{a}{b}\t{b}{a}" for a in "abcdefgh" for b in "abcdefgh")
    )
    small = ["model.hidden=8", "model.embedding=4", "epochs=1", "batch_size=8"]
    for source, metric, more in (
        (str(tmp_path / "l.txt"), "valid_loss", ["--length", "20"]),
        ("names", "valid_f1", ["--limit", "60"]),
        (str(tmp_path / "p.tsv"), "valid_accuracy", ["--task", "pairs"]),
    ):
        code, out, _ = says(
            capsys, "compare", source, *more, *small, "lr=0.01,0.1", "--seeds", "2", "--json"
        )
        told = json.loads(out)
        assert (
            code == 0
            and told["metric"] == metric
            and all(v["diverged"] == 0 for v in told["variants"])
        )
        code, out, _ = says(
            capsys, "tune", source, *more, *small, "lr=1e-3..1e-1:log", "--trials", "3", "--json"
        )
        assert code == 0 and json.loads(out)["metric"] == metric
        assert f"its {title_of(metric.replace('valid_', 'test_'))} is" in " ".join(
            json.loads(out)["sentences"]
        )
    code, _, err = says(capsys, "compare", "dna", *small, "lr=0.01,0.1", "--metric", "valid_f1")
    assert code and "`metric` is 'valid_f1'" in err
