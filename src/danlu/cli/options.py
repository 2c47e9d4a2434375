"""Arguments and options that several commands share."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, NamedTuple, get_type_hints

import typer
from typer.core import TyperCommand

Source = Annotated[
    str,
    typer.Argument(
        help="A name (digits, mnist, cifar10, prose, names, …), a folder, a table (CSV, Parquet), "
        "a text (.txt, .bmes, JSONL), or hub:owner/name."
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
        help="The folder of a run or study, or its name under the runs folder; "
        "`last` for the newest; STUDY:3 for a member of a study.",
    ),
]
Trust = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="Allow what a recipe's or run's files ask for: importing code (which runs it), "
        "connecting to a database or the hub.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Ray = Annotated[
    str | None, typer.Option(help="Train on a Ray cluster: auto, HOST:PORT or ray://HOST:PORT.")
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Probes = Annotated[
    str, typer.Option(help="What is measured while training: off, light or full (slower).")
]
CheckpointEvery = Annotated[float, typer.Option(help="Seconds between checkpoints.")]
Encoding = Annotated[
    str | None,
    typer.Option(help="Of text files; default: utf-8, utf-16, gb18030 or latin-1, as it fits."),
]


class _LoadingOption(NamedTuple):
    """An option of `danlu.load`, as the command line has it; also: another name for it."""

    type: Any
    default: Any
    help: str
    is_flag: bool = False
    also: str = ""


# In the order of the help.
_LOADING: dict[str, _LoadingOption] = {
    "target": _LoadingOption(
        str | None,
        None,
        "The column to predict, by its name or number, or last.",
        also="--label",
    ),
    "task": _LoadingOption(
        str | None,
        None,
        "classification or regression; of text: text (with labels), pairs, tags or language.",
    ),
    "resize": _LoadingOption(int | None, None, "Side in pixels to bring pictures to."),
    "mode": _LoadingOption(str | None, None, "L (grey) or RGB."),
    "split": _LoadingOption(
        str | None,
        None,
        "Shares such as 60/20/20; without it the amount of data decides (running text: 80/10/10).",
    ),
    "valid": _LoadingOption(bool, True, "Whether to hold out a validation part."),
    "split_seed": _LoadingOption(
        int, 0, "Seed of the shuffle before splitting (running text is cut in order)."
    ),
    "limit": _LoadingOption(int | None, None, "At most so many training examples."),
    "memory": _LoadingOption(
        str | None, None, "What reading may take, such as 2GB; larger arrays lie on disk."
    ),
    "missing": _LoadingOption(
        str | None,
        None,
        "Cells that are missing: fill (default), drop (their rows) or refuse.",
    ),
    "drop": _LoadingOption(str | None, None, "Columns to leave out, such as id,name."),
    "keep": _LoadingOption(
        str | None, None, "Columns to learn from that would be left out otherwise."
    ),
    "category": _LoadingOption(str | None, None, "Columns to read as categories."),
    "text": _LoadingOption(str | None, None, "The column to read as text, and learn from alone."),
    "number": _LoadingOption(
        str | None, None, "Columns to read as numbers; what is none is missing."
    ),
    "log_target": _LoadingOption(
        bool, False, "Learn the logarithm of a number above 0.", is_flag=True
    ),
    "separator": _LoadingOption(
        str | None, None, "Of cells: comma, semicolon, tab, bar, blanks, or a sign."
    ),
    "header": _LoadingOption(
        str | None, None, "first or none: whether the first line names the columns."
    ),
    "tokens": _LoadingOption(
        str | None, None, "Of text: chars, words (of Chinese by the extra `chinese`) or bpe."
    ),
    "vocabulary": _LoadingOption(int | None, None, "Of text: at most so many tokens."),
    "length": _LoadingOption(
        int | None, None, "Of text: tokens in a window of running text, or at most in an example."
    ),
    "lines": _LoadingOption(
        bool, False, "Of running text: every line is a text of its own.", is_flag=True
    ),
    "tags": _LoadingOption(
        str | None, None, "strict: refuse tags out of order, which are mended otherwise."
    ),
    "encoding": _LoadingOption(
        str | None, None, "Of text files; default: utf-8, utf-16, gb18030 or latin-1, as it fits."
    ),
}
_RENAMED = {"split_seed": "seed"}  # commands have other seeds beside it


def _loading_parameter(name: str) -> inspect.Parameter:
    option = _LOADING[name]
    # Without a name of its own typer would also offer --no-….
    spelled = f"--{name.replace('_', '-')}"
    flags = [spelled] if option.is_flag else []
    if option.also:
        flags = [spelled, option.also]
    info = typer.Option(*flags, help=option.help)
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        annotation=Annotated.__class_getitem__((option.type, info)),  # type: ignore[attr-defined]
        default=option.default,
    )


def with_loading_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of `danlu.load`, which reach it as one mapping, `loading`."""
    # Annotations are text, as modules postpone them.
    hints = get_type_hints(command, include_extras=True)
    parameters = []
    for parameter in inspect.signature(command).parameters.values():
        if parameter.name != "loading":
            own = parameter.replace(
                annotation=hints[parameter.name], kind=inspect.Parameter.KEYWORD_ONLY
            )
            parameters.append(own)
    parameters += [_loading_parameter(name) for name in _LOADING]

    def run(**given: Any) -> None:
        loading = {_RENAMED.get(name, name): given.pop(name) for name in _LOADING}
        command(**given, loading=loading)

    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


def flags_of(source: Mapping[str, Any]) -> str:
    """Return how a source and its options of `danlu.load` are typed."""
    words = [str(source["source"])]
    typed_as = {own: name for name, own in _RENAMED.items()}
    options = {own: value for own, value in source.items() if own != "source"}
    for own, value in changed_loading_options(options).items():
        name = typed_as.get(own, own)
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(flag)
        elif value is False:
            words.append(flag.replace("--", "--no-", 1))
        elif isinstance(value, (list, tuple)):
            words.append(f"{flag} {('/' if name == 'split' else ',').join(map(str, value))}")
        else:
            words.append(f"{flag} {value}")
    return " ".join(words)


def changed_loading_options(loading: dict[str, Any]) -> dict[str, Any]:
    """Return the options of `danlu.load` that differ from their defaults."""
    defaults = {_RENAMED.get(name, name): option.default for name, option in _LOADING.items()}
    known = {name: value for name, value in loading.items() if name in defaults}
    return {name: value for name, value in known.items() if value != defaults[name]}


class WithFields(TyperCommand):
    """A command whose help ends with the fields of a recipe."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the usual help, then path, default and description of every field."""
        from danlu.report.tables.fields import field_rows

        super().format_help(ctx, formatter)
        formatter.write("\nRecipe fields:\n")
        for path, default, description in field_rows():
            formatter.write(f"  {path} = {default}\n      {description}\n")
