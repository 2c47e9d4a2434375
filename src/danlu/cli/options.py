"""Arguments and options that several commands share, and what they turn into."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer
from typer.core import TyperCommand

from danlu.errors import DanluError

Source = Annotated[
    str,
    typer.Argument(
        help="A name (digits, mnist, cifar10, prose, names, …), a folder, a table (CSV, Parquet), a text (.txt, .bmes, JSONL), "
        "or hub:owner/name."
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]…",
        help="Recipe fields, such as model=cnn lr=0.01 (see: danlu recipe fields).",
    ),
]
RecipeName = Annotated[str | None, typer.Option("--recipe", "-r", help="A preset or a TOML file.")]
RunPath = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="A run's or study's folder, or its name under the runs folder; `last` for the newest; STUDY:3 for a study's member.",
    ),
]
Trust = Annotated[
    bool, typer.Option("--trust", help="Let the run import the code of its own network.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Ray = Annotated[
    str | None, typer.Option(help="Train on a Ray cluster: auto, HOST:PORT or ray://HOST:PORT.")
]
Target = Annotated[str | None, typer.Option(help="The column to predict.")]
Resize = Annotated[int | None, typer.Option(help="Side in pixels to bring pictures to.")]
Mode = Annotated[str | None, typer.Option(help="L (grey) or RGB.")]
Missing = Annotated[
    str | None,
    typer.Option(help="drop: leave out rows with missing cells, which are refused otherwise."),
]
Encoding = Annotated[
    str | None, typer.Option(help="Of text files, such as gb18030; default: utf-8.")
]

# The options of `danlu.load`, in the order of the help: name, type with description, default.
_LOADING: dict[str, tuple[Any, Any]] = {
    "target": (Target, None),
    "task": (
        Annotated[
            str | None,
            typer.Option(
                help="classification or regression; of tables of text: text or pairs (.tsv: without a header)."
            ),
        ],
        None,
    ),
    "resize": (Resize, None),
    "mode": (Mode, None),
    "split": (
        Annotated[
            str | None,
            typer.Option(
                help="Shares such as 60/20/20; without it the amount of data decides (running text: 80/10/10)."
            ),
        ],
        None,
    ),
    "valid": (Annotated[bool, typer.Option(help="Whether to hold out a validation part.")], True),
    "split_seed": (
        Annotated[
            int,
            typer.Option(
                help="Seed of the shuffle before splitting (running text is cut in order)."
            ),
        ],
        0,
    ),
    "limit": (Annotated[int | None, typer.Option(help="At most so many training examples.")], None),
    "memory": (
        Annotated[str | None, typer.Option(help="Map larger data from disk, such as 2GB.")],
        None,
    ),
    "missing": (Missing, None),
    "tokens": (
        Annotated[
            str | None,
            typer.Option(
                help="Of text: chars, words (at spaces, of which Chinese has none) or bpe."
            ),
        ],
        None,
    ),
    "vocabulary": (
        Annotated[int | None, typer.Option(help="Of text: at most so many tokens.")],
        None,
    ),
    "length": (
        Annotated[
            int | None,
            typer.Option(
                help="Of text: tokens in a window of running text, or at most in an example."
            ),
        ],
        None,
    ),
    "lines": (
        Annotated[
            bool, typer.Option("--lines", help="Of running text: every line is a text of its own.")
        ],
        False,
    ),
    "encoding": (Encoding, None),
}


def reads(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of `danlu.load`; they reach it together, as `loading`."""
    hints = get_type_hints(command, include_extras=True)
    own = [
        p.replace(annotation=hints[p.name])
        for p in inspect.signature(command).parameters.values()
        if p.name != "loading"
    ]
    kind = inspect.Parameter.KEYWORD_ONLY
    more = [
        inspect.Parameter(k, kind, annotation=of, default=default)
        for k, (of, default) in _LOADING.items()
    ]
    own = [p.replace(kind=kind) for p in own]

    def run(**given: Any) -> None:
        loading = {"seed" if k == "split_seed" else k: given.pop(k) for k in _LOADING}
        command(**given, loading=loading)

    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__signature__ = inspect.Signature([*own, *more])  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in (*own, *more)}
    return run


def load_source(source: str, loading: dict[str, Any], like: Any = None) -> Any:
    """`danlu.load` with the options of the command line; like: the schema of a run that is to read it."""
    from danlu.data import load

    return load(source, **loading, like=like)


_PRESETS = {
    "language": "language",
    "tagging": "tagging",
    "classification": "text-classification",
    "pairs": "translation",
}


