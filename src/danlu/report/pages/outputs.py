"""What a network predicts on the last part read, as sections of a run's page.

Legend: N examples, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from danlu import metrics
from danlu.data.parts import TITLES
from danlu.diagnosis.headline import predicted_of
from danlu.diagnosis.verdict import held_out
from danlu.figures import confusion, reliability, scatter
from danlu.metrics import Predicted
from danlu.report.pages import html, text_page
from danlu.report.pages.examples import captioned
from danlu.report.tables.classes import CLASS_HEAD, class_cells, class_rows
from danlu.runs import Run
from danlu.runs.saved_outputs import has_outputs, read_outputs

_ROWS_SHOWN = 10  # of a table's errors
_CLASSES_SHOWN = 30  # in a confusion matrix
_DOTS_SHOWN = 2000  # in a scatter plot: more would hide each other, and make the page large


def sections(run: Run) -> list[str]:
    """Return sections on what the network predicts on the last part read."""
    if run.schema.each_token:
        return text_page.sections(run)
    if not has_outputs(run.sealed):
        return []  # no part was scored
    kept = read_outputs(run.sealed)
    predicted = predicted_of(run)
    assert predicted is not None
    if run.schema.is_regression:
        return [*_figures(run, predicted), *_numbers(predicted)]
    return [*_figures(run, predicted), *_classes(run, kept, predicted)]


def _figures(run: Run, p: Predicted) -> list[str]:
    """Return every figure of the part, those first that training computed."""
    part = held_out(run)
    values = {name: run.result.get(f"{part}_{name}") for name in run.schema.metrics}
    missing = [name for name, value in values.items() if value is None]
    values |= metrics.compute(metrics.computed(missing), p)
    rows = []
    for name, value in values.items():
        if value is not None:
            rows.append((metrics.title_of(name), "–" if value != value else f"{value:.4f}"))
    return [html.heading(f"Figures of the {TITLES[part]} part"), html.table(("", ""), rows)]


def confusion_counts(kept: dict[str, Tensor], classes: int) -> Tensor:
    """Return counts [true, predicted], [K, K]."""
    true = kept["targets"]
    predicted = kept["outputs"].argmax(1)
    pairs = true * classes + predicted  # [N], one number for each pair
    counts = torch.bincount(pairs, minlength=classes * classes)
    return counts.view(classes, classes)


def most_confused(counts: Tensor, most: int) -> list[int]:
    """Return the classes that take part in the most errors, in their order; counts [K, K]."""
    errors = counts - counts.diag().diag()
    of_class = errors.sum(0) + errors.sum(1)
    chosen: list[int] = of_class.argsort(descending=True, stable=True)[:most].sort().values.tolist()
    return chosen


def _classes(run: Run, kept: dict[str, Tensor], p: Predicted) -> list[str]:
    names = list(run.schema.classes)
    counts = confusion_counts(kept, len(names))
    shown = most_confused(counts, _CLASSES_SHOWN)
    shown_names = [names[k] for k in shown]
    figure = confusion.figure(counts[shown][:, shown].tolist(), shown_names)
    title = "Confusion matrix"
    if len(shown) < len(names):
        title = f"Confusion matrix of the {len(shown)} classes with the most errors"
    sections = [
        html.heading("By class"),
        html.table(CLASS_HEAD, class_cells(class_rows(p, run.schema))),
        html.heading(title),
        html.figure("confusion", figure, title),
        *_calibration(p),
    ]
    if len(kept["worst"]):
        sections.append(html.heading("Most confidently wrong"))
        sections.append(_worst(run, kept))
    else:
        sections.append(html.heading("Errors"))
        sections.append("<p>None on this part.</p>")
    return sections


def _worst(run: Run, kept: dict[str, Tensor]) -> str:
    """Return the most confidently wrong examples, as what they are."""
    examples, captions = kept["worst_x"], _captions(run.schema.classes, kept)
    if run.schema.is_table:
        examples, captions = examples[:_ROWS_SHOWN], captions[:_ROWS_SHOWN]
    return captioned(run.schema, examples, captions)


def _captions(names: Sequence[str], kept: dict[str, Tensor]) -> list[str]:
    """Return for each of the worst errors what it is, and what it was taken for."""
    worst = kept["worst"]
    probabilities = kept["outputs"][worst].softmax(1)  # [worst, K]
    confidence, predicted = probabilities.max(1)
    true = kept["targets"][worst].tolist()
    guesses = zip(true, predicted.tolist(), confidence.tolist(), strict=True)
    captions = []
    for truth, guess, share in guesses:
        captions.append(f"{names[truth]}, taken for {names[guess]} ({100 * share:.0f} %)")
    return captions


def _calibration(p: Predicted) -> list[str]:
    confidence, accuracy, examples = metrics.reliability(p)
    figure = reliability.figure(confidence.tolist(), accuracy.tolist(), examples.tolist())
    error = metrics.compute(["calibration_error"], p)["calibration_error"]
    note = (
        f"Expected calibration error {error:.4f}, over {metrics.CALIBRATION_BINS} bins of "
        "confidence; below the dotted line a network is more confident than it is right."
    )
    return [
        html.heading("Calibration"),
        html.soft(note),
        html.figure("reliability", figure, "Accuracy by confidence"),
    ]


def _numbers(p: Predicted) -> list[str]:
    every = max(1, -(-len(p.targets) // _DOTS_SHOWN))
    figure = scatter.figure(p.targets[::every].tolist(), p.chosen[::every].tolist())
    return [
        html.heading("Predicted against true"),
        html.figure("scatter", figure, "Predicted against true values"),
    ]
