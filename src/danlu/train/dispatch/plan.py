"""How a group is trained: vectorised, side by side on the cores, or one by one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

HERE, ON_RAY = "here", "ray"
# Names of fields in studies of before.
_FORMER_NAMES = {
    "chunk": "population_size",
    "portion": "chunk_size",
    "why": "reason",
    "paces": "seconds_per_step",
    "noted": "is_surprising",
    "calm": "exclusive",
}


@dataclass
class Plan:
    """How so many members are trained.

    Populations of `population_size` networks, `workers` of them at a time, each on `threads`
    threads.
    """

    members: int
    population_size: int
    workers: int
    threads: int
    reason: str
    seconds_per_step: dict[str, float] = field(default_factory=dict)
    """Expected seconds of a network's step, by the way of training."""
    where: str = HERE
    """On this machine, or on a Ray cluster."""
    chunk_size: int = 0
    """Members of a chunk: `population_size`, or more where others wait for free slots."""
    is_surprising: bool = False
    """Whether the reason is something to tell the user unasked."""
    exclusive: bool = False
    """Whether nothing trains beside it, as memory did not suffice."""

    @property
    def description(self) -> str:
        """The way of training in words."""
        if self.where == ON_RAY:
            way = describe(self.population_size, 1)
            return f"on a Ray cluster, {self.workers} tasks at a time, {way}"
        return describe(self.population_size, self.workers)

    def to_json(self, group: int) -> dict[str, Any]:
        """Return plain values as study.json keeps them, with the number of the group."""
        return {"group": group, **asdict(self)}

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Plan:
        """Return the plan of plain values, the inverse of `to_json`."""
        fields = {}
        for name, value in kept.items():
            if name != "group":
                fields[_FORMER_NAMES.get(name, name)] = value
        return cls(**fields)


def describe(population_size: int, workers: int) -> str:
    """Return a way of training in words."""
    ways = []
    if workers > 1:
        ways.append(f"side by side on {workers} cores")
    if population_size > 1:
        ways.append(f"vectorised by {population_size}")
    return ", ".join(ways) or "one by one"
