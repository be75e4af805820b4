"""The lifecycle node `vps`: configure loads, activate subscribes, deactivate stops, cleanup frees."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import TimeoutError as Late
from typing import Any

from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.subscription import Subscription

from vps_ros.config import Config, LiveConfig, NodeConfig
from vps_ros.errors import InputError
from vps_ros.live.health import health
from vps_ros.live.worker import Camera, Worker
from vps_ros.messages.diagnostics import Level, Status
from vps_ros.ros.diagnostics import Diagnostics
from vps_ros.ros.endpoints import subscribe
from vps_ros.ros.logs import NodeLog
from vps_ros.ros.parameters import NodeParameters
from vps_ros.ros.pipelines import Source, make_cameras
from vps_ros.ros.qos import of_images
from vps_ros.ros.services import Services

SUCCESS, FAILURE, ERROR = (
    TransitionCallbackReturn.SUCCESS,
    TransitionCallbackReturn.FAILURE,
    TransitionCallbackReturn.ERROR,
)
_BETWEEN_FRAMES = 5.0
"""Seconds that a change of parameters waits for the frame under way."""


class VpsNode(LifecycleNode):
    """The worker in ROS 2: topics, services, parameters and diagnostics of docs/ros.md.

    Raises what rclpy raises, or InputError, where a parameter was given a value that cannot be.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__("vps", **options)
        self._log_handler = NodeLog(self.get_logger())
        logging.getLogger("vps_ros").addHandler(self._log_handler)
        self._cameras: tuple[Camera, ...] = ()
        self._sources: tuple[Source, ...] = ()
        self._worker: Worker | None = None
        self._images: list[Subscription] = []
        self._values = NodeParameters(self, self._change, fixed=lambda: bool(self._cameras))
        self._live: LiveConfig = self._values.read(LiveConfig)
        self._offered = Services(self, lambda: self._worker)
        self._diagnostics = Diagnostics(self, self._health)
        self._diagnostics.watch(self._values.read(NodeConfig).cameras)

    @property
    def autostart(self) -> bool:
        return self._values.read(NodeConfig).autostart

    def start(self) -> bool:
        """Configures and activates; whether that went well. What did not is in the log."""
        return self.trigger_configure() == SUCCESS and self.trigger_activate() == SUCCESS

    def close(self) -> None:
        """Stops the worker, whatever state the node is in."""
        self._stop()
        logging.getLogger("vps_ros").removeHandler(self._log_handler)

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._attempt("configure", self._load)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._attempt("activate", self._start)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        return SUCCESS if self._stop() else ERROR

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._attempt("clean up", self._free)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._stop()
        return self._attempt("shut down", self._free)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Back to unconfigured, from where everything is made anew."""
        self._stop()
        return self._attempt("recover", self._free)

    def _attempt(self, what: str, work: Callable[[], None]) -> TransitionCallbackReturn:
        # rclpy makes an error of any exception, and says nothing about it.
        try:
            work()
        except InputError as error:
            self.get_logger().error(f"cannot {what}: {error}")
            return FAILURE
        except Exception:
            logging.getLogger(__name__).exception("cannot %s", what)
            return ERROR
        return SUCCESS

    def _load(self) -> None:
        config, own = self._values.read(Config), self._values.read(NodeConfig)
        self._live = self._values.read(LiveConfig)
        self.get_logger().info(f"loading model {config.model}")
        self._cameras, self._sources = make_cameras(self, config, self._live, own)
        self._diagnostics.watch(own.cameras)
        segmenter = self._cameras[0].pipeline.segmenter
        self.get_logger().info(f"model {segmenter.card.name} is ready on {', '.join(segmenter.providers)}")

    def _start(self) -> None:
        self._worker = worker = Worker(self._cameras)
        worker.enabled = self._offered.enabled
        worker.start()
        for index, source in enumerate(self._sources):
            take = lambda message, index=index: worker.offer(index, message)  # noqa: E731
            self._images.append(subscribe(self, source.topic, source.kind, of_images(self._live), take))
            self.get_logger().info(f"waiting for {source.kind} on {source.resolved}")

    def _stop(self) -> bool:
        """No images any more; whether the worker has ended."""
        for subscription in self._images:
            self.destroy_subscription(subscription)
        self._images = []
        worker, self._worker = self._worker, None
        return worker is None or worker.stop()

    def _free(self) -> None:
        for camera in self._cameras:
            camera.sink.close()
        self._cameras = self._sources = ()

    def _change(self, values: Mapping[str, Any]) -> None:
        """Takes over new values of parameters, all of them or none; raises InputError."""
        config = self._values.read(Config, values)
        self._values.read(NodeConfig, values)
        live = self._values.read(LiveConfig, values)
        if self._cameras and config != self._cameras[0].pipeline.config:
            self._configure(config)
        self._live = live

    def _configure(self, config: Config) -> None:
        def work() -> None:
            for camera in self._cameras:
                camera.pipeline.configure(config)

        if self._worker is None or not self._worker.alive:
            return work()
        future = self._worker.call(work)
        try:
            future.result(_BETWEEN_FRAMES)
        except Late:
            if future.cancel():
                raise InputError(f"a frame takes longer than {_BETWEEN_FRAMES:g} s; nothing was changed") from None
            future.result()
        return None

    def _health(self) -> dict[str, Status]:
        names = [camera.name for camera in self._cameras] or list(self._values.read(NodeConfig).cameras)
        if self._worker is None:
            what = "inactive" if self._cameras else "unconfigured"
            return {name: Status(name, Level.OK, what) for name in names}
        return dict(zip(names, health(self._worker, self._live.patience), strict=True))
