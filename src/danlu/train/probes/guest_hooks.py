"""Hooks on somebody's own objects: copies leave them behind, and their faults end no training."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from danlu.errors import RunNotice, notify, reason_of


class GuestHooks:
    """The hooks of one watch."""

    def __init__(self) -> None:
        self._handles: list[Any] = []
        self._is_resting = False
        self._has_told = False

    def made(self, look: Callable[..., None], what: str) -> GuestHook:
        """Return a hook that calls `look`; what: it looks at, for a notice."""
        return GuestHook(self, look, what)

    def add(self, *handles: Any) -> None:
        """Keep what takes hooks off."""
        self._handles += handles

    def remove(self) -> None:
        """Take them all off."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    @contextlib.contextmanager
    def resting(self) -> Iterator[None]:
        """Look at nothing, as what happens now is no part of the training."""
        before, self._is_resting = self._is_resting, True
        try:
            yield
        finally:
            self._is_resting = before

    def call(self, look: Callable[..., None], what: str, *args: Any) -> bool:
        """Call a function of ours; return whether it went well, and say once where it did not."""
        if self._is_resting:
            return True
        try:
            look(*args)
        except Exception as e:  # whatever it is, their training goes on
            if not self._has_told:
                notify(f"danlu.watch could not measure {what}: {reason_of(e)}", RunNotice)
            self._has_told = True
            return False
        return True


class GuestHook:
    """Calls a function until that fails. A copy of it, or a pickled one, does nothing."""

    def __init__(self, hooks: GuestHooks, look: Callable[..., None], what: str) -> None:
        self._hooks = hooks
        self._look = look
        self._what = what
        self._is_on = True

    def __call__(self, *args: Any) -> None:
        """Look, and change nothing."""
        if self._is_on:
            self._is_on = self._hooks.call(self._look, self._what, *args)

    def __deepcopy__(self, memo: dict[int, Any]) -> Callable[..., None]:
        """Return what a copy of a watched network has in its place."""
        return nothing

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[()]]:
        """Return what a file of a watched network makes in its place."""
        return a_hook_that_does_nothing, ()


def nothing(*_: Any) -> None:
    """Do nothing."""


def a_hook_that_does_nothing() -> Callable[..., None]:
    """Return what stands in a file for a hook."""
    return nothing
