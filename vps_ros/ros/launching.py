"""What the launch files share: arguments, packages that must be installed, and failures of processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.events.process import ProcessExited
from launch.launch_context import LaunchContext
from launch.launch_description import LaunchDescription
from launch.launch_description_entity import LaunchDescriptionEntity
from launch.some_entities_type import SomeEntitiesType
from launch.substitutions import LaunchConfiguration, SubstitutionFailure
from launch_ros.substitutions import ExecutableInPackage

from vps_ros.errors import InputError

SWITCH = ("true", "false")


@dataclass(frozen=True)
class Argument:
    """An argument of a launch file; without a default it must be given."""

    meaning: str
    default: str | None = ""
    choices: tuple[str, ...] | None = None


def describe(
    arguments: Mapping[str, Argument], start: Callable[[Mapping[str, str]], list[LaunchDescriptionEntity]]
) -> LaunchDescription:
    """A launch file with these arguments. `start` gets their values and returns what to start.

    What `start` raises ends the launch with exit code 1. An action that raises when it is executed leaves running what
    was started in the same moment: `start` has to check everything first.
    """
    declared = [
        DeclareLaunchArgument(name, description=one.meaning, default_value=one.default, choices=one.choices)
        for name, one in arguments.items()
    ]

    def perform(context: LaunchContext) -> list[LaunchDescriptionEntity]:
        return start({name: LaunchConfiguration(name).perform(context) for name in arguments})

    return LaunchDescription([*declared, OpaqueFunction(function=perform)])


def require(package: str, executable: str | None, argument: str) -> None:
    """Raises InputError unless the ROS package, and the program in it, is installed; `argument` is what needs it."""
    try:
        get_package_prefix(package)
        if executable:
            ExecutableInPackage(executable, package).perform(LaunchContext())
    except (PackageNotFoundError, SubstitutionFailure):
        what = f"{executable} of the ROS package {package}" if executable else f"the ROS package {package}"
        raise InputError(
            f"{argument} needs {what}; install it (apt install ros-$ROS_DISTRO-{package.replace('_', '-')})"
        ) from None


def fail_with_process(event: ProcessExited, context: LaunchContext) -> SomeEntitiesType | None:
    """For `on_exit` of a process whose failure ends the launch with exit code 1, which ROS does not do by itself."""
    if event.returncode and not context.is_shutdown:
        raise RuntimeError(_failure(event))
    return None


def fail_with_start(event: ProcessExited, context: LaunchContext) -> SomeEntitiesType | None:
    """As fail_with_process, for a process that is started again: only exit code 2, which would come again."""
    return fail_with_process(event, context) if event.returncode == 2 else None


def fail_with_end(event: ProcessExited, context: LaunchContext) -> SomeEntitiesType | None:
    """As fail_with_process, for a process that must run until the launch ends it: any exit code."""
    if not context.is_shutdown:
        raise RuntimeError(_failure(event))
    return None


def _failure(event: Any) -> str:
    return f"{event.process_name} ended with exit code {event.returncode}; the reason is printed above"
