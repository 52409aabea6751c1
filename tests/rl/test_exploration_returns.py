"""What a return is worth: derailment, and the law of first states as a constant of a bound."""

import pytest
import torch

from mdtheory.rl import exploration as ex
from mdtheory.rl.policy_mirror_descent import TabularMDP, evaluate, occupancy, value_iteration
from mdtheory.runs import check_bound, check_identity
from tests.refused import breaks, differ

F64 = torch.float64


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def maze():
    return ex.KeyDoorMaze(2, 4, 1, 0.15, gen(3))


@pytest.fixture(scope="module")
def way(maze):
    found = ex.go_explore(maze, maze.pixel_cell, 20_000, gen(1), explore=50, hold=4.0, batch=10)
    archive = found.archive
    assert found.curve[-1].best == 11.0
    return archive.path(archive.nodes[archive.index[ex.DONE]])


# Derailment.


@pytest.mark.theorem("prop-derailment", "equality")
@pytest.mark.theorem("prop-derailment", "mutant")
def test_every_slip_is_fatal_in_the_lock():
    for p in (0.05, 0.25, 0.6):
        lock = ex.CombinationLock(40, 3, gen(1))
        actions = lock.combination.tolist()
        chances = ex.replay_chances(lock, actions, p)
        changes = ex.action_changes(actions)
        check_identity("prop-derailment", chances, (1 - p) ** changes.double())
        assert chances[-1] == pytest.approx(ex.derailment(int(changes[-1]), p))
        # Mutant: every step may slip, also one that repeats the last action.
        steps = torch.arange(40, dtype=F64)
        assert differ("prop-derailment", chances, (1 - p) ** steps)


@pytest.mark.theorem("prop-derailment", "equality")
def test_chances_are_those_of_the_process(maze, way):
    """The law carried by the transition matrix of the sticky process, state by state."""
    mdp, p = maze.sticky(0.3), 0.3
    matrix = mdp.transition.to_dense().reshape(mdp.states, 4, mdp.states)
    law = torch.zeros(mdp.states, dtype=F64)
    law[0] = 1.0
    chances, here = [], 0
    for action in way:
        chances.append(law[4 * here : 4 * here + 4].sum())
        law = law @ matrix[:, action]
        here = maze.next[here, action].item()
    check_identity("prop-derailment", ex.replay_chances(maze, way, p), torch.stack(chances))


@pytest.mark.theorem("prop-derailment", "bound")
def test_in_the_maze_some_slips_are_forgiven(maze, way):
    calm = ex.KeyDoorMaze(2, 4, 1, 0.0, gen(3))  # no deadly tiles: one may walk into walls
    stroll = ex.held_actions(1, 40, 4, 3.0, gen(2))[0].tolist()
    rights, lefts = [], []
    for game, actions in ((maze, way), (calm, stroll)):
        for p in (0.02, 0.1, 0.25, 0.5):
            rights.append(ex.replay_chances(game, actions, p))
            lefts.append((1 - p) ** ex.action_changes(actions).double())
    left, right = torch.cat(lefts), torch.cat(rights)
    assert check_bound("prop-derailment", left, right) == pytest.approx(1)
    assert (right > 1.5 * left).any()
    # Mutant: every second slip is forgiven.
    assert breaks("prop-derailment", left**0.5, right)


def test_derailment_of_the_spec():
    assert ex.derailment(100, 0.05) == pytest.approx(0.0059, abs=5e-5)
    assert ex.derailment(0, 0.3) == 1.0
    assert ex.action_changes([0, 0, 2, 2, 1, 0]).tolist() == [0, 0, 0, 1, 1, 2]


# The law of first states.


def start_laws(mdp, states):
    start, spread = torch.zeros(2, mdp.states, dtype=F64)
    start[0] = 1.0
    spread[states] = 1 / len(states)
    return start, spread


def process(lock, discount):
    """Dense, so that small shares of time have all their digits."""
    mdp = lock.mdp(discount)
    shape = (mdp.states, mdp.actions, mdp.states)
    return TabularMDP(mdp.transition.to_dense().reshape(shape), mdp.reward, discount)


def along(lock, mdp):
    """The policy that makes the right actions."""
    right = torch.nn.functional.one_hot(lock.combination, lock.actions).to(F64)
    return torch.cat([right, mdp.uniform_policy()[-1:]])


@pytest.mark.theorem("thm-restart", "equality")
@pytest.mark.theorem("thm-restart", "mutant")
@pytest.mark.parametrize("discount", [0.5, 0.9, 0.99])
def test_mismatch_constants(discount):
    depth, actions = 9, 3
    lock = ex.CombinationLock(depth, actions, gen(2))
    mdp = process(lock, discount)
    best = along(lock, mdp)
    start, spread = start_laws(mdp, torch.arange(depth))
    share = occupancy(mdp, best, start)[:depth]
    times = torch.arange(depth, dtype=F64)
    check_identity("thm-restart", share, (1 - discount) * discount**times)
    check_identity(
        "thm-restart",
        (share / spread[:depth]).amax()[None],
        torch.tensor([depth * (1 - discount)], dtype=F64),
    )
    blind = occupancy(mdp, mdp.uniform_policy(), start)[:depth]
    check_identity("thm-restart", share / blind, actions**times, tolerance=1e-10)
    # Mutant: the way has one state more, the end.
    assert differ(
        "thm-restart",
        (share / spread[:depth]).amax()[None],
        torch.tensor([(depth + 1) * (1 - discount)], dtype=F64),
    )


