"""`key=value` overrides, and the paths of a recipe's fields."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, get_args

from pydantic.fields import FieldInfo

from danlu.errors import RecipeError, nearest
from danlu.files import parse_toml
from danlu.recipe import aliases

Paths = Mapping[str, FieldInfo]  # every field of a recipe by its dotted path


def flatten(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted paths and values of nested sections."""
    for name, value in tree.items():
        if isinstance(value, dict) and name != "args":
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def resolve(key: str, paths: Paths) -> str:
    """Return a full path for a full path, a section, a former name, or a last name.

    Only one section may have the last name. Raises RecipeError for anything else.
    """
    sections = {path.partition(".")[0] for path in paths}
    # Of anyone's own network or loss, whose arguments nobody knows here.
    is_argument = key.startswith(("model.args.", "loss.args."))
    if is_argument or key in paths or key in sections or key in aliases.FIELDS:
        return key
    owners = _with_last_name(key, paths) or _with_last_name(key, aliases.FIELDS)
    if len(owners) == 1:
        return owners[0]
    if owners:
        listed = " or ".join(f"`{owner}`" for owner in owners)
        raise RecipeError(f"`{key}` could be {listed}; write the whole path")
    last_names = [_last_name(path) for path in paths]
    near = aliases.meant_field(key) or nearest(key, [*paths, *sections, *last_names])
    hint = f"did you mean `{near}`?" if near else "`danlu recipe fields` lists them"
    raise RecipeError(f"`{key}` is not a field of a recipe; {hint}")


def _last_name(path: str) -> str:
    return path.rpartition(".")[2]


def _with_last_name(name: str, paths: Iterable[str]) -> list[str]:
    return [path for path in paths if _last_name(path) == name]


def parse(text: str, paths: Paths) -> list[tuple[str, Any]]:
    """Return (path, value) of a `key=value` override; a former name may stand for two.

    Raises RecipeError for what is not an override, or names no field.
    """
    key, equals, value = text.partition("=")
    if not equals:
        raise RecipeError(
            f"`{text}` is not an override; write key=value, such as optimizer.lr=0.01"
        )
    path = resolve(key.strip(), paths)
    info = paths.get(aliases.FIELDS.get(path, path))
    return aliases.upgrade_override(path, parse_value(value.strip(), info))


def parse_value(text: str, info: FieldInfo | None = None) -> Any:
    """Return a value: TOML where it parses, a list where commas are, else the text itself."""
    # `hidden=64,64` needs no brackets where the field takes a list.
    if info is not None and _is_listed(info):
        items = [item.strip() for item in text.strip("[]()").split(",")]
        if len(items) == 1 and str in get_args(info.annotation):
            return parse_value(items[0])  # a name in the place of a list
        return [parse_value(item) for item in items if item]
    try:
        return parse_toml(f"v = {text}")["v"]
    except ValueError:
        pass
    try:
        return float(text)  # TOML knows 1e-3, but neither .5 nor 1.
    except ValueError:
        return text


def show(value: Any) -> str:
    """Return a value as it is typed."""
    if isinstance(value, (list, tuple)):
        items = ",".join(map(show, value))
        return f"[{items}]"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def name_in(value: Any) -> Any:
    """Return the name in the value of a section: itself, or of a section spelled out."""
    return value.get("name") if isinstance(value, dict) else value


def _is_listed(info: FieldInfo) -> bool:
    kinds = (info.annotation, *get_args(info.annotation))
    return any("tuple" in str(kind) for kind in kinds)


def put(tree: dict[str, Any], path: str, value: Any) -> None:
    """Set a field of a recipe's tree.

    Another variant of a section (`optimizer=sgd`) resets the section to that variant's defaults.
    """
    section, _, leaf = path.partition(".")
    before = tree.get(section)
    if isinstance(before, dict) and not leaf and not isinstance(value, dict):
        leaf = "name"
    if not leaf:
        tree[section] = value
    elif leaf == "name" and isinstance(before, dict) and "name" in before:
        name = aliases.resolve_name(f"{section}.name", str(value), [before["name"]])
        if name != before["name"]:
            tree[section] = {"name": value}
    else:
        fields_of_section = dict(before or {})
        inner, _, argument = leaf.partition(".")
        if argument:  # of an imported network
            value = {**fields_of_section.get(inner, {}), argument: value}
        fields_of_section[inner] = value
        tree[section] = fields_of_section
