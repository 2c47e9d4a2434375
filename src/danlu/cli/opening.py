"""From arguments to data, recipes, runs and studies."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from danlu.errors import DanluError, DataNotice, RunNotice, short_path
from danlu.report.terminal.lines import note

if TYPE_CHECKING:
    from danlu.data import Data, Schema
    from danlu.recipe import Recipe
    from danlu.runs import Run
    from danlu.study.grid import Grid
    from danlu.study.together import Together

# The preset for each task of text.
_PRESETS = {
    "language": "language",
    "tagging": "tagging",
    "classification": "text-classification",
    "pairs": "translation",
}
_PHOTOGRAPH = 16  # pixels of a side: with fewer, a dense network will do
_NOTICES = (DataNotice, RunNotice)
_STARTING_WEIGHTS = ("init.weights", "weights", "init.from_run", "from_run")


def load_source(source: str, loading: dict[str, Any], like: Schema | None = None) -> Data:
    """Load a source with the options of the command line.

    like: the schema of a run that is to read it.
    """
    from danlu.data import load
    from danlu.report.terminal.reading import reading_shown

    with notices_said(), reading_shown(source):
        return load(source, **loading, like=like)


@contextlib.contextmanager
def notices_said() -> Iterator[None]:
    """Say on standard error what was decided in reading data, or going on with a training."""
    with warnings.catch_warnings(record=True) as caught:
        for kind in _NOTICES:
            warnings.simplefilter("always", kind)
        yield
    for warning in caught:
        if issubclass(warning.category, _NOTICES):
            note(f"note: {warning.message}")
        else:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )


class Mistakes:
    """Gathers the mistakes of several readings, so that all are said at once.

    >>> mistakes = Mistakes()
    >>> with mistakes:
    ...     recipe = Recipe.read("missing.toml")
    >>> mistakes.refuse()  # raises what went wrong, if anything did
    """

    def __init__(self) -> None:
        self.found: list[str] = []

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> bool:
        # Any other error is a fault of danlu's, and goes on.
        if isinstance(error, DanluError):
            self.found += error.mistakes
            return True
        return False

    def refuse(self) -> None:
        """Raise DanluError with all mistakes, if there is any."""
        if self.found:
            raise DanluError(*self.found)


def read_inputs(
    source: str,
    loading: dict[str, Any],
    recipe: str | None,
    overrides: list[str] | None,
    mistakes: Mistakes,
    trust: bool = False,
) -> tuple[Any, Any]:
    """Return data and recipe; where one of them cannot be read, its mistakes are gathered.

    Without a recipe's name, what the default is depends on the data. trust: as of `Recipe.read`.
    """
    data = found = None
    with mistakes:
        data = load_source(source, loading)
    with mistakes:
        # The default recipe is that of the data's task, which is not known now.
        if data is None and _preset(recipe, source) is None:
            _refuse_for_any_task(overrides or [])
        else:
            found = read_recipe(recipe, overrides, source, data, trust)
    return data, found


def read_grid(
    source: str,
    loading: dict[str, Any],
    recipe: str | None,
    grid: list[str] | None,
    trust: bool = False,
) -> tuple[Any, Any, Grid]:
    """Return data, recipe and the values of a grid. Raises DanluError with the mistakes of all."""
    from danlu.study import grid as grids

    mistakes = Mistakes()
    values: Grid = {}
    data, base = read_inputs(source, loading, recipe, [], mistakes, trust)
    with mistakes, former_names_said():
        values = grids.parse(with_run_folders(grid))
    mistakes.refuse()
    return data, base, values


def read_recipe(
    name: str | None,
    overrides: list[str] | None,
    source: str | None = None,
    data: Data | None = None,
    trust: bool = False,
) -> Recipe:
    """Return a preset, or the recipe of a file or run, with overrides.

    Without a name it is the preset that is called like the source, else the default for the data's
    task. A default batch is no larger than the training part. trust: as of `Recipe.read`.
    """
    with former_names_said():
        base = _base_recipe(_preset(name, source), data, trust)
        if data is not None and name is None and 0 < data.size("train") < base.batch_size:
            base = base.with_(batch_size=data.size("train"))  # nobody asked for more
        recipe = base.with_(overrides or [])
    start = recipe.init.weights
    # A run is kept by its folder: another run may be `last` tomorrow.
    if start:
        return recipe.with_(**{"init.weights": _weights_folder(start)})
    return recipe


def _preset(name: str | None, source: str | None) -> str | None:
    from danlu.recipe import presets

    return name or (source if source in presets() else None)


def _base_recipe(chosen: str | None, data: Data | None, trust: bool) -> Recipe:
    from danlu.recipe import Recipe

    if chosen:
        return Recipe.read(chosen, trust)
    if data is not None and data.schema.is_table:
        return _table_recipe(data)
    if data is not None and _are_photographs(data):
        return Recipe.read("photographs")
    if data is None or not data.schema.is_text:
        return Recipe()
    base = Recipe.read(_PRESETS[data.schema.task])
    if data.schema.lines:  # texts of their own: nothing goes on from one to the next
        return base.with_(["model.stateful=false"])
    return base


def _are_photographs(data: Data) -> bool:
    """Whether data are somebody's pictures in colour, and large enough for a ResNet."""
    from danlu.data import names

    schema = data.schema
    is_named = data.source.get("source") in names()
    return schema.mode == "RGB" and not is_named and min(schema.input_shape[1:]) >= _PHOTOGRAPH


