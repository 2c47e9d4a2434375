"""A folder whose index says what the other files in it must be.

The index (run.json, study.json) has a digest of every file that results depend on, and one of
itself. What was damaged, edited or put there by someone else is noticed when it is read. This
guards against accidents: whoever writes a folder can write its digests, too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from danlu.errors import RunError
from danlu.files.json_values import as_json, with_nulls
from danlu.files.reading import is_file, read_bytes, read_json
from danlu.files.writing import write

_FILES, _OWN = "files", "digest"


class Sealed:
    """The index of a folder, and the files that it vouches for."""

    def __init__(self, index: Path) -> None:
        self.index = index
        self.folder = index.parent

    def facts(self) -> dict[str, Any]:
        """Return the index as it is now. Raises RunError when it is missing or damaged."""
        found = read_json(self.index)
        if not isinstance(found, dict):
            raise RunError(f"{self.index} is foreign: it is not a JSON object")
        return found

    def verified(self) -> dict[str, Any]:
        """Return the index. Raises RunError also where it is not as danlu wrote it."""
        facts = self.facts()
        if facts.get(_OWN) != _digest_of_facts(facts):
            raise RunError(f"{self.index} is damaged or was edited: its digest is another")
        return facts

    def update(self, **changes: Any) -> None:
        """Write facts into the index; `files` are added to those it vouches for."""
        before = self.verified() if is_file(self.index) else {}
        files = {**before.get(_FILES, {}), **changes.pop(_FILES, {})}
        facts = with_nulls({**before, **changes, _FILES: files})
        facts[_OWN] = _digest_of_facts(facts)
        write(self.index, as_json(facts, indent=1) + "\n")

    def write(self, name: str, content: bytes | str) -> dict[str, str]:
        """Write a file; return its digest by its name, for `update`."""
        content = content.encode() if isinstance(content, str) else content
        write(self.folder / name, content)
        return {name: digest_of_file(content)}

    def replace(self, name: str, content: bytes | str, **changes: Any) -> None:
        """Write a file anew together with facts: after a crash both or neither are valid."""
        content = content.encode() if isinstance(content, str) else content
        before = self.verified()[_FILES][name]
        # Until the file is in its place, the one before is as good.
        either = {name: f"{before.split()[-1]} {digest_of_file(content)}"}
        self.update(**changes, **{_FILES: either})
        write(self.folder / name, content)

    def settled(self, name: str) -> dict[str, str]:
        """Return a file's digest by its name: after `replace`, that of the one before goes."""
        return {name: digest_of_file(self.read(name))}

    def vouches_for(self, name: str) -> bool:
        """Whether the index names a file; it may be gone, which reading it notices."""
        return name in self.verified().get(_FILES, {})

    def has(self, name: str) -> bool:
        """Whether the index vouches for a file of that name that is there."""
        return self.vouches_for(name) and is_file(self.folder / name)

    def read(self, name: str, hint: str = "") -> bytes:
        """Return a file's content. Raises RunError where it is not the one that was written.

        hint: a way out, for a file that people may edit.
        """
        digests = self.verified().get(_FILES, {})
        if name not in digests:
            raise RunError(
                f"{name} is missing in {str(self.folder)!r}: the training has not got that far"
            )
        content = read_bytes(self.folder / name)
        if digest_of_file(content) not in digests[name].split():
            raise RunError(f"{self.folder / name} is damaged or was edited{hint}")
        return content


def digest_of_file(content: bytes) -> str:
    """Return the digest of a file's content."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _digest_of_facts(facts: Mapping[str, Any]) -> str:
    others = {name: facts[name] for name in sorted(facts) if name != _OWN}
    return digest_of_file(as_json(others).encode())
