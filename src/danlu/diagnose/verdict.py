"""A first verdict on a finished run: what its figures show, and no more."""

from __future__ import annotations

import math
from typing import Any

import torch

from danlu.data.parts import TITLES
from danlu.errors import cells, count
from danlu.nn.information import UNITS, entropy, perplexity
from danlu.predict import ner_metrics
from danlu.runs import Run
from danlu.runs.saved_outputs import has_outputs, read_outputs
from danlu.statistics import difference_interval, wilson_interval

_LEAST_EPOCHS = 4  # before anything is said of the end of a training
_STILL_FALLING = 0.98  # last validation loss by the one before
_HAS_TURNED = 1.05  # last validation loss by the lowest


def verdict(run: Run) -> list[str]:
    """Return what was reached, where the error lies, and whether training ended at a good time."""
    schema = run.schema
    if schema.task == "tagging":
        sentences = _of_tags(run)
    elif schema.each_token:
        sentences = _of_next_tokens(run)
    elif schema.is_regression:
        sentences = _of_numbers(run)
    else:
        sentences = _of_classes(run)
    return [*sentences, *_of_the_ending(run), *_of_the_data(run)]


def held_out(run: Run) -> str:
    """Return the part that no choice was made on: test, else validation, else training."""
    result = run.result
    return next(part for part in ("test", "valid", "train") if f"{part}_loss" in result)


def _title(part: str) -> str:
    return TITLES[part].capitalize()


def _percent(x: float) -> str:
    return f"{100 * x:.1f} %"


def _range(low: float, high: float) -> str:
    return f"{100 * low:.1f} to {100 * high:.1f}"


def _of_classes(run: Run) -> list[str]:
    part, result = held_out(run), run.result
    n = result[f"{part}_n"]
    reached = result[f"{part}_accuracy"]
    low, high = wilson_interval(reached, n)
    # The constant answer is learnt on the training part, too.
    counts = run.data_info["class_counts"]
    most_common = counts.index(max(counts))
    targets = read_outputs(run.path)["targets"]
    constant = float((targets == most_common).sum()) / n
    sentences = [
        f"{_title(part)} accuracy is {_percent(reached)} (95 % interval {_range(low, high)}, "
        f"{n} examples); always answering {run.schema.classes[most_common]!r} would give "
        f"{_percent(constant)}."
    ]
    if low <= constant:
        sentences.append(
            "That is not shown to be better than the constant answer: the network has learnt "
            "nothing usable."
        )
    elif part != "train" and "train_n" in result:
        # Members of a search are scored on the validation part alone.
        sentences.append(_gap_to_training(result, part))
    return sentences


def _gap_to_training(result: dict[str, Any], part: str) -> str:
    """Return whether the error is rather bias or variance."""
    trained = result["train_accuracy"]
    reached = result[f"{part}_accuracy"]
    low, high = difference_interval(trained, result["train_n"], reached, result[f"{part}_n"])
    # The interval of the difference holds 0.
    if low <= 0:
        return (
            f"Training accuracy is {_percent(trained)}; no gap to the {TITLES[part]} part is shown."
        )
    bias = 1 - trained
    gap = trained - reached
    larger = "variance (over-fitting)" if gap > bias else "bias (under-fitting)"
    return (
        f"Training accuracy is {_percent(trained)}, {100 * gap:.1f} points higher "
        f"({_range(low, high)}): the larger part of the error is {larger}."
    )


def _of_tags(run: Run) -> list[str]:
    part, result = held_out(run), run.result
    n = result[f"{part}_n"]
    accuracy = result[f"{part}_accuracy"]
    low, high = wilson_interval(accuracy, n)
    right = f"{_percent(accuracy)} of {n:,} tokens are tagged right ({_range(low, high)})"
    if f"{part}_f1" not in result:
        return [f"{_title(part)}: {right}."]
    f1 = _percent(result[f"{part}_f1"])
    return [f"{_title(part)} F1 of whole entities is {f1}{_f1_interval(run)}; {right}."]


