"""The check itself: claimed gradients against one- and two-sided differences.

Legend: θ a tensor's entries in a row, a the claimed gradient, n the numeric one; ε a step.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from danlu.diagnosis.gradients.problems import GradientProblem, Loss, ModuleProblem
from danlu.errors import ModelError, RecipeError, count, some, wrong
from danlu.guest import guest
from danlu.rng import stream

TOLERANCE = 1e-5  # relative; a right gradient in float64 is far below, a wrong one far above
_SECONDS = 15.0  # that a check may take, unless asked otherwise
_CALLS = 3  # of the loss for a slope
_DIRECTIONS = 12  # random ones of each tensor, at most, where not every entry is checked
_KINK = 1e-3  # relative difference of the slopes on both sides of a point
_BENDS = 5  # how many times half of a smaller difference the error may be, of many small bends
_LOST = 0.1  # relative noise from which nothing can be said
_ROUNDINGS = 20  # of the loss, that add up in a slope of it
_WORST = 3  # entries that are shown

Array = Sequence[float]


@dataclass(frozen=True)
class Entry:
    """An entry that is wrong: where, what is claimed, what differences give."""

    place: tuple[int, ...]
    claimed: float
    numeric: float


@dataclass(frozen=True)
class TensorCheck:
    """One tensor: relative errors ‖a − n‖/max(‖a‖, ‖n‖) by two-sided and one-sided differences.

    noise: how far rounding and bends of the loss may take the two-sided error off. checked:
    entries, or random directions. kinks: of these, where the loss bends within the step, so that
    nothing can be said. worst: the entries that differ most, of a tensor that is wrong. is_cut_off:
    whether the claimed gradient is 0 everywhere.
    """

    name: str
    error: float
    one_sided: float
    noise: float
    checked: int
    entries: int
    kinks: int
    worst: tuple[Entry, ...] = ()
    is_cut_off: bool = False

    @property
    def is_right(self) -> bool:
        """Whether the claimed gradient is that of the loss, as far as was checked."""
        return self.is_known and self.error <= max(TOLERANCE, self.noise)

    @property
    def is_known(self) -> bool:
        """Whether there was something to check by: slopes without a bend, above rounding."""
        return self.checked > self.kinks and (self.noise < _LOST or self.error == 0)

    @property
    def is_wrong(self) -> bool:
        """Whether differences say that the claimed gradient is another."""
        return self.is_known and not self.is_right


@dataclass(frozen=True)
class GradientCheck:
    """What a gradient check found, tensor by tensor."""

    tensors: Sequence[TensorCheck]
    loss: float

    @property
    def is_right(self) -> bool:
        """Whether no gradient is wrong, and at least one could be checked."""
        known = any(tensor.is_known for tensor in self.tensors)
        return known and not any(tensor.is_wrong for tensor in self.tensors)

    @property
    def error(self) -> float:
        """The largest relative error of what could be checked."""
        return max((tensor.error for tensor in self.tensors if tensor.is_known), default=0.0)

    def __repr__(self) -> str:
        return "\n".join(self.sentences())

    def sentences(self) -> list[str]:
        """Return the verdict in words."""
        wrong_ones = [tensor for tensor in self.tensors if tensor.is_wrong]
        right = [tensor for tensor in self.tensors if tensor.is_right]
        unknown = [tensor.name for tensor in self.tensors if not tensor.is_known]
        n = count(len(self.tensors), "tensor")
        sentences = []
        if wrong_ones:
            sentences.append(f"Gradients are wrong in {len(wrong_ones)} of {n}.")
        elif right:
            largest = max(tensor.error for tensor in right)
            is_whole = all(tensor.checked == tensor.entries for tensor in right)
            how_far = "" if is_whole else ", as far as was checked"
            sentences.append(
                f"Gradients are right in {len(right)} of {n}{how_far}: the largest relative error "
                f"is {largest:.1e}."
            )
        if unknown:
            sentences.append(
                f"Not checked, as the loss does not change enough there to be seen above rounding, "
                f"or bends everywhere: {some(unknown, 6)}."
            )
        for tensor in wrong_ones:
            sentences.append(_sentence(tensor))
        kinks = sum(tensor.kinks for tensor in self.tensors)
        if kinks:
            sentences.append(
                f"At {count(kinks, 'place')} the loss bends within the step (a rectifier switches, "
                "a maximum changes); there nothing was checked."
            )
        return sentences

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        tensors = []
        for t in self.tensors:
            worst = [{"place": list(e.place), "claimed": e.claimed, "numeric": e.numeric}
                     for e in t.worst]  # fmt: skip
            plain = {name: value for name, value in vars(t).items() if name != "worst"}
            plain["noise"] = min(t.noise, 1e300)  # JSON has no infinity
            tensors.append({**plain, "right": t.is_right, "known": t.is_known, "worst": worst})
        return {"right": self.is_right, "error": self.error, "loss": self.loss, "tensors": tensors}


def _sentence(tensor: TensorCheck) -> str:
    text = f"{tensor.name}: relative error {tensor.error:.2g}"
    if tensor.worst:
        entry = tensor.worst[0]
        place = ", ".join(map(str, entry.place))
        text += f"; at [{place}] {entry.claimed:.6g} is claimed, and it is {entry.numeric:.6g}"
    return f"{text}."


@guest
def gradcheck(
    module: nn.Module,
    inputs: Tensor | tuple[Any, ...],
    loss: Loss | None = None,
    *,
    targets: Tensor | None = None,
    penalties: Callable[..., Tensor] | None = None,
    seconds: float = _SECONDS,
) -> GradientCheck:
    """Hold a module's gradients against finite differences, in float64, on a copy of it.

    Every entry is checked where there is time for it; else, of each tensor, random directions and
    the entries with the largest gradients. Inputs of floating point are checked like parameters.
    Dropout is held to one mask; batch normalisation keeps its running statistics.

    module: in the mode in which it is to be checked. inputs: what it is called with. loss: a
    function of output and targets that gives one number; without it, a random weighted sum of the
    output. penalties: a function of the parameters by name, added to the loss. seconds: how long it
    may take, about.

    Raises ModelError for an output that is not differentiable, a loss that changes between two
    equal calls (random numbers of the module's own), or is not finite.
    """
    if not isinstance(module, nn.Module):
        raise ModelError(wrong("module", type(module).__name__, "must be a torch.nn.Module"))
    given = inputs if isinstance(inputs, tuple) else (inputs,)
    return check_gradients(ModuleProblem(module, given, loss, targets, penalties), seconds)


def check_gradients(problem: GradientProblem, seconds: float = _SECONDS) -> GradientCheck:
    """Return what a problem's claimed gradients are worth. Raises ModelError as `gradcheck`."""
    if not isinstance(seconds, (int, float)) or not seconds > 0:
        raise RecipeError(wrong("seconds", seconds, "must be greater than 0", "try 15"))
    value = problem.value()
    if not math.isfinite(value):
        raise ModelError(f"the loss is {value} before anything is changed, so it has no gradients")
    began = time.perf_counter()
    again = problem.value()
    slopes = int(seconds / (_CALLS * (time.perf_counter() - began)))
    if again != value:
        raise ModelError(
            f"two equal calls give the losses {value:.9g} and {again:.9g}: the module draws random "
            "numbers by a generator of its own, or remembers calls, so that differences say "
            "nothing; check it in evaluation mode, or with dropout of PyTorch's or danlu's"
        )
    claimed = problem.gradients()
    entries = sum(x.numel() for x in problem.tensors.values())
    most = entries if entries <= slopes else max(2, slopes // len(problem.tensors))
    checks = []
    with torch.no_grad():
        for name, x in problem.tensors.items():
            probe = _TensorProbe(problem, x, claimed[name].double(), value)
            checks.append(probe.check(name, most))
    cast_to = getattr(problem, "cast_to", "")
    if cast_to and any(not tensor.is_known or tensor.is_wrong for tensor in checks):
        raise ModelError(
            f"numbers of double precision are taken to {cast_to} on the way (.float(), .half(), a "
            "dtype of the module's own), where differences drown in rounding; let the module keep "
            "the type that it is given"
        )
    return GradientCheck(checks, value)


class _TensorProbe:
    """Finite differences along entries or directions of one tensor."""

    def __init__(self, problem: GradientProblem, x: Tensor, claimed: Tensor, value: float) -> None:
        self.problem, self.x, self.claimed, self.value = problem, x, claimed, value
        scale = max(1.0, float(x.abs().mean()) if x.numel() else 1.0)
        # The errors of the formula and of rounding are of one size there, O(ε²) and O(1/ε).
        self.two_sided = scale * 6e-6
        self.one_sided = scale * 1.5e-8

    def check(self, name: str, most: int) -> TensorCheck:
        """Check `most` slopes: of every entry, or along random directions and largest entries."""
        n = self.x.numel()
        places = list(range(n))
        directions: list[Tensor] = []
        if n > most:
            directions = [self._direction(name, k) for k in range(min(_DIRECTIONS, most // 2))]
            largest = self.claimed.flatten().abs().topk(most - len(directions)).indices
            places = sorted(largest.tolist())
        along = [self._unit(place) for place in places] + directions
        pairs, one_sided, bends, kinks = [], [], [], 0
        for k, d in enumerate(along):
            claimed = float((self.claimed * d).sum())
            numeric, forward, bend, is_kink = self._slopes(d)
            if is_kink:
                kinks += 1
                continue
            place = places[k] if k < len(places) else None
            pairs.append((claimed, numeric, place))
            one_sided.append((claimed, forward))
            bends.append(bend)
        slopes = [(c, m) for c, m, _ in pairs]
        error, noise = _relative(slopes), self._noise(slopes, bends)
        is_cut_off = not bool(self.claimed.any())
        checked = TensorCheck(
            name, error, _relative(one_sided), noise, len(along), n, kinks, is_cut_off=is_cut_off
        )
        return replace(checked, worst=self._worst(pairs)) if checked.is_wrong else checked

    def _noise(self, slopes: Sequence[tuple[float, float]], bends: Sequence[float]) -> float:
        """Return how far rounding and bends of the loss may take the relative error off.

        bends: the differences of the slopes on both sides. Where a rectifier switches within the
        step, the two-sided slope is off by half of that; of many that switch on both sides, by
        several times as much.
        """
        of_slope = _ROUNDINGS * torch.finfo(torch.float64).eps * abs(self.value) / self.two_sided
        size = _size(slopes)
        if not size > 0:
            return math.inf
        of_bends = _BENDS * math.hypot(*bends) / 2
        return max(of_slope * math.sqrt(len(slopes)), of_bends) / size

    def _unit(self, place: int) -> Tensor:
        d = torch.zeros(self.x.shape, dtype=self.x.dtype)  # contiguous, whatever the tensor is
        d.view(-1)[place] = 1.0
        return d

    def _direction(self, name: str, k: int) -> Tensor:
        generator = stream(k, "gradcheck", name)
        d = torch.randn(self.x.shape, generator=generator, dtype=torch.float64)
        return d.div_(d.norm())

    def _slopes(self, d: Tensor) -> tuple[float, float, float, bool]:
        """Return the two-sided slope, the one-sided one, and by how much slopes differ.

        Last, whether they do so much that the loss bends in between.
        """
        eps = self.two_sided
        up, down = self._at(d, eps), self._at(d, -eps)
        forward = (self._at(d, self.one_sided) - self.value) / self.one_sided
        slope = (up - down) / (2 * eps)
        ahead, behind = (up - self.value) / eps, (self.value - down) / eps
        noise = 1e-9 * max(1.0, abs(self.value)) / eps * 1e-6
        size = max(abs(ahead), abs(behind), noise)
        bend = abs(ahead - behind)
        if bend <= _KINK * size:
            return slope, forward, bend, False
        # A curve also has two slopes. They come together as the step shrinks, and their mean stays;
        # at a kink they do not, and near one the mean is another.
        small = eps / 16
        near = (self._at(d, small) - self.value) / small
        back = (self.value - self._at(d, -small)) / small
        is_kink = abs(near - back) > 0.5 * bend
        off = abs((near + back) / 2 - slope)
        # Of a curve both slopes are off alike, and their mean is not.
        return slope, forward, max(abs(near - back), 2 * off), is_kink or off > _KINK * size

    def _at(self, d: Tensor, step: float) -> float:
        before = self.x.clone()
        self.x.add_(d, alpha=step)
        value = self.problem.value()
        self.x.copy_(before)
        return value

    def _worst(self, pairs: Sequence[tuple[float, float, int | None]]) -> tuple[Entry, ...]:
        located = [(abs(c - m), c, m, place) for c, m, place in pairs if place is not None]
        located.sort(reverse=True)
        entries = []
        for _, claimed, numeric, place in located[:_WORST]:
            index = torch.unravel_index(torch.tensor(place), self.x.shape) if self.x.ndim else ()
            entries.append(Entry(tuple(int(i) for i in index), claimed, numeric))
        return tuple(entries)


def _size(pairs: Sequence[tuple[float, float]]) -> float:
    """Return max(‖a‖, ‖n‖)."""
    return (
        max(math.sqrt(sum(x * x for x in side)) for side in zip(*pairs, strict=True))
        if pairs
        else 0.0
    )


def _relative(pairs: Sequence[tuple[float, float]]) -> float:
    """Return ‖a − n‖/max(‖a‖, ‖n‖); 0 where both are 0."""
    difference = math.sqrt(sum((a - n) ** 2 for a, n in pairs))
    return difference / _size(pairs) if difference else 0.0
