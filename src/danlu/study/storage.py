"""Optuna's storage of a search: opening it, its URL, and its errors in words."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import optuna
from optuna.exceptions import OptunaError
from sqlalchemy.exc import SQLAlchemyError

from danlu.errors import RunError, Untrusted, reason_of
from danlu.files import check_file, is_file, read_text, storing
from danlu.runs import Study
from danlu.study.strategies import quiet

HEARTBEAT_SECONDS, DEAD_AFTER_SECONDS = 30, 180
# A trial is claimed at once when it was drawn; a machine that has not by then was killed between.
UNCLAIMED_SECONDS = 60
TRIALS = "trials.db"
_SECRET_FILE = "storage.url"  # the URL with its password, for its owner's eyes only
# What Optuna and SQLAlchemy raise for a storage: no driver, no such URL, no answer, tables of
# another version, no such study.
_STORAGE_ERRORS = (
    OptunaError,
    SQLAlchemyError,
    ImportError,
    OSError,
    RuntimeError,
    ValueError,
    KeyError,
)
_BEING_MADE = ("already exists", "duplicate key", "UNIQUE constraint", "locked")


@contextlib.contextmanager
def storage_errors(url: str) -> Iterator[None]:
    """Raise whatever the storage raises as a RunError."""
    try:
        with quiet():
            yield
    except _STORAGE_ERRORS as e:
        shown = without_password(url)
        # Drivers repeat the URL in their errors, password and all.
        reason = reason_of(e).replace(url, shown)[:200]
        if isinstance(e, ImportError) or "DB access module" in reason:
            reason = (
                "the database's driver is not installed; for PostgreSQL: "
                "pip install 'danlu[postgres]'"
            )
        raise RunError(
            f"`storage` is {shown!r}, but it does not answer ({reason}); "
            "check the URL, and that the server runs"
        ) from e


def open_storage(url: str, shared: bool, readonly: bool = False) -> Any:
    """Return Optuna's storage at a URL; shared: with heartbeats; readonly: no table is made there.

    If another process is making its tables at this moment, the next try finds them.
    """
    options: dict[str, Any] = {}
    if readonly:
        return optuna.storages.RDBStorage(url, skip_table_creation=True)
    if shared:
        options = {"heartbeat_interval": HEARTBEAT_SECONDS, "grace_period": DEAD_AFTER_SECONDS}
    for _ in range(5):
        try:
            return optuna.storages.RDBStorage(url, **options)
        except (OptunaError, SQLAlchemyError) as e:
            if not any(words in str(e) for words in _BEING_MADE):
                raise
            time.sleep(0.5)
    return optuna.storages.RDBStorage(url, **options)


def without_password(url: str) -> str:
    """Return a storage's URL with its password masked."""
    return re.sub(r"(://[^:/@]*):.*@", r"\1:***@", url)


def keep_url(study: Study, url: str) -> None:
    """Keep a URL that has a password in a file of its own, which others cannot read."""
    if url != without_password(url):
        file = study.path / _SECRET_FILE
        with storing(file):
            file.touch(mode=0o600, exist_ok=False)
            file.write_text(url, encoding="utf-8")


def url_of(study: Study, typed: str | None = None, readonly: bool = False) -> str:
    """Return the storage URL of a search.

    typed: the URL that the user gave, which wins. readonly: such that nothing is written there.
    Raises Untrusted where the study's folder names another place, and nobody vouches for it.
    """
    if typed is not None:
        return typed
    kept = study.info["storage"]
    if not kept:
        return _own_url(study, readonly)
    if not study.trust:
        raise Untrusted(
            f"{str(study.path)!r} keeps its trials in {without_password(kept)!r}, and opening that "
            "connects to it; if you trust it, use --trust (trust=True); danlu resume also takes "
            "--storage URL"
        )
    secret = study.path / _SECRET_FILE
    return read_text(secret) if is_file(secret) else str(kept)


def _own_url(study: Study, readonly: bool) -> str:
    file = study.path / TRIALS
    check_file(file)
    if not readonly:
        return f"sqlite:///{file}"
    # SQLite's own way to open a file for reading only; it does not make one that is missing.
    return f"sqlite:///file:{quote(str(file))}?mode=ro&uri=true"
