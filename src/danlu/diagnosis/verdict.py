"""A first verdict on a finished run: what its figures show, and no more."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from danlu.data.parts import TITLES
from danlu.data.target_scale import in_units
from danlu.diagnosis.diagnosing import Diagnosis
from danlu.diagnosis.error_parts import GIVEN
from danlu.diagnosis.headline import headline, predicted_of
from danlu.diagnosis.usable import what_is_shown
from danlu.errors import count
from danlu.imported import is_path
from danlu.metrics import note_on_default, title_of
from danlu.nn.information import UNITS, entropy, perplexity
from danlu.predict import ner_metrics
from danlu.runs import Run
from danlu.runs.saved_outputs import has_outputs, read_outputs
from danlu.statistics import difference_interval, wilson_interval

_LEAST_ERROR = 0.01  # on the training part, before it is called anything
_LEAST_EPOCHS = 4  # before anything is said of the end of a training
_STILL_FALLING = 0.98  # last validation loss by the one before
_HAS_TURNED = 1.05  # last validation loss by the lowest


def verdict(run: Run, found: Diagnosis | None = None) -> list[str]:
    """Return what was reached, where the error lies, and whether training ended at a good time.

    found: its diagnosis. Where that names a cause, it is for it to say why.
    """
    schema = run.schema
    is_healthy = found is None or found.is_healthy
    part = held_out(run)
    if f"{part}_n" not in run.result:
        return ["No part was scored when it was trained; `danlu evaluate` scores the test part."]
    if schema.task == "tagging":
        sentences = _of_tags(run)
    elif schema.each_token:
        sentences = _of_next_tokens(run)
    elif schema.is_regression:
        sentences = _of_numbers(run)
    else:
        sentences = _of_classes(run, found)
    first = [headline(run, part), _why_another_figure(run)]
    sentences = [*filter(None, first), *sentences]
    ending = _of_the_ending(run) if is_healthy or "diverged_step" in run.result else []
    return [*sentences, *ending, *_of_the_data(run)]


def _why_another_figure(run: Run) -> str | None:
    if run.info.get("metric") or f"{held_out(run)}_{run.chosen_metric}" not in run.result:
        return None
    schema = run.schema
    return note_on_default(schema.metrics, run.data_info["class_counts"], schema.classes)


def held_out(run: Run) -> str:
    """Return the part that no choice was made on: test, else validation, else training."""
    result = run.result
    for part in ("test", "valid"):
        if f"{part}_loss" in result:
            return part
    return "train"


def _title(part: str) -> str:
    return TITLES[part].capitalize()


def _percent(x: float) -> str:
    return f"{100 * x:.1f} %"


def _range(low: float, high: float) -> str:
    return f"{100 * low:.1f} to {100 * high:.1f}"


def _of_classes(run: Run, found: Diagnosis | None) -> list[str]:
    result = run.result
    part = held_out(run)
    n = result[f"{part}_n"]
    reached = result[f"{part}_accuracy"]
    low, high = wilson_interval(reached, n)
    # The constant answer is learnt on the training part, too.
    counts = run.data_info["class_counts"]
    most_common = counts.index(max(counts))
    answer = run.schema.classes[most_common]
    targets = read_outputs(run.sealed)["targets"]
    constant = float((targets == most_common).sum()) / n
    sentences = [
        f"{_title(part)} accuracy is {_percent(reached)} (95 % interval {_range(low, high)}, "
        f"{n} examples); always answering {answer!r} would give {_percent(constant)}."
    ]
    if low <= constant:
        is_healthy = found is None or found.is_healthy
        sentences.append(_not_better_than_constant(run, counts, is_healthy))
    elif part != "train" and "train_n" in result:
        # Members of a search are scored on the validation part alone.
        sentences.append(_gap_to_training(result, part, found))
    return sentences


def _not_better_than_constant(run: Run, counts: list[int], is_healthy: bool) -> str:
    beginning = "That is not shown to be better than the constant answer"
    predicted = predicted_of(run)
    shown = None
    if predicted is not None:
        shown = what_is_shown(predicted, counts, run.schema.classes)
    if shown is not None:
        return f"{beginning}. {shown}"
    # On the other parts it may have learnt a great deal.
    if not is_healthy:
        return f"{beginning}."
    return f"{beginning}, nor are loss and ranking: the network has learnt nothing usable."


def _gap_to_training(result: dict[str, Any], part: str, found: Diagnosis | None) -> str:
    """Return how the training part did, and whether that is bias or variance.

    Where something else is wrong, that is the reason for either.
    """
    trained = result["train_accuracy"]
    reached = result[f"{part}_accuracy"]
    n = result[f"{part}_n"]
    low, high = difference_interval(trained, result["train_n"], reached, n)
    gap = trained - reached
    # The interval of the difference holds 0.
    if low <= 0:
        beginning = (
            f"Training accuracy is {_percent(trained)}; no gap to the {TITLES[part]} part is shown"
        )
    else:
        beginning = (
            f"Training accuracy is {_percent(trained)}, {100 * gap:.1f} points higher "
            f"({_range(low, high)})"
        )
    if found is not None and not found.is_healthy:
        return f"{beginning}."
    return beginning + _larger_part(1 - trained, gap, low > 0, found)


def _larger_part(training_error: float, gap: float, has_gap: bool, found: Diagnosis | None) -> str:
    """Return the end of a sentence: which part of the error is the larger."""
    if has_gap and gap > training_error:
        return ": the larger part of the error is variance (over-fitting)."
    # A gap that is not shown may be there all the same.
    if training_error < max(_LEAST_ERROR, abs(gap)):
        return "."
    parts = None if found is None else found.errors
    if parts is not None and parts.bias.is_high(training_error + gap):
        return ": the larger part of the error is bias (under-fitting)."
    if parts is not None and parts.known_by == GIVEN:
        return "."
    return ": the larger part of the error is bias (under-fitting), or noise."


def _of_tags(run: Run) -> list[str]:
    result = run.result
    part = held_out(run)
    n = result[f"{part}_n"]
    accuracy = result[f"{part}_accuracy"]
    low, high = wilson_interval(accuracy, n)
    interval = _range(low, high)
    right = f"{_percent(accuracy)} of {n:,} tokens are tagged right ({interval})"
    if f"{part}_f1" not in result:
        return [f"{_title(part)}: {right}."]
    f1 = _percent(result[f"{part}_f1"])
    f1_interval = _f1_interval(run)
    return [f"{_title(part)} F1 of whole entities is {f1}{f1_interval}; {right}."]


def _f1_interval(run: Run) -> str:
    """Return the interval in brackets, where what was predicted for the part is kept."""
    if not has_outputs(run.sealed):
        return ""
    kept = read_outputs(run.sealed)
    sizes = kept["sizes"].tolist()
    tags = kept["tags"]
    targets = kept["targets"]
    low, high = ner_metrics.f1_interval(tags, targets, sizes, run.schema)
    if low == high:  # all or nothing was found: every draw gives the same
        return ""
    return f" (95 % interval {_range(low, high)}, by sentences)"


def _of_next_tokens(run: Run) -> list[str]:
    result = run.result
    part = held_out(run)
    loss = result[f"{part}_loss"]
    n = result[f"{part}_n"]
    reached = perplexity(loss)
    bits = loss * UNITS["bits"]
    # What can be had without reading the text.
    by_frequency = _entropy_of_counts(run.data_info["class_counts"])
    constant = perplexity(by_frequency)
    sentences = [
        f"{_title(part)} perplexity is {reached:.3g}: {loss:.3f} nats ({bits:.3f} bits) a token, "
        f"on {n:,} tokens. Predicted by frequency alone, those of the training part have "
        f"{constant:.3g} ({by_frequency:.3f} nats)."
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
    exact = torch.tensor(counts, dtype=torch.float64)
    shares = exact / sum(counts)
    return float(entropy(shares))


def _of_numbers(run: Run) -> list[str]:
    result = run.result
    part = held_out(run)
    n = result[f"{part}_n"]
    r2 = result[f"{part}_r2"]
    kept = read_outputs(run.sealed)
    targets = kept["targets"].double()
    always = in_units(torch.zeros(1, dtype=torch.float64), run.schema)
    typical = _root_mean_square(in_units(kept["outputs"][:, 0].double(), run.schema) - targets)
    constant = _root_mean_square(always - targets)
    if math.isnan(r2):
        sentences = [
            f"{_title(part)} error is {typical:.4g} on {count(n, 'example')}; R² is undefined, as "
            "their targets do not differ."
        ]
    else:
        sentences = [
            f"{_title(part)} R² is {_r2(r2)}: a typical error of {typical:.4g} on {n} examples, "
            f"where always answering the training mean errs by {constant:.4g}."
        ]
    if part != "train" and "train_r2" in result:
        sentences.append(f"Training R² is {_r2(result['train_r2'])}.")
    return sentences


def _r2(value: float) -> str:
    if math.isnan(value):
        return "undefined, as their targets do not differ"
    return f"{value:.3f}" if value > -10 else f"{value:.3g}"


def _root_mean_square(errors: Tensor) -> float:
    return float(errors.square().mean().sqrt())


def _of_the_data(run: Run) -> list[str]:
    """Return examples that lie in two parts, and rows that were left out."""
    sentences = []
    for pair, n in run.data_info["duplicates"].items():
        first, second = (TITLES[part] for part in pair.split("/"))
        # "1 example equals", "2 examples equal".
        verb = "equals" if n == 1 else "equal"
        sentences.append(
            f"{count(n, 'example')} of the {second} part {verb} one of the {first} part; "
            "its score is flattered."
        )
    return sentences


def _of_the_ending(run: Run) -> list[str]:
    """Return whether validation loss was still falling at the end, or had long turned."""
    if "diverged_step" in run.result:
        return [
            f"Training diverged at step {run.result['diverged_step']:,}; the weights are those of "
            f"epoch {run.result['best_epoch']}, the best on validation before. A smaller "
            "`optimizer.lr` or `clip.norm=1` may go further."
        ]
    losses = [row["valid_loss"] for row in run.history if "valid_loss" in row]
    if len(losses) < _LEAST_EPOCHS:
        return []
    *_, before, last = losses
    lowest = min(losses)
    lowest_epoch = losses.index(lowest) + 1
    is_last_best = lowest_epoch == len(losses)
    if is_last_best and last < _STILL_FALLING * before:
        return ["Validation loss was still falling at the end: train longer (`epochs`)."]
    best_epoch = run.result.get("best_epoch")
    if best_epoch:
        stopped_early = run.result["epochs"] != run.recipe.epochs
        beginning = "Stopped early; the" if stopped_early else "The"
        metric = run.recipe.early_stopping.metric
        by = "" if metric == "loss" else f" by {title_of(metric)}"
        name = run.recipe.loss.name
        if metric == "loss" and (is_path(name) or name == "focal"):
            by = f" by its usual loss, which {name} does not minimise (`early_stopping.metric`)"
        return [f"{beginning} weights are those of epoch {best_epoch}, the best on validation{by}."]
    if last > _HAS_TURNED * lowest:
        return [
            f"Validation loss was lowest after epoch {lowest_epoch} ({lowest:.4f}) and ended at "
            f"{last:.4f}: `early_stopping.patience=5` would keep the best weights."
        ]
    return []
