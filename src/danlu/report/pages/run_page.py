"""A run as a page: verdict, curves, errors, the recipe."""

from __future__ import annotations

from pathlib import Path

from danlu.diagnosis import Diagnosis, diagnose, verdict
from danlu.errors import count
from danlu.figures import curves, measurements
from danlu.files import write
from danlu.recipe import Recipe
from danlu.report.pages import html
from danlu.report.pages.findings import findings_section
from danlu.report.pages.outputs import sections as output_sections
from danlu.report.tables.results import result_head, result_rows
from danlu.runs import Run

_CRF_NOTE = (
    "While a conditional random field trains, its loss is −log P of whole sentences, per token, "
    "and its accuracy that of the tags before they are scored together; the validation curves and "
    "the table are of single tags, scored together."
)


def write_report(run: Run, diagnosis: Diagnosis | None = None, language: str = "en") -> Path:
    """Write report.html into the run's folder.

    diagnosis: of the run, where it is known already. language: of findings.
    """
    found = diagnosis or diagnose(run)
    source = run.data_info["source"]["source"]
    title = f"{run.recipe.model.name} on {source}"
    figure = curves.figure(run.history, run.metric)
    sections = [
        f"<h1>{html.text(title)}</h1>",
        html.soft(_facts(run)),
        html.verdict(verdict(run, found)),
        *findings_section(found, language),
        *map(html.soft, found.details(language)),
        html.table(result_head(run), result_rows(run)),
        html.heading("Curves"),
        html.figure("curves", figure, "Loss and accuracy by epoch"),
        *_curve_notes(run.recipe),
        *_measured(run),
        *output_sections(run),
        html.heading("Recipe"),
        html.listing(run.recipe.to_toml()),
    ]
    path = run.path / "report.html"
    write(path, html.page(title, sections))
    return path


def _measured(run: Run) -> list[str]:
    """Return what probes found by layer; nothing where nothing was measured."""
    columns = run.measured().to_pydict()
    if not measurements.layers_of(columns, "weight_gradient"):
        return []
    flow = measurements.by_layer(
        columns,
        ("weight_gradient", "gradient norm, by layer"),
        ("update_ratio", "update by weight norm"),
    )
    label = "Norm of the gradient, and of the update by that of the weights, by layer and step"
    sections = [html.heading("Gradients and updates"), html.figure("gradients", flow, label)]
    shown = measurements.histograms(columns)
    if shown is not None:
        label = "Histograms of what each layer gives, at the first measured step and at the last"
        sections += [html.heading("Activations"), html.figure("activations", shown, label)]
    return sections


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
    if recipe.loss.gamma:
        fields.append("loss.gamma")
    if recipe.loss.class_weights != "none":
        fields.append("loss.class_weights")
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
