"""What a run's figures show."""

from danlu.diagnose.verdict import verdict

__all__ = ["verdict"]
