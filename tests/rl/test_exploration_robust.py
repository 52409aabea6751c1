"""Robustification: the curriculum, the mirror step on tables, and the same starts for networks."""

import pytest
import torch

from mdtheory.rl import exploration as ex
from mdtheory.rl.exploration.robust import ADVANTAGE_PRIOR, VALUE_PRIOR, Batch, _Learner, ways_of
from mdtheory.rl.mdpo import OnPolicySettings, train_on_policy
from mdtheory.rl.mdpo.on_policy import OnPolicyRun
from mdtheory.rl.policy_mirror_descent import evaluate, value_iteration

F64 = torch.float64


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def maze():
    return ex.KeyDoorMaze(2, 4, 1, 0.15, gen(3), limit=100)


@pytest.fixture(scope="module")
def way(maze):
    found = ex.go_explore(maze, maze.pixel_cell, 20_000, gen(1), explore=50, hold=4.0, batch=10)
    archive = found.archive
    return archive.path(archive.nodes[archive.index[ex.DONE]])


def share(game, policy, sticky=0.25):
    """Exact value of a policy over the optimum, at the start."""
    mdp = game.sticky(sticky)
    best = value_iteration(mdp, 1e-9).value[0]
    return (evaluate(mdp, policy)[0][0] / best).item()


def test_starts_move_back():
    index = torch.tensor([0, 1, 5, 6, 6])
    successes = torch.tensor([1.0, 0.9, 0.2, 0.19, torch.nan], dtype=F64)
    assert ex.move_back(index, successes).tolist() == [0, 0, 3, 6, 6]
    assert ex.move_back(index, successes, 0.95, 1).tolist() == [0, 1, 5, 6, 6]


def test_ways_are_states_and_rewards_to_come(maze, way):
    ways = ways_of(maze, [way, way[:5]], torch.device("cpu"))
    assert ways.lengths.tolist() == [len(way), 5]
    assert ways.ahead[0, 0].item() == 11.0
    assert ways.ahead[0, len(way) - 1].item() == 10.0
    maze.reset()
    before = 0
    for k, action in enumerate(way):
        assert ways.states[0, k].item() == 4 * maze.state() + before
        maze.step(action)
        before = action
    assert (ways.states[1, 5:] == 0).all()


def test_robust_on_the_lock():
    """Success is 1 - p wherever the right action changes; the policy learned is nearly optimal."""
    lock = ex.CombinationLock(10, 3, gen(5))
    found = ex.robustify(
        lock, [lock.combination.tolist()], gen(6), sticky=0.1, steps=60_000, step_size=1.0
    )
    assert found.start_index == 0
    assert found.policy.shape == (10 * 3 + 1, 3)
    assert share(lock, found.policy, 0.1) > 0.95


def test_robust_in_the_maze_and_only_with_the_curriculum(maze, way):
    found = ex.robustify(maze, [way], gen(1), steps=200_000, step_size=0.5)
    assert found.start_index == 0
    assert 0.2 <= found.success <= 1
    assert share(maze, found.policy) > 0.9
    # From the start alone the treasure is not found: the value is that of the key.
    alone = ex.robustify(maze, [way], gen(1), steps=200_000, curriculum=False)
    assert share(maze, alone.policy) < 0.5
    again = ex.robustify(maze, [way], gen(1), steps=20_000)
    assert torch.equal(again.policy, ex.robustify(maze, [way], gen(1), steps=20_000).policy)


def test_several_demonstrations_move_one_by_one(maze, way):
    found = ex.robustify(maze, [way, way[:-1]], gen(1), steps=100_000)
    assert found.start_index == 0
    stuck = ex.robustify(maze, [way], gen(1), steps=5000, threshold=1.0)
    assert stuck.start_index > 0


