"""Pages that stand alone: one file, no network, figures by Plotly."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from danlu import __version__

_STYLE = """
:root { --ink: #2b2622; --soft: #7d7468; --line: #e4ded4; --paper: #fbf9f5; --accent: #a34a28; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 2.5rem 1.5rem 4rem; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", "Noto Sans", "PingFang SC", "Noto Sans CJK SC",
  "Microsoft YaHei", sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 .2rem; } h2 { font-size: 1.1rem; margin: 2.4rem 0 .6rem; }
p { margin: .4rem 0; } .soft { color: var(--soft); }
.verdict { border-left: 3px solid var(--accent); padding: .2rem 0 .2rem 1rem; margin: 1.2rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .25rem .9rem .25rem 0; border-bottom: 1px solid var(--line); }
th { font-weight: 500; color: var(--soft); } th:first-child, td:first-child { text-align: left; }
code { background: #f2ede4; padding: 0 .25rem; border-radius: 3px; font-size: .9em; }
.wide { overflow-x: auto; } .figure { width: 100%; }
.pictures { display: flex; flex-wrap: wrap; gap: .9rem; }
.pictures figure { margin: 0; width: 6.2rem; font-size: .8rem; line-height: 1.3; }
.pictures img { width: 100%; image-rendering: pixelated; border: 1px solid var(--line); display: block; margin-bottom: .25rem; }
pre { background: #f2ede4; padding: 1rem; overflow-x: auto; font-size: .85rem; line-height: 1.45; border-radius: 4px; }
.sentence { margin: .9rem 0 0; line-height: 1.9; } .sentence.soft { margin: 0 0 .9rem 1.5rem; }
mark { background: #f4e3d3; color: inherit; padding: .1rem .3rem; border-radius: 3px; }
mark small { color: var(--accent); font-size: .7em; letter-spacing: .04em; }
footer { margin-top: 3rem; color: var(--soft); font-size: .85rem; }
"""


def page(title: str, sections: Iterable[str], figures: bool = True) -> str:
    """A whole page from its sections."""
    script = ""
    if figures:
        from plotly.offline import get_plotlyjs

        script = f"<script>{get_plotlyjs()}</script>"
    body = "\n".join(sections)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{text(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style>{script}</head>\n'
        f"<body>\n{body}\n<footer>danlu {__version__}</footer>\n</body></html>\n"
    )


def text(value: Any) -> str:
    """Escaped for HTML."""
    return html.escape(str(value))


def verdict(sentences: Iterable[str]) -> str:
    """What is said of the whole; what stands between backticks is code."""
    said = re.sub("`([^`]+)`", r"<code>\1</code>", "".join(f"<p>{text(s)}</p>" for s in sentences))
    return f'<div class="verdict">{said}</div>'


def figure(name: str, what: dict[str, Any], label: str) -> str:
    """A Plotly dictionary as an interactive figure; `label` is read to those who do not see it."""
    said = json.dumps(what, ensure_ascii=False).replace(
        "<", "\\u003c"
    )  # no tag of a stranger's ends the script
    return (
        f'<div class="figure" id="{name}" role="img" aria-label="{text(label)}"></div>'
        f"<script>{{const f = {said};"
        f"Plotly.newPlot('{name}', f.data, f.layout, {{responsive: true, displayModeBar: false}})}}</script>"
    )


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table; the first column holds names."""
    top = "".join(f"<th>{text(h)}</th>" for h in head)
    body = "".join("<tr>" + "".join(f"<td>{text(c)}</td>" for c in row) + "</tr>" for row in rows)
    return (
        f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def pictures(uris: Iterable[tuple[str, str]]) -> str:
    """Pictures (data: addresses) with captions."""
    items = "".join(
        f'<figure><img src="{uri}" alt="{text(c)}"><figcaption>{text(c)}</figcaption></figure>'
        for uri, c in uris
    )
    return f'<div class="pictures">{items}</div>'
