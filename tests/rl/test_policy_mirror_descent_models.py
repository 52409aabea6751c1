"""Processes, references that solve them and sparse ones."""

import bisect
import itertools
import math

import gymnasium
import pytest
import torch

from mdtheory.rl import policy_mirror_descent as pmd
from mdtheory.rl.policy_mirror_descent import sparse
from tests.rl.pmd_cases import ENTROPY, F64, close, drawn, one


def as_sparse(mdp, layout=torch.sparse_csr):
    rows = mdp.transition.flatten(0, 1).to_sparse_coo()
    rows = rows if layout == torch.sparse_coo else sparse.to_csr(rows)
    return pmd.TabularMDP(rows, mdp.reward, mdp.discount)


# ------------------------------------------------------------------------------------------ models


def test_a_garnet_has_its_branches_and_its_rewards(generator):
    mdp = pmd.garnet(9, 4, 3, 0.8, generator, (5, 2))
    assert mdp.transition.shape == (5, 2, 9, 4, 9)
    assert mdp.reward.shape == (5, 2, 9, 4)
    assert ((mdp.transition > 0).sum(-1) == 3).all()
    close(mdp.transition.sum(-1), torch.ones(5, 2, 9, 4, dtype=F64))
    assert (mdp.reward >= 0).all()
    assert (mdp.reward <= 1).all()
    assert repr(mdp) == "TabularMDP(batch (5, 2), states 9, actions 4, discount 0.8)"


@pytest.mark.parametrize(("states", "branching"), [(6, 1), (6, 2), (6, 6), (40, 5)])
def test_next_states_of_a_garnet_are_uniform_subsets(generator, states, branching):
    mdp = pmd.garnet(states, 2, branching, 0.5, generator, (300,))
    hits = (mdp.transition > 0).double().mean((0, 1, 2))
    draws = 300 * states * 2
    spread = math.sqrt(branching / states / draws)
    assert ((hits - branching / states).abs() < 5 * spread + 1e-12).all()
    # The gaps between uniform cuts are alike: each way has the same mean.
    assert (mdp.transition.mean((0, 1, 2)) - 1 / states).abs().max() < 5 / math.sqrt(draws)


def test_the_generator_decides_the_garnet():
    first, again = (pmd.garnet(5, 2, 2, 0.9, torch.Generator().manual_seed(3)) for _ in range(2))
    other = pmd.garnet(5, 2, 2, 0.9, torch.Generator().manual_seed(4))
    assert torch.equal(first.transition, again.transition)
    assert not torch.equal(first.reward, other.reward)


def test_a_number_is_a_batch_of_one_axis(generator):
    assert pmd.garnet(4, 2, 2, 0.9, generator, 3).batch_shape == (3,)


def test_a_sparse_garnet_is_the_dense_one(generator):
    seeds = [torch.Generator().manual_seed(8) for _ in range(2)]
    dense = pmd.garnet(30, 3, 4, 0.9, seeds[0])
    thin = pmd.garnet(30, 3, 4, 0.9, seeds[1], sparse=True)
    assert thin.is_sparse
    assert torch.equal(thin.transition.to_dense().reshape(30, 3, 30), dense.transition)
    assert "sparse" in repr(thin)


def test_a_gridworld_by_hand():
    mdp = pmd.gridworld(["S.", "#G"], 0.5)
    solution = pmd.policy_iteration(mdp)
    # Right, then down into the goal: the reward of 1 comes with the second step.
    close(solution.value, torch.tensor([0.5, 1.0, 0.0, 0.0, 0.0], dtype=F64))
    assert solution.policy[0].argmax() == 2
    assert solution.policy[1].argmax() == 1


def test_slipping_goes_to_the_sides():
    mdp = pmd.gridworld(["...", "...", "..."], 0.9, slip=0.4)
    down = mdp.transition[4, 1]  # from the middle
    close(down[[7, 3, 5]], torch.tensor([0.6, 0.2, 0.2], dtype=F64))
    close(pmd.gridworld(["H."], 0.9).transition[1, 0, -1], torch.tensor(1.0, dtype=F64))


