"""Commands for what a trained network does with text."""

from __future__ import annotations

import dataclasses
import json as jsonlib
import sys
from typing import Annotated

import typer

from danlu.cli.options import Json, RunPath, Trust, open_run
from danlu.errors import count


def score(
    run: RunPath,
    texts: Annotated[list[str], typer.Argument(metavar="TEXT…", help="Sentences to weigh.")],
    trust: Trust = False,
    json: Json = False,
) -> None:
    """How likely sentences are by a language model; the likeliest first."""
    from danlu.predict import text
    from danlu.report.terminal.console import table

    found = sorted(text.score(open_run(run, trust), texts), key=lambda w: -w.nats)
    if json:
        for w in found:
            print(
                jsonlib.dumps(
                    {**dataclasses.asdict(w), "perplexity": w.perplexity}, ensure_ascii=False
                )
            )
        return
    head = ("text", "log P (nats)", "tokens", "perplexity", "unknown tokens")[
        : 5 if any(w.unknown for w in found) else 4
    ]
    rows = [(w.text, f"{w.nats:.2f}", w.tokens, f"{w.perplexity:.3g}", w.unknown) for w in found]
    table(head, [row[: len(head)] for row in rows])


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
    from danlu.predict import text

    found = open_run(run, trust)
    pieces = text.generate(found, prompt, temperature, top_k, length, seed)
    if n := text.unknown(found, prompt):
        print(
            f"{count(n, 'token')} of the prompt {'was' if n == 1 else 'were'} not in the training text",
            file=sys.stderr,
        )
    sys.stdout.write(text.without_idle_space(found, prompt))
    for piece in pieces:
        sys.stdout.write(piece)
        sys.stdout.flush()
    sys.stdout.write("\n")
