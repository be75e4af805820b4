"""Muon and its partner."""

import copy

import pytest

torch = pytest.importorskip("torch", reason="torch is of the [train] extra")

from vps_ros.learning.optimizer import ADAMW_SCALE, Muon, Optimizers, orthogonal  # noqa: E402
from vps_ros.learning.parallel import Team  # noqa: E402


@pytest.mark.parametrize("shape", [(16, 60), (60, 16), (32, 32), (1, 8)])
def test_an_orthogonal_update_keeps_directions_and_evens_their_sizes(shape):
    torch.manual_seed(0)
    u, s, vh = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    s = torch.logspace(0, -1, len(s))
    result = orthogonal(u * s @ vh)
    inside = u.T @ result @ vh.T
    # bfloat16 and the polynomial's own band of 0.7..1.2.
    assert (inside.diagonal() > 0.6).all() and (inside.diagonal() < 1.3).all()
    assert (inside - inside.diagonal().diag()).abs().max() < 0.1


def test_one_step_of_muon_by_hand():
    """A single row: its orthogonal matrix is the row over its length, up to the polynomial's band."""
    p = torch.nn.Parameter(torch.tensor([[10.0, 0, 0, 0]]))
    p.grad = torch.tensor([[0, 0, 3.0, 0]])
    Muon([p], lr=0.1, weight_decay=0.5).step()
    assert p[0, :2].tolist() == pytest.approx([10 * (1 - 0.05), 0], abs=1e-4)
    step = -p[0, 2].item() / (0.1 * ADAMW_SCALE * 2)
    assert 0.65 < step < 1.25


def test_the_pair_finds_the_least_of_a_function_and_comes_back_from_its_state():
    torch.manual_seed(0)
    truth = torch.nn.Linear(6, 4)
    x = torch.randn(64, 6)

    def train(model, pair, steps):
        for _ in range(steps):
            loss = (model(x) - truth(x).detach()).square().mean()
            pair.zero_grad()
            loss.backward()
            pair.step(0.05)
        return loss.item()

    model = torch.nn.Linear(6, 4)
    pair = Optimizers(model, 0.05, 0.0)
    first = train(model, pair, 1)
    assert train(model, pair, 60) < 0.05 * first
    again = torch.nn.Linear(6, 4)
    again.load_state_dict(model.state_dict())
    other = Optimizers(again, 0.05, 0.0)
    other.load_state_dict(copy.deepcopy(pair.state_dict()))
    assert train(model, pair, 3) == train(again, other, 3)


def test_a_team_of_one_leaves_gradients_alone():
    model = torch.nn.Linear(2, 2)
    model(torch.ones(1, 2)).sum().backward()
    before = model.weight.grad.clone()
    assert Team().mean_gradients(model, True) is True and Team().mean_gradients(model, False) is False
    assert torch.equal(model.weight.grad, before)
