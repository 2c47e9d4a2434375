"""From pydantic's findings to mistakes in the house's grammar."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ValidationError

from danlu.errors import Mistake, nearest, wrong
from danlu.recipe import aliases
from danlu.recipe.sections import hint_for
from danlu.recipe.variants import mistake_of

_RULES = {
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be one of {expected}",
    "finite_number": "must be a finite number",
    "int_from_float": "must be a whole number",
}
_TYPES = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    "tuple": "a list",
    "dict": "a table of names and values",
    "model": "a table of names and values",
}


def mistakes_of(error: ValidationError, model: type[BaseModel]) -> list[Mistake]:
    """Return one mistake per finding, in the order of the fields, each once."""
    mistakes = [_mistake(finding, model) for finding in error.errors()]
    return list(dict.fromkeys(mistakes))


def _mistake(finding: Any, model: type[BaseModel]) -> Mistake:
    parts = _path_of(finding)
    path = ".".join(parts)
    kind, value = finding["type"], finding["input"]
    context = finding.get("ctx") or {}
    if kind in ("unused", "unknown"):
        return mistake_of(path, context, value)
    if kind == "extra_forbidden":
        return _unknown_field(parts, model)
    if kind == "literal_error":
        return _not_an_option(path, value, context["expected"])
    if kind in _RULES:
        limits = {}
        for name, limit in context.items():
            limits[name] = f"{limit:g}" if isinstance(limit, float) else limit
        return wrong(path, value, _RULES[kind].format(**limits), hint_for(path))
    # Such as "int_type" and "int_parsing".
    family = kind.rpartition("_")[0].split("_")[0]
    expected = _TYPES.get(family, f"something else ({finding['msg']})")
    hint = hint_for(path)
    if family == "tuple" and hint is None and isinstance(value, str):
        hint = f"try [{value!r}]"
    return wrong(path, value, f"must be {expected}", hint)


def _path_of(finding: Any) -> list[str]:
    """Return the names of a field's path: without indices of lists, and members of unions."""
    names = []
    for place in finding["loc"]:
        if isinstance(place, str) and "[" not in place:
            names.append(place)
    return names


def _not_an_option(path: str, value: Any, expected: str) -> Mistake:
    listed = expected.replace(" or ", ", ")
    options = [option.strip(" '") for option in listed.split(",")]
    near = nearest(str(value), options)
    hint = f"did you mean {near!r}?" if near else hint_for(path)
    return wrong(path, value, f"must be one of {listed}", hint)


def _unknown_field(parts: list[str], model: type[BaseModel]) -> Mistake:
    """Return the mistake of a name that is not a field, with the nearest that is."""
    *sections, name = parts
    holder: Any = model
    for section in sections:
        if section in holder.model_fields:
            holder = holder.model_fields[section].annotation
    prefix = "".join(f"{section}." for section in sections)
    rule = "is not a field of a recipe"
    meant = aliases.meant_field(name)
    if meant is not None:
        return Mistake.unused(f"{prefix}{name}", rule, f"did you mean `{meant}`?")
    near = nearest(name, holder.model_fields)
    if near is not None:
        return Mistake.unused(f"{prefix}{name}", rule, f"did you mean `{prefix}{near}`?")
    for section, info in model.model_fields.items():  # perhaps it belongs to another section
        if name in getattr(info.annotation, "model_fields", {}):
            return Mistake.unused(f"{prefix}{name}", rule, f"did you mean `{section}.{name}`?")
    known = ", ".join(holder.model_fields)
    return Mistake.unused(f"{prefix}{name}", rule, f"known are {known}")
