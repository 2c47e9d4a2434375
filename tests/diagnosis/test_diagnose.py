"""Trainings made sick on purpose are named, healthy ones are not; and how that is said."""

from __future__ import annotations

import contextlib
import json
import string
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import danlu
from danlu import Data, Recipe, Run, fit, load, train
from danlu.diagnosis import catalogue, diagnose
from danlu.diagnosis.diagnosing import HEALTHY, diagnose_evidence
from danlu.diagnosis.evidence import Evidence
from danlu.diagnosis.finding import Finding
from danlu.diagnosis.rules import RULES, of_loop
from danlu.errors import Diverged
from danlu.recipe.edit import Edit

BASE = Recipe(
    model={"name": "dense", "hidden": (64, 32)},
    optimizer={"name": "adam", "lr": 0.002},
    batch_size=32,
    epochs=20,
)
SICK: dict[str, list[str]] = {
    "lr_too_high": ["optimizer.lr=0.3"],
    "lr_too_low": ["optimizer.lr=1e-6"],
    "momentum_too_high": ["optimizer=momentum", "optimizer.momentum=0.999", "optimizer.lr=0.05"],
    "optimizer_eps": ["optimizer.eps=10"],
    "clip_too_tight": ["optimizer=sgd", "optimizer.lr=0.1", "clip.norm=0.001"],
    "schedule_decays_too_soon": ["schedule=exponential", "schedule.gamma=0.05"],
    "batch_too_large": ["batch_size=1000", "epochs=4"],
    "batch_norm_tiny_batch": ["model.batch_norm=before", "batch_size=2", "epochs=4"],
    "too_few_epochs": ["epochs=2", "optimizer.lr=5e-4"],
    "stopped_too_early": ["early_stopping.patience=1", "early_stopping.min_delta=0.5"],
    "init_too_small": ["init=normal", "init.std=0.0001"],
    "init_too_large": ["init=normal", "init.std=3"],
    "init_symmetric": ["init=zeros"],
    "init_bias_bad": ["init.bias=-6"],
    "vanishing_gradient": [
        "model.activation=sigmoid",
        "model.hidden=[32,32,32,32,32,32,32,32]",
        "optimizer=sgd",
        "optimizer.lr=0.05",
    ],
    "saturated_activations": ["model.activation=tanh", "init=normal", "init.std=2"],
    "too_deep": ["model.hidden=[" + ",".join(["10"] * 30) + "]"],
    "missing_nonlinearity": ["model.activation=identity"],
    "dropout_too_strong": ["model.dropout=0.95"],
    "l1_too_strong": ["penalty.l1=300"],
    "l2_too_strong": ["penalty.l2=3000"],
    "weight_decay_too_strong": ["optimizer=adamw", "optimizer.lr=0.002", "weight_decay=50"],
    "label_smoothing_too_strong": ["loss.label_smoothing=0.85"],
}
HEALTHY_CHANGES: dict[str, list[str]] = {
    "as it is": [],
    "another seed": ["seed=7"],
    "cosine": ["schedule=cosine"],
    "plain steps": ["optimizer=sgd", "optimizer.lr=0.1"],
    "dropout": ["model.dropout=0.2"],
    "batch norm": ["model.batch_norm=before"],
    "a little smoothing": ["loss.label_smoothing=0.1"],
}


@pytest.fixture(scope="module")
def digits() -> Data:
    return load("digits")


def trained(data: Data, path: Path, changes: list[str], **options: Any) -> Run:
    """The run, also of a training that diverged."""
    try:
        return fit(BASE.with_(changes), data, out=path, **options)
    except Diverged:
        return Run(path)


@pytest.mark.parametrize("cause", SICK)
def test_a_planted_cause_is_named_first(cause: str, digits: Data, tmp_path: Path) -> None:
    found = trained(digits, tmp_path / "run", SICK[cause]).diagnose()
    assert found.findings[0].cause == cause
    assert 0 < found.findings[0].severity <= 1


@pytest.mark.parametrize("name", HEALTHY_CHANGES)
def test_a_healthy_training_is_not_flagged(name: str, digits: Data, tmp_path: Path) -> None:
    found = trained(digits, tmp_path / "run", HEALTHY_CHANGES[name]).diagnose()
    assert [finding.cause for finding in found.findings] == [HEALTHY]


def with_targets(data: Data, part: str, y: torch.Tensor) -> Data:
    """The same examples with other targets in a part, given as arrays."""
    parts = []
    for name in ("train", "valid", "test"):
        x, own = data.part(name)
        parts.append((x, y if name == part else own))
    return load(dict(zip(("train", "valid", "test"), parts, strict=True)))


def test_recoded_labels_are_not_called_learning_nothing(digits: Data, tmp_path: Path) -> None:
    _, y = digits.part("test")
    run = trained(with_targets(digits, "test", (y + 1) % 10), tmp_path / "run", [])
    assert diagnose(run).findings[0].cause == "label_mapping_mismatch"