@pytest.mark.parametrize("name", ["FrozenLake-v1", "CliffWalking-v1", "Taxi-v4"])
def test_tables_of_gymnasium_agree_with_episodes(name, generator):
    """The mean return of played episodes is the value of the table."""
    environment = gymnasium.make(name)
    mdp, initial = pmd.from_gymnasium(environment, 0.9)
    close(mdp.transition.sum(-1), torch.ones_like(mdp.reward))
    close(initial.sum(), torch.tensor(1.0, dtype=F64))
    policy = pmd.policy_iteration(mdp).policy
    policy = 0.8 * policy + 0.2 / mdp.actions
    value = (initial * pmd.evaluate(mdp, policy)[0]).sum().item()
    cumulative = policy.cumsum(-1).tolist()
    draws = iter(torch.rand(300_000, generator=generator, dtype=F64).tolist())
    returns = []
    for episode in range(300):
        state, _ = environment.reset(seed=episode)
        total, weight, over = 0.0, 1.0, False
        while not over and weight > 1e-4:
            action = bisect.bisect(cumulative[state], next(draws), hi=mdp.actions - 1)
            state, reward, terminated, _, _ = environment.unwrapped.step(action)
            total, weight, over = total + weight * float(reward), 0.9 * weight, terminated
        returns.append(total)
    sample = torch.tensor(returns)
    assert abs(sample.mean().item() - value) < 5 * sample.std().item() / math.sqrt(300) + 1e-3


def test_what_terminates_earns_nothing_more():
    """The mutant ignores the flag: in CliffWalking life after the goal would cost for ever."""
    mdp, initial = pmd.from_gymnasium(gymnasium.make("CliffWalking-v1"), 0.9)
    best = (initial * pmd.policy_iteration(mdp).value).sum()
    close(best, torch.tensor(-sum(0.9**t for t in range(13)), dtype=F64))
    endless = mdp.transition[:-1, :, :-1].clone()
    endless[..., 47] += mdp.transition[:-1, :, -1]
    other = pmd.TabularMDP(endless, mdp.reward[:-1], 0.9)
    assert (initial[:-1] * pmd.policy_iteration(other).value).sum() < best - 1


def test_an_environment_without_a_table_is_refused():
    with pytest.raises(TypeError, match="environment"):
        pmd.from_gymnasium(gymnasium.make("CartPole-v1"), 0.9)


# -------------------------------------------------------------------------------------- references


def test_all_references_find_the_same_optimum(few):
    exact = pmd.policy_iteration(few)
    assert exact.iterations < 15
    assert (pmd.bellman_error(few, exact.value) < 1e-11).all()
    for found in (
        pmd.value_iteration(few, 1e-9),
        pmd.modified_policy_iteration(few, 1e-9),
        pmd.modified_policy_iteration(few, 1e-9, sweeps=3),
    ):
        assert (found.value - exact.value).abs().max() <= 1e-9
        close(pmd.evaluate(few, found.policy)[0], exact.value, 1e-8)
    for k in range(3):
        value, share = pmd.linear_program(one(few, k))
        close(value, exact.value[k], 1e-9)
        close(share.sum(), torch.tensor(1.0, dtype=F64), 1e-9)
        by_share = (share * few.reward[k]).sum() / (1 - few.discount)
        close(by_share, exact.value[k].mean(), 1e-9)


def test_no_deterministic_policy_is_better(generator):
    mdp = pmd.garnet(4, 3, 2, 0.9, generator)
    every = torch.tensor(list(itertools.product(range(3), repeat=4)))
    policies = torch.nn.functional.one_hot(every, 3).to(F64)
    values = pmd.evaluate(mdp, policies)[0]
    close(values.amax(0), pmd.policy_iteration(mdp).value)


def test_the_certificate_is_a_bound(few, generator):
    exact = pmd.policy_iteration(few).value
    guess = exact + 0.1 * torch.randn(exact.shape, generator=generator, dtype=F64)
    assert ((guess - exact).abs().amax(-1) <= pmd.bellman_error(few, guess)).all()