def _f1_interval(run: Run) -> str:
    """Return the interval in brackets, where what was predicted for the part is kept."""
    if not has_outputs(run.path):
        return ""
    kept = read_outputs(run.path)
    sizes = kept["sizes"].tolist()
    low, high = ner_metrics.f1_interval(kept["tags"], kept["targets"], sizes, run.schema)
    if low == high:  # all or nothing was found: every draw gives the same
        return ""
    return f" (95 % interval {_range(low, high)}, by sentences)"


def _of_next_tokens(run: Run) -> list[str]:
    part, result = held_out(run), run.result
    loss = result[f"{part}_loss"]
    n = result[f"{part}_n"]
    reached = perplexity(loss)
    # What can be had without reading the text.
    by_frequency = _entropy_of_counts(run.data_info["class_counts"])
    sentences = [
        f"{_title(part)} perplexity is {reached:.3g}: {loss:.3f} nats "
        f"({loss * UNITS['bits']:.3f} bits) a token, on {n:,} tokens. Predicted by frequency "
        f"alone, those of the training part have {perplexity(by_frequency):.3g} "
        f"({by_frequency:.3f} nats)."
    ]
    if loss >= by_frequency:
        sentences.append(
            "That is no better than the frequency of tokens: the network has learnt nothing usable."
        )
    if part != "train" and "train_loss" in result:
        sentences.append(f"Training loss is {result['train_loss']:.3f} nats.")
    return sentences


def _entropy_of_counts(counts: list[int]) -> float:
    """Return the entropy in nats of classes that come so often."""
    shares = torch.tensor(counts, dtype=torch.float64) / sum(counts)
    return float(entropy(shares))


def _of_numbers(run: Run) -> list[str]:
    part, result = held_out(run), run.result
    mean, std = run.schema.scale
    # The loss is of the standardised target.
    typical = std * math.sqrt(result[f"{part}_loss"])
    targets = read_outputs(run.path)["targets"].double()
    squared_errors = (targets - mean).square()
    constant = float(squared_errors.mean().sqrt())
    sentences = [
        f"{_title(part)} R² is {result[f'{part}_r2']:.3f}: a typical error of {typical:.4g} on "
        f"{result[f'{part}_n']} examples, where always answering the training mean errs by "
        f"{constant:.4g}."
    ]
    if part != "train" and "train_r2" in result:
        sentences.append(f"Training R² is {result['train_r2']:.3f}.")
    return sentences


def _of_the_data(run: Run) -> list[str]:
    """Return examples that lie in two parts, and rows that were left out."""
    sentences = []
    for pair, n in run.data_info["duplicates"].items():
        first, second = (TITLES[part] for part in pair.split("/"))
        verb = "equals" if n == 1 else "equal"
        sentences.append(
            f"{count(n, 'example')} of the {second} part {verb} one of the {first} part; "
            "its score is flattered."
        )
    gaps = run.data_info["missing"]
    if gaps:
        sentences.append(f"Rows with missing cells were left out ({cells(gaps)}).")
    return sentences


def _of_the_ending(run: Run) -> list[str]:
    """Return whether validation loss was still falling at the end, or had long turned."""
    losses = [row["valid_loss"] for row in run.history if "valid_loss" in row]
    if len(losses) < _LEAST_EPOCHS:
        return []
    lowest = min(losses)
    best = losses.index(lowest)
    is_last_best = best == len(losses) - 1
    if is_last_best and losses[-1] < _STILL_FALLING * losses[-2]:
        return ["Validation loss was still falling at the end: train longer (`epochs`)."]
    best_epoch = run.result.get("best_epoch")
    if best_epoch:
        stopped_early = run.result["epochs"] != run.recipe.epochs
        beginning = "Stopped early; the" if stopped_early else "The"
        return [f"{beginning} weights are those of epoch {best_epoch}, the best on validation."]
    if losses[-1] > _HAS_TURNED * lowest:
        return [
            f"Validation loss was lowest after epoch {best + 1} ({lowest:.4f}) and ended at "
            f"{losses[-1]:.4f}: `early_stopping.patience=5` would keep the best weights."
        ]
    return []