def _table_recipe(data: Data) -> Recipe:
    from danlu.recipe import Recipe

    recipe = Recipe.read("table")
    if data.size("valid"):
        return recipe
    # Without a validation part nothing says when to stop.
    return recipe.with_(["early_stopping.patience=0", "epochs=30"])


def _refuse_for_any_task(overrides: list[str]) -> None:
    """Raise RecipeError for what is wrong in overrides whatever the data may be."""
    from danlu.errors import RecipeError
    from danlu.recipe import Recipe

    found: list[tuple[str, ...]] = []
    # What only one task's recipe refuses may be right for another's.
    for base in (Recipe(), *map(Recipe.read, ("table", "photographs", *_PRESETS.values()))):
        try:
            base.with_(overrides)
        except RecipeError as e:
            found.append(e.mistakes)
        else:
            return
    always = [m for m in found[0] if all(m in mistakes for mistakes in found)]
    raise RecipeError(*(always or found[0]))


@contextlib.contextmanager
def former_names_said() -> Iterator[None]:
    """Say on standard error which fields have another name now."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DeprecationWarning)
        yield
    # Each once, however often the field was read.
    for sentence in dict.fromkeys(str(warning.message) for warning in caught):
        note(f"danlu: {sentence}")


def with_run_folders(texts: list[str] | None) -> list[str]:
    """Return `field=a,b` of a grid or search; runs as starting weights become their folders."""
    found = []
    for text in texts or []:
        key, _, values = text.partition("=")
        if key.strip() in _STARTING_WEIGHTS:
            folders = [_weights_folder(value.strip()) for value in values.split(",")]
            found.append(f"{key}={','.join(folders)}")
        else:
            found.append(text)
    return found


def _weights_folder(name: str) -> str:
    # As it was typed, as far as it can be: recipes and pages may go to others.
    return name if name in ("", "none") else short_path(_find_weights(name))


def _find_weights(name: str) -> Path:
    """Return weights to start from: a file or folder as it is, or a run by any of its names."""
    from danlu.errors import RunError, wrong

    # A file of weights, or a folder elsewhere.
    if os.path.exists(name):
        return Path(name)
    try:
        return open_run(name).path
    except RunError as e:
        rule = "must be a finished run or a file of weights"
        raise RunError(wrong("init.weights", name, rule)) from e


def open_run(name: str, trust: bool = False) -> Run:
    """Return a run.

    name: its folder, its name under the runs folder, `last` for the newest, or a member of a study,
    STUDY:3. Raises RunError.
    """
    from danlu.errors import RunError
    from danlu.runs import Run, Study, list_runs
    from danlu.runs.folder import runs_root

    if name == "last":
        runs = list_runs()
        if not runs:
            raise RunError(f"there is no run under {runs_root()}; train one with danlu fit")
        return Run(runs[-1].path, trust)
    study, _, member = name.rpartition(":")
    # A path may have a colon of its own, as on Windows.
    folder = study_path(study) if study and member.isdecimal() else None
    if folder is not None:
        return Study(folder, trust).run(int(member))
    path = Path(name)
    # What lies here wins over what lies under `runs/`.
    is_under_runs = not os.path.exists(path) and os.path.exists(runs_root() / name)
    return Run(runs_root() / name if is_under_runs else path, trust)


def open_predictor(name: str, trust: bool = False) -> Run | Together:
    """Return a run, or the ensemble of a study, by the names of `open_run`.

    trust: as of `Run`.
    """
    from danlu.runs import Study
    from danlu.study.ensembling import Ensemble
    from danlu.study.folds import KIND, Folds

    path = study_path(name)
    if path is not None:
        study = Study(path, trust)
        if study.info["kind"] == KIND:
            return Folds(study)
        return Ensemble(study)
    return open_run(name, trust)


def study_path(name: str) -> Path | None:
    """Return the folder of a study; None where it is no study.

    name: its folder, its name under the runs folder, or `last`.
    """
    from danlu.runs.folder import runs_root

    if name == "last":
        path = _newest()
        return path if path is not None and _is_study(path) else None
    candidates = (Path(name), runs_root() / name)
    return next((path for path in candidates if _is_study(path)), None)


def _is_study(path: Path) -> bool:
    return os.path.isfile(path / "study.json")


def _newest() -> Path | None:
    from danlu.runs import list_runs, list_studies

    everything: list[Any] = [*list_runs(), *list_studies()]
    if not everything:
        return None
    newest = max(everything, key=lambda found: found.created)
    return Path(newest.path)


def for_json(make: Callable[[], Any], json: bool) -> Any:
    """Return a listener that shows progress, or none where only JSON is to be printed."""
    return None if json else make()
