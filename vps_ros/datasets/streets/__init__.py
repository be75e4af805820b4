"""Streets: a generated world with exact ground truth."""

from vps_ros.datasets.streets.drive import StreetFrame, drive
from vps_ros.datasets.streets.scenario import SCENARIOS, Scenario

__all__ = ["SCENARIOS", "Scenario", "StreetFrame", "drive"]
