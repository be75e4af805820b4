"""The world of one drive in the renderer, and its camera."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from vps_ros.datasets.streets.actors import Actor, ActorSampler, Surface
from vps_ros.datasets.streets.effects import Camera
from vps_ros.datasets.streets.geometry import GeometryPass
from vps_ros.datasets.streets.layout import build
from vps_ros.datasets.streets.light import sample_light, sky_texture
from vps_ros.datasets.streets.mesh import Mesh, quads
from vps_ros.datasets.streets.render import Renderer
from vps_ros.datasets.streets.scenario import Scenario
from vps_ros.datasets.streets.static_scene import StaticScene, add_sky

_SKY = 10
_CLASS_OF_COLOR = np.concatenate([[_SKY], np.arange(255)]).astype(np.uint8)


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
        # Column 2j and row 2i of the rasteriser show the ray through (j + 0.25, i + 0.5), measured from the corner.
        self.intrinsics = np.array([[self.focal, 0, w / 2 - 0.25], [0, self.focal, h / 2 - 0.5], [0, 0, 1.0]])
        rate = float(rng.uniform(*scenario.rate))
        self.time = np.arange(frames) / rate
        night = bool(rng.random() < scenario.night)
        light = sample_light(rng, night)
        speed = self._sample_speed(rng, scenario)
        ego = np.concatenate([[0], np.cumsum(speed[1:] * np.diff(self.time))])
        world = build(rng, scenario, float(ego[-1]), light)
        self.light = replace(light, lamps=np.array(world.lamps).reshape(-1, 3))
        section = world.section
        lane = float(section.d(0, (int(rng.integers(section.lanes[0])) + 0.5) * section.lane))
        lane += rng.normal(0, 0.12)
        self._sample_poses(rng, world.path, ego, lane)
        lights = night or light.night > 0 or rng.random() < 0.15
        self.actors: list[Actor] = ActorSampler(
            rng, scenario, world, self.time, ego, lane, bool(lights), (self.far_cars, self.far_people), self.ground_pose
        ).sample()
        horizon = h / 2 - self.focal * np.tan(self.pitch)
        self.camera = Camera(rng, self.light, size, self.focal, horizon)
        self.renderer = Renderer(size, self.focal)
        self.noise_seed = int(rng.integers(2**31))
        self.static = StaticScene(self.renderer, world, self.light, self.far_cars)
        self._geometry = GeometryPass(self.renderer, self.static, size, self.intrinsics)
        self.renderer.background(self.light.horizon)
        self._sky = add_sky(self.renderer, sky_texture(rng, self.light))
        self._moving: list[Any] = []
        self.camera.expose(self._render_color(0))

    def _sample_speed(self, rng: Generator, scenario: Scenario) -> NDArray:
        """Metres per second [F]: about constant, in some drives with a stop."""
        base = rng.uniform(*scenario.speed)
        t = self.time
        v = base * (1 + 0.25 * np.sin(t * rng.uniform(0.1, 0.6) + rng.uniform(0, 6)))
        if rng.random() < (0.08 if scenario.turns > 0.9 else 0.25):
            at, hold = rng.uniform(0, max(t[-1], 1)), rng.uniform(1, 3)
            gap = np.maximum(np.abs(t - at) - hold, 0)
            v *= np.clip(gap / 2.0, 0, 1)
        return np.clip(v, 0, None)

    def _sample_poses(self, rng: Generator, path: Any, ego: NDArray, lane: float) -> None:
        """Camera poses: height, pitch and roll with the vibration of a vehicle."""
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
        """Actors that may be visible in frame i, with their triangles."""
        here = self.ground_pose[i]
        return [(a, a.surface(i, a.distant(i, here))) for a in self.actors if a.seen(i, here, self.half_view)]

    def _update(self, i: int) -> None:
        for handle in self._moving:
            self.renderer.remove(handle)
        self._moving = []
        self._sky.set_pos(*(float(v) for v in self.poses[i, :3, 3]))
        self.static.update_visibility(self.ground_pose[i, :2])
        seen = self.surfaces(i)
        if seen:
            points, normals, colors, codes, outline, faces = _merge([s for _, s in seen])
            uv = np.zeros((len(points), 2), np.float32)
            shaded = self.light.shade(points, normals, colors, self.static.shadow_map.sunlit(points))
            self._moving.append(self.renderer.add("color", points, shaded, uv, faces))
            self._moving.append(self.renderer.add("labels", points, codes, uv, outline))
            here = [a for a, _ in seen]
            self._moving.append(self.static.add_shadow(self._shadows(i, here), "blob", 0.7))
            if self.light.sunny:
                corners = np.zeros((len(here), 4, 3))
                corners[..., :2] = [self.light.shadow_outline(a.place[i], a.shadow, 0.85 * a.height) for a in here]
                self._moving.append(self.static.add_shadow(quads(corners), "blob", 0.75 * self.light.shadow))

    def _shadows(self, i: int, actors: list[Actor]) -> Mesh:
        """The shadow under each actor."""
        place = np.array([a.place[i] for a in actors])
        half = np.array([a.shadow for a in actors])
        unit = np.stack([np.cos(place[:, 2]), np.sin(place[:, 2])], 1)
        along, aside = (unit * half[:, :1], np.stack([-unit[:, 1], unit[:, 0]], 1) * half[:, 1:])
        corners = np.zeros((len(actors), 4, 3))
        for k, (x, y) in enumerate(((-1, -1), (1, -1), (1, 1), (-1, 1))):
            corners[:, k, :2] = place[:, :2] + x * along + y * aside
        return quads(corners)

    def render(self, i: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint16]]:
        """Image, semantic and instance map of frame i; frames may be rendered in any order."""
        rendered = self._render_color(i)
        ids = self.renderer.render("labels", self.poses[i])[::2, ::2]
        semantic = _CLASS_OF_COLOR[ids[..., 2]]
        instance = ids[..., 1].astype(np.uint16) << 8 | ids[..., 0]
        depth = self.geometry(i)[0] if self.light.fog else None
        rng = np.random.default_rng([self.noise_seed, i])
        image = self.camera.apply(rng, rendered, float(self.yaw_rate[i]), depth)
        return image, semantic, instance

    def _render_color(self, i: int) -> NDArray[np.uint8]:
        self._update(i)
        seen = self.renderer.render("color", self.poses[i])
        small = cv2.resize(np.ascontiguousarray(seen), self.size, interpolation=cv2.INTER_AREA)
        return cv2.cvtColor(small, cv2.COLOR_BGRA2RGB)

    def geometry(self, i: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Depth and backward flow of frame i; see `GeometryPass.render`."""
        seen = self.surfaces(i)
        moving = [s[0][s[4]].astype(np.float64) for _, s in seen]
        before = []
        for actor, _ in seen if i else ():
            past = actor.surface(i - 1, actor.distant(i, self.ground_pose[i]))
            before.append(past[0][past[4]].astype(np.float64))
        previous = self.optical_pose(i - 1) if i else None
        return self._geometry.render(self.poses[i], self.optical_pose(i), previous, moving, before)


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
