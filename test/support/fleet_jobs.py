"""Jobs whose workers die. Ray's workers import this module by its name."""

import os
import signal
import time
from pathlib import Path

from vps_ros.errors import InputError
from vps_ros.fleet.storage import Store
from vps_ros.fleet.work import Job


class Logged(Job):
    """Writes the name of the bag as its result, and a line for each time that it is processed.

    Args:
        log: file of these lines.
        dies: name of a bag -> how many of the workers that process it are killed.
        seconds: time for each bag.
        refuses: why no worker can be prepared.
    """

    name = "logged"
    endings = (".txt",)

    def __init__(self, log: Path, dies=None, seconds: float = 0, refuses: str = "") -> None:
        self.log, self.dies, self.seconds, self.refuses = log, dies or {}, seconds, refuses

    def parameters(self):
        return {}

    def prepare(self, threads):
        if self.refuses:
            raise InputError(self.refuses)

    def process(self, item, folder):
        with self.log.open("a") as log:
            log.write(f"{item.name} {os.environ.get('RAY_NODE_ID', '')}\n")
        time.sleep(self.seconds)
        if self.processed().count(item.name) <= self.dies.get(item.name, 0):
            os.kill(os.getpid(), signal.SIGKILL)
        (folder / "result.txt").write_text(item.name)
        return {"length": len(item.name)}

    def processed(self):
        return [line.split()[0] for line in self.log.read_text().splitlines()] if self.log.exists() else []


class DyingStore(Store):
    """Ends the worker that has stored the marker of a bag for the first time, before Ray gets its answer."""

    def put(self, source, name):
        first = self.size(name) is None
        super().put(source, name)
        if first and name.endswith("a.logged.json"):
            os.kill(os.getpid(), signal.SIGKILL)
