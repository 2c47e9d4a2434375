"""Commands for what a trained network does with text."""

from __future__ import annotations

import json as jsonlib
import sys
from typing import Annotated

import typer

from danlu.cli.options import Json, RunPath, Trust, open_run


def score(
    run: RunPath,
    texts: Annotated[list[str], typer.Argument(metavar="TEXT…", help="Sentences to weigh.")],
    trust: Trust = False,
    json: Json = False,
) -> None:
    """How likely sentences are by a language model; the likeliest first."""
    from danlu.report.terminal import table
    from danlu.runs import reading

    found = sorted(reading.score(open_run(run, trust), texts), key=lambda w: -w.nats)
    if json:
        for w in found:
            print(
                jsonlib.dumps(
                    {"text": w.text, "nats": w.nats, "tokens": w.tokens, "perplexity": w.perplexity}, ensure_ascii=False
                )
            )
        return
    table(
        ("text", "log P (nats)", "tokens", "perplexity"),
        [(w.text, f"{w.nats:.2f}", w.tokens, f"{w.perplexity:.3g}") for w in found],
    )


def generate(
    run: RunPath,
    prompt: Annotated[str, typer.Option(help="What the text begins with.")] = "",
    temperature: Annotated[
        float, typer.Option(help="Below 1 likelier, above 1 wilder; 0 always takes the likeliest token.")
    ] = 0.8,
    top_k: Annotated[int, typer.Option(help="Draw among the k likeliest tokens only; 0: among all.")] = 0,
    length: Annotated[int, typer.Option(help="Tokens at most.")] = 500,
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 0,
    trust: Trust = False,
) -> None:
    """Write on from a prompt, token by token, until the end of a text."""
    from danlu.runs import reading

    pieces = reading.generate(open_run(run, trust), prompt, temperature, top_k, length, seed)
    sys.stdout.write(prompt)
    for piece in pieces:
        sys.stdout.write(piece)
        sys.stdout.flush()
    sys.stdout.write("\n")
