"""A run as a page: verdict, curves, confusion matrix, the most confidently wrong examples, the recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from danlu.data.vocabulary import Vocabulary
from danlu.diagnose import verdict
from danlu.errors import count
from danlu.figures import curves
from danlu.recipe import Recipe
from danlu.report.pages import html, text_page
from danlu.report.pages.pictures import data_uri
from danlu.report.terminal.console import shortened
from danlu.runs import Run
from danlu.runs.folder import read_tensors, write

_OF_A_CRF = (
    "While a conditional random field trains, its loss is −log P of whole sentences, a token, and its accuracy that of the "
    "tags before they are weighed together; the validation curves and the table are of single tags, weighed together."
)


def _while_training(recipe: Recipe) -> list[str]:
    """Why the training curves are not of the same thing as the validation curves and the table."""
    harder = [f"augment.{k}" for k, v in recipe.augment.model_dump().items() if v]
    harder += ["model.dropout"] if recipe.model.dropout else []
    harder += ["loss.label_smoothing"] if recipe.loss.label_smoothing else []
    what = ", ".join(f"<code>{k}</code>" for k in harder)
    said = (
        [
            f"The training curves are taken with {what}, which the validation curves and the table do without."
        ]
        if what
        else []
    )
    return said + ([_OF_A_CRF] if recipe.model.crf else [])


def result_head(run: Run) -> tuple[str, ...]:
    """What the columns of `result_rows` are."""
    metric = "R²" if run.metric == "r2" else run.metric
    return (
        "part",
        "tokens" if run.schema.each_token else "examples",
        "loss",
        metric,
        *(["F1"] if run.schema.scheme else []),
    )


def result_rows(run: Run) -> list[tuple[str, ...]]:
    """(part, examples, loss, accuracy or R², F1 of entities) of a finished run, as text; large training parts by a sample."""
    sizes, r = run.data_info["sizes"], run.result
    names = {"train": "training", "valid": "validation", "test": "test"}
    rows = []
    for p in (p for p in names if f"{p}_loss" in r):
        n = f"{r[f'{p}_n']:,}" + (f" of {sizes[p]:,}" if r[f"{p}_n"] < sizes[p] else "")
        f1 = [f"{r[f'{p}_f1']:.4f}"] if f"{p}_f1" in r else []
        rows.append((names[p], n, f"{r[f'{p}_loss']:.4f}", f"{r[f'{p}_{run.metric}']:.4f}", *f1))
    return rows


def write_report(run: Run) -> Path:
    """Write report.html into the run's folder."""
    told = run.data_info["source"]["source"]
    r = run.result
    about = [
        f"{r['parameters']:,} parameters",
        count(r["epochs"], "epoch"),
        count(r["steps"], "step"),
        f"{r['seconds']:.1f} s",
    ]
    about += [run.info["environment"]["machine"], run.path.name]
    sections = [
        f"<h1>{html.text(run.recipe.model.name)} on {html.text(told)}</h1>",
        f'<p class="soft">{" · ".join(map(html.text, about))}</p>',
        html.verdict(verdict(run)),
        html.table(result_head(run), result_rows(run)),
        "<h2>Curves</h2>",
        html.figure("curves", curves.figure(run.history, run.metric), "Loss and accuracy by epoch"),
    ]
    sections += [f'<p class="soft">{sentence}</p>' for sentence in _while_training(run.recipe)]
    if run.schema.each_token:
        sections += text_page.sections(run)
    else:
        kept = read_tensors(run.path / "test.safetensors")
        sections += _numbers(run, kept) if run.schema.is_regression else _classes(run, kept)
    sections += ["<h2>Recipe</h2>", f"<pre>{html.text(run.recipe.to_toml())}</pre>"]
    path = run.path / "report.html"
    write(path, html.page(f"{run.recipe.model.name} on {told}", sections))
    return path


def confusion(kept: dict[str, Tensor], k: int) -> Tensor:
    """Counts [true, predicted]."""
    pairs = kept["targets"] * k + kept["outputs"].argmax(1)
    return torch.bincount(pairs, minlength=k * k).view(k, k)


