"""Moving objects: vehicles, riders and people, each with its position in every frame of a drive."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from vps_ros.datasets.streets import people, transit, vehicles
from vps_ros.datasets.streets.mesh import Mesh, join
from vps_ros.datasets.streets.scenario import Scenario
from vps_ros.datasets.streets.static_scene import label_color
from vps_ros.datasets.streets.world import World

Surface = tuple[NDArray, NDArray, NDArray, NDArray, NDArray, NDArray]
"""points [V, 3], normals [V, 3], colors [V, 3], label colors [V, 3] (class + 1, instance high, low byte), triangles of
the label pass [T + U, 3], triangles of the color pass [T, 3]."""


@dataclass
class Actor:
    """Attributes:
    meshes: rigid parts of one object; a person has one for each limb.
    class_id, instance: its labels.
    place: [F, 3] x, y, heading; NaN in frames without it.
    limbs: [F, P, 4, 4] poses of the parts in the object's coordinate frame, or None for a single rigid part.
    shadow: half length and half width of its shadow.
    far: metres beyond which it is not drawn.
    coarse: parts with fewer triangles, for distances above 0.45 * far.
    """

    meshes: list[Mesh]
    class_id: int
    instance: int
    place: NDArray
    limbs: NDArray | None
    shadow: tuple[float, float]
    far: float
    coarse: list[Mesh] | None = None

    def __post_init__(self) -> None:
        self._details = []
        for meshes in (self.meshes, self.coarse or self.meshes):
            mesh = join(meshes)
            part = np.repeat(np.arange(len(meshes)), [len(m.points) for m in meshes])
            self._details.append((mesh, part, label_color(mesh.classes, self.instance)))
        self._radius = float(np.hypot(*self.shadow)) + 1.0
        self.height = 1.7 if self.limbs is not None else float(max(m.points[:, 2].max() for m in self.meshes))

    def seen(self, frame: int, camera: NDArray, half_view: float) -> bool:
        """Whether it is in the view of the camera (x, y, heading; tangent of half the horizontal field of view)."""
        x, y, _ = self.place[frame]
        if not np.isfinite(x):
            return False
        dx, dy = x - camera[0], y - camera[1]
        ahead = dx * np.cos(camera[2]) + dy * np.sin(camera[2])
        aside = abs(dy * np.cos(camera[2]) - dx * np.sin(camera[2]))
        reach = self._radius
        return ahead > -reach and dx * dx + dy * dy < self.far**2 and aside < max(ahead, 0) * half_view + 1.6 * reach

    def distant(self, frame: int, camera: NDArray) -> bool:
        dx, dy = self.place[frame, :2] - camera[:2]
        return bool(dx * dx + dy * dy > (0.45 * self.far) ** 2)

    def surface(self, frame: int, distant: bool = False) -> Surface:
        """Its triangles in a frame; the coarse ones if it is `distant`."""
        mesh, part, codes = self._details[int(distant)]
        x, y, turn = self.place[frame]
        c, s = np.cos(turn), np.sin(turn)
        pose = np.array([[c, -s, 0, x], [s, c, 0, y], [0, 0, 1, 0], [0, 0, 0, 1.0]])
        m = mesh
        if self.limbs is None:
            points = m.points @ pose[:3, :3].T.astype(np.float32) + pose[:3, 3].astype(np.float32)
            normals = m.normals @ pose[:3, :3].T.astype(np.float32)
        else:
            each = (pose @ self.limbs[frame]).astype(np.float32)[part]
            points = np.einsum("vij,vj->vi", each[:, :3, :3], m.points) + each[:, :3, 3]
            normals = np.einsum("vij,vj->vi", each[:, :3, :3], m.normals)
        return points, normals, m.colors, codes, m.label_faces, m.faces


_WIDE = (vehicles.CAR, vehicles.TRUCK, vehicles.BUS, vehicles.TRAIN)


class ActorSampler:
    """Samples the moving objects of one drive.

    `time` [F] seconds, `ego` [F] metres along the route, `camera` [F, 3] x, y, heading.
    """

    def __init__(
        self, rng: Generator, scenario: Scenario, world: World, time: NDArray, ego: NDArray, lane: float, lights: bool,
        reach: tuple[float, float], camera: NDArray,
    ) -> None:  # fmt: skip
        self.camera = camera
        self._taken: list[tuple[NDArray, tuple[float, float]]] = []
        self.rng, self.scenario, self.world, self.time, self.ego = (rng, scenario, world, time, ego)
        self.lane, self.lights = lane, lights
        self.far_cars, self.far_people = reach
        self.actors: list[Actor] = []
        self.first, self.last = -20.0, float(ego[-1]) + self.far_cars + 5

    def sample(self) -> list[Actor]:
        self._tram()
        self._same_direction()
        self._oncoming()
        self._cross_traffic()
        self._pedestrians()
        self._crossing_pedestrians()
        self._crossing_riders()
        return self.actors

    def _along(self, s: NDArray, d: NDArray | float, backward: bool = False) -> NDArray:
        """x, y, heading [F, 3] of route coordinates: `s` along the route, `d` to the left; NaN outside the world."""
        path = self.world.path
        out = np.empty((len(s), 3))
        out[:, :2] = path.at(s, d)
        drift = np.gradient(np.broadcast_to(np.asarray(d, float), s.shape)) if np.ndim(d) else np.zeros(len(s))
        pace = np.gradient(s) if len(s) > 1 else np.ones(1)
        out[:, 2] = path.turn(s) + (np.pi if backward else 0.0)
        if np.ndim(d):
            out[:, 2] = path.turn(s) + np.arctan2(drift, np.where(np.abs(pace) + np.abs(drift) < 1e-6, 1.0, pace))
        out[(s < self.world.path.s[0] + 3) | (s > self.world.path.s[-1] - 3)] = np.nan
        return out

    def _vehicle(self, place: NDArray) -> None:
        rng = self.rng
        kind = rng.random()
        cars, trucks, _ = self.scenario.vehicles
        if kind < cars:
            mesh, (length, width, _) = vehicles.sample_car(rng, self.lights)
            class_id = vehicles.CAR
        elif kind < cars + trucks:
            mesh, (length, width, _) = vehicles.truck(rng, self.lights)
            class_id = vehicles.TRUCK
        else:
            mesh, (length, width, _) = transit.bus(rng, self.lights)
            class_id = vehicles.BUS
        self._add([mesh], class_id, place, None, (length * 0.56, width * 0.62), self.far_cars)

    def _add(
        self, meshes: list[Mesh], class_id: int, place: NDArray, limbs: NDArray | None, shadow: tuple[float, float],
        far: float, coarse: list[Mesh] | None = None,
    ) -> None:  # fmt: skip
        """Adds the actor unless it collides with the camera or, as a vehicle, with another vehicle."""
        if self._hits_camera(place, shadow):
            return
        wide = class_id in _WIDE
        if wide:
            if any(_collide(place, shadow, *other) for other in self._taken):
                return
            self._taken.append((place, shadow))
        self.actors.append(Actor(meshes, class_id, self.world.new_instance(), place, limbs, shadow, far, coarse))

    def _hits_camera(self, place: NDArray, half: tuple[float, float]) -> bool:
        dx, dy = (place[:, :2] - self.camera[:, :2]).T
        c, s = np.cos(self.camera[:, 2]), np.sin(self.camera[:, 2])
        ahead, aside = dx * c + dy * s, np.abs(dy * c - dx * s)
        along = np.abs(np.cos(place[:, 2] - self.camera[:, 2]))
        long = half[0] * along + half[1] * (1 - along)
        wide = half[1] * along + half[0] * (1 - along)
        return bool(np.any((np.abs(ahead) < long + 2.2) & (aside < wide + 0.6)))

    def _two_wheeler(self, place: NDArray, speed: float) -> None:
        """A bicycle or motorcycle and its rider, two instances."""
        rng = self.rng
        motor = rng.random() < 0.35
        mesh = vehicles.sample_two_wheeler(rng, motor, self.lights)
        self._add(
            [mesh], vehicles.MOTORCYCLE if motor else vehicles.BICYCLE, place, None, (0.9, 0.3), self.far_people * 1.1
        )
        wear = people.sample_clothes(rng) | {"skirt": False, "coat": False}
        body = people.body(rng, wear, people.RIDER, helmet=motor or rng.random() < 0.5, child=0.0)
        angles, (x, z) = people.riding(rng, self.time, motor)
        limbs = people.limb_poses(angles, body.width)
        limbs[..., 0, 3] += x
        limbs[..., 2, 3] += z - people.HIP
        self._add([body.limbs[p] for p in people.PARTS], people.RIDER, place, limbs, (0.6, 0.3),
                  self.far_people * 1.1)  # fmt: skip

    def _same_direction(self) -> None:
        rng, sec, t = self.rng, self.world.section, self.time
        lanes = sec.lanes[0]
        for k in range(lanes):
            d = float(sec.d(0, (k + 0.5) * sec.lane))
            if abs(d - self.lane) < 0.5:
                if rng.random() < 0.55:
                    gap = rng.uniform(8, 40)
                    wave = rng.uniform(0, 4) * np.sin(t * rng.uniform(0.1, 0.4) + rng.uniform(0, 6))
                    lead = np.maximum.accumulate(self.ego + gap + wave - wave[0])
                    self._vehicle(self._along(lead, d))
                    if rng.random() < 0.5:
                        self._vehicle(self._along(lead + rng.uniform(14, 25), d))
            else:
                pace = (self.ego[-1] - self.ego[0]) / max(t[-1], 0.1) * rng.uniform(0.4, 1.6) + 0.5
                s = self.first + rng.uniform(0, 20)
                while s < self.last:
                    self._vehicle(self._along(s + pace * t, d))
                    s += 12 + rng.exponential(100 / max(rng.uniform(*self.scenario.traffic), 0.2))
        if rng.random() < 0.6 * self.scenario.riders:
            edge = float(sec.d(0, sec.lanes[0] * sec.lane - 0.5))
            if abs(edge - self.lane) > 1.2:
                for _ in range(self._riders()):
                    pace = rng.uniform(2.5, 6)
                    self._two_wheeler(
                        self._along(rng.uniform(4, 30) + self.ego[-1] * rng.random() + pace * t, edge), pace
                    )

    def _oncoming(self) -> None:
        rng, sec, t = self.rng, self.world.section, self.time
        for k in range(sec.lanes[1]):
            d = float(sec.d(1, (k + 0.5) * sec.lane))
            pace = rng.uniform(*self.scenario.speed) * rng.uniform(0.6, 1.3) + 1
            s = rng.uniform(8, 50)
            density = max(rng.uniform(*self.scenario.traffic), 0.2)
            while s < self.last + pace * t[-1]:
                self._vehicle(self._along(s - pace * t, d, True))
                s += 14 + rng.exponential(100 / density)
        if sec.lanes[1] and rng.random() < 0.5 * self.scenario.riders:
            edge = float(sec.d(1, sec.lanes[1] * sec.lane - 0.45))
            pace = rng.uniform(2.5, 7)
            for _ in range(self._riders()):
                self._two_wheeler(
                    self._along(rng.uniform(5, 30) + (self.ego[-1] + 15) * rng.random() - pace * t, edge, True), pace
                )

    def _riders(self) -> int:
        return int(self.rng.integers(1, 4) * min(self.scenario.riders, 2.0))

    def _cross_traffic(self) -> None:
        """Vehicles on side streets: some cross the route ahead of the camera, others wait."""
        rng, t = self.rng, self.time
        for c in self.world.crossings:
            h = float(c.path.heading[0])
            unit = np.array((np.cos(h), np.sin(h)))
            left = np.array((-unit[1], unit[0])) * self.world.section.mirror
            if rng.random() < 0.6:
                stop = self.world.section.edge(0) + rng.uniform(3.5, 8)
                for i in range(int(rng.integers(1, 3))):
                    xy = c.path.xy[0] + unit * (stop + 8 * i) + left * c.half * 0.5
                    place = np.tile((*xy, h + np.pi), (len(t), 1))
                    self._vehicle(place)
            near = np.nonzero((c.s - self.ego > 11) & (c.s - self.ego < 45))[0]
            if len(near) and rng.random() < 0.6:
                when = t[near[rng.integers(len(near))]]
                pace = rng.uniform(4, 9)
                along = (t - when) * pace
                xy = c.path.xy[0] - unit * along[:, None] + left * c.half * 0.45
                place = np.concatenate([xy, np.full((len(t), 1), h + np.pi)], 1)
                place[np.abs(along) > 60] = np.nan
                clash = np.abs(along) < 9
                if np.all((c.s - self.ego)[clash] > 7):
                    if rng.random() < 0.75:
                        self._vehicle(place)
                    else:
                        self._two_wheeler(place, pace)

    def _tram(self) -> None:
        rng, sec, t = self.rng, self.world.section, self.time
        if not sec.tram:
            return
        # A tram in the camera's lane drives ahead of the camera.
        for side in (1, 0) if rng.random() < 0.4 else (int(rng.random() < 0.6),):
            pace = 0.0 if rng.random() < 0.25 else rng.uniform(3, 10)
            d = float(sec.d(side, sec.lane / 2))
            mesh, (length, width, _) = transit.tram(rng, self.lights)
            start = length / 2 + rng.uniform(6, 45)
            s = start - pace * t * 0.5 if side else start + np.maximum(pace * t, self.ego)
            self._add(
                [mesh], vehicles.TRAIN, self._along(s, d, bool(side)), None, (length * 0.5, width * 0.6), self.far_cars
            )

    def _person(self, place: NDArray, wear: dict, pace: NDArray, class_id: int = people.PERSON) -> None:
        rng = self.rng
        body = people.body(rng, wear)
        size = body.height / 1.75
        phase = rng.uniform(0, 6) + np.concatenate([[0], np.cumsum(pace[1:] * np.diff(self.time))]) * np.pi / (
            0.72 * size
        )
        angles = people.walking(phase, np.clip(pace / 1.3, 0, 1.25))
        angles[:, 5:9] += rng.normal(0, 0.08, 4)
        if rng.random() < 0.12:
            angles[:, 6], angles[:, 8] = 0.5, 1.9
        limbs = np.diag([size, size, size, 1]) @ people.limb_poses(angles, body.width)
        parts = [[level[p] for p in people.PARTS] for level in (body.limbs, body.coarse)]
        self._add(parts[0], class_id, place, limbs, (0.35, 0.3), self.far_people, parts[1])

    def _pedestrians(self) -> None:
        rng, sec, t = self.rng, self.world.section, self.time
        rate = rng.uniform(*self.scenario.walkers)
        wardrobe = [people.sample_clothes(rng) for _ in range(2)]
        reach = float(self.ego[-1]) + self.far_people
        for side in (0, 1):
            near, far = sec.walk(side)
            left = rate * (reach + 10) / 10 / 2
            while left > 0:
                group = int(rng.choice([1, 2, 3, 5], p=[0.55, 0.27, 0.12, 0.06]))
                same = wardrobe[rng.integers(2)] if rng.random() < self.scenario.alike else None
                s0, way = rng.uniform(-5, reach), rng.choice([-1.0, 1.0])
                speed = 0.0 if rng.random() < 0.18 else rng.uniform(0.7, 1.7)
                d0 = rng.uniform(near + 0.4, far - 0.3)
                for _ in range(group):
                    s = s0 + rng.normal(0, 0.7 if group > 1 else 0) + way * speed * t
                    d = np.clip(d0 + rng.normal(0, 0.5), near + 0.25, far - 0.2) + 0.1 * np.sin(
                        t * 0.5 + rng.uniform(0, 6)
                    )
                    place = self._along(s, sec.d(side, d), way < 0)
                    place[:, 2] = self.world.path.turn(s) + (np.pi if way < 0 else 0)
                    if not speed:
                        place[:, 2] = rng.uniform(0, 6.28)
                    self._person(place, same or people.sample_clothes(rng), np.full(len(t), speed))
                left -= group

    def _crossing_pedestrians(self) -> None:
        """People who cross the road ahead of the camera."""
        rng, sec, t = self.rng, self.world.section, self.time
        rate = rng.uniform(*self.scenario.walkers)
        spots = [c.s - c.half - 3.5 for c in self.world.crossings]
        for _ in range(int(1 + rate * (0.5 + (self.ego[-1] + 25) / 45))):
            speed = rng.uniform(0.9, 1.9)
            a, b = -(sec.edge(0) + 1.5), sec.edge(1) + 1.5
            if rng.random() < 0.5:
                a, b = b, a
            duration = abs(b - a) / speed
            begin = rng.uniform(-0.5 * duration, max(t[-1], 1))
            done = min(begin + duration, t[-1])
            ego_done = float(np.interp(done, t, self.ego))
            s = ego_done + rng.uniform(6, 32)
            if rng.random() < 0.5:
                ahead = [x for x in spots if 6 < x - ego_done < 35]
                s = float(ahead[rng.integers(len(ahead))]) + rng.normal(0, 1) if ahead else s
            same = people.sample_clothes(rng) if rng.random() < self.scenario.alike else None
            for k in range(int(rng.choice([1, 2, 3], p=[0.7, 0.2, 0.1]))):
                part = np.clip((t - begin) / duration, 0, 1)
                pace = np.where((part > 0) & (part < 1), speed, 0.0)
                d = a + (b - a) * part
                place = np.empty((len(t), 3))
                place[:, :2] = self.world.path.at(s + 0.8 * k + rng.normal(0, 0.2), sec.mirror * d)
                turn = self.world.path.turn(s) + np.pi / 2 * np.sign(b - a) * sec.mirror
                place[:, 2] = turn
                self._person(place, same or people.sample_clothes(rng), pace)

    def _crossing_riders(self) -> None:
        """Riders who cross the road ahead of the camera, seen from the side."""
        rng, sec, t = self.rng, self.world.section, self.time
        for _ in range(rng.poisson(0.4 * self.scenario.riders)):
            pace = rng.uniform(2.0, 5.0)
            half = (sec.edge(0) + sec.edge(1)) / 2 + 2
            when = rng.uniform(0, max(t[-1], 1))
            s = float(np.interp(when, t, self.ego)) + rng.uniform(7, 28)
            way = rng.choice([-1.0, 1.0])
            d = way * (t - when) * pace + rng.uniform(-0.7, 0.7) * half
            place = np.empty((len(t), 3))
            place[:, :2] = self.world.path.at(s, d)
            place[:, 2] = self.world.path.turn(s) + way * np.pi / 2
            place[np.abs(d) > half + 4] = np.nan
            self._two_wheeler(place, pace)


def _collide(one: NDArray, half: tuple[float, float], other: NDArray, half_other: tuple[float, float]) -> bool:
    """Whether two vehicles overlap in some frame; each is approximated by three discs."""
    reach = half[1] + half_other[1]
    for a in (-0.65, 0.0, 0.65):
        p = one[:, :2] + a * half[0] * np.stack([np.cos(one[:, 2]), np.sin(one[:, 2])], 1)
        for b in (-0.65, 0.0, 0.65):
            q = other[:, :2] + b * half_other[0] * np.stack([np.cos(other[:, 2]), np.sin(other[:, 2])], 1)
            if np.any(((p - q) ** 2).sum(1) < reach**2):
                return True
    return False
