"""Work done ahead of its consumer by threads, with the results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(
    work: Callable[[Item], Result], items: Iterable[Item], jobs: int = 1, ahead: int = 4
) -> Generator[Result, None, None]:
    """Yields `work(item)` of each item, in the order of the items, computed by `jobs` threads.

    Items are taken from `items` in the caller's thread, at most `jobs` * `ahead` more than the results that were
    yielded. An exception of `work` is raised in place of its result, one of `items` at once; both end the iteration.
    Closing the iterator cancels what has not begun.
    """
    items = iter(items)
    waiting: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(max(1, jobs))
    try:
        while True:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) >= max(1, jobs) * ahead:
                    break
            if not waiting:
                return
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
