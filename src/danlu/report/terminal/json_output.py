"""JSON on standard output, for programs that read it."""

from __future__ import annotations

import json
from typing import Any

from danlu.files import with_nulls


def print_json(value: Any) -> None:
    """Print a value as a line of JSON, Chinese as it is."""
    print(json.dumps(with_nulls(value), ensure_ascii=False, allow_nan=False))
