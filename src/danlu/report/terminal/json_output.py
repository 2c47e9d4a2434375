"""JSON on standard output, for programs that read it."""

from __future__ import annotations

import json
from typing import Any

from danlu.errors import NOT_SHOWN
from danlu.files import with_nulls


def print_json(value: Any) -> None:
    """Print a value as a line of JSON, Chinese as it is."""
    plain = json.dumps(with_nulls(value), ensure_ascii=False, allow_nan=False)
    # What a terminal would obey is written as JSON escapes it.
    print(NOT_SHOWN.sub(lambda found: f"\\u{ord(found[0]):04x}", plain))
