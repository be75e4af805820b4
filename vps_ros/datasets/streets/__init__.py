"""Streets: a generated world with exact ground truth."""

from vps_ros.datasets.streets.drive import GENERATION, StreetFrame, drive
from vps_ros.datasets.streets.scenario import HELD_OUT, SCENARIOS, TRAINING, Scenario

__all__ = ["GENERATION", "HELD_OUT", "SCENARIOS", "TRAINING", "Scenario", "StreetFrame", "drive"]
