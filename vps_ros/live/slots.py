"""Where frames wait: one place for each camera, in which a newer one takes the place of an older one."""

from __future__ import annotations

from threading import Condition
from typing import Generic, Protocol, TypeVar

Item = TypeVar("Item")


class Waiting(Protocol[Item]):
    """What the worker asks of the place where frames wait; all of it may be called from any thread."""

    def put(self, camera: int, item: Item) -> bool:
        """Leaves an item for the worker; whether another one was dropped for it."""
        ...

    def take(self, timeout: float) -> tuple[int, Item] | None:
        """Camera and item; None after so many seconds without any, or after `wake`."""
        ...

    def wake(self) -> None:
        """Ends the `take` that is under way, or the next one."""
        ...


class Slots(Generic[Item]):
    """Waiting with room for one item of each camera: the newest wins, so that nothing ever queues up.

    Cameras take turns: a fast one cannot starve the others.
    """

    def __init__(self, cameras: int) -> None:
        self._items: list[Item | None] = [None] * cameras
        self._turn = 0
        self._awake = False
        self._changed = Condition()

    def put(self, camera: int, item: Item) -> bool:
        with self._changed:
            replaced = self._items[camera] is not None
            self._items[camera] = item
            self._changed.notify()
        return replaced

    def take(self, timeout: float) -> tuple[int, Item] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._awake or any(item is not None for item in self._items), timeout)
            if self._awake:
                self._awake = False
                return None
            for step in range(len(self._items)):
                camera = (self._turn + step) % len(self._items)
                item = self._items[camera]
                if item is not None:
                    self._items[camera] = None
                    self._turn = camera + 1
                    return camera, item
        return None

    def wake(self) -> None:
        with self._changed:
            self._awake = True
            self._changed.notify()
