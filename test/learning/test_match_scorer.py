"""How the match scorer of the hierarchical tracker is trained: its labels, its loss by hand, and a real small run."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from support import ROOT  # noqa: E402
from vps_ros.ablation.sources import CLASSES  # noqa: E402
from vps_ros.commands.main import main  # noqa: E402
from vps_ros.evaluation.overlaps import overlaps  # noqa: E402
from vps_ros.learning.recipe import kind_of  # noqa: E402
from vps_ros.learning.tracking.match_scorer import (  # noqa: E402
    UNKNOWN,
    Batch,
    FrameExample,
    MatchScorerNetwork,
    MatchScorerRecipe,
    assignment_loss,
    fit,
    true_objects,
)
from vps_ros.trackers.hierarchical.compare import COLUMNS  # noqa: E402
from vps_ros.trackers.match_scorer import read  # noqa: E402

CAR, ROAD = 13, 0
RECIPE = """
kind: match-scorer
model: streets-s
scenarios: [crowd]
masks: ["true", degraded]
seed: 700900
drives: 2
frames: 6
size: [320, 96]
steps: {steps}
frames_a_step: 4
processes: 1
folder: {folder}
"""


def example(same, m, k, objects, things):
    columns = np.random.default_rng(0).normal(size=(len(same), len(COLUMNS))).astype(np.float32)
    return FrameExample(columns, np.array(same), np.array(m), np.array(k), np.array(objects), np.array(things))


def test_loss_by_hand():
    """One object, two things, of which the first is it: log-odds 1 and 0."""
    batch = Batch.of([example([True, False], [0, 0], [0, 1], [True], [True, True])])
    things = (math.log(1 + math.e) - 1 + math.log(2)) / 2
    objects = math.log(1 + math.e + 1) - 1
    assert float(assignment_loss(torch.tensor([1.0, 0.0]), batch)) == pytest.approx(things + objects, rel=1e-6)


def test_unknown_objects_cause_no_loss():
    batch = Batch.of([example([True, False], [0, 0], [0, 1], [False], [True, False])])
    assert float(assignment_loss(torch.tensor([1.0, 9.0]), batch)) == pytest.approx(math.log(1 + math.e) - 1, rel=1e-6)


def test_frames_of_a_batch_do_not_compete():
    """The loss of two frames is the mean of both: nothing leaks from one to the other."""
    first = example([True, False], [0, 0], [0, 1], [True], [True, True])
    second = example([False, True], [0, 1], [0, 0], [True, True], [True])
    both = Batch.of([first, second])
    network = MatchScorerNetwork(np.zeros(len(COLUMNS), np.float32), np.ones(len(COLUMNS), np.float32), 8)
    together = network(both)[1]
    apart = torch.cat([network(Batch.of([one]))[1] for one in (first, second)])
    torch.testing.assert_close(together, apart)


def test_network_and_tracker_score_alike():
    rng = np.random.default_rng(3)
    network = MatchScorerNetwork(
        rng.normal(size=len(COLUMNS)).astype(np.float32), rng.uniform(0.5, 2, len(COLUMNS)).astype(np.float32), 8
    )
    one = example([True, False, False, True], [0, 0, 1, 1], [0, 1, 0, 1], [True, True], [True, True])
    with torch.no_grad():
        expected = network(Batch.of([one]))[1].numpy()
    np.testing.assert_allclose(network.scorer({})(one.columns, one.m, one.k), expected, rtol=1e-4, atol=1e-5)


def test_a_feature_that_never_changes_in_training_has_no_effect():
    """Its standard deviation is 0, and a division by it would make the least difference enormous."""
    rng = np.random.default_rng(1)
    examples = [example([True, False], [0, 0], [0, 1], [True], [True, True]) for _ in range(3)]
    for one in examples:
        one.columns[:] = rng.normal(size=one.columns.shape)
        one.columns[:, 2] = 0.5
    recipe = MatchScorerRecipe("match-scorer", "streets-s", ("crowd",), steps=5, frames_a_step=2)
    scorer = fit(examples, recipe).scorer({})
    m, k, columns = examples[0].m, examples[0].k, examples[0].columns
    changed = columns.copy()
    changed[0, 2] += 1
    assert np.array_equal(scorer(columns, m, k), scorer(changed, m, k))


def test_who_a_segment_is():
    """Car 1 fell into two parts, the larger bears its name; a segment that is mostly road is nobody."""
    truth = np.array([[CAR] * 6 + [ROAD] * 9 + [CAR]]), np.array([[1] * 6 + [0] * 9 + [2]])
    labels = np.array([[1] * 4 + [2] * 2 + [3] * 4 + [4] * 6])
    classes = np.array([CAR, CAR, ROAD, CAR])
    table = overlaps(CLASSES, *truth, classes[labels - 1], labels)
    names = true_objects(table, 4)
    assert names.tolist() == [(13 << 32) + 1, UNKNOWN, UNKNOWN, UNKNOWN]


def test_training_lowers_the_loss(tmp_path, capsys):
    losses = {}
    for steps in (1, 150):
        recipe = tmp_path / f"{steps}.yaml"
        recipe.write_text(RECIPE.format(steps=steps, folder=tmp_path / "drives"))
        run = tmp_path / f"run-{steps}"
        assert main(["train", "--config", str(recipe), "-o", str(run)]) == 0
        scorer = read(run / "hierarchical.npz", COLUMNS)
        losses[steps] = scorer.about["losses"]
        assert scorer.about["recipe"]["steps"] == steps
    assert all(losses[150][masks] < 0.7 * losses[1][masks] for masks in ("true", "degraded"))
    assert main(["train", "--config", str(recipe), "-o", str(run)]) == 2
    assert str(run) in capsys.readouterr().err


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("drives: 1", "drives"),
        ("seed: 899999", "held out"),
        ("masks: [painted]", "painted"),
        ("hiden: 3", "did you mean hidden"),
        ("scenarios: [moon]", "moon"),
    ],
)
def test_a_wrong_recipe_is_refused(tmp_path, capsys, entry, says):
    path = tmp_path / "recipe.yaml"
    name = entry.partition(":")[0]
    lines = [line for line in RECIPE.format(steps=1, folder=tmp_path).splitlines() if not line.startswith(f"{name}:")]
    path.write_text("\n".join([*lines, entry]))
    assert main(["train", "--config", str(path), "-o", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert not (tmp_path / "run").exists()


def test_the_recipe_in_the_source_tree_can_be_read():
    from vps_ros.learning.tracking.match_scorer import MatchScorerRecipe
    from vps_ros.reading import read_file

    path = ROOT / "config" / "train" / "hierarchical.yaml"
    assert kind_of(path) == "match-scorer"
    assert read_file(MatchScorerRecipe, path).drives == 8


def test_the_former_name_of_the_kind_is_read_with_a_warning(tmp_path, capsys):
    path, run = tmp_path / "recipe.yaml", tmp_path / "run"
    run.mkdir()
    (run / "other").touch()
    path.write_text(RECIPE.format(steps=1, folder=tmp_path).replace("match-scorer", "judge"))
    with pytest.warns(DeprecationWarning, match="kind 'judge' is now called 'match-scorer'"):
        assert kind_of(path) == "match-scorer"
    # The recipe is accepted; what is refused is the output folder.
    assert main(["train", "--config", str(path), "-o", str(run)]) == 2
    warning, error = capsys.readouterr().err.splitlines()
    assert "'match-scorer'" in warning and "other content" in error
