"""Pages that stand alone: one file, no network, figures by Plotly."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from danlu import __version__
from danlu.figures.style import plain

_STYLE = """
:root {
  --ink: #2b2622; --soft: #7d7468; --line: #e4ded4; --paper: #fbf9f5; --accent: #a34a28;
  --code: #f2ede4;
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; max-width: 62rem; padding: 2.5rem 1.5rem 4rem;
  background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", "Noto Sans", "PingFang SC",
    "Noto Sans CJK SC", "Microsoft YaHei", sans-serif;
}
h1 { font-size: 1.6rem; margin: 0 0 .2rem; }
h2 { font-size: 1.1rem; margin: 2.4rem 0 .6rem; }
p { margin: .4rem 0; }
.soft { color: var(--soft); }
.verdict { border-left: 3px solid var(--accent); padding: .2rem 0 .2rem 1rem; margin: 1.2rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .25rem .9rem .25rem 0; border-bottom: 1px solid var(--line); }
th { font-weight: 500; color: var(--soft); }
th:first-child, td:first-child, th.words, td.words { text-align: left; }
td { vertical-align: top; }
.wide + .wide { margin-top: 1.4rem; }
code { background: var(--code); padding: 0 .25rem; border-radius: 3px; font-size: .9em; }
.wide { overflow-x: auto; }
.figure { width: 100%; }
.pictures { display: flex; flex-wrap: wrap; gap: .9rem; }
.pictures figure { margin: 0; width: 6.2rem; font-size: .8rem; line-height: 1.3; }
.pictures img {
  width: 100%; image-rendering: pixelated; border: 1px solid var(--line); display: block;
  margin-bottom: .25rem;
}
pre {
  background: var(--code); padding: 1rem; overflow-x: auto; font-size: .85rem; line-height: 1.45;
  border-radius: 4px;
}
.sentence { margin: .9rem 0 0; line-height: 1.9; }
.sentence.soft { margin: 0 0 .9rem 1.5rem; }
mark { background: #f4e3d3; color: inherit; padding: .1rem .3rem; border-radius: 3px; }
mark small { color: var(--accent); font-size: .7em; letter-spacing: .04em; }
footer { margin-top: 3rem; color: var(--soft); font-size: .85rem; }
"""


def page(title: str, sections: Iterable[str], figures: bool = True) -> str:
    """Return a whole page from its sections."""
    script = ""
    if figures:
        # Within the page: it opens without a network, and in years.
        from plotly.offline import get_plotlyjs

        script = f"<script>{get_plotlyjs()}</script>"
    body = "\n".join(sections)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{text(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style>{script}</head>\n"
        f"<body>\n{body}\n<footer>danlu {__version__}</footer>\n</body></html>\n"
    )


def text(value: Any) -> str:
    """Return a value escaped for HTML."""
    return html.escape(str(value))


def heading(title: str) -> str:
    """Return the heading of a section."""
    return f"<h2>{text(title)}</h2>"


def soft(sentence: str) -> str:
    """Return a paragraph in a softer colour."""
    return f'<p class="soft">{text(sentence)}</p>'


def listing(content: str) -> str:
    """Return a block of text as it is written, such as a recipe."""
    return f"<pre>{text(content)}</pre>"


def verdict(sentences: Iterable[str]) -> str:
    """Return the verdict on the whole; what stands between backticks is code."""
    paragraphs = "".join(f"<p>{text(sentence)}</p>" for sentence in sentences)
    return f'<div class="verdict">{with_code(paragraphs)}</div>'


def with_code(escaped: str) -> str:
    """Return escaped text with what stands between backticks as code."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", escaped)


def figure(name: str, plotly: dict[str, Any], label: str) -> str:
    """Return a Plotly dictionary as an interactive figure.

    label: what is read out to those who do not see it.
    """
    # No tag of a stranger's may end the script.
    data = json.dumps(plain(plotly), ensure_ascii=False).replace("<", "\\u003c")
    options = "{responsive: true, displayModeBar: false}"
    return (
        f'<div class="figure" id="{name}" role="img" aria-label="{text(label)}"></div>'
        f"<script>{{const f = {data};"
        f"Plotly.newPlot('{name}', f.data, f.layout, {options})}}</script>"
    )


def table(head: Sequence[str], rows: Iterable[Sequence[Any]], words: Sequence[int] = ()) -> str:
    """Return a table; the first column holds names, and those numbered in `words` hold texts."""
    top = _cells("th", head, words)
    body = [f"<tr>{_cells('td', row, words)}</tr>" for row in rows]
    return (
        f'<div class="wide"><table><thead><tr>{top}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _cells(tag: str, row: Sequence[Any], words: Sequence[int]) -> str:
    cells = []
    for k, cell in enumerate(row):
        kind = ' class="words"' if k in words else ""
        cells.append(f"<{tag}{kind}>{text(cell)}</{tag}>")
    return "".join(cells)


def pictures(uris: Iterable[tuple[str, str]]) -> str:
    """Return pictures (data: addresses) with captions."""
    items = []
    for uri, caption in uris:
        shown = text(caption)
        items.append(
            f'<figure><img src="{uri}" alt="{shown}"><figcaption>{shown}</figcaption></figure>'
        )
    return f'<div class="pictures">{"".join(items)}</div>'
