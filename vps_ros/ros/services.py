"""~/reset_tracks and ~/enable."""

from __future__ import annotations

from collections.abc import Callable

from rclpy.node import Node
from std_srvs.srv import SetBool, Trigger

from vps_ros.live.worker import Worker


class Services:
    """The node's services; `worker` gives the one that works now, if any.

    Attributes:
        enabled: what the last call of ~/enable asked for.
    """

    def __init__(self, node: Node, worker: Callable[[], Worker | None]) -> None:
        self._worker = worker
        self.enabled = True
        node.create_service(Trigger, "~/reset_tracks", self._reset)
        node.create_service(SetBool, "~/enable", self._enable)

    def _reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        worker = self._worker()
        if worker is None:
            response.message = "the node is not active; it has no tracks to forget"
            return response
        if not worker.alive:
            response.message = "the worker is not running; deactivate and activate"
            return response
        worker.reset_tracks()
        response.success, response.message = True, "every object is forgotten before the next frame"
        return response

    def _enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self.enabled = request.data
        worker = self._worker()
        if worker is not None:
            worker.enabled = self.enabled
        response.success, response.message = True, "enabled" if self.enabled else "disabled"
        return response
