"""Rooms of MiniGrid as tables: the same rules as the package's own."""

import pytest
import torch

from mdtheory.rl.entropy import GridRooms, Mode, train_multi_turn

pytest.importorskip("minigrid")
NAME = "MiniGrid-DoorKey-5x5-v0"


@pytest.fixture(scope="module")
def rooms():
    return GridRooms(2, 1, 40, NAME)


def test_a_walk_is_that_of_the_package(rooms):
    import gymnasium

    environment = gymnasium.make(f"minigrid:{NAME}")
    generator = torch.Generator().manual_seed(1)
    for seed in range(2):
        environment.reset(seed=seed)
        context = rooms.first[:, :1].clone()
        wins = 0
        for _ in range(400):
            action = torch.randint(6, (2, 1), generator=generator)
            context, won = rooms.step(context, action)
            _, reward, done, cut, _ = environment.step(int(action[seed, 0]))
            assert bool(won[seed, 0]) == (bool(done) and reward > 0)
            wins += bool(done)
            if done or cut:
                environment.reset(seed=seed)
                context = rooms.first[:, :1].clone()
    environment.close()


def test_success_is_exact(rooms):
    generator = torch.Generator().manual_seed(2)
    shape = (3, *rooms.following.shape)
    log_policy = torch.randn(shape, generator=generator) + torch.tensor([0, 0, 2.0, 0, -1, 0])
    log_policy = log_policy.double().log_softmax(-1)
    found = rooms.success(log_policy)
    assert found.shape == (3, 2)
    # By the powers of a matrix.
    for k in range(3):
        for seed in range(2):
            law, count = log_policy[k, seed].exp(), shape[2]
            chain = torch.zeros(count + 1, count + 1, dtype=torch.float64)
            for action in range(6):
                to = torch.where(rooms.reached[seed, :, action], count,
                                 rooms.following[seed, :, action])  # fmt: skip
                chain[torch.arange(count), to] += law[:, action]
            chain[count, count] = 1
            power = torch.linalg.matrix_power(chain, 40)
            assert found[k, seed].item() == pytest.approx(
                power[rooms.first[seed, 0], count].item(), rel=1e-9
            )


def test_the_shortest_way_is_enough(rooms):
    best = rooms.shortest()
    assert ((best > 4) & (best < 30)).all()
    short = GridRooms(1, 1, int(best[0, 0]) - 1, NAME)
    anything = torch.randn(short.following.shape).log_softmax(-1)
    assert short.success(anything).item() == 0
    short.turns += 1
    assert short.success(anything).item() > 0


def test_refusals():
    with pytest.raises(ValueError, match=r"^layouts: expected"):
        GridRooms(1, 0, 5, NAME)
    with pytest.raises(ValueError, match=r"^log_policy: expected"):
        GridRooms(1, 1, 5, NAME).success(torch.zeros(1, 2, 6))


def test_training_runs(rooms):
    generator = torch.Generator().manual_seed(3)
    record = train_multi_turn(
        [Mode(), Mode(0.1)], 2, 3, generator=generator, world=rooms, groups=2, group=4, width=8
    )
    assert record.success.shape == (3, 2, 2)
