"""Commands that say what is wrong with a training, and what helps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from danlu.cli.languages import Language, language_of
from danlu.cli.opening import for_json, open_run, study_path
from danlu.cli.options import Device, Json, RunPath, Trust, flags_of
from danlu.cli.streams import outlast_readers
from danlu.errors import short_path

if TYPE_CHECKING:
    from danlu.diagnosis import Diagnosis, Finding
    from danlu.runs import Run


def diagnose(
    run: RunPath,
    target_error: Annotated[
        float | None,
        typer.Option(
            help="The error that can be reached, such as a person's: a share of mistakes "
            "(of numbers, 1 − R²)."
        ),
    ] = None,
    lang: Language = None,
    trust: Trust = False,
    json: Json = False,
) -> None:
    """Say what is wrong with a training, which figures show it, and what to try."""
    from danlu.diagnosis import diagnose as find
    from danlu.report.terminal.console import say
    from danlu.report.terminal.json_output import print_json

    language = language_of(lang)
    found_run = open_run(run, trust)
    found = find(found_run, target_error=target_error)
    if json:
        print_json(found.to_json(language))
        return
    say(f"{short_path(found_run.path)}: {found_run.status}")
    for sentence in found.unseen_sentences(language):
        say(sentence)
    for finding in found.findings:
        say("")
        for line in _lines(finding, language):
            say(line)
    if details := found.details(language):
        say("\n" + "\n".join(details))
    if step := _next_step(found, found_run):
        say(f"\n{_WORDS[language]['next']}: {step}")


def suspects(
    run: RunPath,
    folds: Annotated[
        int | None, typer.Option(help="Networks to train, each without its fold (5).")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The cross-validation's folder.")] = None,
    device: Device = "auto",
    trust: Trust = False,
    json: Json = False,
) -> None:
    """List examples whose label is likely wrong, by networks that were not trained on them."""
    from danlu import study
    from danlu.cli.results import finish_suspects
    from danlu.report.terminal.study_progress import study_progress
    from danlu.runs import Study

    outlast_readers()
    folder = study_path(run)
    trained = open_run(run, trust) if folder is None else Study(folder, trust)
    found = study.suspects(
        trained, folds=folds, out=out, device=device, listener=for_json(study_progress, json)
    )
    finish_suspects(found, json)


def treat(
    run: RunPath,
    seeds: Annotated[
        int, typer.Option(help="Seeds on which the best of each round is confirmed.")
    ] = 5,
    budget: Annotated[str, typer.Option(help="How long it may take: 10m, 90s, 1h30m.")] = "10m",
    rounds: Annotated[int, typer.Option(help="Rounds at most, each from the last winner.")] = 3,
    metric: Annotated[
        str | None, typer.Option(help="valid_accuracy, valid_f1 (of entities), valid_loss, …")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The treatment's folder.")] = None,
    device: Device = "auto",
    lang: Language = None,
    trust: Trust = False,
    json: Json = False,
) -> None:
    """Try what the diagnosis prescribes, beside the recipe as it was; report what helps."""
    from danlu import study
    from danlu.cli.results import finish_treatment
    from danlu.report.terminal.study_progress import study_progress

    outlast_readers()
    language = language_of(lang)
    treatment = study.treat(
        open_run(run, trust),
        seeds=seeds,
        budget=budget,
        rounds=rounds,
        metric=metric,
        out=out,
        device=device,
        listener=for_json(study_progress, json),
    )
    finish_treatment(treatment, json, language)


_WORDS = {
    "en": {"try": "try", "also": "see also", "next": "next"},
    "zh": {"try": "可试", "also": "参见", "next": "下一步"},
}


def _lines(finding: Finding, language: str) -> list[str]:
    """Return a finding in lines."""
    words = _WORDS[language]
    name = finding.title(language)
    if finding.severity:
        name += f" ({finding.cause})  {finding.severity:.0%}"
    lines = [name, f"  {finding.why(language)}"]
    if finding.also:
        lines.append(f"  {words['also']}: {', '.join(finding.also)}")
    for prescription in finding.prescriptions:
        changes = " ".join(map(str, prescription.edits))
        told = filter(None, (changes, prescription.why(language)))
        lines.append(f"  {words['try']}: {'  '.join(told)}")
    return lines


def _next_step(found: Diagnosis, run: Run) -> str | None:
    """Return a command that tries the root's first prescription against the recipe as it is."""
    if not run.is_reloadable:
        return None
    source, recipe = flags_of(run.data_info["source"]), short_path(run.path)
    for prescription in found.findings[0].prescriptions:
        edits = [edit for edit in prescription.edits if not edit.is_of_data]
        if len(edits) == 1:
            before = run.recipe.value_of(edits[0].path)
            return f"danlu compare {source} -r {recipe} {edits[0].path}={before},{edits[0].shown}"
        if edits:
            changes = " ".join(map(str, edits))
            return f"danlu fit {source} -r {recipe} {changes}"
    return None
