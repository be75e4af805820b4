"""One drive's world in the renderer, and the camera that moves through it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from vps_ros.datasets.streets import truth
from vps_ros.datasets.streets.actors import Actor, Cast, Surface
from vps_ros.datasets.streets.effects import Camera
from vps_ros.datasets.streets.layout import build
from vps_ros.datasets.streets.light import draw_light, sky_picture
from vps_ros.datasets.streets.mesh import Mesh, quads
from vps_ros.datasets.streets.render import Renderer
from vps_ros.datasets.streets.scenario import Scenario
from vps_ros.datasets.streets.stage import Stage, dome

_SKY = 10
_CLASS_OF_CODE = np.concatenate([[_SKY], np.arange(255)]).astype(np.uint8)


class Scene:
    """Attributes:
    time: [F] seconds.
    intrinsics: [3, 3].
    poses: [F, 4, 4] camera to world; columns right, forward, up, position.
    """

    def __init__(self, rng: Generator, scenario: Scenario, frames: int, size: tuple[int, int]) -> None:
        self.size = size
        w, h = size
        self.focal = w * float(rng.uniform(0.5, 0.68))
        self.half_view = w / 2 / self.focal + 0.03
        reach = self.focal / 371
        self.far_cars, self.far_people = (float(np.clip(70 * reach, 30, 110)), float(np.clip(45 * reach, 22, 75)))
        # The rasteriser's column 2j and row 2i show the ray through (j + 0.25, i + 0.5), measured from the corner.
        self.intrinsics = np.array([[self.focal, 0, w / 2 - 0.25], [0, self.focal, h / 2 - 0.5], [0, 0, 1.0]])
        rate = float(rng.uniform(*scenario.rate))
        self.time = np.arange(frames) / rate
        night = bool(rng.random() < scenario.night)
        light = draw_light(rng, night)
        speed = self._speed(rng, scenario)
        ego = np.concatenate([[0], np.cumsum(speed[1:] * np.diff(self.time))])
        world = build(rng, scenario, float(ego[-1]), light)
        self.light = replace(light, lamps=np.array(world.lamps).reshape(-1, 3))
        section = world.section
        lane = float(section.d(0, (int(rng.integers(section.lanes[0])) + 0.5) * section.lane))
        lane += rng.normal(0, 0.12)
        self._place(rng, world.path, ego, lane)
        lights = night or light.night > 0 or rng.random() < 0.15
        self.actors: list[Actor] = Cast(
            rng, scenario, world, self.time, ego, lane, bool(lights), (self.far_cars, self.far_people), self.ground_pose
        ).make()
        horizon = h / 2 - self.focal * np.tan(self.pitch)
        self.camera = Camera(rng, self.light, size, self.focal, horizon)
        self.renderer = Renderer(size, self.focal)
        self.noise_seed = int(rng.integers(2**31))
        self.triangles = truth.Triangles()
        self.stage = Stage(self.renderer, world, self.light, self.far_cars)
        self.renderer.background(self.light.horizon)
        self._dome = dome(self.renderer, sky_picture(rng, self.light))
        self._moving: list[Any] = []
        self.camera.expose(self._paint(0))

    def _speed(self, rng: Generator, scenario: Scenario) -> NDArray:
        """Metres per second [F]: about even, with a stop now and then."""
        base = rng.uniform(*scenario.speed)
        t = self.time
        v = base * (1 + 0.25 * np.sin(t * rng.uniform(0.1, 0.6) + rng.uniform(0, 6)))
        if rng.random() < (0.08 if scenario.turns > 0.9 else 0.25):
            at, hold = rng.uniform(0, max(t[-1], 1)), rng.uniform(1, 3)
            gap = np.maximum(np.abs(t - at) - hold, 0)
            v *= np.clip(gap / 2.0, 0, 1)
        return np.clip(v, 0, None)

    def _place(self, rng: Generator, path: Any, ego: NDArray, lane: float) -> None:
        """Camera poses: height, pitch and roll with the shake of a vehicle."""
        n = len(ego)
        height = float(rng.uniform(1.25, 2.1)) if rng.random() < 0.85 else float(rng.uniform(0.6, 1.25))
        self.pitch = float(rng.normal(-0.015, 0.028))
        wobble = _smooth(rng, n, 2) * 0.0035 + _smooth(rng, n, 12) * 0.004
        roll = rng.normal(0, 0.01) + _smooth(rng, n, 8) * 0.006
        bounce = _smooth(rng, n, 3) * 0.012
        yaw = path.turn(ego) + rng.normal(0, 0.015) + _smooth(rng, n, 6) * 0.004
        moving = np.clip(np.gradient(ego) * 8, 0, 1) if n > 1 else np.ones(1)
        pitch = self.pitch + wobble * moving
        xy = path.at(ego, lane + _smooth(rng, n, 15) * 0.1)
        self.ground_pose = np.concatenate([xy, yaw[:, None]], 1)
        self.yaw_rate = np.gradient(np.unwrap(yaw), self.time) if n > 1 else np.zeros(1)
        self.poses = np.tile(np.eye(4), (n, 1, 1))
        for i in range(n):
            cy, sy, cp, sp, cr, sr = (f(a) for a in (yaw[i], pitch[i], roll[i] * moving[i]) for f in (np.cos, np.sin))
            forward = np.array((cy * cp, sy * cp, sp))
            right0 = np.array((sy, -cy, 0.0))
            up0 = np.cross(right0, forward)
            right, up = cr * right0 + sr * up0, cr * up0 - sr * right0
            self.poses[i, :3, 0], self.poses[i, :3, 1], self.poses[i, :3, 2] = (right, forward, up)
            self.poses[i, :3, 3] = (*xy[i], height + bounce[i] * moving[i])

    def optical_pose(self, i: int) -> NDArray:
        """[4, 4] camera (right, down, forward) to world."""
        p = self.poses[i]
        out = np.eye(4)
        out[:3, 0], out[:3, 1], out[:3, 2], out[:3, 3] = (p[:3, 0], -p[:3, 2], p[:3, 1], p[:3, 3])
        return out

    def surfaces(self, i: int) -> list[tuple[Actor, Surface]]:
        """Moving things that may be seen in frame i."""
        here = self.ground_pose[i]
        return [(a, a.surface(i, a.distant(i, here))) for a in self.actors if a.seen(i, here, self.half_view)]

    def _pose(self, i: int) -> None:
        for handle in self._moving:
            self.renderer.remove(handle)
        self._moving = []
        self._dome.set_pos(*(float(v) for v in self.poses[i, :3, 3]))
        self.stage.show(self.ground_pose[i, :2])
        seen = self.surfaces(i)
        if seen:
            points, normals, colors, codes, outline, faces = _merge([s for _, s in seen])
            uv = np.zeros((len(points), 2), np.float32)
            shaded = self.light.shade(points, normals, colors, self.stage.shade.sunlit(points))
            self._moving.append(self.renderer.add("paint", points, shaded, uv, faces))
            self._moving.append(self.renderer.add("truth", points, codes, uv, outline))
            here = [a for a, _ in seen]
            self._moving.append(self.stage.shadow(self._shadows(i, here), "blob", 0.7))
            if self.light.sunny:
                thrown = np.zeros((len(here), 4, 3))
                thrown[..., :2] = [self.light.thrown(a.place[i], a.shadow, 0.85 * a.height) for a in here]
                self._moving.append(self.stage.shadow(quads(thrown), "blob", 0.75 * self.light.shadow))

    def _shadows(self, i: int, actors: list[Actor]) -> Mesh:
        """The patch under each actor."""
        place = np.array([a.place[i] for a in actors])
        half = np.array([a.shadow for a in actors])
        unit = np.stack([np.cos(place[:, 2]), np.sin(place[:, 2])], 1)
        along, aside = (unit * half[:, :1], np.stack([-unit[:, 1], unit[:, 0]], 1) * half[:, 1:])
        corners = np.zeros((len(actors), 4, 3))
        for k, (x, y) in enumerate(((-1, -1), (1, -1), (1, 1), (-1, 1))):
            corners[:, k, :2] = place[:, :2] + x * along + y * aside
        return quads(corners)

    def render(self, i: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint16]]:
        """Image, semantic and instance map of frame i; frames may be asked for in any order."""
        painted = self._paint(i)
        ids = self.renderer.render("truth", self.poses[i])[::2, ::2]
        semantic = _CLASS_OF_CODE[ids[..., 2]]
        instance = ids[..., 1].astype(np.uint16) << 8 | ids[..., 0]
        depth = self.geometry(i)[0] if self.light.fog else None
        rng = np.random.default_rng([self.noise_seed, i])
        image = self.camera.develop(rng, painted, float(self.yaw_rate[i]), depth)
        return image, semantic, instance

    def _paint(self, i: int) -> NDArray[np.uint8]:
        self._pose(i)
        seen = self.renderer.render("paint", self.poses[i])
        small = cv2.resize(np.ascontiguousarray(seen), self.size, interpolation=cv2.INTER_AREA)
        return cv2.cvtColor(small, cv2.COLOR_BGRA2RGB)

    def geometry(self, i: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Depth and backward flow of frame i."""
        return truth.geometry(self, i)


def _merge(surfaces: list[Surface]) -> Surface:
    counts = np.cumsum([0] + [len(s[0]) for s in surfaces])
    points, normals, colors, codes = (np.concatenate([s[k] for s in surfaces]) for k in range(4))
    outline, faces = (np.concatenate([s[k] + n for s, n in zip(surfaces, counts, strict=False)]) for k in (4, 5))
    return points, normals, colors, codes, outline, faces


def _smooth(rng: Generator, n: int, width: float) -> NDArray:
    """[n] noise of deviation about 1 that changes over `width` frames."""
    raw = rng.standard_normal(n + int(6 * width) + 1)
    kernel = np.exp(-0.5 * (np.arange(-3 * width, 3 * width + 1) / width) ** 2)
    kernel /= np.sqrt((kernel**2).sum())
    return np.convolve(raw, kernel, "same")[int(3 * width) : int(3 * width) + n]
