"""Work done ahead by threads, its results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(work: Callable[[Item], Result], items: Iterable[Item], jobs: int = 1, ahead: int = 4) -> Iterator[Result]:
    """`work(item)` of each item, in the order of the items, while `jobs` threads are at work on those that follow.

    At most `jobs` * `ahead` items are begun and not yet handed out; `items` are drawn in the caller's thread. What
    `work` raises is raised in its place in the order, what `items` raises at once; nothing more is begun then.
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