def test_another_test_part_is_shift_and_not_over_fitting(digits: Data, tmp_path: Path) -> None:
    x, y = digits.part("test")
    g = torch.Generator().manual_seed(0)
    spoilt = x.float() + 120 * torch.randn(x.shape, generator=g) + 80
    parts = {"train": digits.part("train"), "valid": digits.part("valid"), "test": (spoilt, y)}
    parts = {name: (x.float(), y) for name, (x, y) in parts.items()}
    run = trained(load(parts), tmp_path / "run", [])
    assert diagnose(run).findings[0].cause == "train_test_shift"


def test_what_was_not_measured_is_said(digits: Data, tmp_path: Path) -> None:
    found = trained(digits, tmp_path / "run", ["optimizer.lr=0.3"], probes="off").diagnose()
    assert found.unseen == ["measurements"]
    assert "probes=off" in found.to_json()["unseen"][0]


def test_a_diverged_run_keeps_what_shows_why(digits: Data, tmp_path: Path) -> None:
    run = trained(digits, tmp_path / "run", ["optimizer=sgd", "optimizer.lr=1e6"])
    assert run.status == "diverged"
    assert run.diagnose().findings[0].cause == "lr_too_high"
    losses = run.info["last_losses"]
    assert losses[-1] is None
    assert 2 < losses[0] < 4
    assert len(losses) == run.info["step"] + 1
    # The weights are the last that were finite.
    weights = danlu.files.parse_tensors(run.sealed.read("weights.safetensors"), run.path)
    assert all(bool(w.isfinite().all()) for w in weights.values())


@pytest.mark.parametrize("lr", [1e20, 1e38])
def test_weights_that_an_update_blew_up_are_those_from_before(
    lr: float, digits: Data, tmp_path: Path
) -> None:
    run = trained(digits, tmp_path / "run", ["optimizer=sgd", f"optimizer.lr={lr:g}"])
    assert run.status == "diverged"
    weights = danlu.files.parse_tensors(run.sealed.read("weights.safetensors"), run.path)
    assert all(bool(w.isfinite().all()) for w in weights.values())


def test_members_of_studies_are_diagnosed_like_runs(digits: Data, tmp_path: Path) -> None:
    recipes = [BASE, BASE.with_(SICK["lr_too_low"])]
    study = train.train(recipes, digits, out=tmp_path / "study", probes="light")
    assert study.run(0).diagnose().is_healthy
    assert study.run(1).diagnose().findings[0].cause == "lr_too_low"


def test_json_is_plain_and_sorted(digits: Data, tmp_path: Path) -> None:
    run = trained(digits, tmp_path / "run", SICK["lr_too_high"])
    plain = json.loads(json.dumps(run.diagnose().to_json()))
    assert plain.keys() == {"run", "verdict", "findings", "unseen", "errors", "by_class"}
    severities = [finding["severity"] for finding in plain["findings"]]
    assert severities == sorted(severities, reverse=True)
    first = plain["findings"][0]
    assert first.keys() == {"cause", "severity", "figures", "why", "also", "prescriptions"}
    assert first["prescriptions"][0]["edits"] == ["optimizer.lr=0.03"]
    assert first["prescriptions"][0]["why"]


FIRST = {rule.cause for rule in RULES if not rule.is_last_resort}


def test_every_cause_has_words_in_every_language() -> None:
    known = {rule.cause for rule in RULES}
    explained = {cause for rule in RULES for cause in rule.explains}
    for cause in {*known, HEALTHY}:
        for language in catalogue.LANGUAGES:
            assert catalogue.title(cause, language)
    fields = string.Formatter()
    for cause in catalogue.causes():
        by_language = []
        for language in catalogue.LANGUAGES:
            words = catalogue._words()["causes"][cause][f"why_{language}"]
            template = words if isinstance(words, str) else " ".join(words)
            by_language.append({name for _, name, _, _ in fields.parse(template) if name})
        assert by_language[0] == by_language[1], cause
    # A symptom that no rule finds would never be listed.
    assert explained <= known
    # What shows in a loop has rows of its own.
    firsts = [r.cause for r in RULES if not r.is_last_resort and r not in of_loop.RULES]
    assert len(firsts) == len(set(firsts))


def test_nothing_is_found_where_nothing_is_known() -> None:
    found = diagnose_evidence(Evidence())
    assert [finding.cause for finding in found.findings] == ["not_judged"]
    assert found.unseen == ["loop_data", "recipe", "loop_steps"]


def test_a_finding_s_sentence_has_its_figures() -> None:
    finding = Finding("clip_too_tight", 0.5, {"clip_factor": 0.001, "update_ratio": 2e-5})
    assert "0.10%" in finding.why()
    assert "0.10%" in finding.why("zh")


