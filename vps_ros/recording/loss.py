"""What a recording has lost: said to the user, while the rest is read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Loss:
    """One thing that could not be read.

    Attributes:
        what: what is missing, in words.
        where: file or topic.
        count: messages known to be lost; 0 where nobody can know.
        topic: whose messages they are; "" where several topics may have lost some.
    """

    what: str
    where: str
    count: int = 0
    topic: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"
