"""What is in a data set, as a page with samples."""

from __future__ import annotations

from pathlib import Path

from danlu.data import PARTS, Data
from danlu.data.tags import entities_of
from danlu.data.vocabulary import PAD, Vocabulary
from danlu.files import write
from danlu.report.pages import html
from danlu.report.pages.text_page import marked
from danlu.report.pictures import data_uri
from danlu.report.tables import data as tables
from danlu.report.tables.data import Description, describe, samples

_EXAMPLES = 8
_LONG_EXAMPLES = 3  # of running text


def write_page(data: Data, path: Path) -> Path:
    """Write the description of a data set as a page."""
    description = describe(data)
    source = str(description["source"])
    shape = "×".join(map(str, description["input_shape"]))
    n = description["examples"]
    summary = f"{n:,} examples of {shape} {description['dtype']}"
    sections = [
        f"<h1>{html.text(source)}</h1>",
        html.soft(f"{summary} · {description['task']}"),
        _parts(description),
        _paragraph(tables.duplicates_sentence(description)),
    ]
    if "target" in description:
        sections.append(_paragraph(tables.target_sentence(description)))
    if "classes" in description:
        sections.append(html.heading("Classes"))
        sections.append(html.table(("class", *PARTS), tables.class_rows(description)))
    if "columns" in description:
        head = ("column", *tables.COLUMN_FIGURES)
        sections.append(html.heading("Columns (training part)"))
        sections.append(html.table(head, tables.column_rows(description)))
    if "roles" in description:
        sections.append(html.heading("Roles"))
        sections.append(html.table(tables.ROLE_HEAD, tables.role_rows(description["roles"])))
    if "rank" in description:
        sections.append(_paragraph(tables.rank_sentence(description)))
    for sentence in [*description["notices"], *tables.gaps_sentences(description)]:
        sections.append(_paragraph(sentence))
    if "text" in description:
        of_vocabulary, *_ = tables.text_sentences(description)
        sections.append(html.heading("Text"))
        sections.append(_paragraph(of_vocabulary))
        sections += _text_samples(data)
    if data.schema.is_image:
        pictures = [(data_uri(x), name) for x, name in samples(data)]
        sections.append(html.heading("Samples"))
        sections.append(html.pictures(pictures))
    write(path, html.page(source, sections, figures=False))
    return path


def _paragraph(sentence: str) -> str:
    return f"<p>{html.text(sentence)}</p>"


def _parts(description: Description) -> str:
    """Return the examples of each part, and the tokens of text."""
    head = ["part", "examples"]
    tokens = description.get("text", {}).get("tokens")
    if tokens:
        head.append("tokens")
    rows = []
    for part, n in description["parts"].items():
        row = [part, f"{n:,}"]
        if tokens:
            row.append(f"{tokens[part]:,}")
        rows.append(row)
    return html.table(head, rows)


def _text_samples(data: Data) -> list[str]:
    """Return a few training examples: with their entities, their class, their other side."""
    schema = data.schema
    vocabulary = Vocabulary(schema.vocabulary)
    index = data.parts["train"][:_EXAMPLES].tolist()
    if schema.task == "tagging" and schema.scheme:
        paragraphs = []
        for i in index:
            sentence = _tagged(data, i, vocabulary.tokens)
            paragraphs.append(f'<p class="sentence">{sentence}</p>')
        return paragraphs
    rows = [data.x[i].tolist() for i in index]
    if schema.task == "pairs":
        pairs = []
        for row in rows:
            source = vocabulary.decode(row[: schema.source])
            target = vocabulary.decode(row[schema.source :])
            pairs.append((source, target))
        return [html.table(("source", "target"), pairs)]
    texts = [vocabulary.decode(row) for row in rows]
    if schema.task == "classification":
        classes = [schema.classes[int(data.y[i])] for i in index]
        labelled = zip(texts, classes, strict=True)
        return [html.table(("text", "class"), labelled)]
    # Running text: a window is long, so fewer are shown.
    return [html.listing(text) for text in texts[:_LONG_EXAMPLES]]


def _tagged(data: Data, i: int, vocabulary: list[str]) -> str:
    """Return a sentence with its entities marked."""
    schema = data.schema
    x = data.x[i]
    y = data.y[i]
    numbers = x[x != PAD].tolist()
    tags = y[y >= 0].tolist()
    tokens = [vocabulary[number] for number in numbers]
    entities = entities_of(tags, schema)
    gap = " " if schema.spaced else ""
    return marked(tokens, entities, gap)
