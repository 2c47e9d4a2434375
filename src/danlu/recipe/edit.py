"""`Edit`: a path into a recipe, and a new value."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from danlu.recipe import overrides
from danlu.recipe.recipe import Recipe, fields


@dataclass(frozen=True)
class Edit:
    """A change of a recipe.

    path: of a field; of a section, which then becomes that variant with its defaults. An option of
    the data has `data.` before it, and changes no recipe.
    """

    path: str
    value: Any

    @classmethod
    def parse(cls, text: str) -> Edit:
        """Return the edit of a text such as `optimizer.lr=0.01`. Raises RecipeError."""
        if text.startswith("data."):
            path, _, value = text.partition("=")
            return cls(path, overrides.parse_value(value.strip()))
        ((path, value),) = overrides.parse(text, fields())
        return cls(path, value)

    def __str__(self) -> str:
        return f"{self.path}={self.shown}"

    @property
    def shown(self) -> str:
        """The value as it is typed."""
        return overrides.show(self.value)

    @property
    def is_of_data(self) -> bool:
        """Whether it changes how the data are loaded."""
        return self.path.startswith("data.")

    def apply(self, recipe: Recipe) -> Recipe:
        """Return the recipe with this change. Raises RecipeError where it does not fit."""
        return apply([self], recipe)

    def reverse(self, recipe: Recipe) -> list[Edit]:
        """Return the edits that undo this one in a recipe that it was applied to."""
        changed = self.apply(recipe)
        back = []
        for path, before, _ in recipe.diff(changed):
            if before is not None:
                back.append(Edit(path, before))
        return back


def apply(edits: Iterable[Edit], recipe: Recipe) -> Recipe:
    """Return a recipe with changes, those of the data left out.

    Raises RecipeError with all mistakes.
    """
    changes = {edit.path: edit.value for edit in edits if not edit.is_of_data}
    return recipe.with_(**changes) if changes else recipe