def sides(mdp, policy, best, law):
    """Gap from the start, and the slope from a law."""
    value, _ = evaluate(mdp, policy)
    optimal, _ = evaluate(mdp, best)
    return optimal[0] - value[0], ex.policy_slope(mdp, policy, law)


@pytest.mark.theorem("thm-restart", "bound")
@pytest.mark.theorem("thm-restart", "mutant")
def test_slope_bounds_the_gap():
    depth, actions = 8, 3
    lock = ex.CombinationLock(depth, actions, gen(2))
    mdp = process(lock, 0.9)
    best, generator = along(lock, mdp), gen(5)
    start, spread = start_laws(mdp, torch.arange(depth))
    left, right, from_start = [], [], []
    for sharp in (0.0, 1.0, 3.0):
        for _ in range(70):
            noise = torch.randn(mdp.states, actions, generator=generator, dtype=F64)
            policy = (sharp * noise).softmax(-1)
            gap, slope = sides(mdp, policy, best, spread)
            left.append(gap)
            right.append(depth * slope)
            from_start.append(depth * sides(mdp, policy, best, start)[1])
    # The tight instance: only the first action is still wrong.
    policy = best.clone()
    policy[0] = torch.full((actions,), 1 / actions, dtype=F64)
    gap, slope = sides(mdp, policy, best, spread)
    check_identity("thm-restart", gap[None], depth * slope[None])
    left.append(gap)
    right.append(depth * slope)
    from_start.append(depth * sides(mdp, policy, best, start)[1])
    assert check_bound("thm-restart", torch.stack(left), torch.stack(right)) == pytest.approx(1)
    # Mutant: every episode begins at the start.
    assert breaks("thm-restart", torch.stack(left), torch.stack(from_start))


@pytest.mark.theorem("thm-restart", "bound")
@pytest.mark.theorem("thm-restart", "equality")
def test_a_window_needs_its_own_length_only():
    depth, actions, window = 12, 3, 4
    lock = ex.CombinationLock(depth, actions, gen(2))
    mdp, generator = process(lock, 0.9), gen(6)
    best = along(lock, mdp)
    left, right, narrow = [], [], []
    for k in range(depth - window + 1):
        for trial in range(20):
            policy = best.clone()
            rows = slice(k, k + window)
            noise = torch.randn(window, actions, generator=generator, dtype=F64)
            policy[rows] = (2 * noise).softmax(-1)
            policy[:k] = 1 / actions
            if trial == 0:  # only the first of the window is wrong: equality
                policy[k + 1 : k + window] = best[k + 1 : k + window]
            law = torch.zeros(mdp.states, dtype=F64)
            law[rows] = 1 / window
            value, _ = evaluate(mdp, policy)
            optimal, _ = evaluate(mdp, best)
            left.append(optimal[k] - value[k])
            right.append(window * ex.policy_slope(mdp, policy, law))
            narrow.append(right[-1] / 2)
    worst = check_bound("thm-restart", torch.stack(left), torch.stack(right))
    assert worst == pytest.approx(1)
    assert breaks("thm-restart", torch.stack(left), torch.stack(narrow))


@pytest.mark.theorem("thm-restart", "bound")
def test_slope_bounds_the_gap_in_the_maze(maze, way):
    """An optimal way of a maze: its states are distinct, and its length is the constant."""
    mdp = maze.mdp(0.9)
    solution = value_iteration(mdp, 1e-12)
    states, here = [], 0
    while here < maze.states:
        states.append(here)
        action = int(solution.policy[here].argmax())
        here = maze.states if maze.end[here, action] else int(maze.next[here, action])
    assert len(set(states)) == len(states) <= len(way)
    _, spread = start_laws(mdp, torch.tensor(states))
    generator, left, right = gen(7), [], []
    for _ in range(50):
        noise = torch.randn(mdp.states, 4, generator=generator, dtype=F64)
        gap, slope = sides(mdp, (2 * noise).softmax(-1), solution.policy, spread)
        left.append(gap)
        right.append(len(states) * slope)
    check_bound("thm-restart", torch.stack(left), torch.stack(right))


def test_slope_is_the_steepest_of_all():
    """By its definition: the derivative of the value towards every deterministic policy."""
    lock = ex.CombinationLock(2, 2, gen(1))
    mdp = process(lock, 0.8)
    law = torch.tensor([0.5, 0.3, 0.2], dtype=F64)
    policy = torch.tensor([[0.3, 0.7], [0.6, 0.4], [0.5, 0.5]], dtype=F64)
    steepest = []
    for code in range(8):
        other = torch.eye(2, dtype=F64)[[code >> k & 1 for k in range(3)]]
        step = 1e-6
        values = [evaluate(mdp, policy + s * (other - policy))[0] for s in (step, 0.0)]
        steepest.append((law * (values[0] - values[1])).sum() / step)
    assert ex.policy_slope(mdp, policy, law).item() == pytest.approx(
        torch.stack(steepest).max().item(), rel=1e-4
    )
