"""YouTube-VIS: truth and results as its JSON files hold them, and as labelled frames."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vps_ros.datasets.rle import from_mask
from vps_ros.datasets.youtube_vis import (
    ObjectTrack,
    ObjectVideo,
    edition,
    find_truth,
    labelled,
    load_results,
    load_truth,
    save_results,
)
from vps_ros.errors import InputError
from vps_ros.taxonomies import YOUTUBE_VIS_2019, YOUTUBE_VIS_2021

PERSON, DOG = 1, 8


def truth():
    """A video of two frames of 2x3: a person in both, a small dog upon it in the second."""
    person = {"size": [2, 3], "counts": [2, 4]}
    dog = {"size": [2, 3], "counts": "222"}
    return {
        "videos": [
            {"id": 7, "height": 2, "width": 3, "length": 2, "file_names": ["a1b2/00000.jpg", "a1b2/00005.jpg"]},
            {"id": 9, "height": 1, "width": 1, "file_names": ["c3/00000.jpg"]},
        ],
        "annotations": [
            {"id": 4, "video_id": 7, "category_id": PERSON, "segmentations": [person, person], "iscrowd": 0},
            {"id": 5, "video_id": 7, "category_id": DOG, "segmentations": [None, dog], "iscrowd": 0},
        ],
        "categories": [{"id": c.id, "name": c.name} for c in YOUTUBE_VIS_2019.classes],
    }


def put(path, document):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    return path


def test_classes_are_those_of_the_editions(tmp_path):
    for taxonomy, first, last in (
        (YOUTUBE_VIS_2019, "person", "tennis_racket"),
        (YOUTUBE_VIS_2021, "airplane", "zebra"),
    ):
        assert [c.id for c in taxonomy.classes] == list(range(1, 41))
        assert (taxonomy.by_id[1].name, taxonomy.by_id[40].name) == (first, last)
        assert len(taxonomy.thing_ids) == 40
        path = put(tmp_path / "one.json", {"categories": [{"id": c.id, "name": c.name} for c in taxonomy.classes]})
        assert edition(path) is taxonomy
    with pytest.raises(InputError, match="categories are those of no known edition"):
        edition(put(tmp_path / "other.json", {"categories": [{"id": 1, "name": "person"}]}))


@pytest.mark.parametrize(
    ("file", "split"),
    [("valid.json", None), ("valid.json", "val"), ("train.json", "train"), ("valid/instances.json", None)],
)
def test_layouts_that_users_have(tmp_path, file, split):
    assert find_truth(put(tmp_path / file, truth()).parents[file.count("/")], split) == tmp_path / file
    with pytest.raises(InputError, match=r"no truth of split 'test'; expected test\.json or test/instances\.json"):
        find_truth(tmp_path, "test")


def test_objects_by_hand(tmp_path):
    video, other = load_truth(put(tmp_path / "valid.json", truth()), YOUTUBE_VIS_2019)
    assert (video.name, video.frames, other.tracks) == ("a1b2", ("00000", "00005"), ())
    person, dog = video.tracks
    assert (person.class_id, dog.class_id, dog.masks[0], person.score) == (PERSON, DOG, None, None)
    assert dog.masks[1].mask().tolist() == [[False, True, False], [False, True, False]]
    frames = labelled((video,), "valid.json")["a1b2"]
    semantic, instance = frames["00005"].read()
    assert semantic.tolist() == [[255, DOG, PERSON], [255, DOG, PERSON]], "the smaller one is seen"
    assert instance.tolist() == [[0, 5, 4], [0, 5, 4]]
    assert frames["00000"].read().instance.tolist() == [[0, 4, 4], [0, 4, 4]]


masks = hnp.arrays(bool, (3, 4))


@given(st.lists(st.tuples(st.sampled_from([PERSON, DOG]), st.floats(0, 1), masks, st.none() | masks), max_size=4))
def test_results_come_back_as_they_were_written(tmp_path_factory, objects):
    path = tmp_path_factory.mktemp("vis") / "results.json"
    tracks = tuple(
        ObjectTrack(i, c, tuple(None if m is None else from_mask(m) for m in seen), score)
        for i, (c, score, *seen) in enumerate(objects, 1)
    )
    video = ObjectVideo(7, "a1b2", ("00000", "00005"), 3, 4, tracks)
    save_results(path, [video])
    (back,) = load_results(path, [ObjectVideo(7, "a1b2", ("00000", "00005"), 3, 4, ())], YOUTUBE_VIS_2019)
    assert [(t.id, t.class_id, t.score) for t in back.tracks] == [(t.id, t.class_id, t.score) for t in tracks]
    for ours, theirs in zip(tracks, back.tracks, strict=True):
        for a, b in zip(ours.masks, theirs.masks, strict=True):
            assert (a is None) == (b is None)
            assert a is None or (a.mask() == b.mask()).all()


def test_the_higher_score_is_seen():
    full = from_mask(np.ones((1, 2), bool))
    tracks = (ObjectTrack(1, PERSON, (full,), 0.9), ObjectTrack(2, DOG, (from_mask(np.array([[1, 0]], bool)),), 0.4))
    frame = labelled([ObjectVideo(1, "v", ("0",), 1, 2, tracks)], "results.json")["v"]["0"]
    assert frame.read().instance.tolist() == [[1, 1]]


BAD = [
    (lambda d: d.pop("videos"), "the document lacks 'videos'"),
    (lambda d: d["videos"][1].update(id=7), r"videos\[1\] has id 7, which another"),
    (lambda d: d["videos"][0].update(length=3), r"videos\[0\] has length 3, but 2 file_names"),
    (lambda d: d["videos"][0].update(file_names=["a/0.jpg", "b/1.jpg"]), r"videos\[0\] has file_names that are not"),
    (lambda d: d["videos"][0].update(file_names=["a/0.jpg", "a/0.jpg"]), r"videos\[0\] names a frame twice"),
    (lambda d: d["videos"][0].update(height="2"), r"videos\[0\].height is '2', not int"),
    (lambda d: d["annotations"][0].update(video_id=8), r"annotations\[0\] has video_id 8, which is no video"),
    (lambda d: d["annotations"][1].update(id=4), r"annotations\[1\] has id 4; ids are from 1 on, each once"),
    (
        lambda d: d["annotations"][1].update(category_id=41),
        r"annotations\[1\] has category_id 41, not one of youtube-vis",
    ),
    (lambda d: d["annotations"][1]["segmentations"].pop(), r"annotations\[1\] has 1 segmentations, .* 2 frames"),
    (
        lambda d: d["annotations"][0].update(segmentations=[None, [[1, 2]]]),
        r"segmentations\[1\]: is no run-length mask",
    ),
    (lambda d: d["videos"][0].update(height=3), r"segmentations\[0\] is 3x2, but its video is 3x3"),
]


@pytest.mark.parametrize(("spoil", "reason"), BAD, ids=[r for _, r in BAD])
def test_what_is_wrong_in_the_json_is_told_with_its_place(tmp_path, spoil, reason):
    document = truth()
    spoil(document)
    path = put(tmp_path / "valid.json", document)
    with pytest.raises(InputError, match=reason) as error:
        load_truth(path, YOUTUBE_VIS_2019)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"score": None}, r"\[0\].score is None, not float or int"),
        ({"score": float("nan")}, r"\[0\] has score nan"),
        ({"video_id": 1}, r"\[0\] has video_id 1, which is no video"),
    ],
)
def test_results_are_checked(tmp_path, change, reason):
    videos = load_truth(put(tmp_path / "valid.json", truth()), YOUTUBE_VIS_2019)
    row = {"video_id": 7, "category_id": DOG, "score": 1, "segmentations": [None, None], **change}
    with pytest.raises(InputError, match=reason):
        load_results(put(tmp_path / "results.json", [row]), videos, YOUTUBE_VIS_2019)


def test_results_that_cannot_be_are_not_written(tmp_path):
    path = tmp_path / "results.json"
    for masks_, score, reason in (((None,), 0.5, "1 masks for 2 frames"), ((None, None), None, "has no score")):
        video = ObjectVideo(7, "a1b2", ("00000", "00005"), 2, 3, (ObjectTrack(1, DOG, masks_, score),))
        with pytest.raises(InputError, match=f"video a1b2, object 1: .*{reason}"):
            save_results(path, [video])
        assert not list(tmp_path.iterdir())
    save_results(path, [])
    with pytest.raises(InputError, match="pass --force"):
        save_results(path, [])
