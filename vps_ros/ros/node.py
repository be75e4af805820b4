"""The lifecycle node `vps`: configure loads, activate subscribes, deactivate stops, cleanup frees."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as Late
from contextlib import ExitStack
from functools import partial
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from vps_ros.config import Config, LiveConfig, NodeConfig
from vps_ros.errors import InputError
from vps_ros.live.health import health
from vps_ros.live.pipelines import pipelines
from vps_ros.live.worker import Camera, Worker
from vps_ros.messages.diagnostics import Level, Status
from vps_ros.ros.cameras import CameraSubscription, reader
from vps_ros.ros.diagnostics import Diagnostics
from vps_ros.ros.logs import NodeLog
from vps_ros.ros.parameters import NodeParameters
from vps_ros.ros.services import Services
from vps_ros.ros.sink import OPTIONAL, TopicSink
from vps_ros.ros.watch import Watch

RCLError = rclpy_implementation.RCLError
SUCCESS, FAILURE, ERROR = (
    TransitionCallbackReturn.SUCCESS,
    TransitionCallbackReturn.FAILURE,
    TransitionCallbackReturn.ERROR,
)
_BETWEEN_FRAMES = 5.0
"""Seconds that a change of parameters waits for the frame under way."""


class VpsNode(LifecycleNode):
    """The worker in ROS 2: topics, services, parameters and diagnostics of docs/ros.md.

    Attributes:
        cameras: while configured; empty otherwise.
        worker: while active; None otherwise.

    Raises what rclpy raises, or InputError, where a parameter was given a value that cannot be.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__("vps", **options)
        self.cameras: tuple[Camera, ...] = ()
        self.worker: Worker | None = None
        self._images: list[CameraSubscription] = []
        self._values = NodeParameters(self, self._change, fixed=lambda: bool(self.cameras))
        self._live: LiveConfig = self._values.read(LiveConfig)
        self._offered = Services(self, lambda: self.worker)
        self._diagnostics = Diagnostics(self, self._health)
        self._names = self._values.read(NodeConfig).cameras
        self._diagnostics.watch(self._names)
        self._watch = Watch(self.get_logger())
        # Of this clock, since simulated time may stand still.
        self.create_timer(1.0, self._look, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._values.warn_of_unknown()
        self._refuse_what_cannot_be()
        # Last, since nothing takes it away again where a parameter is refused.
        self._log_handler = NodeLog(self.get_logger())
        logging.getLogger("vps_ros").addHandler(self._log_handler)

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
        done = self._attempt("activate", self._start)
        if done != SUCCESS:
            self._stop()
        return done

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

    def _refuse_what_cannot_be(self) -> None:
        """rclpy's executor ends, and the node with it, when a transition is asked for that the state does not have."""
        service = self._service_change_state
        change = service.callback

        def answer(request: Any, response: Any) -> Any:
            try:
                return change(request, response)
            except RCLError as error:
                self.get_logger().warning(f"transition refused: {error}")
                response.success = False
                return response

        service.callback = answer

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
        made = pipelines(config, len(own.cameras))
        optional = tuple(name for name in OPTIONAL if getattr(self._live, name))
        with ExitStack() as undo:
            cameras = []
            for name, pipeline in zip(own.cameras, made, strict=True):
                sink = TopicSink(self, name, optional)
                undo.callback(sink.close)
                cameras.append(Camera(name, pipeline, reader(self), sink))
            undo.pop_all()
        self.cameras = tuple(cameras)
        self._names = own.cameras
        self._diagnostics.watch(own.cameras)
        segmenter = made[0].segmenter
        self.get_logger().info(f"model {segmenter.name} is ready on {', '.join(segmenter.providers)}")

    def _start(self) -> None:
        self.worker = worker = Worker(self.cameras)
        worker.enabled = self._offered.enabled
        worker.start()
        for index, camera in enumerate(self.cameras):
            self._images.append(CameraSubscription(self, camera.name, self._live, partial(worker.offer, index)))

    def _stop(self) -> bool:
        """No images any more; whether the worker has ended."""
        for subscription in self._images:
            subscription.close()
        self._images = []
        worker, self.worker = self.worker, None
        return worker is None or worker.stop()

    def _free(self) -> None:
        for camera in self.cameras:
            camera.sink.close()
        self.cameras = ()

    def _change(self, values: Mapping[str, Any]) -> None:
        """Takes over new values of parameters, all of them or none; raises InputError."""
        config = self._values.read(Config, values)
        self._values.read(NodeConfig, values)
        live = self._values.read(LiveConfig, values)
        if self.cameras and config != self.cameras[0].pipeline.config:
            self._configure(config)
        self._live = live

    def _configure(self, config: Config) -> None:
        def work() -> None:
            for camera in self.cameras:
                camera.pipeline.configure(config)

        if self.worker is None or not self.worker.alive:
            return work()
        future = self.worker.call(work)
        try:
            future.result(_BETWEEN_FRAMES)
        except CancelledError:
            # The worker died, and is in nobody's way.
            return work()
        except Late:
            if future.cancel():
                raise InputError(f"a frame takes longer than {_BETWEEN_FRAMES:g} s; nothing was changed") from None
            future.result()
        return None

    def _look(self) -> None:
        if self.worker is not None:
            self._watch.look(self._health())

    def _health(self) -> dict[str, Status]:
        """Of each camera, by its name."""
        if self.worker is None:
            what = "inactive" if self.cameras else "unconfigured"
            return {name: Status(name, Level.OK, what) for name in self._names}
        patience = self._live.patience
        notes = [subscription.look(patience) for subscription in self._images]
        return dict(zip(self._names, health(self.worker, patience, notes=notes), strict=True))
