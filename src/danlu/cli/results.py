"""What commands print of runs and studies that are there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from danlu.errors import count, short_path
from danlu.report.terminal.json_output import print_json

if TYPE_CHECKING:
    from danlu.data import Data
    from danlu.runs import Run, Study
    from danlu.study import BiasVariance, Comparison, Ensemble
    from danlu.study.folds import Folds
    from danlu.study.kinds import Shown
    from danlu.study.label_suspects import Suspects
    from danlu.study.treating.treatment import Treatment
    from danlu.study.tuning import Tuning

_SUSPECTS_SHOWN = 20  # in the terminal


def finish_run(run: Run, json: bool, data: Data | None = None) -> None:
    """Write the report of a run that has just ended; print its table, the verdict, the path.

    data: those it was trained on, where they are at hand.
    """
    from danlu.cli.languages import language_of
    from danlu.diagnosis import diagnose, verdict
    from danlu.report.pages.run_page import write_report
    from danlu.report.terminal.console import say

    # The page comes first: whatever reads our output may leave.
    found = diagnose(run, data)
    language = language_of(None)
    report = write_report(run, found, language)
    sentences = verdict(run, found)
    if json:
        facts = {"run": str(run.path), "result": run.result}
        causes = [finding.cause for finding in found.findings]
        print_json({**facts, "verdict": sentences, "causes": causes, "report": str(report)})
        return
    print_results(run)
    for sentence in sentences:
        say(sentence)
    for line in found.lines(language):
        say(line)
    say(f"\nreport: {short_path(report)}")


def print_results(run: Run) -> None:
    """Print loss and accuracy of each part, and what they cost."""
    from danlu.report.tables.results import result_head, result_rows
    from danlu.report.terminal.console import get_console, table

    console, result = get_console(), run.result
    console.print()
    table(result_head(run), result_rows(run))
    console.print(
        f"\n[dim]{result['parameters']:,} parameters, {count(result['epochs'], 'epoch')}, "
        f"{result['seconds']:.1f} s[/dim]"
    )


def finish_tuning(tuning: Tuning, json: bool) -> None:
    """Write the report of a search; print the best, the verdict, the paths."""
    from danlu.report.pages.tune_page import write_tuning
    from danlu.report.terminal.console import say
    from danlu.report.terminal.studies import print_tuning

    path = write_tuning(tuning)
    if json:
        print_json(tuning.to_json())
        return
    print_tuning(tuning)
    best = tuning.study.path / "best.toml"
    say("")
    if best.is_file():
        say(f"the winner's recipe: {short_path(best)}")
    say(f"report: {short_path(path)}")


def finish_folds(found: Folds, json: bool) -> None:
    """Write the report of a cross-validation; print a row for each fold, the verdict, the path."""
    from danlu.report.pages.folds_page import write_folds
    from danlu.report.tables import folds
    from danlu.report.terminal.console import say, table

    path = write_folds(found)
    if json:
        print_json(found.to_json())
        return
    table(folds.head(found), folds.rows(found))
    say("")
    for sentence in found.sentences():
        say(sentence)
    say(f"\nreport: {short_path(path)}")


def finish_suspects(found: Suspects, json: bool) -> None:
    """Write the page of suspected labels; print the likeliest, the verdict, the paths."""
    from danlu.report.pages.suspects_page import write_suspects
    from danlu.report.tables import suspects
    from danlu.report.terminal.console import say, table
    from danlu.study.label_suspects import NAME

    page = write_suspects(found)
    if json:
        print_json(found.to_json())
        return
    if rows := suspects.rows(found, _SUSPECTS_SHOWN):
        table(suspects.HEAD, rows)
        say("")
    for sentence in found.sentences():
        say(sentence)
    say(f"\nall of them: {short_path(found.path / NAME)}")
    say(f"report: {short_path(page)}")


def finish_comparison(comparison: Comparison, json: bool) -> None:
    """Write the report of a comparison; print the table, the verdict, the path."""
    from danlu.report.pages.compare_page import write_comparison
    from danlu.report.terminal.console import say
    from danlu.report.terminal.studies import print_comparison

    path = write_comparison(comparison)
    if json:
        print_json(comparison.to_json())
        return
    print_comparison(comparison)
    say(f"\nreport: {short_path(path)}")


def finish_treatment(treatment: Treatment, json: bool, language: str | None = None) -> None:
    """Write the report of a treatment; print what was tried, the story, the paths."""
    from danlu.cli.languages import language_of
    from danlu.diagnosis.catalogue import of_treatment
    from danlu.report.pages.treat_page import write_treatment
    from danlu.report.terminal.console import say
    from danlu.report.terminal.studies import print_treatment

    chosen = language_of(language)
    path = write_treatment(treatment, chosen)
    if json:
        print_json(treatment.to_json(chosen))
        return
    print_treatment(treatment, chosen)
    say("")
    if treatment.helped:
        best = short_path(treatment.study.path / "best.toml")
        say(of_treatment("best_path", {"path": best}, chosen))
    say(of_treatment("report", {"path": short_path(path)}, chosen))


def finish_ensemble(found: Ensemble, json: bool) -> None:
    """Write the report of an ensemble; print its networks, the verdict, the path."""
    from danlu.report.pages.ensemble_page import write_ensemble
    from danlu.report.tables import ensembles
    from danlu.report.terminal.console import say, table
    from danlu.study.ensembling import KIND

    # The page of a study that has one beside is the study's own.
    path = write_ensemble(found) if found.study.info["kind"] == KIND else None
    if json:
        print_json(found.to_json())
        return
    table(ensembles.head(found), ensembles.rows(found))
    say("")
    for sentence in found.sentences():
        say(sentence)
    say(f"({found.method()})")
    say(f"\npredicts and evaluates by its folder: {short_path(found.path)}")
    if path is not None:
        say(f"report: {short_path(path)}")


def finish_decomposition(found: BiasVariance, json: bool) -> None:
    """Write the report of a decomposition; print its tables, the verdict, the path."""
    from danlu.report.pages.decompose_page import write_decomposition
    from danlu.report.tables import decompositions
    from danlu.report.terminal.console import say, table

    path = write_decomposition(found)
    if json:
        print_json(found.to_json())
        return
    for kind in found.kinds:
        table(decompositions.head(found, kind), decompositions.rows(found, kind))
        say("")
    for sentence in found.sentences():
        say(sentence)
    say(f"({found.method()})")
    say(f"\nreport: {short_path(path)}")


def finish_study(found: Study | Shown, json: bool) -> None:
    """Write the report of a study that is over, and print what it shows."""
    from danlu.report.terminal.console import say
    from danlu.runs import Study
    from danlu.study import BiasVariance, Comparison, Ensemble
    from danlu.study.folds import Folds
    from danlu.study.treating.treatment import Treatment

    if isinstance(found, Comparison):
        finish_comparison(found, json)
    elif isinstance(found, Folds):
        finish_folds(found, json)
    elif isinstance(found, BiasVariance):
        finish_decomposition(found, json)
    elif isinstance(found, Ensemble):
        finish_ensemble(found, json)
    elif isinstance(found, Treatment):
        finish_treatment(found, json)
    elif not isinstance(found, Study):
        finish_tuning(found, json)
    elif json:
        facts = {"study": str(found.path), "status": found.status}
        print_json({**facts, "members": len(found)})
    else:
        say(f"{short_path(found.path)}: {len(found)} trained")


def show_study(study: Study, json: bool) -> None:
    """Print what a study shows, as far as it has got."""
    from danlu.report.terminal.console import say
    from danlu.study.kinds import open_finished

    path, members = study.path, study.members
    is_finished = study.status == "finished"
    found = open_finished(study) if is_finished else None
    if found is not None:
        finish_study(found, json)
    elif json:
        lines = [member.to_json() for member in members.values()]
        print_json({"study": str(path), **study.info, "status": study.status, "members": lines})
    else:
        going_on = "" if is_finished else f"; {study.way_on}"
        say(f"{short_path(path)}: {study.status}, {len(members)} of {len(study)} trained{going_on}")
