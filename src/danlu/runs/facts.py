"""What run.json, study.json and data.json must hold, whoever wrote them."""

from __future__ import annotations

import inspect
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from danlu.data import Schema, load
from danlu.data.data import VALIDATION_IN_TRAINING
from danlu.errors import RunError

Count = Annotated[int, Field(ge=0)]
Figure = bool | int | float | str | None


class Facts(BaseModel):
    """Facts of an index; what is not named here is left as it is."""

    model_config = ConfigDict(extra="allow")


class Environment(Facts):
    """On what something was trained, as far as the results depend on it."""

    device: Literal["cpu", "cuda"]
    threads: Annotated[int, Field(ge=1, le=4096)]


class RunFacts(Facts):
    """run.json."""

    status: Literal["running", "interrupted", "finished", "stopped", "diverged"]
    environment: Environment
    files: dict[str, str] = {}
    starts: dict[str, str] = {}
    created: float = 0.0
    metric: str | None = None
    probes: Literal["off", "light", "full"] = "off"
    last_losses: list[float | None] = []
    result: dict[str, Figure] | None = None
    error: str = ""


class StudyFacts(Facts):
    """study.json: what all kinds have."""

    kind: str
    status: Literal["running", "interrupted", "finished"]
    environment: Environment
    plans: list[dict[str, Any]]
    parts: list[Literal["train", "valid", "test"]]
    files: dict[str, str] = {}
    starts: dict[str, str] = {}
    created: float = 0.0
    over: bool = True
    metric: str | None = None
    probes: Literal["off", "light", "full"] = "off"
    metric_note: str | None = None


class DataFacts(Facts):
    """data.json."""

    source: dict[str, Any]
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    sizes: dict[Literal["train", "valid", "test"], Count]
    fingerprint: str
    class_counts: list[Count]
    duplicates: Any
    missing: dict[str, Count] = {}
    notices: list[str] = []


def check_facts(facts: Any, model: type[BaseModel], file: Path) -> None:
    """Raise RunError where facts are not what a model says."""
    try:
        model.model_validate(facts)
    except ValidationError as e:
        raise RunError(f"{file} is foreign: {first_mistake(e)}") from None


def schema_of(plain: Any, file: Path) -> Schema:
    """Return the schema in data.json. Raises RunError where it is none."""
    try:
        return Schema.from_json(plain)
    except ValidationError as e:
        raise RunError(f"{file} is foreign: schema: {first_mistake(e)}") from None
    except ValueError as e:
        raise RunError(f"{file} is foreign: schema: {e}") from None


def check_source(source: dict[str, Any], file: Path) -> None:
    """Raise RunError for options that `load` does not have, or cannot take."""
    check_facts(source, _loading_options(), file)


@cache
def _loading_options() -> type[BaseModel]:
    """Return what `load` takes, as a model: its own signature says it."""
    hints = get_type_hints(load)
    fields: dict[str, Any] = {"source": (str, ...), VALIDATION_IN_TRAINING: (bool, False)}
    for name, parameter in inspect.signature(load).parameters.items():
        if name not in ("source", "like"):
            fields[name] = (hints[name], parameter.default)
    return create_model("source", __config__=ConfigDict(extra="forbid"), **fields)


def first_mistake(e: ValidationError) -> str:
    """Return the first of pydantic's mistakes in a line."""
    error = e.errors()[0]
    place = ".".join(map(str, error["loc"])) or "it"
    return f"`{place}`: {error['msg'][0].lower()}{error['msg'][1:]}"
