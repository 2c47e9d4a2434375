"""Patients and healthy controls through the tools that hang into anybody's training loop.

    python benchmarks/rivals.py [--half report|tuning] [--tool NAME]

Every tool watches the same plain PyTorch loop (`clinic/plain_loop.py`), a training each. What a tool says is taken for
the causes in its table below: a saying counts as right where the planted cause is among them, so that a tool gets the
benefit of the doubt. First: the gravest saying is right; any: some saying is; flagged: it says anything graver than a
remark (of torch-audit, nothing of speed). danlu.watch sees no more than the others do, so causes that lie in the data
or in the recipe's fields are not within its reach; `danlu diagnose` has both, and must name the one cause. skorch's
SkorchDoctor records and plots, and names nothing, so it has no column.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from clinic.patients import HEALTHY, Patient, patients
from clinic.plain_loop import PlainLoop
from measure import machine
from patients import trained

import danlu

# What a saying may mean, generously.
TORCHMORTEM = {
    "Vanishing gradients": {"vanishing_gradient", "too_deep", "init_too_small", "rnn_memory_too_short"},
    "Exploding gradients": {"exploding_gradient", "init_too_large", "lr_too_high"},
    "Gradient stalling": {"vanishing_gradient", "too_deep", "init_symmetric", "frozen_weights", "init_too_small"},
    "High gradient noise": {"batch_too_small", "batch_norm_tiny_batch", "label_noise", "shuffled_labels", "nothing_to_learn"},
    "Training divergence": {"lr_too_high", "exploding_gradient", "momentum_too_high"},
    "Loss plateau": {"lr_too_low", "schedule_decays_too_soon", "nothing_to_learn", "shuffled_labels", "init_symmetric"},
    "Catapult phase": {"lr_too_high", "init_too_large", "momentum_too_high"},
    "Edge of stability": {"lr_too_high"},
    "Rank collapse": {"too_deep", "model_too_small", "missing_nonlinearity"},
    "Activation saturation": {"saturated_activations", "init_too_large", "init_bias_bad"},
    "Dead units": {"dead_units", "init_bias_bad", "lr_too_high"},
    "Update ratio too low": {"lr_too_low", "optimizer_eps", "clip_too_tight", "schedule_decays_too_soon", "frozen_weights"},
    "Update ratio too high": {"lr_too_high", "momentum_too_high", "batch_too_small"},
    "Weight norm explosion": {"lr_too_high", "exploding_gradient", "momentum_too_high"},
    "Stagnant weight norms": {"lr_too_low", "optimizer_eps", "clip_too_tight", "frozen_weights", "schedule_decays_too_soon"},
    "Inter-layer weight norm imbalance": {"init_too_large", "init_too_small"},
}  # fmt: skip
TORCH_AUDIT = {
    "TA100": {"lr_too_high", "exploding_gradient", "momentum_too_high"},
    "TA102": {"exploding_gradient", "init_too_large", "lr_too_high"},
    "TA103": {"dead_units", "init_bias_bad", "init_symmetric"},
    "TA104": {"frozen_weights", "wrong_gradient"},
    "TA105": {"dead_units", "init_bias_bad", "init_symmetric"},
    "TA301": {"inputs_not_normalised", "outliers_in_inputs"},
    "TA302": {"nothing_to_learn", "constant_target"},
    "TA303": set(),
    "TA304": {"batch_too_small", "batch_norm_tiny_batch"},
    "TA305": {"outliers_in_inputs"},
    "TA405": {"dead_units"},
    "TA500": {"frozen_weights"},
}  # fmt: skip
SPEED = ("TA2",)


def by_torchmortem(patient: Patient) -> tuple[list[set[str]], bool]:
    """Return what each saying may mean, the gravest first, and whether the training is flagged."""
    from torchmortem import Autopsy

    loop = PlainLoop(patient)
    with Autopsy(loop.model, optimizer=loop.optimizer) as autopsy:
        for step in loop.steps():
            loop.optimizer.step()
            autopsy.step(loss=float(step.loss.detach()))
    report = autopsy.get_report()
    sayings = []
    for finding in sorted(report.findings, key=lambda f: -f.severity):
        title = next((t for t in TORCHMORTEM if finding.title.startswith(t)), None)
        sayings.append(TORCHMORTEM.get(title, set()))
    return sayings, any(finding.severity >= 1 for finding in report.findings)


def by_torch_audit(patient: Patient) -> tuple[list[set[str]], bool]:
    from torch_audit import autopatch

    loop = PlainLoop(patient)
    auditor = autopatch(loop.model, optimizer=loop.optimizer, every_n_steps=20, reporters=[], run_static=True, run_init=True)  # fmt: skip
    for _ in loop.steps():
        loop.optimizer.step()
    result = auditor.finish(report=False)
    auditor.unpatch()
    found = [f for f in result.findings if not f.rule_id.startswith(SPEED)]
    found.sort(key=lambda f: -f.severity._rank())
    ranks = {f.severity.value for f in found}
    sayings = [TORCH_AUDIT.get(f.rule_id, set()) for f in found]
    return sayings, bool(ranks - {"INFO"})


def by_watch(patient: Patient) -> tuple[list[set[str]], bool]:
    loop = PlainLoop(patient)
    done, per_epoch = 0, max(1, -(-loop.data.size("train") // loop.recipe.batch_size))
    # Targets are standardised: of numbers a constant answer costs 1.
    chance = 1.0 if loop.classes is None else None
    with danlu.watch(loop.model, loop.optimizer, loop.classes, chance=chance) as watched:
        for step in loop.steps():
            loop.optimizer.step()
            watched.step(step.loss)
            done += 1
            if done % per_epoch == 0:
                watched.epoch(valid_loss=loop.valid_loss())
                loop.model.train()
    return _of_danlu(watched.diagnose())


def by_diagnose(patient: Patient, folder: Path) -> tuple[list[set[str]], bool]:
    return _of_danlu(danlu.diagnose(trained(patient, folder), patient.data()))


def _of_danlu(found: danlu.Diagnosis) -> tuple[list[set[str]], bool]:
    return [{finding.cause} for finding in found.findings], not found.is_healthy


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--half", choices=("tuning", "report"), default="report")
    parser.add_argument("--keep", type=Path, help="where danlu's trainings are kept")
    parser.add_argument("--only", help="patients of this cause")
    parser.add_argument("--tool", default="", help="tools whose name begins so; unasked, all")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.ERROR)
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.keep or Path(temporary)
        tools: dict[str, Callable[[Patient], tuple[list[set[str]], bool]]] = {
            "torchmortem": by_torchmortem,
            "torch-audit": by_torch_audit,
            "danlu.watch": by_watch,
            "danlu diagnose": lambda patient: by_diagnose(patient, folder),
        }
        tools = {name: tool for name, tool in tools.items() if name.startswith(asked.tool)}
        counts = {name: Counter() for name in tools}
        for patient in patients():
            is_asked = patient.is_for_tuning == (asked.half == "tuning")
            if not is_asked or (asked.only and patient.cause != asked.only):
                continue
            for name, tool in tools.items():
                count_one(patient, name, tool, counts[name])
    print(f"{machine()}\n")
    print(
        "| half "
        + asked.half
        + " | first is right | any is right | sick flagged | healthy flagged | failed |"
    )
    print("|---|---|---|---|---|---|")
    for name, c in counts.items():
        with contextlib.suppress(PackageNotFoundError):
            name = f"{name} {version(name.split()[0].partition('.')[0])}"
        sick, healthy = c["sick"], c["healthy"]
        cells = [f"{c[k]} of {n}" for k, n in (("first", sick), ("any", sick), ("sick flagged", sick), ("healthy flagged", healthy))]  # fmt: skip
        print(f"| {name} | " + " | ".join(cells) + f" | {c['failed']} |")


def count_one(patient: Patient, name: str, tool: Callable, counts: Counter) -> None:
    """Run a tool on a patient, and count what it says."""
    kind = "healthy" if patient.cause == HEALTHY else "sick"
    start = time.perf_counter()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            sayings, is_flagged = tool(patient)
    except Exception as e:  # a tool's own failure on a training is a result, too
        sayings, is_flagged = [], False
        counts["failed"] += 1
        print(f"{patient.name}: {name}: {type(e).__name__}: {e}", file=sys.stderr)
    counts[kind] += 1
    counts[f"{kind} flagged"] += is_flagged
    if kind == "sick":
        counts["first"] += bool(sayings) and patient.cause in sayings[0]
        counts["any"] += any(patient.cause in saying for saying in sayings)
    seconds = time.perf_counter() - start
    print(
        f"{patient.name}: {name}: flagged {is_flagged}, {sayings[:2]}, {seconds:.1f} s",
        file=sys.stderr,
        flush=True,
    )


if __name__ == "__main__":
    main()
