"""The command line: parse, call the public function, print, exit code.

Heavy imports wait until a command needs them.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from danlu import __version__
from danlu.cli import predicting, recipes, show, study, text, training
from danlu.cli.options import WithFields
from danlu.errors import DanluError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Train neural networks by evidence.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(cls=WithFields)(training.fit)
for command in (
    study.compare,
    study.tune,
    training.resume,
    predicting.evaluate,
    predicting.predict,
    show.runs,
    show.show,
    show.report,
    text.score,
    text.generate,
    show.data,
    show.summary,
):
    app.command()(command)

recipe_app = typer.Typer(no_args_is_help=True, help="Show, check and compare recipes.")
for command in (
    recipes.show,
    recipes.check,
    recipes.diff,
    recipes.fields,
    recipes.presets,
    recipes.schema,
):
    recipe_app.command()(command)
app.add_typer(recipe_app, name="recipe")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"danlu {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line: a user's mistake is a sentence and an exit code, never a traceback."""
    try:
        app()
    except DanluError as e:
        for mistake in e.mistakes:
            print(f"danlu: {mistake}", file=sys.stderr)
        sys.exit(e.exit_code)
    except KeyboardInterrupt:
        print("danlu: interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output left
        sys.stderr.close()
        sys.exit(0)