def test_ties_do_not_go_round_for_ever():
    mdp = pmd.garnet(6, 4, 2, 0.99, torch.Generator().manual_seed(1))
    flat = pmd.TabularMDP(mdp.transition, torch.ones(6, 4, dtype=F64), 0.99)
    assert pmd.policy_iteration(flat).iterations == 1
    twice = pmd.TabularMDP(
        mdp.transition[:, [0, 0, 1, 1]], mdp.reward[:, [0, 0, 1, 1]], mdp.discount
    )
    assert pmd.policy_iteration(twice).iterations < 10


def test_references_that_do_not_finish_say_so(few):
    with pytest.raises(ArithmeticError, match="not finished after 1"):
        pmd.policy_iteration(few, 1)
    with pytest.raises(ArithmeticError, match="not finished after 2"):
        pmd.value_iteration(few, iterations=2)


# ------------------------------------------------------------------------------------------ sparse


@pytest.mark.parametrize("layout", [torch.sparse_csr, torch.sparse_coo], ids=["csr", "coo"])
def test_sparse_and_dense_agree(generator, layout):
    dense = pmd.garnet(60, 3, 4, 0.97, generator)
    thin = as_sparse(dense, layout)
    policy, initial = drawn(dense, generator), torch.full((60,), 1 / 60, dtype=F64)
    for mine, theirs in zip(pmd.evaluate(thin, policy), pmd.evaluate(dense, policy), strict=True):
        close(mine, theirs)
    close(pmd.evaluate(thin, policy, 0.3)[0], pmd.evaluate(dense, policy, 0.3)[0])
    close(pmd.occupancy(thin, policy, initial), pmd.occupancy(dense, policy, initial))
    close(pmd.policy_iteration(thin).value, pmd.policy_iteration(dense).value)
    close(pmd.modified_policy_iteration(thin).value, pmd.policy_iteration(dense).value, 1e-9)
    close(pmd.linear_program(thin)[0], pmd.policy_iteration(dense).value, 1e-9)
    for tau in (0.0, 0.2):
        mine = pmd.policy_mirror_descent(thin, ENTROPY, 1.5, 4, temperature=tau)
        close(mine, pmd.policy_mirror_descent(dense, ENTROPY, 1.5, 4, temperature=tau), 1e-10)
    assert pmd.evaluate(thin, pmd.policy_iteration(thin).policy)[0].shape == (60,)


@pytest.mark.parametrize("discount", [0.0, 0.5, 0.999, 0.99999])
def test_sparse_values_are_certified_where_krylov_spaces_are_slow(discount):
    """A long one-way street: information moves one state a step."""
    length = 150
    target = torch.arange(1, length + 1).clamp(max=length - 1)
    street = sparse.csr(
        torch.arange(length + 1), target, torch.ones(length, dtype=F64), (length, length)
    )
    reward = torch.zeros(length, 1, dtype=F64)
    reward[length - 2] = 1
    mdp = pmd.TabularMDP(street, reward, discount)
    value = pmd.evaluate(mdp, torch.ones(length, 1, dtype=F64))[0]
    powers = discount ** torch.arange(length - 2, -1, -1, dtype=F64)
    close(value[:-1], powers, 1e-9)


def test_the_certificate_of_a_sparse_value_holds(generator):
    mdp = pmd.garnet(500, 4, 5, 0.99, generator, sparse=True)
    policy = drawn(mdp, generator)
    value = pmd.evaluate(mdp, policy)[0]
    residual = (pmd.bellman(mdp, value, policy) - value).abs().max()
    assert residual <= 64 * torch.finfo(F64).eps * value.abs().max()


def test_what_cannot_be_certified_raises(monkeypatch, generator):
    mdp = pmd.garnet(50, 2, 3, 0.9, generator, sparse=True)
    monkeypatch.setattr(sparse, "ROUNDINGS", -1.0)
    with pytest.raises(ArithmeticError, match="residual"):
        pmd.evaluate(mdp, mdp.uniform_policy())


def test_the_transpose_of_a_sparse_matrix(generator):
    dense = torch.rand(5, 7, generator=generator, dtype=F64)
    dense = torch.where(dense > 0.6, dense, 0.0)
    assert torch.equal(sparse.transpose(sparse.to_csr(dense.to_sparse_coo())).to_dense(), dense.T)
