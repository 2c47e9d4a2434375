"""Recurrent networks before and in their first step: initial values, cost, threads, the loss of a CRF."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from cell_formulas import cell_fields

from danlu import Recipe, fit, load
from danlu.data import Schema
from danlu.models.recurrent_parts import Embedding
from danlu.models.summary import multiply_adds
from danlu.nn.cells import CELLS
from danlu.recipe.build import build_model
from danlu.train.dispatch.device import threads_for
from danlu.train.forward.stack import Stack

SCHEMA = Schema("language", (10,), tokens=20)


def test_without_an_embedding_tokens_are_one_hot_vectors() -> None:
    x = torch.tensor([[3, 0], [1, 3]])  # [T, B]
    vectors = Embedding(4, 0)(x, torch.zeros(1, dtype=torch.float64))
    assert vectors.dtype == torch.float64
    assert torch.equal(vectors, torch.eye(4, dtype=torch.float64)[x])


def test_recurrent_networks_start_as_documented() -> None:
    """Orthogonal from step to step, N(0, 1/n) for n inputs, N(0, 1) for tokens; the forget gate open, no other."""
    section = {"name": "lstm", "hidden": (64,), "embedding": 200, "forget_bias": 2.5}
    w = build_model(Recipe(model=section, dtype="float64"), SCHEMA).state_dict()
    for gate in w["layers.forwards.0.weight_hh"].chunk(4):
        torch.testing.assert_close(gate @ gate.t(), torch.eye(64, dtype=torch.float64))
    assert w["layers.forwards.0.weight_ih"].std() == pytest.approx(math.sqrt(1 / 200), rel=0.03)
    assert w["layers.forwards.0.bias"].tolist() == [0.0] * 64 + [2.5] * 64 + [0.0] * 128
    assert w["embedding.weight"].std() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("cell", CELLS)
def test_decay_and_penalties_act_on_matrices_alone(cell: str) -> None:
    """Not on biases, the one within a GRU included, nor on peepholes."""
    section = {"name": "lstm", **cell_fields(cell), "hidden": (4,)}
    stack = Stack([build_model(Recipe(model=section), SCHEMA)], torch.device("cpu"))
    assert {k.rsplit(".", 1)[1] for k in stack.weights} == {"weight", "weight_ih", "weight_hh"}
    assert {k.rsplit(".", 1)[1] for k in stack.shapes} - {"extra"} == {
        "weight",
        "weight_ih",
        "weight_hh",
        "bias",
    }


def test_the_loss_of_a_crf_is_a_mean_over_tokens(tmp_path: Path) -> None:
    """Of sentences without padding, too: one plain step, by autograd."""
    (tmp_path / "t.bio").write_text("a B-X\nb O\na O\n\nb O\nb O\na B-X\n\n" * 30)
    data = load(str(tmp_path / "t.bio"))
    recipe = Recipe(model={"name": "gru", "hidden": (3,), "embedding": 2, "crf": True}, optimizer={"name": "sgd", "lr": 1.0},
                    epochs=1, batch_size=data.size("train"), dtype="float64")  # fmt: skip
    own = fit(recipe, data, out=tmp_path / "run").model().state_dict()
    net: Any = build_model(recipe, data.schema).train()
    x, y = data.part("train")
    whole, _ = net.sequence_loss(x.long(), y.long(), torch.ones(len(x), dtype=torch.float64))
    (whole / (y >= 0).sum()).backward()
    for name, p in net.named_parameters():
        torch.testing.assert_close(own[name], (p - p.grad).detach(), rtol=1e-9, atol=1e-9)


def test_threads_are_chosen_by_the_work_of_a_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "t.txt").write_text("the cat sat on the mat.\n" * 2000)
    data = load(str(tmp_path / "t.txt"), length=1000)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    assert threads_for(Recipe(model={"name": "lstm", "hidden": (16,)}, batch_size=32), data) == 1
    assert threads_for(Recipe(model={"name": "lstm", "hidden": (512,)}, batch_size=32), data) == 7


def test_multiply_adds_of_a_recurrent_network_are_those_of_the_formula() -> None:
    net = build_model(Recipe(model={"name": "lstm", "hidden": (5,), "embedding": 3}), SCHEMA)
    assert multiply_adds(net, (10,)) == 10 * (4 * 5 * (3 + 5) + 5 * SCHEMA.tokens)
