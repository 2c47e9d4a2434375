"""Where a recipe's imports come from: the program and its user, or a file that anyone wrote."""

from __future__ import annotations

from collections.abc import Sequence

from danlu.errors import Untrusted, some
from danlu.models.given import find_given


class Origin:
    """The names of a recipe that came from a file, and that nobody vouched for.

    It is no part of what a recipe says: recipes that differ in it alone are equal.
    """

    def __init__(self, file: str = "", imports: Sequence[str] = ()) -> None:
        self.file = file
        self.imports = tuple(imports)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Origin)

    __hash__ = None  # type: ignore[assignment]

    def of(self, imports: Sequence[str]) -> Origin:
        """Return the origin of a recipe that was made from this one, by what it imports.

        A name that was typed in place of the file's is its user's own.
        """
        return Origin(self.file, [name for name in self.imports if name in imports])

    def check(self, needed: Sequence[str]) -> None:
        """Raise Untrusted where a file has us import anyone's code that is needed now."""
        # Of what the program gave as an object, nothing is imported.
        imported = [n for n in self.imports if n in needed and find_given(n) is None]
        if imported:
            raise Untrusted(
                f"{self.file} imports {some(imported)}, and that runs code; "
                "if you trust it, use --trust (trust=True)"
            )
