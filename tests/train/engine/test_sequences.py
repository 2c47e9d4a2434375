"""Recurrent networks in the engine: against plain PyTorch loops, and populations against each alone; in float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from cell_formulas import cell_fields, reader
from populations import close
from processes import StopAt
from sequences import DATA, FIELDS, READERS, SMALL, data_of
from torch import nn

from danlu import Data, Recipe, fit, load, resume
from danlu.data.vocabulary import EOS, UNK, Vocabulary
from danlu.errors import Interrupted, ModelError, RecipeError
from danlu.nn.cells import CELLS as KINDS
from danlu.recipe.build import build_model
from danlu.train.batches.order import bucketed_by_length, contiguous_lanes, shuffle_of


@pytest.mark.parametrize("kind", DATA)
def test_a_fit_equals_a_plain_loop(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """One LSTM by `nn.LSTM`, text by text and token by token without any padding, the loss a mean over tokens."""
    data = data_of(kind, request)
    both = kind != "running"
    model = {
        "name": "lstm",
        "hidden": (5,),
        "embedding": 3,
        "bidirectional": both,
        "stateful": kind == "running",
    }
    recipe = Recipe(model=model, optimizer={"name": "sgd", "lr": 0.5}, **FIELDS)
    run = fit(recipe, data, out=tmp_path / "run")

    start = build_model(recipe, data.schema).state_dict()
    net = nn.LSTM(3, 5, bidirectional=both).double()
    embed, out = (
        nn.Embedding(data.schema.tokens, 3).double(),
        nn.Linear(10 if both else 5, data.schema.outputs).double(),
    )
    names = {"weight_ih": "weight_ih_l0", "weight_hh": "weight_hh_l0", "bias": "bias_ih_l0"}
    with torch.no_grad():
        for side, suffix in (
            (("forwards", ""), ("back", "_reverse")) if both else (("forwards", ""),)
        ):
            for ours, theirs in names.items():
                getattr(net, theirs + suffix).copy_(start[f"layers.{side}.0.{ours}"])
            getattr(net, f"bias_hh_l0{suffix}").zero_()
        embed.weight.copy_(start["embedding.weight"])
        out.weight.copy_(start["output.weight"])
        out.bias.copy_(start["output.bias"])
    still = {f"bias_hh_l0{s}" for s in ("", "_reverse")}  # the second bias, which ours does without
    parameters = [
        *(p for k, p in net.named_parameters() if k not in still),
        *embed.parameters(),
        *out.parameters(),
    ]
    x, y = data.part("train")
    lengths = (x != 0).sum(1)
    targets_of_each = data.targets("train") / len(x)
    arrange = (
        bucketed_by_length(lengths, 7, len(x), shuffle_of(len(x)))
        if both
        else contiguous_lanes(len(x), 7)
    )
    for epoch in range(2):
        carried = None
        for batch in arrange.indices(0, epoch).split(7):
            losses = []
            if both:
                for i in batch.tolist():
                    n = int(lengths[i])
                    states, (h, _) = net(embed(x[i, :n].long()))
                    if kind == "tagged":
                        losses.append(
                            F.cross_entropy(out(states), y[i, :n].long(), reduction="none")
                        )
                    else:
                        losses.append(
                            F.cross_entropy(out(h.flatten()), y[i].long(), reduction="none")[None]
                        )
            else:
                states, carried = net(embed(x[batch].t().long()), carried)
                carried = tuple(s.detach() for s in carried)
                target = y[batch].t().flatten().long()
                losses.append(
                    F.cross_entropy(
                        out(states).flatten(0, 1), target, reduction="none", ignore_index=-1
                    )[target >= 0]
                )
            for p in parameters:
                p.grad = None
            # By what a batch has on average: of an epoch, all tokens count alike.
            (torch.cat(losses).sum() / (len(batch) * targets_of_each)).backward()
            with torch.no_grad():
                for p in parameters:
                    p -= 0.5 * p.grad
    own = run.model().state_dict()
    expected = {f"layers.forwards.0.{k}": getattr(net, v).detach() for k, v in names.items()} | {
        "embedding.weight": embed.weight.detach(), "output.weight": out.weight.detach(), "output.bias": out.bias.detach()
    }  # fmt: skip
    close({k: own[k] for k in expected}, expected)


@pytest.mark.parametrize("attention", [False, True])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_a_translator_equals_one_made_of_pytorch_s_layers(
    cell: str, attention: bool, paired: Data
) -> None:
    """Without padding: the encoder's last states are the decoder's first; attention by its formula."""
    model = {"name": cell, "hidden": (5,), "embedding": 3, "attention": attention}
    net = build_model(Recipe(model=model, dtype="float64"), paired.schema).eval()
    w = net.state_dict()
    kinds = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
    layers = {}
    for side in ("encoder", "decoder"):
        layer = kinds[cell](3, 5).double()
        with torch.no_grad():
            layer.weight_ih_l0.copy_(w[f"{side}.forwards.0.weight_ih"])
            layer.weight_hh_l0.copy_(w[f"{side}.forwards.0.weight_hh"])
            layer.bias_ih_l0.copy_(w[f"{side}.forwards.0.bias"])
            layer.bias_hh_l0.zero_()
        layers[side] = layer
    s = paired.schema.source
    x = paired.x[:20].long()
    out = net(x)
    for i in range(20):
        source, target = x[i, :s][x[i, :s] != 0], x[i, s:][x[i, s:] != 0]
        memory, state = layers["encoder"](w["embedding.weight"][source])
        h, _ = layers["decoder"](w["embedding.weight"][target], state)
        if attention:
            p = (h @ (memory @ w["attention.keys.weight"].T).T).softmax(1)
            h = torch.tanh(
                torch.cat([p @ memory, h], 1) @ w["attention.join.weight"].T
                + w["attention.join.bias"]
            )
        torch.testing.assert_close(
            out[i, : len(target)], h @ w["output.weight"].T + w["output.bias"], rtol=1e-9, atol=1e-9
        )


@pytest.mark.parametrize(
    "cells",
    [*((k,) for k in KINDS), ("lstm", "gru"), ("rnn-relu", "lstm-peephole", "gru-reset-before")],
)
@pytest.mark.parametrize("both", [False, True])
def test_deep_and_mixed_networks_equal_the_formulas(
    cells: tuple[str, ...], both: bool, tagged: Data
) -> None:
    hidden = (5, 4, 3)[: len(cells)]
    model = {
        "name": "lstm",
        **cell_fields(*cells),
        "hidden": hidden,
        "embedding": 3,
        "bidirectional": both,
    }
    net = build_model(Recipe(model=model, dtype="float64"), tagged.schema).eval()
    for p in net.parameters():
        nn.init.normal_(p, std=0.7)
    x = tagged.x[:20].long()
    out = net(x)
    for row, own in zip(x, out, strict=True):
        tokens = row[row != 0]
        torch.testing.assert_close(
            own[: len(tokens)], reader(cells, net.state_dict(), tokens), rtol=1e-10, atol=1e-10
        )


@pytest.mark.parametrize("model", READERS)
@pytest.mark.parametrize("both", [False, True])
def test_padding_never_changes_a_result(
    model: str, both: bool, labelled: Data, tagged: Data
) -> None:
    for data in (labelled, tagged):
        recipe = Recipe(model={"name": model, **SMALL, "bidirectional": both}, dtype="float64")
        net = build_model(recipe, data.schema).eval()
        x = data.x[:20].long()
        wide = torch.cat([x, torch.zeros(20, 9, dtype=torch.long)], 1)
        for i in range(20):
            n = int((x[i] != 0).sum())
            alone = net(x[i : i + 1, :n])
            among = net(wide)[i : i + 1]
            torch.testing.assert_close(
                among if data.schema.task == "classification" else among[:, :n],
                alone,
                rtol=1e-12,
                atol=1e-12,
            )


def test_word_dropout_replaces_the_asked_share_of_tokens(paired: Data) -> None:
    """As many as asked, never padding or an end of text, anew at every step, and without end in what is told."""
    from danlu.train.batches.batch_stream import BatchStream

    recipe = Recipe(
        model="lstm", batch_size=len(paired.parts["train"]), augment={"word_dropout": 0.3}
    )
    bare = recipe.with_(["augment.word_dropout=0"])
    plain = next(BatchStream([bare], paired, torch.device("cpu")).epoch([bare], [0], 0, None))
    feed = BatchStream([recipe], paired, torch.device("cpu"))
    first, again, later = (next(feed.epoch([recipe], [e], 0, None)) for e in (0, 0, 1))
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], plain[1])
    changed = first[0] != plain[0]
    assert (first[0][changed] == UNK).all() and not changed[plain[0] <= EOS].any()
    assert 0.2 < changed.sum() / (plain[0] > EOS).sum() < 0.4
    assert (later[0] == UNK).sum() != (first[0] == UNK).sum()


def test_separate_lines_cannot_be_stateful(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("one\ntwo\nthree four\n" * 20)
    with pytest.raises(RecipeError, match=r"`model\.stateful` is True, but must be false"):
        fit(Recipe.read("language"), load(str(tmp_path / "t.txt"), lines=True))


@pytest.mark.parametrize(
    ("source", "augment", "said"),
    [
        (
            "names",
            {"flip": True, "noise": 0.1},
            [
                "`augment.flip` is True, but needs pictures",
                "needs numbers, and these data are text",
            ],
        ),
        (
            "iris",
            {"word_dropout": 0.1},
            ["`augment.word_dropout` is 0.1, but needs text, and these data are a table"],
        ),
        ("digits", {"word_dropout": 0.1}, ["needs text, and these data are pictures"]),
    ],
)
def test_augmentations_that_do_not_fit_the_data_are_refused(
    source: str, augment: dict[str, Any], said: list[str]
) -> None:
    model = "lstm" if source == "names" else "dense"
    with pytest.raises(RecipeError) as e:
        fit(Recipe(model=model, augment=augment), load(source))
    assert all(any(s in m for m in e.value.mistakes) for s in said)


@pytest.mark.parametrize("stop", [3, 8])
def test_a_carried_state_survives_a_resume(stop: int, running: Data, tmp_path: Path) -> None:
    model = {"name": "lstm", **SMALL, "stateful": True, "dropout": 0.2}
    recipe = Recipe(model=model, **{**FIELDS, "batch_size": 4})
    through = fit(recipe, running, out=tmp_path / "through").model().state_dict()
    with pytest.raises(Interrupted):
        fit(recipe, running, out=tmp_path / "stopped", listener=StopAt(stop))
    again = resume(tmp_path / "stopped", running).model().state_dict()
    assert all(torch.equal(through[k], again[k]) for k in through)


def test_a_batch_of_one_is_left_out_of_texts_for_a_foreign_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, labelled: Data
) -> None:
    (tmp_path / "lengthwise.py").write_text(
        "import torch\n\n\nclass Net(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.line = torch.nn.Linear(1, 2)\n\n    def forward(self, x):\n"
        "        return self.line((x != 0).sum(1, keepdim=True).float())\n\n\ndef make():\n    return Net()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    size = labelled.size("train") - 1
    recipe = Recipe(model="lengthwise:make", batch_size=size, epochs=2, sample={"share": 0.5})
    assert fit(recipe, labelled, out=tmp_path / "run").result["steps"] == 2


def test_an_evaluation_equals_the_reported_result(
    running: Data, tagged: Data, tmp_path: Path
) -> None:
    for data, carry in ((running, True), (running, False), (tagged, False)):
        run = fit(
            Recipe(model={"name": "lstm", **SMALL, "stateful": carry}, batch_size=4, epochs=1),
            data,
            out=tmp_path / f"{data.schema.task}{carry}",
        )
        for part in ("valid", "test"):
            score = run.evaluate(data, part)
            assert score.loss == pytest.approx(run.result[f"{part}_loss"], rel=1e-5)
            assert score.n == run.result[f"{part}_n"] == data.targets(part)
        assert run.history[-1]["valid_loss"] == pytest.approx(run.result["valid_loss"], rel=1e-5)
        if data.schema.scheme:
            assert run.evaluate(data).f1 == run.result["test_f1"]


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({"name": "dense"}, "'dense' cannot read text; try model=lstm"),
        ({"name": "lstm", "cell": ("lstm", "gru"), "hidden": (4,)}, "as many as the 1 layers"),
        ({"name": "lstm", "hidden": ()}, "needs at least one layer"),
        ({"name": "lstm", "bidirectional": True}, "must be false where later tokens"),
    ],
)
def test_impossible_networks_are_refused(model: dict[str, Any], said: str, running: Data) -> None:
    with pytest.raises(ModelError, match=said):
        build_model(Recipe(model=model), running.schema)


def test_recurrent_networks_need_text(tagged: Data) -> None:
    with pytest.raises(
        ModelError, match="'lstm' reads text, but the examples have shape 4; try model=dense"
    ):
        build_model(Recipe(model="lstm"), load("iris").schema)
    with pytest.raises(ModelError, match="needs running text"):
        build_model(Recipe(model={"name": "gru", "stateful": True}), tagged.schema)
    assert Vocabulary(tagged.schema.vocabulary).decode([3, 4]) != ""
