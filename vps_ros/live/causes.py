"""What goes wrong again and again is said once, and counted."""

from __future__ import annotations

import re
from collections import Counter
from threading import Lock

_NUMBER = re.compile(r"\d+")
_MOST = 100
_MORE = "further causes"


class Causes:
    """Counts messages by their cause: the same words, whatever the numbers in them (stamps, sizes).

    What is kept of them stays small, however many causes there are.
    """

    def __init__(self) -> None:
        self._first: dict[str, str] = {}
        self._counts: Counter[str] = Counter()
        self._lock = Lock()

    def add(self, message: str) -> bool:
        """Counts one; whether it is the first of its cause, and so worth saying."""
        cause = _NUMBER.sub("#", message)
        with self._lock:
            if cause not in self._first and len(self._first) >= _MOST:
                cause = message = _MORE
            new = cause not in self._first
            self._first.setdefault(cause, message)
            self._counts[cause] += 1
        return new

    def forget(self, message: str) -> None:
        """The cause is gone; should it come back, that is worth saying again. Its count stays."""
        with self._lock:
            self._first.pop(_NUMBER.sub("#", message), None)

    @property
    def total(self) -> int:
        with self._lock:
            return self._counts.total()

    def to_dict(self) -> dict[str, int]:
        """The first message of each cause -> how many there were."""
        with self._lock:
            return {self._first.get(cause, cause): count for cause, count in self._counts.items()}
