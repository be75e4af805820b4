"""The memory buffers of Video-kMaX table 5b, each against answers worked out by hand from its equations."""

import math
from dataclasses import replace

import pytest

from support.trackers_scene import (
    HEIGHT,
    RATE,
    WIDTH,
    at,
    ids_of,
    render,
    tracker,
)


def unit(degrees, length=1.0):
    return (length * math.cos(math.radians(degrees)), length * math.sin(math.radians(degrees)))


def test_location_pairs_up_to_the_distance_of_equation_5():
    """alpha 0.7 at T 1: two sides 0.40 of the width away give exp(-0.32) = 0.726, 0.45 give exp(-0.405) = 0.667."""
    near, far = 0.40 * WIDTH, 0.45 * WIDTH
    assert ids_of(tracker("location"), [[at(0)], [at(round(near))]]) == [{1: 1}, {1: 1}]
    assert ids_of(tracker("location"), [[at(0)], [at(round(far))]]) == [{1: 1}, {1: 2}]


def test_location_divides_by_width_and_height_as_the_paper_does():
    """0.40 of the height counts as much as 0.40 of the width."""
    track = tracker("location")
    frame, segmentation, _ = render([at(0, 0)])
    track.step(frame, segmentation)
    frame, segmentation, _ = render([at(0, round(0.40 * HEIGHT))], 0)
    (seen,) = track.step(replace(frame, stamp=RATE), segmentation)
    step = round(0.40 * HEIGHT) / HEIGHT
    assert seen.track_id == 1 and seen.association_score == pytest.approx(math.exp(-2 * step**2), rel=1e-5)


def test_location_does_not_look_at_appearance():
    """Two objects exchange their embeddings and stay where they are."""
    one, two = at(10, embedding=(1.0, 0.0)), at(70, embedding=(0.0, 1.0), name=2)
    swapped = [replace(one, embedding=two.embedding), replace(two, embedding=one.embedding)]
    assert ids_of(tracker("location"), [[one, two], swapped]) == [{1: 1, 2: 2}] * 2


def test_location_gives_the_best_sum_not_the_nearest_pair():
    """A row of three moves by half its spacing: each step right is one, two or none; Hungarian keeps the row."""
    row = [at(10 + 30 * n, name=n) for n in range(3)]
    moved = [at(22 + 30 * n, name=n) for n in range(3)]
    assert ids_of(tracker("location"), [row, moved]) == [{0: 1, 1: 2, 2: 3}] * 2


def test_location_remembers_for_ten_frames():
    for hidden, expected in ((9, 1), (10, 2)):
        frames = [[at(10)], *[[at(90, class_id=11, name=2)]] * hidden, [at(10)]]
        assert ids_of(tracker("location"), frames)[-1][1] == (1 if expected == 1 else 3)


def test_appearance_pairs_by_cosine_wherever_the_object_is():
    """alpha 0.8: cos 36 = 0.809, cos 37 = 0.799; the length of the embedding does not matter."""
    for degrees, expected in ((36, 1), (37, 2)):
        frames = [[at(0, embedding=unit(0))], [at(100, 40, embedding=unit(degrees, 7.0))]]
        assert ids_of(tracker("appearance"), frames)[1] == {1: expected}


def test_appearance_averages_with_lambda():
    """0.2 (1, 0) + 0.8 (cos 30, sin 30) points to 24.2 degrees: 59 is 34.8 away, 61.5 is 37.3."""
    for degrees, expected in ((59, 1), (61.5, 2)):
        frames = [[at(0, embedding=unit(d))] for d in (0, 30, degrees)]
        assert ids_of(tracker("appearance"), frames)[2] == {1: expected}


def test_appearance_follows_objects_that_exchange_places():
    one, two = at(10, embedding=(1.0, 0.0)), at(70, embedding=(0.0, 1.0), name=2)
    swapped = [replace(one, box=two.box), replace(two, box=one.box)]
    track = tracker("appearance")
    assert ids_of(track, [[one, two], swapped]) == [{1: 1, 2: 2}] * 2


def test_appearance_forgets_after_one_frame():
    """tau 1 is the best of naive-MB; with tau 2 a frame without the object is survived."""
    frames = [[at(10, embedding=(1.0, 0.0))], [], [at(10, embedding=(1.0, 0.0))]]
    assert ids_of(tracker("appearance"), frames)[2] == {1: 2}
    assert ids_of(tracker("appearance", memory_tau=2.0), frames)[2] == {1: 1}


def test_hila_mb_multiplies():
    """A quarter of the width away: exp(-0.125) = 0.882; times cos 36 = 0.714 > 0.7, times cos 38 = 0.695."""
    for degrees, expected in ((36, 1), (38, 2)):
        frames = [[at(0, embedding=unit(0))], [at(WIDTH // 4, embedding=unit(degrees))]]
        assert ids_of(tracker("hila_mb"), frames)[1] == {1: expected}


def test_hila_mb_predicts_at_constant_velocity():
    """Equation 4: hidden at 8 px a frame for three frames, two alike objects; the one on the path is the old one."""
    look = (1.0, 0.0)
    frames = [
        [at(0, embedding=look)],
        [at(8, embedding=look)],
        *[[]] * 3,
        [at(40, embedding=look), at(4, embedding=look, name=2)],
    ]
    assert ids_of(tracker("hila_mb"), frames)[-1] == {1: 1, 2: 2}
