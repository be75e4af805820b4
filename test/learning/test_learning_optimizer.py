"""Muon and its partner."""

import copy
import os
import signal

import pytest

torch = pytest.importorskip("torch", reason="torch is of the [train] extra")

from vps_ros.errors import InputError  # noqa: E402
from vps_ros.learning.training.distributed import WorkerGroup, worker_group  # noqa: E402
from vps_ros.learning.training.optimizer import ADAMW_SCALE, Muon, Optimizers, _split_work, orthogonal  # noqa: E402


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
    pair = Optimizers.muon(model, 0.05, 0.0)
    first = train(model, pair, 1)
    assert train(model, pair, 60) < 0.05 * first
    again = torch.nn.Linear(6, 4)
    again.load_state_dict(model.state_dict())
    other = Optimizers.muon(again, 0.05, 0.0)
    other.load_state_dict(copy.deepcopy(pair.state_dict()))
    assert train(model, pair, 3) == train(again, other, 3)


def test_a_worker_group_one_leaves_gradients_alone():
    model = torch.nn.Linear(2, 2)
    model(torch.ones(1, 2)).sum().backward()
    before = model.weight.grad.clone()
    assert WorkerGroup().average_gradients(model, True, 0.25) == (True, 0.25)
    assert WorkerGroup().average_gradients(model, False) == (False, 0.0)
    assert torch.equal(model.weight.grad, before)


def test_matrices_are_split_work_evenly_and_each_once():
    shapes = [torch.Size(s) for s in ((64, 64), (32, 32), (64, 32), (64, 64), (8, 300))]
    shares = _split_work(shapes, 2)
    assert sorted(i for share in shares for i in share) == [0, 1, 2, 3, 4]
    assert all(len(share & {0, 3}) == 1 for share in shares)


def _steps_of_two(workers, folder):
    torch.manual_seed(workers.rank)
    model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Linear(16, 4))
    workers.broadcast_weights(model)
    pair = Optimizers.muon(model, 0.05, 0.0)
    pair.join(workers)
    for i in range(3):
        pair.zero_grad()
        # Each member sees half of the batch that one alone sees whole.
        x = torch.randn(4, 8, generator=torch.Generator().manual_seed(i))
        model(x.chunk(workers.size)[workers.rank]).square().mean().backward()
        stop, share = workers.average_gradients(model, workers.rank == 1 and i == 2, 0.5 if workers.rank == 0 else 0.9)
        pair.step(0.05)
    torch.save(
        {"weights": model.state_dict(), "stop": stop, "share": share}, f"{folder}/{workers.size}-{workers.rank}.pt"
    )


def test_two_members_learn_what_one_alone_does(tmp_path):
    with worker_group(2, _steps_of_two, str(tmp_path)) as workers:
        _steps_of_two(workers, str(tmp_path))
    _steps_of_two(WorkerGroup(), str(tmp_path))
    first, second, alone = (torch.load(tmp_path / f"{name}.pt") for name in ("2-0", "2-1", "1-0"))
    assert first["stop"] and second["stop"] and first["share"] == second["share"] == 0.5
    for name, value in alone["weights"].items():
        assert torch.equal(first["weights"][name], second["weights"][name])
        assert torch.allclose(first["weights"][name], value, atol=2e-3)


def _last_is_killed(workers):
    if workers.rank == workers.size - 1:
        os.kill(os.getpid(), signal.SIGKILL)
    _exchange(workers)


def _fails(workers):
    raise ZeroDivisionError("in a worker")


def _exchange(workers):
    model = torch.nn.Linear(2, 2)
    model(torch.ones(1, 2)).sum().backward()
    workers.average_gradients(model, False)


def test_a_killed_worker_is_one_line():
    message = "^workers: a process of the training was killed; if memory ran out, use fewer workers or a smaller batch$"
    with pytest.raises(InputError, match=message), worker_group(3, _last_is_killed) as workers:
        _exchange(workers)


def test_a_worker_that_fails_shows_its_traceback():
    with pytest.raises(Exception, match="ZeroDivisionError: in a worker"), worker_group(2, _fails) as workers:
        _exchange(workers)


def _refuses(workers):
    raise InputError("data/7.png: is cut off; copy it again")


def test_what_another_member_finds_wrong_is_told_in_its_words():
    with pytest.raises(InputError, match="data/7.png: is cut off"), worker_group(2, _refuses) as workers:
        _exchange(workers)
