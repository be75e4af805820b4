"""The scenarios by name."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Scenario:
    """Parameters of a kind of drive; each range is sampled once per drive.

    Attributes:
        meaning: description in one line.
        rate: frames per second.
        speed: metres per second of the camera.
        turns: share of turns at junctions among the curves of the route.
        walkers: people for each 10 m of street.
        parked: share of the kerb with parked vehicles.
        traffic: moving vehicles for each 100 m of lane.
        alike: probability that the people of a group wear the same clothes.
        night: probability of a night drive.
        clutter: poles, lights and signs relative to an ordinary street.
        vehicles: shares of cars, trucks and buses in traffic.
        trams: probability of a tram line in a street with two directions.
        riders: people on bicycles and motorcycles relative to an ordinary street.
        racks: parked bicycles and motorcycles relative to an ordinary street.
    """

    meaning: str
    rate: tuple[float, float] = (10.0, 10.0)
    speed: tuple[float, float] = (5.0, 13.0)
    turns: float = 0.15
    walkers: tuple[float, float] = (0.3, 2.0)
    parked: tuple[float, float] = (0.1, 0.8)
    traffic: tuple[float, float] = (1.0, 4.0)
    alike: float = 0.2
    night: float = 0.06
    clutter: float = 1.0
    vehicles: tuple[float, float, float] = (0.74, 0.14, 0.12)
    trams: float = 0.2
    riders: float = 1.0
    racks: float = 1.0


SCENARIOS: dict[str, Scenario] = {
    "cruise": Scenario("an ordinary drive along streets"),
    "crowd": Scenario(
        "many people, whole groups of whom look alike", speed=(0.5, 4.0), walkers=(4.0, 9.0), alike=0.75,
        parked=(0.0, 0.4), traffic=(0.3, 1.5),
    ),
    "occlusion": Scenario(
        "poles, parked cars and traffic hide people and cars again and again", speed=(2.0, 6.0), walkers=(1.5, 4.0),
        parked=(0.75, 1.0), traffic=(3.0, 6.0), clutter=3.0,
    ),
    "turning": Scenario("junction after junction, fast rotation of the camera", speed=(5.0, 8.0), turns=1.0),
    "low_rate": Scenario("two to five frames a second, large motion between them", rate=(2.0, 5.0), speed=(3.0, 9.0)),
    "night": Scenario("darkness, street lamps and head lights", night=1.0),
}  # fmt: skip

TRAINING: dict[str, Scenario] = {
    "balanced": Scenario(
        "an ordinary drive with the rare classes in it: trams, trucks, buses, riders, bicycles and motorcycles",
        speed=(1.5, 9.0), walkers=(0.8, 4.0), vehicles=(0.4, 0.36, 0.24), trams=0.7, riders=4.0, racks=2.5,
    ),
}  # fmt: skip
"""Scenarios for training only; nothing is evaluated on them."""
HELD_OUT = range(900_000, 901_000)
"""Seeds of the drives on which the shipped models are evaluated: not used for training or model selection."""
