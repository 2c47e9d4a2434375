"""How findings compete, what they prescribe, and what is left where no cause fits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from danlu import Recipe, fit, load
from danlu.diagnosis.diagnosing import _roots_first
from danlu.diagnosis.evidence import Evidence
from danlu.diagnosis.finding import Finding, Prescription, edits, that_apply
from danlu.diagnosis.rules.gaps import overfitting

PLAIN = Recipe(optimizer={"name": "adam", "lr": 0.01}, batch_size=32, epochs=2)


def test_all_rows_of_a_cause_explain() -> None:
    """A cause that is recognised in two ways has two rows, of which one explains nothing."""
    found = {
        cause: Finding(cause, severity)
        for cause, severity in (("too_little_data", 0.4), ("overfitting", 0.9))
    }
    roots = _roots_first(found)
    assert [finding.cause for finding in roots] == ["too_little_data"]
    assert roots[0].also == ("overfitting",)


def test_what_changes_nothing_is_not_prescribed() -> None:
    cures = [
        Prescription("lower_rate", edits("optimizer.lr=0.01")),
        Prescription("lower_rate", edits("optimizer.lr=0.001")),
        Prescription("higher_limit", edits("data.limit=100")),
        Prescription("more_data"),
        Prescription("no_dropout", edits("model.dropout=5")),  # does not fit, which is told later
    ]
    kept = that_apply(cures, PLAIN)
    assert kept == [*cures[1:]]


def test_of_one_s_own_network_the_start_is_words_alone() -> None:
    own = PLAIN.with_(["model=somebody.networks:Net"])
    (kept,) = that_apply([Prescription("usual_init", edits("init=auto"))], own)
    assert kept.edits == ()
    assert kept.reason == "usual_init"


@pytest.mark.parametrize(("last", "risen"), [(1.3, False), (4.0, True)])
def test_a_loss_that_did_not_rise_is_not_said_to(last: float, risen: bool) -> None:
    result = {"train_accuracy": 1.0, "valid_accuracy": 0.3, "valid_n": 500}
    evidence = Evidence(
        history=[{"valid_loss": 1.3}, {"valid_loss": last}], result=result, class_counts=[50] * 10
    )
    finding = overfitting(evidence, None)  # type: ignore[arg-type]
    assert finding is not None
    assert ("risen" in finding.why()) == risen
    assert "0.3" in finding.why()
    assert "95% interval" in finding.why()


def test_a_network_behind_its_neighbours_is_not_healthy(tmp_path: Path) -> None:
    """Nothing else is wrong with it: it is cut off at a good rate, having seen enough steps."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-3, 3, size=(1500, 2)).astype(np.float32)
    y = ((np.floor(x[:, 0]) + np.floor(x[:, 1])) % 2).astype(int)  # a checkerboard
    data = load((x, y))
    recipe = PLAIN.with_(["model.hidden=[16]", "epochs=40", "schedule=cosine"])
    run = fit(recipe, data, out=tmp_path / "run")
    assert run.result["valid_accuracy"] < 0.8
    (finding, *_) = run.diagnose(data).findings
    assert finding.cause == "underfitting"
    assert finding.figures["simple"] > finding.figures["held_out"]  # type: ignore[operator]
    assert "model.hidden=[32]" in [str(edit) for p in finding.prescriptions for edit in p.edits]