EDITS = ["optimizer.lr=0.5", "batch_size=7", "model.hidden=[3,4]", "optimizer=sgd", "epochs=3"]


@given(st.lists(st.sampled_from(EDITS), min_size=1, max_size=3, unique=True))
def test_edits_print_as_they_are_typed_and_can_be_undone(texts: list[str]) -> None:
    for text in texts:
        edit = Edit.parse(text)
        assert str(Edit.parse(str(edit))) == str(edit)
        changed = edit.apply(BASE)
        back = changed
        for undo in edit.reverse(BASE):
            back = undo.apply(back)
        assert back == BASE


def test_an_edit_of_the_data_leaves_the_recipe() -> None:
    edit = Edit.parse("data.task=classification")
    assert edit.is_of_data
    assert edit.apply(BASE) == BASE
    assert np.array_equal([edit.value], ["classification"])


@pytest.mark.parametrize(
    ("source", "changes", "cause"),
    [
        ("dna", ["epochs=1", "optimizer.lr=0.001"], "too_few_epochs"),
        ("dna", ["epochs=8", "optimizer.lr=1e-5", "batch_size=16"], "lr_too_low"),
        ("names", ["epochs=1", "optimizer.lr=0.001"], "too_few_epochs"),
    ],
)
def test_texts_that_were_hardly_learnt_are_neither_healthy_nor_shuffled(
    source: str, changes: list[str], cause: str, tmp_path: Path
) -> None:
    recipe = Recipe(model={"name": "gru", "hidden": [16], "embedding": 8}, batch_size=32)
    run = fit(recipe.with_(changes), load(source), out=tmp_path / "run")
    assert run.diagnose().findings[0].cause == cause


def test_texts_with_shuffled_labels_are_told(tmp_path: Path) -> None:
    data = load("dna")
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(3))
    shuffled = replace(data, y=data.y[order], reloadable=False)
    recipe = Recipe(model={"name": "gru", "hidden": [48], "embedding": 8}, epochs=30)
    run = fit(recipe.with_(["optimizer.lr=0.01"]), shuffled, out=tmp_path / "run")
    named = [finding.cause for finding in run.diagnose(shuffled).findings]
    assert named[0] in ("shuffled_labels", "nothing_to_learn")


@pytest.mark.parametrize("rate", [1e3, 1e8, 1e20, 1e30])
def test_however_high_the_rate_it_is_named(digits: Data, rate: float, tmp_path: Path) -> None:
    recipe = Recipe(epochs=2, optimizer={"name": "sgd", "lr": rate})
    with contextlib.suppress(Diverged):
        fit(recipe, digits, out=tmp_path / "run")
    first = Run(tmp_path / "run").diagnose().findings[0]
    assert first.cause == "lr_too_high"
    rates = [float(p.edits[0].value) for p in first.prescriptions if p.edits[0].path == "optimizer.lr"]  # fmt: skip
    assert min(rates) <= max(0.01, rate / 1000)


def test_what_diverged_is_never_healthy() -> None:
    assert diagnose_evidence(Evidence(diverged_at=0)).findings[0].cause == "diverged"


def test_what_diverged_before_any_update_blames_no_rate(digits: Data, tmp_path: Path) -> None:
    huge = Recipe(init={"name": "normal", "std": 1e25}, model={"hidden": [32, 32]})
    with pytest.raises(Diverged):
        fit(huge, digits, out=tmp_path / "run")
    cures = Run(tmp_path / "run").diagnose().findings[0].prescriptions
    paths = [edit.path for cure in cures for edit in cure.edits]
    assert "init.name" in paths or "init" in paths
    assert "optimizer.lr" not in paths


@pytest.mark.parametrize("rate", [1e-6, 1e-10, 1e-30])
def test_however_low_the_rate_it_is_named(digits: Data, rate: float, tmp_path: Path) -> None:
    run = fit(Recipe(epochs=3, optimizer={"lr": rate}), digits, out=tmp_path / "run")
    first = run.diagnose().findings[0]
    assert first.cause == "lr_too_low"
    rates = [float(p.edits[0].value) for p in first.prescriptions]
    assert max(rates) >= 1e-3


@pytest.mark.parametrize(
    ("source", "share", "epochs"), [("dna", 0.002, 3), ("iris", 0.002, 30), ("wine", 0.002, 20)]
)
def test_what_answers_no_better_than_a_constant_is_not_healthy(
    source: str, share: float, epochs: int, tmp_path: Path
) -> None:
    recipe = Recipe.read("text-classification") if source == "dna" else Recipe(batch_size=16)
    run = fit(
        recipe.with_([f"sample.share={share}", f"epochs={epochs}"]),
        load(source),
        out=tmp_path / "r",
    )
    found = run.diagnose()
    assert not found.is_healthy
    assert "sample.share=1" in json.dumps(found.to_json())