def _classes(run: Run, kept: dict[str, Tensor]) -> list[str]:
    names = list(run.schema.classes)
    sections = [
        "<h2>Confusion matrix</h2>",
        html.figure("confusion", _matrix(confusion(kept, len(names)), names), "Confusion matrix"),
    ]
    worst = kept["worst"]
    if not len(worst):
        return [*sections, "<h2>Errors</h2><p>None on this part.</p>"]
    p, guess = kept["outputs"][worst].softmax(1).max(1)
    true = kept["targets"][worst]
    captions = [
        f"{names[t]}, taken for {names[g]} ({100 * q:.0f} %)"
        for t, g, q in zip(true.tolist(), guess.tolist(), p.tolist(), strict=True)
    ]
    sections.append("<h2>Most confidently wrong</h2>")
    if run.schema.is_image:
        return [
            *sections,
            html.pictures((data_uri(x), c) for x, c in zip(kept["worst_x"], captions, strict=True)),
        ]
    if run.schema.is_text:
        learnt = Vocabulary(run.schema.vocabulary)
        texts = [learnt.decode(x) for x in kept["worst_x"].tolist()]
        return [*sections, html.table(("", "text"), zip(captions, texts, strict=True))]
    columns = [f for c in run.schema.columns for f in c.features]
    shown = [
        [c, *(f"{v:g}" for v in x.tolist())]
        for x, c in zip(kept["worst_x"][:10], captions, strict=False)
    ]
    return [*sections, html.table(["", *columns], shown)]


def _matrix(counts: Tensor, names: list[str]) -> dict[str, Any]:
    share = counts / counts.sum(1, keepdim=True).clamp_min(1)
    few = len(names) <= 20
    size = 150 + min(560, max(220, 40 * len(names)))
    short = [shortened(name, 24) for name in names]
    room = max(50, 7 * max(map(len, short)))  # pixels for the longest
    trace = {
        "type": "heatmap",
        "x": names,
        "y": names,
        "z": share.tolist(),
        "customdata": counts.tolist(),
        "zmin": 0,
        "zmax": 1,
        "colorscale": [[0, "#fbf9f5"], [0.02, "#f4e3d3"], [0.3, "#d98e5f"], [1, "#7a3014"]],
        "showscale": False,
        "xgap": 1,
        "ygap": 1,
        "hovertemplate": "true %{y}<br>predicted %{x}<br>%{customdata} examples<extra></extra>",
    }
    if few:
        trace |= {"text": counts.tolist(), "texttemplate": "%{text}"}
    ticks = {"type": "category", "tickvals": names, "ticktext": short}
    layout = {
        "height": size + room - 50,
        "width": size + room - 20,
        "margin": {"l": room + 40, "r": 16, "t": 8, "b": room + 40},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "xaxis": {
            "title": {"text": "predicted", "standoff": 12},
            **ticks,
            "tickangle": -40 if max(map(len, names)) > 3 else 0,
        },
        "yaxis": {"title": {"text": "true", "standoff": 12}, **ticks, "autorange": "reversed"},
    }
    return {"data": [trace], "layout": layout}


def _numbers(run: Run, kept: dict[str, Tensor]) -> list[str]:
    mean, spread = run.schema.scale
    guess, true = (kept["outputs"][:, 0] * spread + mean).tolist(), kept["targets"].tolist()
    ends = [min(true), max(true)]
    dots = {
        "type": "scatter",
        "mode": "markers",
        "x": true,
        "y": guess,
        "marker": {"color": "#a34a28", "size": 6, "opacity": 0.6},
    }
    line = {
        "type": "scatter",
        "mode": "lines",
        "x": ends,
        "y": ends,
        "line": {"color": "#7d7468", "dash": "dot"},
        "showlegend": False,
    }
    layout = {
        "height": 420,
        "width": 480,
        "showlegend": False,
        "margin": {"l": 60, "r": 16, "t": 8, "b": 50},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "xaxis": {"title": {"text": "true"}, "gridcolor": "#e8e4dc"},
        "yaxis": {"title": {"text": "predicted"}, "gridcolor": "#e8e4dc"},
    }
    return [
        "<h2>Predicted against true</h2>",
        html.figure(
            "scatter", {"data": [dots, line], "layout": layout}, "Predicted against true values"
        ),
    ]
