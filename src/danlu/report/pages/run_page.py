"""A run as a page: verdict, curves, errors, the recipe. Legend: K classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from danlu.data.tables.features import shown_cells
from danlu.data.target_scale import in_units
from danlu.data.vocabulary import Vocabulary
from danlu.diagnose import verdict
from danlu.errors import count
from danlu.figures import confusion, curves, scatter
from danlu.files import write
from danlu.recipe import Recipe
from danlu.report.pages import html, text_page
from danlu.report.pictures import data_uri
from danlu.report.tables.results import result_head, result_rows
from danlu.runs import Run
from danlu.runs.saved_outputs import read_outputs

_CRF_NOTE = (
    "While a conditional random field trains, its loss is −log P of whole sentences, per token, "
    "and its accuracy that of the tags before they are scored together; the validation curves and "
    "the table are of single tags, scored together."
)
_ROWS_SHOWN = 10  # of a table's errors


def write_report(run: Run) -> Path:
    """Write report.html into the run's folder."""
    source = run.data_info["source"]["source"]
    title = f"{run.recipe.model.name} on {source}"
    figure = curves.figure(run.history, run.metric)
    sections = [
        f"<h1>{html.text(title)}</h1>",
        html.soft(_facts(run)),
        html.verdict(verdict(run)),
        html.table(result_head(run), result_rows(run)),
        html.heading("Curves"),
        html.figure("curves", figure, "Loss and accuracy by epoch"),
        *_curve_notes(run.recipe),
        *_outputs(run),
        html.heading("Recipe"),
        html.listing(run.recipe.to_toml()),
    ]
    path = run.path / "report.html"
    write(path, html.page(title, sections))
    return path


def _facts(run: Run) -> str:
    result = run.result
    facts = [
        f"{result['parameters']:,} parameters",
        count(result["epochs"], "epoch"),
        count(result["steps"], "step"),
        f"{result['seconds']:.1f} s",
        run.info["environment"]["machine"],
        run.path.name,
    ]
    return " · ".join(facts)


def _curve_notes(recipe: Recipe) -> list[str]:
    """Return why the training curves are not of the same thing as the validation curves."""
    # Training figures are taken while examples are changed, and units dropped.
    fields = [f"augment.{name}" for name, value in recipe.augment.model_dump().items() if value]
    if recipe.model.dropout:
        fields.append("model.dropout")
    if recipe.loss.label_smoothing:
        fields.append("loss.label_smoothing")
    notes = []
    if fields:
        listed = ", ".join(f"<code>{field}</code>" for field in fields)
        notes.append(
            f"The training curves are taken with {listed}, which the validation curves and the "
            "table do without."
        )
    if recipe.model.crf:
        notes.append(_CRF_NOTE)
    return [f'<p class="soft">{note}</p>' for note in notes]


def _outputs(run: Run) -> list[str]:
    """Return sections on what the network predicts on the last part read."""
    if run.schema.each_token:
        return text_page.sections(run)
    kept = read_outputs(run.path)
    if run.schema.is_regression:
        return _numbers(run, kept)
    return _classes(run, kept)


def confusion_counts(kept: dict[str, Tensor], classes: int) -> Tensor:
    """Return counts [true, predicted], [K, K]."""
    true = kept["targets"]
    predicted = kept["outputs"].argmax(1)
    pairs = true * classes + predicted  # [N], one number for each pair
    counts = torch.bincount(pairs, minlength=classes * classes)
    return counts.view(classes, classes)


def _classes(run: Run, kept: dict[str, Tensor]) -> list[str]:
    names = list(run.schema.classes)
    counts = confusion_counts(kept, len(names))
    figure = confusion.figure(counts.tolist(), names)
    sections = [
        html.heading("Confusion matrix"),
        html.figure("confusion", figure, "Confusion matrix"),
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
    examples = kept["worst_x"]
    captions = _captions(run.schema.classes, kept)
    if run.schema.is_image:
        return html.pictures(zip(map(data_uri, examples), captions, strict=True))
    if run.schema.is_text:
        vocabulary = Vocabulary(run.schema.vocabulary)
        texts = [vocabulary.decode(x) for x in examples.tolist()]
        return html.table(("", "text"), zip(captions, texts, strict=True))
    columns = run.schema.columns
    head = ["", *(column.name for column in columns)]
    rows = []
    for caption, x in zip(captions, examples[:_ROWS_SHOWN].tolist(), strict=False):
        rows.append([caption, *shown_cells(columns, x)])
    return html.table(head, rows)


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


def _numbers(run: Run, kept: dict[str, Tensor]) -> list[str]:
    predicted = in_units(kept["outputs"][:, 0], run.schema).tolist()
    figure = scatter.figure(kept["targets"].tolist(), predicted)
    return [
        html.heading("Predicted against true"),
        html.figure("scatter", figure, "Predicted against true values"),
    ]
