"""Commands for language models."""

from __future__ import annotations

import dataclasses
import sys
from typing import Annotated

import typer

from danlu.cli.opening import open_run
from danlu.cli.options import Json, RunPath, Trust
from danlu.errors import count, printable
from danlu.report.terminal.json_output import print_json
from danlu.report.terminal.lines import note


def score(
    run: RunPath,
    texts: Annotated[list[str], typer.Argument(metavar="TEXT…", help="Sentences to weigh.")],
    trust: Trust = False,
    json: Json = False,
) -> None:
    """How likely sentences are by a language model; the likeliest first."""
    from danlu.predict import text
    from danlu.report.terminal.console import table

    scores = text.score(open_run(run, trust), texts)
    found = sorted(scores, key=lambda sentence: -sentence.nats)
    if json:
        for s in found:
            print_json({**dataclasses.asdict(s), "perplexity": s.perplexity})
        return
    head = ["text", "log P (nats)", "tokens", "perplexity"]
    rows = [[s.text, f"{s.nats:.2f}", s.tokens, f"{s.perplexity:.3g}"] for s in found]
    if any(s.unknown for s in found):
        head.append("unknown tokens")
        for row, s in zip(rows, found, strict=True):
            row.append(s.unknown)
    table(head, rows)


def generate(
    run: RunPath,
    prompt: Annotated[str, typer.Option(help="What the text begins with.")] = "",
    temperature: Annotated[
        float,
        typer.Option(help="Below 1 likelier, above 1 wilder; 0 always takes the likeliest token."),
    ] = 0.8,
    top_k: Annotated[
        int, typer.Option(help="Draw among the k likeliest tokens only; 0: among all.")
    ] = 0,
    length: Annotated[int, typer.Option(help="Tokens at most.")] = 500,
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 0,
    trust: Trust = False,
) -> None:
    """Write on from a prompt, token by token, until the end of a text."""
    from danlu.predict import generate as generating
    from danlu.predict import text

    found = open_run(run, trust)
    pieces = generating.generate(found, prompt, temperature, top_k, length, seed)
    if unknown := text.unknown_tokens(found, prompt):
        were = "was" if unknown == 1 else "were"
        note(f"{count(unknown, 'token')} of the prompt {were} not in the training text")
    # The prompt belongs to the text.
    sys.stdout.write(printable(text.without_trailing_space(found, prompt)))
    for piece in pieces:
        sys.stdout.write(printable(piece))
        # Word by word: a long text takes its time.
        sys.stdout.flush()
    sys.stdout.write("\n")
