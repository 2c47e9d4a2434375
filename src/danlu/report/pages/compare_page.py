"""A comparison in the terminal and as a page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from danlu.errors import some
from danlu.figures import comparison
from danlu.report.pages import html
from danlu.runs.folder import write
from danlu.study import Comparison


def head(c: Comparison) -> tuple[str, ...]:
    """Names of the table's columns."""
    return ("variant", "mean", "95 % interval", "to control", f"{c.level} interval", "p (Holm)", "")


def table_rows(c: Comparison) -> list[tuple[str, ...]]:
    """The comparison's table as text, the control first, then by mean difference, best first."""
    order = sorted(range(len(c.rows)), key=lambda k: (k != c.control, _rank(c, k)))
    out: list[tuple[str, ...]] = []
    for k in order:
        r = c.rows[k]
        name = r.name + (f" ({r.diverged} diverged)" if r.diverged else "")
        mean = (name, c.show(r.mean.mean), c.show_range(r.mean))
        if k == c.control:
            out.append((*mean, "", "", "", "control"))
        else:
            p = "–" if r.verdict.endswith("diverged") else _p(r.corrected)
            out.append(
                (
                    *mean,
                    _signed(c.show_gap(r.difference.mean)),
                    c.show_range(r.difference),
                    p,
                    r.verdict,
                )
            )
    return out


def _rank(c: Comparison, k: int) -> float:
    gap = c.rows[k].difference.mean
    return (-gap if c.higher_is_better else gap) if gap == gap else float("inf")


def _signed(text: str) -> str:
    return text if text.startswith(("-", "–")) else f"+{text}"


def _p(p: float) -> str:
    return "<0.0001" if p < 1e-4 else f"{p:.4f}" if p < 0.1 else f"{p:.2f}"


def print_comparison(c: Comparison) -> None:
    """Table, verdict, method."""
    from danlu.report.terminal.console import say, table

    table(head(c), table_rows(c))
    say("")
    for sentence in c.sentences():
        say(sentence)
    say(f"({c.method()})")


def write_comparison(c: Comparison) -> Path:
    """Write report.html into the study's folder."""
    told: Any = c.study.data_info["source"]["source"]
    info = c.study.info
    ways = "".join(f"<p>{html.text(line)}</p>" for line in _ways(c, info["plans"]))
    fixed = c.study.recipes[0]
    facts = [f"{len(c.study)} trainings", info["environment"]["machine"], c.study.path.name]
    curves = []
    if any((c.study.path / "curves").glob("*.parquet")):
        drawn = html.figure(
            "curves", comparison.bands(c), "Training loss and metric by epoch, mean and interval"
        )
        curves = ["<h2>Curves</h2>", drawn]
    sections = [
        f"<h1>{html.text(len(c.names))} variants on {html.text(told)}</h1>",
        f'<p class="soft">{html.text(" · ".join(facts))}</p>',
        html.verdict(c.sentences()),
        html.table(head(c), table_rows(c)),
        f'<p class="soft">{html.text(c.method())}</p>',
        "<h2>Differences</h2>",
        html.figure(
            "differences", comparison.differences(c), "Paired differences to the control, by seed"
        ),
        *curves,
        "<h2>How it was trained</h2>",
        ways,
        "<h2>Recipe of the first variant</h2>",
        f"<pre>{html.text(fixed.to_toml())}</pre>",
    ]
    path = c.study.path / "report.html"
    write(path, html.page(f"{len(c.names)} variants on {told}", sections))
    return path


def _ways(c: Comparison, plans: Sequence[dict[str, Any]]) -> Iterator[str]:
    """How each group of variants was trained, and why."""
    from danlu.train.dispatch.grouping import grouped
    from danlu.train.dispatch.plan import kept

    groups = grouped(c.study.recipes)
    for told in plans:
        names = [c.names[k] for k in sorted({i % len(c.names) for i in groups[told["group"]]})]
        way = kept(told)
        yield f"{'all variants' if len(names) == len(c.names) else some(names)}: {way.way}, {way.why}."
