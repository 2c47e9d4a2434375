"""Optuna's storage of a search: opening it, its URL, and its errors in words."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from typing import Any

import optuna
from optuna.exceptions import OptunaError
from sqlalchemy.exc import SQLAlchemyError

from danlu.errors import RunError, reason_of
from danlu.files import storing
from danlu.runs import Study
from danlu.study.strategies import quiet

HEARTBEAT_SECONDS, DEAD_AFTER_SECONDS = 30, 600
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


def open_storage(url: str, shared: bool) -> Any:
    """Return Optuna's storage at a URL; shared: with heartbeats.

    If another process is making its tables at this moment, the next try finds them.
    """
    options: dict[str, Any] = {}
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
            file.touch(mode=0o600)
            file.write_text(url, encoding="utf-8")


def url_of(study: Study) -> str:
    """Return the storage URL of a search."""
    secret = study.path / _SECRET_FILE
    if secret.is_file():
        return secret.read_text(encoding="utf-8")
    kept = study.info["storage"]
    return str(kept) if kept else f"sqlite:///{(study.path / 'trials.db').absolute()}"