def test_mirror_step_by_hand():
    """Two episodes of a lock of 2, advantages and values as in eq-robust-step."""
    lock = ex.CombinationLock(2, 2, gen(1))
    a, b = lock.combination.tolist()
    learner = _Learner(lock, 0.7, 0.5, gen(1))
    first, second = 0, 2 + a
    batch = Batch(
        torch.tensor([[first, first], [second, second]]),
        torch.tensor([[a, 1 - a], [b, b]]),
        torch.tensor([[0.0, 0.0], [1.0, 0.0]], dtype=F64),
        torch.tensor([[True, True], [True, False]]),
        torch.tensor([[True, True], [True, False]]),
    )
    learner.learn(batch, 1.0)
    value = 0.5 / (2 + VALUE_PRIOR)
    assert learner.value[first].item() == pytest.approx(value)
    assert learner.value[second].item() == pytest.approx(1 / (1 + VALUE_PRIOR))
    ascent = torch.tensor([0.0, 0.0], dtype=F64)
    ascent[a] = (0.5 - value) / (1 + ADVANTAGE_PRIOR)
    ascent[1 - a] = -value / (1 + ADVANTAGE_PRIOR)
    wanted = (0.7 * ascent).log_softmax(-1)
    assert torch.allclose(learner.log_policy[first], wanted, atol=1e-14)
    other = 2 + (1 - a)
    assert learner.log_policy[other].exp().tolist() == pytest.approx([0.5, 0.5])


def test_episodes_of_the_learner_are_those_of_the_process():
    """Means of sampled returns against the exact value of the uniform policy."""
    lock = ex.CombinationLock(3, 2, gen(2))
    learner = _Learner(lock, 0.5, 0.9, gen(3))
    batch = learner.play(torch.zeros(40_000, dtype=torch.int64), 0.3, 10)
    weights = 0.9 ** torch.arange(len(batch.rewards), dtype=F64)
    mean = (weights[:, None] * batch.rewards).sum(0)
    mdp = lock.sticky(0.3, 0.9)
    exact = evaluate(mdp, mdp.uniform_policy())[0][0]
    assert abs(mean.mean() - exact) < 4 * mean.std() / 40_000**0.5
    assert not batch.used[~batch.alive].any()


# The same starts as an environment.


def test_backward_world(maze, way):
    game = ex.BackwardGame(maze, [way, way], sticky=0.0, trials=8, window=3, back=2)
    world = game.start(2, 6, gen(1))
    world.reset()
    last = len(way) - 1
    assert (world.index == last).all()
    assert (world.inner[..., 0] * 4 + world.inner[..., 1] == world.ways.states[0, last]).all()
    # The last action of the demonstration opens the treasure: everything is a success.
    right = torch.full((2, 6), way[-1])
    for _ in range(12):
        world.step(right)
    assert (world.index < last).any()
    wrong = game.start(2, 6, gen(1))
    wrong.reset()
    for _ in range(60):
        wrong.step(torch.full((2, 6), (way[-1] + 1) % 4))
    assert (wrong.index == last).all()


def test_backward_world_goes_back_to_a_snapshot(maze, way):
    world = ex.BackwardGame(maze, [way], trials=4).start(1, 8, gen(1))
    world.reset()
    for k in range(20):
        world.step(torch.full((1, 8), way[-1 - k % 3]))
    snapshot, random = world.state(), world.generator.get_state()
    after = [world.step(torch.full((1, 8), k % 4)).own() for k in range(12)]
    world.restore(snapshot)
    world.generator.set_state(random)
    for k, before in enumerate(after):
        again = world.step(torch.full((1, 8), k % 4))
        assert all(torch.equal(x, y) for x, y in zip(again, before, strict=True))


def test_backward_starts_in_the_books_loop():
    """A network learns a lock backward that it never opens from the start."""
    lock = ex.CombinationLock(12, 3, gen(5))
    way = lock.combination.tolist()
    settings = OnPolicySettings(
        copies=32, horizon=32, policy_learning_rate=3e-3, critic_batch=256, schedule="constant",
        hidden=(32,),
    )  # fmt: skip
    run = OnPolicyRun(
        ex.BackwardGame(lock, [way], sticky=0.1, trials=32), 30_000, gen(1), "mdpo", 2, settings
    )
    while run.done < run.iterations:
        run.iterate()
    shares = [share(lock, table, 0.1) for table in ex.tabulate(run.policy, lock)]
    assert min(shares) > 0.2
    blind = train_on_policy(ex.StickyGame(lock, 0.1), 10_000, gen(1), seeds=2, settings=settings)
    assert (torch.nan_to_num(blind.returns) == 0).all()
