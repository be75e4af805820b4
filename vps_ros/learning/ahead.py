"""Work done in threads while its results are not yet needed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TypeVar

Result = TypeVar("Result")


def ahead(
    steps: Generator[int, None, None], first: int, job: Callable[[int], Callable[[], Result]], threads: int
) -> Iterator[Result]:
    """The result of each step in turn, with as many under way behind it as there are threads.

    Args:
        steps: ends when no further result is wanted; it is closed whenever this iterator is.
        first: of the steps, which follow each other.
        job: a step -> its work. It is asked in this thread, once for each step, when the work is handed out.
    """
    with ThreadPoolExecutor(threads) as pool, closing(steps):
        waiting = deque(pool.submit(job(first + i)) for i in range(threads))
        try:
            for step in steps:
                result = waiting.popleft().result()
                waiting.append(pool.submit(job(step + threads)))
                yield result
        finally:
            pool.shutdown(cancel_futures=True)
