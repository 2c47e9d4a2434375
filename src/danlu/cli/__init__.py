"""The command line: parse, call the public function, print, exit code.

Heavy imports wait until a command needs them.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from danlu import __version__
from danlu.cli import checking, diagnosing, predicting, recipes, show, study, text, training
from danlu.cli.ending import Pressed, run
from danlu.cli.options import WithFields


class _Commands(TyperGroup):
    """Commands whose Ctrl-C and closed pipes are ours to tell of, not the library's."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Pressed from None
        except BrokenPipeError:  # the reader of our output left
            raise typer.Exit(0) from None


app = typer.Typer(
    cls=_Commands,
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
    study.ensemble,
    study.decompose,
    training.resume,
    predicting.evaluate,
    predicting.predict,
    show.runs,
    show.show,
    show.report,
    checking.check,
    diagnosing.diagnose,
    diagnosing.treat,
    diagnosing.suspects,
    checking.gradcheck,
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


def main(own_process: bool = False) -> None:
    """Run the command line: a user's mistake is a sentence and an exit code, never a traceback.

    own_process: whether the process has nothing else to do, so that its signals are ours.
    """
    run(app, own_process)
