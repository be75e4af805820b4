"""Puts msg/*.msg into the wheel; everything else is declared in pyproject.toml.

The ROS package around this Python package is in CMakeLists.txt and package.xml.
"""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithMessages(build_py):
    """Takes msg/*.msg along, which the source tree and ROS keep outside the Python package.

    They must not become a folder vps_ros/msg: that is the name of the modules that ROS generates.
    """

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib, "vps_ros", "messages", "definitions", "vps_ros")
            self.mkpath(str(target))
            for definition in sorted(Path("msg").glob("*.msg")):
                self.copy_file(str(definition), str(target / definition.name))


setup(cmdclass={"build_py": BuildWithMessages})
