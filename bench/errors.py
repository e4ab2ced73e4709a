"""The one exception that is a message to the user rather than a bug report."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class BenchError(Exception):
    """Bad input. The message is one line: the key, the value, and what would be right.

    The command prints it without a traceback and exits with a non-zero code.
    """


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'dmilo'? (known: dcps, dmilo, ...)`, to end a message about an unknown name."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=2, cutoff=0.4)
    hint = f"; did you mean {' or '.join(repr(c) for c in close)}?" if close else ""
    return f"{hint} (known: {', '.join(known)})"


def at_least(key: str, value: float, minimum: float) -> None:
    """Raise unless `value >= minimum`, in the words every bad number gets."""
    if not value >= minimum:
        raise BenchError(f"{key}={value}: must be at least {minimum}")
