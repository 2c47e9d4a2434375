"""Commands that check before training: the start, gradients."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from danlu.cli.languages import Language, language_of
from danlu.cli.opening import Mistakes, open_run, read_inputs, study_path
from danlu.cli.options import (
    Json,
    Overrides,
    RecipeName,
    Source,
    Trust,
    with_loading_options,
)
from danlu.errors import DanluError, Mistake

if TYPE_CHECKING:
    from danlu.diagnosis.checkup.checking import Checkup
    from danlu.diagnosis.gradients.checking import GradientCheck

Seconds = Annotated[float, typer.Option(help="How long it may take, about.")]
_NOT_SOUND = 1


@with_loading_options
def check(
    source: Source,
    overrides: Overrides = None,
    recipe: RecipeName = None,
    lr: Annotated[bool, typer.Option("--lr", help="Also which learning rates learn.")] = False,
    seconds: Seconds = 5.0,
    lang: Language = None,
    trust: Trust = False,
    json: Json = False,
    *,
    loading: dict[str, Any],
) -> None:
    """Check before training what careful people check by hand, in about five seconds.

    Exit code 1 where something is wrong.
    """
    from danlu.diagnosis.checkup.checking import check as run_checks
    from danlu.report.terminal.json_output import print_json

    language = language_of(lang)
    mistakes = Mistakes()
    data, chosen = read_inputs(source, loading, recipe, overrides, mistakes, trust)
    mistakes.refuse()
    found = run_checks(chosen, data, lr=lr, seconds=seconds)
    if json:
        print_json(found.to_json(language))
    else:
        _print_checks(found, language)
    if not found.is_sound:
        raise typer.Exit(_NOT_SOUND)


_WORDS = {
    "en": {"ok": "ok", "look": "look", "wrong": "wrong", "skipped": "–", "try": "try"},
    "zh": {"ok": "正常", "look": "留意", "wrong": "有误", "skipped": "–", "try": "可试"},
}
_SOUND = {
    True: {"en": "nothing is wrong", "zh": "没有发现错误"},
    False: {"en": "something is wrong", "zh": "发现错误"},
}
_TO_LOOK_AT = {"en": ", {n} worth a look", "zh": "，{n} 项值得留意"}
_CURVE = {
    "en": "       rate  loss after some steps, by that at the start (or of chance, if lower)",
    "zh": "     学习率  若干步后的损失，与开始时（或随机猜测，取较低者）之比",
}


def _print_checks(found: Checkup, language: str) -> None:
    from danlu.report.terminal.console import say

    words = _WORDS[language]
    for checked in found.checks:
        say(f"{words[checked.state]:5}  {checked.title(language)}: {checked.why(language)}")
        for prescription in checked.prescriptions:
            edits = " ".join(map(str, prescription.edits))
            cure = "  ".join(filter(None, (edits, prescription.why(language))))
            say(f"       {words['try']}: {cure}")
    range_test = [c for c in found.checks if c.name == "learning_rate" and "rates" in c.figures]
    for checked in range_test:
        _print_curve(checked.figures["rates"], checked.figures["losses"], language)
    to_look_at = len([c for c in found.checks if c.state == "look"])
    more = _TO_LOOK_AT[language].format(n=to_look_at) if to_look_at else ""
    say(f"\n{_SOUND[found.is_sound][language]}{more} ({found.seconds:.1f} s)")


def _print_curve(rates: list[float], losses: list[float], language: str) -> None:
    """Print the loss by rate, a bar each."""
    from danlu.report.terminal.lines import tell

    tell(f"\n{_CURVE[language]}")
    for rate, loss in zip(rates, losses, strict=True):
        bar = "█" * round(40 * min(loss, 1.5) / 1.5)
        shown = f"{loss:.3f}" if loss < 1000 else "diverged"
        tell(f"{rate:11.1e}  {shown:>8}  {bar}")


@with_loading_options
def gradcheck(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE|RUN", help="Data, or a run: then also at its end.")
    ],
    overrides: Overrides = None,
    recipe: RecipeName = None,
    seconds: Seconds = 15.0,
    trust: Trust = False,
    json: Json = False,
    *,
    loading: dict[str, Any],
) -> None:
    """Hold the gradients that danlu trains by against finite differences, in float64.

    Of a run both at the start and after training. Exit code 1 where one is wrong.
    """
    from danlu.report.terminal.json_output import print_json

    if _is_run(source):
        if overrides or recipe:
            raise DanluError(Mistake("a run has its own recipe; leave out fields and --recipe"))
        found = _of_run(source, seconds, trust)
    else:
        found = _of_source(source, loading, overrides, recipe, seconds, trust)
    if json:
        print_json({when: checked.to_json() for when, checked in found.items()})
    else:
        for when, checked in found.items():
            _print_gradients(when, checked)
    if not all(checked.is_right for checked in found.values()):
        raise typer.Exit(_NOT_SOUND)


def _is_run(name: str) -> bool:
    """Whether a name is that of a run, or of a member of a study."""
    from danlu.runs.folder import runs_root

    places = (Path(name), runs_root() / name)
    member = name.rpartition(":")[0]
    is_run = name == "last" or any((place / "run.json").exists() for place in places)
    return is_run or bool(member and study_path(member))


def _of_run(name: str, seconds: float, trust: bool) -> dict[str, GradientCheck]:
    from danlu.diagnosis.gradients.recipe_problem import gradcheck_recipe, gradcheck_run

    run = open_run(name, trust)
    data = run.load_data()
    return {
        "start": gradcheck_recipe(run.recipe, data, seconds),
        "end": gradcheck_run(run, data, seconds),
    }


def _of_source(
    source: str,
    loading: dict[str, Any],
    overrides: list[str] | None,
    recipe: str | None,
    seconds: float,
    trust: bool,
) -> dict[str, GradientCheck]:
    from danlu.diagnosis.gradients.recipe_problem import gradcheck_recipe

    mistakes = Mistakes()
    data, chosen = read_inputs(source, loading, recipe, overrides, mistakes, trust)
    mistakes.refuse()
    return {"start": gradcheck_recipe(chosen, data, seconds)}


def _print_gradients(when: str, checked: GradientCheck) -> None:
    from danlu.report.terminal.console import say, table

    titles = {"start": "before training", "end": "after training"}
    rows = []
    for tensor in checked.tensors:
        rows.append(
            [
                tensor.name,
                f"{tensor.error:.1e}",
                f"{tensor.one_sided:.1e}",
                f"{tensor.checked:,} of {tensor.entries:,}",
                "wrong" if tensor.is_wrong else "" if tensor.is_right else "not checked",
            ]
        )
    table([titles[when], "two-sided", "one-sided", "slopes checked", ""], rows)
    for sentence in checked.sentences():
        say(sentence)
    say("")
