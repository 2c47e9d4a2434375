"""What sections of a recipe are made of: tables whose rows declare fields, and pydantic models.

A section with a `name` picks a row of a table; the fields that the row declares get its defaults,
others stay unset.
"""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    FiniteFloat,
    create_model,
    model_validator,
)
from pydantic import Field as PydanticField
from pydantic_core import PydanticCustomError

from danlu.errors import Mistake, unknown
from danlu.fields import Field, declared, defaults
from danlu.recipe.aliases import resolve_name

Rows = Mapping[str, tuple[Field, ...]]

Positive = Annotated[FiniteFloat, PydanticField(strict=True, gt=0)]
NotNegative = Annotated[FiniteFloat, PydanticField(strict=True, ge=0)]
Number = Annotated[FiniteFloat, PydanticField(strict=True)]
Probability = Annotated[FiniteFloat, PydanticField(strict=True, ge=0, lt=1)]
Flag = Annotated[bool, PydanticField(strict=True)]
Seed = Annotated[int, PydanticField(strict=True, ge=0, lt=2**63)]


def refuse(kind: str, **parts: Any) -> PydanticCustomError:
    """Return pydantic's error for a mistake; `parts` are those of `danlu.errors.Mistake`."""
    return PydanticCustomError(kind, "{rule}", parts)


class Section(BaseModel):
    """Frozen, closed, and described by the docstring under each field."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        validate_default=True,
        protected_namespaces=(),
    )


class Variant(Section):
    """A section whose `name` picks a row of a table; `"adam"` is short for `{name = "adam"}`."""

    rows: ClassVar[Rows] = {}
    path: ClassVar[str] = ""
    common: ClassVar[frozenset[str]] = frozenset({"name"})  # fields every variant has
    default: ClassVar[str] = ""

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, given: Any) -> Any:
        """Expand the short form, then fill in what the row declares and refuse what it does not."""
        if isinstance(given, str):
            given = {"name": given}
        if not isinstance(given, dict):
            return given
        name = given.get("name", cls.default)
        if isinstance(name, str):
            name = resolve_name(f"{cls.path}.name", name, cls.rows)
        if not isinstance(name, str) or name not in cls.rows:
            return given  # the name's own check has a sentence for it
        row_defaults = defaults(cls.rows[name])
        filled = dict(row_defaults)
        for field, value in given.items():
            if value is None:
                continue
            is_known = field in cls.model_fields  # others have a sentence of their own
            if is_known and field not in cls.common and field not in row_defaults:
                raise cls._unused(field, name)
            filled[field] = value
        if "name" in given:
            filled["name"] = name
        return filled

    @classmethod
    def _unused(cls, field: str, name: str) -> PydanticCustomError:
        users = sorted(row for row, fields in cls.rows.items() if field in defaults(fields))
        rule = f"is not used by {name!r}; it is used by {', '.join(users)}"
        return refuse("unused", field=field, rule=rule)


def one_of(path: str, options: Iterable[str], *others: str) -> AfterValidator:
    """Return a validator for a name from a table, with "did you mean"."""
    known = [*options, *others]

    def check(value: str) -> str:
        name = resolve_name(path, value, known)
        if name in known:
            return name
        mistake = unknown(path, value, known)
        raise refuse("unknown", rule=mistake.rule, hint=mistake.hint)

    return AfterValidator(check)


def annotation(path: str, field: Field) -> Any:
    """Return pydantic's type for a declared field."""
    if get_origin(field.type) is tuple:
        element, _ = get_args(field.type)
        return types.GenericAlias(tuple, (_single(path, field, element), ...))
    return _single(path, field, field.type)


def _single(path: str, field: Field, kind: Any) -> Any:
    if kind is str:
        return Annotated[str, one_of(path, field.choices or ())]
    if kind not in (int, float, bool):
        return kind
    limits = {}
    for name in ("gt", "ge", "lt", "le"):
        bound = getattr(field, name)
        if bound is not None:
            limits[name] = bound
    number = FiniteFloat if kind is float else kind
    return Annotated[number, PydanticField(strict=True, **limits)]


def declare(path: str, rows: Rows, name: Any, default: str, description: str) -> Any:
    """Return the base class of a section: its name, and every field that a row declares."""
    fields: dict[str, Any] = {
        "name": (name, PydanticField(default=default, description=description)),
    }
    for field in declared(rows).values():
        kind = annotation(f"{path}.{field.name}", field) | types.NoneType
        info = PydanticField(default=None, description=field.description)
        fields[field.name] = (kind, info)
    title = path.title().replace("_", "")
    base = create_model(f"{title}Fields", __base__=Variant, __module__=__name__, **fields)
    base.rows = rows
    base.path = path
    base.default = default
    return base


def mistake_of(path: str, parts: Mapping[str, Any], value: Any) -> Mistake:
    """Return the mistake that `refuse` carried through pydantic."""
    rule, hint = parts["rule"], parts.get("hint")
    if "field" in parts:
        field = parts["field"]
        return Mistake.unused(f"{path}.{field}", rule, hint)
    return Mistake.about(path, value, rule, hint)
