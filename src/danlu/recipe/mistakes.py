"""From pydantic's findings to sentences in the house's grammar."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ValidationError

from danlu.errors import nearest, wrong

_RULES = {
    "greater_than": ("must be greater than {gt}", "gt"),
    "greater_than_equal": ("must be at least {ge}", "ge"),
    "less_than": ("must be less than {lt}", "lt"),
    "less_than_equal": ("must be at most {le}", "le"),
    "literal_error": ("must be one of {expected}", ""),
    "finite_number": ("must be a finite number", ""),
    "int_from_float": ("must be a whole number", ""),
}
_TYPES = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    "tuple": "a list, such as [64, 64]",
    "dict": "a table of names and values",
    "model": "a table of names and values",
}
_TRY = {
    "lr": "0.01",
    "batch_size": "64",
    "epochs": "10",
    "dropout": "0.5",
    "std": "0.01",
    "momentum": "0.9",
    "label_smoothing": "0.1",
    "width": "0.5",
    "accumulate": "4",
    "average.decay": "0.999",
    "average.start": "0.75",
    "lr_factor": "0.1",
    "auxiliary": "0.3",
    "crop": "4",
    "unknown": "0.05",
    "embedding": "64",
    "forget_bias": "1",
}


def sentences(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """One sentence per mistake, in the order of the fields."""
    return list(dict.fromkeys(_sentence(e, model) for e in error.errors()))


def _sentence(e: Any, model: type[BaseModel]) -> str:
    parts = [str(p) for p in e["loc"] if not (isinstance(p, int) or "[" in str(p))]
    path, kind, context = ".".join(parts), e["type"], e.get("ctx") or {}
    if kind == "unused":
        field, _, rest = e["msg"].partition("\0")
        return f"`{path}.{field}` {rest}"
    if kind == "unknown":
        return str(e["msg"]).replace("\0", path)
    if kind == "extra_forbidden":
        return _extra(parts, model)
    leaf = parts[-1] if parts else ""
    value = _TRY.get(path) or _TRY.get(leaf)
    hint = f"try {value}" if value else None
    if kind in _RULES:
        limits = {k: f"{v:g}" if isinstance(v, float) else v for k, v in context.items()}
        rule = _RULES[kind][0].format(**limits).replace(" or ", ", ")
        near = (
            nearest(
                str(e["input"]),
                [o.strip(" '") for o in context["expected"].replace(" or ", ",").split(",")],
            )
            if "expected" in context
            else None
        )
        return wrong(path, e["input"], rule, f"did you mean {near!r}?" if near else hint)
    family = kind.rpartition("_")[0].split("_")[0]
    return wrong(
        path, e["input"], f"must be {_TYPES.get(family, 'something else (' + e['msg'] + ')')}", hint
    )


def _extra(parts: list[str], model: type[BaseModel]) -> str:
    """A name that is no field, with the nearest that is."""
    holder: Any = model
    for p in parts[:-1]:
        holder = holder.model_fields[p].annotation if p in holder.model_fields else holder
    near = nearest(parts[-1], holder.model_fields)
    prefix = "".join(f"{p}." for p in parts[:-1])
    if near is None:  # perhaps it belongs to another section
        owners = [
            f"{k}.{parts[-1]}"
            for k, f in model.model_fields.items()
            if parts[-1] in getattr(f.annotation, "model_fields", {})
        ]
        near, prefix = (owners[0], "") if owners else (None, prefix)
    hint = (
        f"did you mean `{prefix}{near}`?" if near else f"known are {', '.join(holder.model_fields)}"
    )
    return f"`{'.'.join(parts)}` is no field of a recipe; {hint}"
