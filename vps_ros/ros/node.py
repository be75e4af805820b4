"""The lifecycle node `vps`: configure loads the model, activate subscribes, deactivate stops, cleanup frees."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from vps_ros.config import Config, LiveConfig, NodeConfig
from vps_ros.errors import InputError
from vps_ros.live.node import LiveNode
from vps_ros.live.pipelines import pipelines
from vps_ros.ros.parameters import PERIOD, NodeParameters
from vps_ros.ros.transport import NodeLogHandler, RosTransport

log = logging.getLogger(__name__)

RCLError = rclpy_implementation.RCLError
SUCCESS, FAILURE, ERROR = (
    TransitionCallbackReturn.SUCCESS,
    TransitionCallbackReturn.FAILURE,
    TransitionCallbackReturn.ERROR,
)
_CHANGE_TIMEOUT = 5.0
"""Seconds that a change of parameters waits for the current frame."""


class VpsNode(LifecycleNode):
    """LiveNode (live/node.py) in ROS 2: topics, services, parameters and diagnostics of docs/ros.md.

    Attributes:
        live: the node's cameras and worker.

    Raises what rclpy raises, or InputError, for a parameter with an invalid value.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__("vps", **options)
        self._log_handler = NodeLogHandler(self.get_logger())
        self.live = LiveNode(RosTransport(self, self._log_handler))
        self._values = NodeParameters(self, self._change, fixed=lambda: bool(self.live.cameras))
        self.live.names = self._values.read(NodeConfig).cameras
        self._values.check_unknown()
        # A steady clock: simulated time may stand still.
        clock = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = self.create_timer(self._values.period, self._log_handler.of(self.live.tick), clock=clock)
        self._survive_invalid_transitions()
        # Last, because nothing removes the handler when a parameter above is refused.
        package_log = logging.getLogger("vps_ros")
        package_log.addHandler(self._log_handler)
        package_log.setLevel(logging.INFO)

    @property
    def autostart(self) -> bool:
        return self._values.read(NodeConfig).autostart

    def start(self) -> bool:
        """Configures and activates; whether both succeeded. The log has the reason otherwise."""
        return self.trigger_configure() == SUCCESS and self.trigger_activate() == SUCCESS

    def close(self) -> None:
        """Stops the worker, in any state of the node."""
        self.live.deactivate()
        logging.getLogger("vps_ros").removeHandler(self._log_handler)

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._attempt("configure", self._configure)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        result = self._attempt("activate", self.live.activate)
        if result != SUCCESS:
            self.live.deactivate()
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        return SUCCESS if self._log_handler.of(self.live.deactivate)() else ERROR

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._attempt("clean up", self.live.cleanup)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.live.deactivate()
        return self._attempt("shut down", self.live.cleanup)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Back to unconfigured."""
        self.live.deactivate()
        return self._attempt("recover", self.live.cleanup)

    def _survive_invalid_transitions(self) -> None:
        """Refuses a transition that the current state does not allow; otherwise rclpy's executor would end."""
        service = self._service_change_state
        change = service.callback

        def answer(request: Any, response: Any) -> Any:
            try:
                return change(request, response)
            except RCLError as error:
                log.warning("transition refused: %s", error)
                response.success = False
                return response

        service.callback = self._log_handler.of(answer)

    def _attempt(self, what: str, work: Callable[[], object]) -> TransitionCallbackReturn:
        return self._log_handler.of(_attempted)(what, work)

    def _configure(self) -> None:
        config, own = self._values.read(Config), self._values.read(NodeConfig)
        log.info("loading model %s", config.model)
        made = pipelines(config, len(own.cameras))
        images = {name: f"{name}/image" if name else "image" for name in own.cameras}
        self.live.configure(images, made, self._values.read(LiveConfig))
        segmenter = made[0].segmenter
        log.info("model %s is ready on %s", segmenter.name, ", ".join(segmenter.providers))

    def _change(self, values: Mapping[str, Any]) -> None:
        """Takes over new values of parameters, all or none; raises InputError."""
        config = self._values.read(Config, values)
        self._values.read(NodeConfig, values)
        live = self._values.read(LiveConfig, values)
        if self.live.cameras and config != self.live.cameras[0].pipeline.config:
            self._change_pipelines(config)
        self.live.update(live)
        if PERIOD.name in values:
            self._timer.timer_period_ns = round(values[PERIOD.name] * 1e9)
            # Otherwise the previous period ends first.
            self._timer.reset()

    def _change_pipelines(self, config: Config) -> None:
        def work() -> None:
            for camera in self.live.cameras:
                camera.pipeline.configure(config)

        worker = self.live.worker
        if worker is None or not worker.alive:
            return work()
        future = worker.call(work)
        try:
            future.result(_CHANGE_TIMEOUT)
        except CancelledError:
            # The worker has failed and does not use the pipelines any more.
            return work()
        except FutureTimeout:
            if future.cancel():
                raise InputError(f"a frame takes longer than {_CHANGE_TIMEOUT:g} s; nothing was changed") from None
            future.result()
        return None


def _attempted(what: str, work: Callable[[], object]) -> TransitionCallbackReturn:
    # rclpy turns an exception into an error without a message.
    try:
        work()
    except InputError as error:
        log.error("cannot %s: %s", what, error)
        return FAILURE
    except Exception:
        log.exception("cannot %s", what)
        return ERROR
    return SUCCESS
