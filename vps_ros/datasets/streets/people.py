"""People: articulated bodies with random clothes that walk, stand or ride."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from vps_ros.datasets.streets.mesh import Mesh, ball, box, join, prism

PERSON, RIDER = 11, 12
PARTS = ("trunk", "thigh_l", "thigh_r", "shin_l", "shin_r", "arm_l", "arm_r", "fore_l", "fore_r")
HIP, _KNEE, _SHOULDER, _ELBOW = 0.93, 0.5, 1.43, 0.3
"""Heights of the joints of a person 1.75 m tall, and the length of an upper arm; metres."""
_SKIN = np.array([(0.75, 0.55, 0.44), (0.65, 0.45, 0.34), (0.5, 0.33, 0.23), (0.3, 0.19, 0.13), (0.8, 0.62, 0.52)])
_HAIR = np.array([(0.04, 0.03, 0.03), (0.16, 0.1, 0.06), (0.4, 0.28, 0.14), (0.45, 0.44, 0.42), (0.1, 0.08, 0.07)])
_CLOTH = np.array(
    [
        (0.05, 0.05, 0.06), (0.08, 0.1, 0.18), (0.25, 0.25, 0.27), (0.8, 0.8, 0.78), (0.5, 0.08, 0.08),
        (0.12, 0.25, 0.5), (0.2, 0.3, 0.18), (0.6, 0.5, 0.35), (0.75, 0.6, 0.1), (0.55, 0.3, 0.4), (0.35, 0.22, 0.14),
        (0.1, 0.4, 0.42), (0.75, 0.3, 0.08), (0.5, 0.52, 0.55),
    ]
)  # fmt: skip
_TROUSERS = np.array([(0.05, 0.05, 0.06), (0.1, 0.13, 0.22), (0.16, 0.2, 0.3), (0.3, 0.28, 0.25), (0.45, 0.38, 0.28)])


@dataclass(frozen=True)
class Body:
    """Limb meshes, each in the frame of its own joint, for a person 1.75 m tall; `coarse` ones have fewer triangles."""

    limbs: dict[str, Mesh]
    coarse: dict[str, Mesh]
    height: float
    width: float


def sample_clothes(rng: Generator) -> dict:
    """Colours and clothes of a person; people with the same ones look alike."""
    return {
        "skin": _SKIN[rng.integers(len(_SKIN))],
        "hair": _HAIR[rng.integers(len(_HAIR))],
        "top": _CLOTH[rng.integers(len(_CLOTH))] * rng.uniform(0.8, 1.2),
        "legs": _TROUSERS[rng.integers(len(_TROUSERS))] * rng.uniform(0.7, 1.3),
        "shoes": _CLOTH[rng.choice([0, 2, 3, 10])] * 0.8,
        "coat": rng.random() < 0.35,
        "skirt": rng.random() < 0.12,
        "shorts": rng.random() < 0.15,
        "sleeves": rng.random() < 0.65,
        "long_hair": rng.random() < 0.4,
        "backpack": rng.random() < 0.2,
        "bag": rng.random() < 0.2,
        "hat": rng.random() < 0.12,
        "second": _CLOTH[rng.integers(len(_CLOTH))],
    }


def body(rng: Generator, wear: dict, class_id: int = PERSON, helmet: bool = False, child: float = 0.1) -> Body:
    """A body in these clothes; height and girth vary."""
    height = rng.uniform(1.05, 1.4) if rng.random() < child else float(np.clip(rng.normal(1.73, 0.09), 1.5, 1.98))
    w = float(np.clip(rng.normal(1.0, 0.1), 0.85, 1.35))
    fine, coarse = (_limbs(wear, w, helmet, detail) for detail in (True, False))
    levels = [
        {k: m.weathered(rng, 0.08, 0.15).of_class(class_id) for k, m in limbs.items()} for limbs in (fine, coarse)
    ]
    return Body(levels[0], levels[1], height, w)


def _limbs(wear: dict, w: float, helmet: bool, fine: bool) -> dict[str, Mesh]:
    top, legs, skin = wear["top"], wear["legs"], wear["skin"]
    many, few, round_ = (8, 6, 7) if fine else (5, 4, 4)
    z = -HIP
    shape = (0.155, 0.15, 0.14, 0.165, 0.19, 0.1) if fine else (0.155, 0.14, 0.19, 0.1)
    trunk = [
        prism((0, 0, HIP + z - 0.08), (0, 0, _SHOULDER + z + 0.05), shape, top, many).moved(scale=(0.72, 1.15 * w, 1)),
        ball((0.01, 0, 1.635 + z), (0.1, 0.078, 0.12), skin, sides=round_),
        ball((-0.02, 0, 1.665 + z), (0.105, 0.086, 0.11), wear["hair"], sides=round_),
        prism((0, 0, HIP + z - 0.12), (0, 0, HIP + z + 0.08), (0.13, 0.165, 0.15), legs, many).moved(
            scale=(0.8, 1.08 * w, 1)
        ),
    ]
    if fine:
        trunk.append(prism((0, 0, 1.44 + z), (0, 0, 1.56 + z), (0.06, 0.055), skin, 5))
        collar = wear["second"] if wear["coat"] else top * 0.8
        trunk.append(prism((0, 0, 1.43 + z), (0, 0, 1.5 + z), (0.09, 0.075), collar, 6))
    if wear["coat"]:
        coat = prism((0, 0, 0.62 + z), (0, 0, 1.2 + z), (0.2, 0.185, 0.17), top, many)
        trunk.append(coat.moved(scale=(0.85, 1.08 * w, 1)))
    if wear["skirt"]:
        cone = prism((0, 0, 0.52 + z), (0, 0, 1.02 + z), (0.27, 0.22, 0.16), legs, many)
        trunk.append(cone.moved(scale=(0.9, w, 1)))
    if wear["long_hair"]:
        trunk.append(ball((-0.06, 0, 1.53 + z), (0.06, 0.085, 0.16), wear["hair"], sides=5))
    if wear["backpack"]:
        trunk.append(box((-0.32, -0.15, 1.02 + z), (-0.12, 0.15, 1.45 + z), wear["second"] * 0.8, bottom=True))
    if wear["bag"]:
        trunk.append(box((-0.08, 0.22 * w, 0.7 + z), (0.16, 0.32 * w, 0.98 + z), wear["second"] * 0.7, bottom=True))
    if helmet:
        trunk.append(ball((0, 0, 1.69 + z), (0.13, 0.11, 0.11), wear["second"], sides=round_))
    elif wear["hat"]:
        trunk.append(ball((0, 0, 1.71 + z), (0.12, 0.105, 0.08), wear["second"], sides=round_))
    bare = wear["skirt"] or wear["shorts"]
    stations = (0.095, 0.088, 0.062) if fine else (0.095, 0.062)
    thigh = prism((0, 0, 0.02), (0, 0, _KNEE - HIP), stations, skin if wear["skirt"] else legs, few)
    shin = [prism((0, 0, 0), (0, 0, -0.43), (0.062, 0.058, 0.042)[:: 1 if fine else 2], skin if bare else legs, few)]
    shin.append(box((-0.07, -0.045, -0.5), (0.19, 0.045, -0.42), wear["shoes"]))
    arm = prism((0, 0, 0.02), (0, 0, -0.3), (0.065, 0.055, 0.045)[:: 1 if fine else 2], top, few)
    fore = [prism((0, 0, 0), (0, 0, -0.25), (0.045, 0.038), top if wear["sleeves"] else skin, few - 1)]
    fore.append(prism((0.01, 0, -0.24), (0.01, 0, -0.36), (0.04, 0.045, 0.02), skin, 4))
    limbs = {"trunk": join(trunk)}
    for side in ("_l", "_r"):
        limbs |= {"thigh" + side: thigh, "shin" + side: join(shin), "arm" + side: arm, "fore" + side: join(fore)}
    return limbs


def walking(phase: NDArray, stride: NDArray) -> NDArray:
    """Joint angles [P, 10] of a walk: phase in radians, stride 0 (stands) to 1 (walks fast).

    Columns: lean, hips left/right, knees left/right, shoulders left/right, elbows left/right, bob in metres.
    """
    swing = 0.52 * stride
    left, right = np.sin(phase), np.sin(phase + np.pi)
    knee_l = 0.08 + 0.95 * stride * np.maximum(0, np.cos(phase)) ** 1.2
    knee_r = 0.08 + 0.95 * stride * np.maximum(0, np.cos(phase + np.pi)) ** 1.2
    return np.stack(
        [
            0.05 * stride, swing * left, swing * right, knee_l, knee_r, -0.75 * swing * left, -0.75 * swing * right,
            0.15 + 0.45 * stride * (1 - 0.5 * left), 0.15 + 0.45 * stride * (1 - 0.5 * right),
            -0.035 * stride * np.abs(np.sin(phase)),
        ],
        axis=-1,
    )  # fmt: skip


def riding(rng: Generator, time: NDArray, motor: bool) -> tuple[NDArray, tuple[float, float]]:
    """Joint angles [P, 10], as of `walking`, of somebody who rides, and where the hips are (x, z) above the wheels.

    Hands and feet reach the handlebar and the pedals of `vehicles`; a cyclist pedals about once a second.
    """
    if motor:
        hips, bar, lean = (rng.uniform(-0.25, -0.1), 0.88), (0.36, 1.06), rng.uniform(0.0, 0.35)
        feet = np.tile((rng.uniform(0.0, 0.2), 0.42), (2, len(time), 1))
    else:
        hips, bar, lean = (-0.25, 1.03), (0.3, 1.06), rng.uniform(0.12, 0.75)
        beat = time * (2 * np.pi * rng.uniform(0.7, 1.2)) + rng.uniform(0, 6)
        stroke = np.stack([beat, beat + np.pi])
        feet = np.stack([-0.12 + 0.17 * np.cos(stroke), 0.39 - 0.17 * np.sin(stroke)], -1)
    shoulder = hips[0] + 0.5 * np.sin(lean), hips[1] + 0.5 * np.cos(lean)
    arm, raised, elbow = _reach(np.array(bar) - shoulder, _ELBOW, 0.33)
    angles = np.zeros((len(time), 10))
    angles[:, 0] = lean
    for i in (0, 1):
        leg, lifted, knee = _reach(feet[i] - (hips[0], hips[1] - 0.02), HIP - _KNEE, 0.45)
        angles[:, 1 + i], angles[:, 3 + i] = leg + lifted, knee
        angles[:, 5 + i], angles[:, 7 + i] = arm - raised + lean, elbow
    return angles, hips


def _reach(to: NDArray, first: float, second: float) -> tuple[NDArray, NDArray, NDArray]:
    """A limb of two segments from the origin to `to` [..., 2] (x forward, z up), as far as it reaches.

    Returns angles: of the target from straight down, between target and first segment, between the two segments.
    """
    far = np.clip(np.hypot(to[..., 0], to[..., 1]), abs(first - second) + 0.02, first + second - 0.01)
    aside = np.arccos((first**2 + far**2 - second**2) / (2 * first * far))
    bend = np.pi - np.arccos((first**2 + second**2 - far**2) / (2 * first * second))
    return np.arctan2(to[..., 0], -to[..., 1]), aside, bend


def limb_poses(angles: NDArray, body_width: float = 1.0) -> NDArray:
    """Poses [P, 9, 4, 4] of PARTS in the body's frame (x forward, z up, hips at `HIP` metres for height 1.75)."""
    p = len(angles)
    out = np.tile(np.eye(4), (p, len(PARTS), 1, 1))

    def turn(a: NDArray) -> NDArray:
        m = np.tile(np.eye(4), (p, 1, 1))
        m[:, 0, 0] = m[:, 2, 2] = np.cos(a)
        m[:, 0, 2], m[:, 2, 0] = np.sin(a), -np.sin(a)
        return m

    def at(x: float, y: float, z: float) -> NDArray:
        m = np.eye(4)
        m[:3, 3] = x, y, z
        return m

    hips = np.tile(at(0, 0, HIP), (p, 1, 1))
    hips[:, 2, 3] += angles[:, 9]
    trunk = hips @ turn(angles[:, 0])
    out[:, 0] = trunk
    for i, y in ((0, 0.095), (1, -0.095)):
        y *= body_width
        thigh = hips @ at(0, y, -0.02) @ turn(-angles[:, 1 + i])
        out[:, 1 + i] = thigh
        out[:, 3 + i] = thigh @ at(0, 0, _KNEE - HIP) @ turn(angles[:, 3 + i])
        arm = trunk @ at(0, np.sign(y) * 0.225 * body_width, _SHOULDER - HIP) @ turn(-angles[:, 5 + i])
        out[:, 5 + i] = arm
        out[:, 7 + i] = arm @ at(0, 0, -_ELBOW) @ turn(-angles[:, 7 + i])
    return out