def gather(**makes: Callable[[], Any]) -> dict[str, Any]:
    """What each makes, by name; the mistakes of all together."""
    found: dict[str, Any] = {}
    mistakes: list[str] = []
    for name, make in makes.items():
        try:
            found[name] = make()
        except DanluError as e:
            mistakes += e.mistakes
    if mistakes:
        raise DanluError(*mistakes)
    return found


def read_recipe(
    name: str | None,
    overrides: list[str] | None,
    source: str | None = None,
    data: Any = None,
    known: bool = True,
) -> Any:
    """A preset, file or run's recipe with overrides; without a name the source's own preset, else the default.

    data: of text, the default is the preset for its task; a default batch is no larger than the training part. known: False
    where the data could not be read, so that it is not known either which fields the default has.
    """
    from danlu.recipe import Recipe, presets

    chosen = name or (source if source in presets() else None)
    if not known and chosen is None:
        return _refuse_anyhow(overrides or [])
    base = Recipe.read(chosen) if chosen else Recipe()
    if data is not None and data.schema.is_text and chosen is None:
        base = Recipe.read(_PRESETS[data.schema.task])
        if data.schema.lines:  # texts of their own: nothing goes on from one to the next
            base = base.with_(["model.stateful=false"])
    if (
        data is not None and name is None and 0 < data.size("train") < base.batch_size
    ):  # what nobody asked for is no mistake
        base = base.with_([f"batch_size={data.size('train')}"])
    recipe = base.with_(overrides or [])
    start = recipe.init.weights
    return recipe.with_(**{"init.weights": str(_start(start).resolve())}) if start else recipe


def _refuse_anyhow(overrides: list[str]) -> None:
    """Raise RecipeError for what is wrong in overrides whatever the data may be."""
    from danlu.errors import RecipeError
    from danlu.recipe import Recipe

    found: list[tuple[str, ...]] = []
    for base in (Recipe(), *map(Recipe.read, _PRESETS.values())):
        try:
            base.with_(overrides)
        except RecipeError as e:
            found.append(e.mistakes)
        else:
            return
    always = [m for m in found[0] if all(m in mistakes for mistakes in found)]
    raise RecipeError(*(always or found[0]))


def with_run_folders(texts: list[str] | None) -> list[str]:
    """`field=a,b` of a grid or a search, with the runs that `init.weights` names as their folders."""
    found = []
    for text in texts or []:
        key, _, values = text.partition("=")
        starts = key.strip() in ("init.weights", "weights")
        named = [v.strip() for v in values.split(",")]
        folders = (v if v in ("", "none") else str(_start(v).resolve()) for v in named)
        found.append(f"{key}={','.join(folders)}" if starts else text)
    return found


def _start(name: str) -> Path:
    """Weights to start from: a file or folder as it is, or a run by any name it goes by."""
    from danlu.errors import RunError, wrong

    if Path(name).exists():
        return Path(name)
    try:
        return Path(open_run(name).path)
    except RunError as e:
        raise RunError(
            wrong("init.weights", name, "must be a finished run or a file of weights")
        ) from e


def open_run(name: str, trust: bool = False) -> Any:
    """A run by its folder, by its name under the runs folder, the newest (`last`), or a member of a study (`STUDY:3`)."""
    from danlu.errors import RunError
    from danlu.runs import Run, list_runs
    from danlu.runs.folder import runs_root

    if name == "last":
        found = list_runs()
        if not found:
            raise RunError(f"there is no run under {runs_root()}; train one with danlu fit")
        return Run(found[-1].path, trust)
    study, colon, member = name.rpartition(":")
    if colon and member.isdigit() and (folder := study_path(study)) is not None:
        from danlu.runs import Study

        return Study(folder, trust).run(int(member))
    path = Path(name)
    return Run(
        path if path.exists() or not (runs_root() / name).exists() else runs_root() / name, trust
    )


def study_path(name: str) -> Path | None:
    """The folder of a study by its path, its name under the runs folder, or `last`; None when it is no study."""
    from danlu.runs import list_runs, list_studies
    from danlu.runs.folder import runs_root

    if name == "last":
        every: list[Any] = [*list_runs(), *list_studies()]
        newest = max(every, key=lambda found: found.info.get("created", 0.0), default=None)
        return (
            newest.path if newest is not None and (newest.path / "study.json").is_file() else None
        )
    return next((p for p in (Path(name), runs_root() / name) if (p / "study.json").is_file()), None)


class WithFields(TyperCommand):
    """A command whose help ends with the fields of a recipe, from their own docstrings."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """The usual help, then path, default and description of every field."""
        from danlu.report.tables.fields import field_rows

        super().format_help(ctx, formatter)
        formatter.write("\nRecipe fields:\n")
        for path, default, description in field_rows():
            formatter.write(f"  {path} = {default}\n      {description}\n")
