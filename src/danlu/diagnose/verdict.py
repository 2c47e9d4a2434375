"""A first verdict on a finished run: what its figures show, and no more."""

from __future__ import annotations

import math

from danlu.errors import cells, count
from danlu.nn.information import UNITS, perplexity
from danlu.predict import ner_metrics
from danlu.runs import Run
from danlu.runs.folder import read_tensors

Z = 1.959964  # 95 %


def wilson(share: float, n: int) -> tuple[float, float]:
    """95 % interval of a share observed on n examples (Wilson 1927)."""
    centre = (share + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z / (1 + Z * Z / n) * math.sqrt(share * (1 - share) / n + Z * Z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def difference(a: float, n: int, b: float, m: int) -> tuple[float, float]:
    """95 % interval of a − b for shares on n and m examples (Newcombe 1998, method 10)."""
    (la, ua), (lb, ub) = wilson(a, n), wilson(b, m)
    return a - b - math.hypot(a - la, ub - b), a - b + math.hypot(ua - a, b - lb)


def verdict(run: Run) -> list[str]:
    """Sentences on what was reached, where the error lies, and whether training ended at a good time."""
    schema = run.schema
    said = (
        _tokens(run)
        if schema.each_token
        else _numbers(run)
        if schema.is_regression
        else _classes(run)
    )
    return said + _ending(run) + _data(run)


def held_out(run: Run) -> str:
    """The part that no choice was made on: test, else validation, else training."""
    return next(p for p in ("test", "valid", "train") if f"{p}_loss" in run.result)


def _percent(x: float) -> str:
    return f"{100 * x:.1f} %"


def _classes(run: Run) -> list[str]:
    part = held_out(run)
    r = run.result
    n, reached = r[f"{part}_n"], r[f"{part}_accuracy"]
    low, high = wilson(reached, n)
    counts = run.data_info[
        "class_counts"
    ]  # of the training part: the constant answer is learnt there, too
    most = counts.index(max(counts))
    usual = run.schema.classes[most]
    share = float((read_tensors(run.path / "test.safetensors")["targets"] == most).sum()) / n
    said = [
        f"{_NAMES[part]} accuracy is {_percent(reached)} (95 % interval {100 * low:.1f} to {100 * high:.1f}, {n} examples); "
        f"always answering {usual!r} would give {_percent(share)}."
    ]
    if low <= share:
        return [
            *said,
            "That is not shown to be better than the constant answer: the network has learnt nothing usable.",
        ]
    if (
        part == "train" or "train_n" not in r
    ):  # members of a search are scored on the validation part alone
        return said
    m, trained = r["train_n"], r["train_accuracy"]
    gap_low, gap_high = difference(trained, m, reached, n)
    bias, gap = 1 - trained, trained - reached
    if gap_low <= 0:
        return [
            *said,
            f"Training accuracy is {_percent(trained)}; no gap to the {_NAMES[part].lower()} part is shown.",
        ]
    larger = "variance (over-fitting)" if gap > bias else "bias (under-fitting)"
    return [
        *said,
        f"Training accuracy is {_percent(trained)}, {100 * gap:.1f} points higher ({100 * gap_low:.1f} to {100 * gap_high:.1f}): "
        f"the larger part of the error is {larger}.",
    ]


def _tokens(run: Run) -> list[str]:
    """Of text with a target for every token."""
    part, r = held_out(run), run.result
    name, loss, n = _NAMES[part], r[f"{part}_loss"], r[f"{part}_n"]
    if run.schema.task == "tagging":
        low, high = wilson(r[f"{part}_accuracy"], n)
        right = f"{_percent(r[f'{part}_accuracy'])} of {n:,} tokens are tagged rightly ({100 * low:.1f} to {100 * high:.1f})"
        if f"{part}_f1" in r:
            return [
                f"{name} F1 of whole entities is {_percent(r[f'{part}_f1'])}{_f1_interval(run)}; {right}."
            ]
        return [f"{name}: {right}."]
    counts = [c for c in run.data_info["class_counts"] if c]
    alone = -sum(c / sum(counts) * math.log(c / sum(counts)) for c in counts)
    said = [
        f"{name} perplexity is {perplexity(min(loss, 700.0)):.3g}: {loss:.3f} nats ({loss * UNITS['bits']:.3f} bits) a token, "
        f"on {n:,} tokens. Told by frequency alone, those of the training part have {perplexity(alone):.3g} ({alone:.3f} nats)."
    ]
    if loss >= alone:
        said.append(
            "That is no better than the frequency of tokens: the network has learnt nothing usable."
        )
    if part != "train" and "train_loss" in r:
        said.append(f"Training loss is {r['train_loss']:.3f} nats.")
    return said


def _f1_interval(run: Run) -> str:
    """In brackets, where what was told of the part is kept."""
    if not (run.path / "test.safetensors").is_file():
        return ""
    kept = read_tensors(run.path / "test.safetensors")
    low, high = ner_metrics.interval(
        kept["tags"], kept["targets"], kept["sizes"].tolist(), run.schema
    )
    if low == high:  # all or nothing was found: drawing again tells nothing
        return ""
    return f" (95 % interval {100 * low:.1f} to {100 * high:.1f}, by sentences)"


def _numbers(run: Run) -> list[str]:
    part, r = held_out(run), run.result
    mean, spread = run.schema.scale
    rmse = spread * math.sqrt(r[f"{part}_loss"])
    targets = read_tensors(run.path / "test.safetensors")["targets"].double()
    constant = float((targets - mean).square().mean().sqrt())
    said = [
        f"{_NAMES[part]} R² is {r[f'{part}_r2']:.3f}: a typical error of {rmse:.4g} on {r[f'{part}_n']} examples, "
        f"where always answering the training mean errs by {constant:.4g}."
    ]
    if part != "train" and "train_r2" in r:
        said.append(f"Training R² is {r['train_r2']:.3f}.")
    return said


def _data(run: Run) -> list[str]:
    """Examples that lie in two parts, and rows that were left out."""
    said = []
    for pair, n in run.data_info["duplicates"].items():
        a, b = (_NAMES[p].lower() for p in pair.split("/"))
        equal = "equals" if n == 1 else "equal"
        said.append(
            f"{count(n, 'example')} of the {b} part {equal} one of the {a} part; its score is flattered."
        )
    if gaps := run.data_info["missing"]:
        said.append(f"Rows with missing cells were left out ({cells(gaps)}).")
    return said


def _ending(run: Run) -> list[str]:
    """Whether validation loss was still falling at the end, or had long turned."""
    losses = [row["valid_loss"] for row in run.history if "valid_loss" in row]
    if len(losses) < 4:
        return []
    best = min(range(len(losses)), key=losses.__getitem__)
    if best == len(losses) - 1 and losses[-1] < 0.98 * losses[-2]:
        return ["Validation loss was still falling at the end: train longer (`epochs`)."]
    if run.result.get("best_epoch"):
        if run.result["epochs"] == run.recipe.epochs:
            return [
                f"The weights are those of epoch {run.result['best_epoch']}, the best on validation."
            ]
        return [
            f"Stopped early; the weights are those of epoch {run.result['best_epoch']}, the best on validation."
        ]
    if losses[-1] > 1.05 * losses[best]:
        return [
            f"Validation loss was lowest after epoch {best + 1} ({losses[best]:.4f}) and ended at {losses[-1]:.4f}: "
            "`early_stopping.patience=5` would keep the best weights."
        ]
    return []


_NAMES = {"test": "Test", "valid": "Validation", "train": "Training"}
