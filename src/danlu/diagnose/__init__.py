"""From measurements to findings. So far: a first verdict on a finished run."""

from danlu.diagnose.verdict import verdict

__all__ = ["verdict"]
