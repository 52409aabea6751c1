"""Actions that a state does not have: probability 0 in every algorithm; and gradients, memory."""

import math

import numpy as np
import pytest
import torch

from mdtheory.convex import mirror_maps as mm
from mdtheory.rl import policy_mirror_descent as pmd
from mdtheory.rl.policy_mirror_descent import sparse
from tests.refused import at_most, close

F64 = torch.float64
MAPS = [
    mm.Entropy(), mm.Euclidean(mm.Simplex()), mm.Tsallis(0.5), mm.Tsallis(1.5), mm.Tsallis(2.0),
    mm.Tsallis(2.5), mm.LogBarrier(),
]  # fmt: skip
every_map = pytest.mark.parametrize("mirror_map", MAPS, ids=repr)


def masked_pair(generator, discount=0.9, batch=()):
    """A process with four actions of which two are feasible, and the one that has only those."""
    small = pmd.garnet(5, 2, 3, discount, generator, batch)
    shape = (*batch, 5, 4)
    places = torch.tensor([[0, 2], [1, 3], [0, 1], [2, 3], [0, 3]]).expand((*batch, 5, 2))
    legal = torch.zeros(shape, dtype=torch.bool).scatter(-1, places, True)
    reward = torch.full(shape, 77.0, dtype=F64).scatter(-1, places, small.reward)
    # What an action that there is not would do is no law, nor a number.
    transition = torch.full((*shape, 5), math.nan, dtype=F64)
    transition = transition.scatter(
        -2, places[..., None].expand((*places.shape, 5)), small.transition
    )
    return small, pmd.TabularMDP(transition, reward, discount, legal), legal, places


def thin(mdp):
    """Sparse, with rows also for what is not feasible."""
    rows = torch.where(mdp.feasible[..., None], mdp.transition, 1 / mdp.states)
    rows = sparse.to_csr(rows.flatten(0, 1).to_sparse_coo())
    return pmd.TabularMDP(rows, mdp.reward, mdp.discount)


def kept(policy, legal, places):
    assert (policy[~legal.expand(policy.shape)] == 0).all()
    return policy.gather(-1, places.expand((*policy.shape[:-1], 2)))


@every_map
@pytest.mark.parametrize(
    ("tau", "step"), [(0.0, 0.7), (0.3, 0.7), (0.3, math.inf), (0.3, 1e308), (1e200, 1e200)]
)
def test_every_step_is_that_of_the_process_without_them(generator, mirror_map, tau, step):
    small, mdp, legal, places = masked_pair(generator)
    expected = pmd.policy_mirror_descent(small, mirror_map, step, 4, temperature=tau)
    for process in (mdp, thin(mdp)):
        found = pmd.policy_mirror_descent(process, mirror_map, step, 4, temperature=tau)
        close(kept(found, legal, places), expected, tolerance=1e-9)
        run = list(pmd.policy_iterates(process, mirror_map, step, 2, temperature=tau))
        for iterate in run:
            kept(iterate.policy, legal, places)
            assert iterate.value.isfinite().all()
            assert (iterate.action_value[~legal] == -math.inf).all()
            assert (iterate.dual[~legal] == -math.inf).all()


@every_map
def test_values_and_operators_are_those_of_the_process_without_them(generator, mirror_map):
    small, mdp, legal, places = masked_pair(generator)
    value = torch.randn(5, generator=generator, dtype=F64)
    for process in (mdp, thin(mdp)):
        uniform = process.uniform_policy()
        close(kept(uniform, legal, places), small.uniform_policy())
        assert torch.equal(process.feasible, legal)
        for tau in (0.0, 0.3):
            mine = pmd.evaluate(process, uniform, tau, mirror_map)[0]
            close(mine, pmd.evaluate(small, small.uniform_policy(), tau, mirror_map)[0])
            best = pmd.greedy(process, value, tau, mirror_map)
            close(kept(best, legal, places), pmd.greedy(small, value, tau, mirror_map))
            for policy, other in ((None, None), (uniform, small.uniform_policy())):
                close(
                    pmd.bellman(process, value, policy, tau, mirror_map),
                    pmd.bellman(small, value, other, tau, mirror_map),
                )
        close(pmd.bellman_error(process, value), pmd.bellman_error(small, value))
        close(process.look_ahead(value).gather(-1, places), small.look_ahead(value))


@pytest.mark.parametrize("discount", [0.9, 1 - 1e-8])
def test_planning_and_shares_are_those_of_the_process_without_them(generator, discount):
    small, mdp, legal, places = masked_pair(generator, discount)
    best = pmd.policy_iteration(small)
    initial = torch.full((5,), 0.2, dtype=F64)
    for process in (mdp, thin(mdp)):
        found = pmd.policy_iteration(process)
        close(found.value, best.value)
        close(kept(found.policy, legal, places), best.policy)
        value, shares = pmd.linear_program(process)
        close(value, best.value)
        close(kept(shares, legal, places), pmd.linear_program(small)[1])
        other = pmd.modified_policy_iteration(process, 1e-3)
        close(kept(other.policy, legal, places), best.policy)
        uniform = process.uniform_policy()
        close(
            pmd.occupancy(process, uniform, initial),
            pmd.occupancy(small, small.uniform_policy(), initial),
        )
    close(
        pmd.bounds.stationary_law(mdp, mdp.uniform_policy()),
        pmd.bounds.stationary_law(small, small.uniform_policy()),
    )


@pytest.mark.parametrize("name", ["natural", "projected", "soft", "adaptive"])
def test_the_named_algorithms_know_the_mask(generator, name):
    call = {
        "natural": lambda m: pmd.natural_policy_gradient(m, 0.05, 4, temperature=0.3),
        "projected": lambda m: pmd.projected_q_ascent(m, 0.5, 4),
        "soft": lambda m: pmd.soft_policy_iteration(m, 0.3, 4),
        "adaptive": lambda m: pmd.adaptive_trust_region(m, 4, temperature=0.3),
    }[name]
    small, mdp, legal, places = masked_pair(generator, batch=(3,))
    close(kept(call(mdp), legal, places), call(small))


@every_map
def test_distances_know_the_mask(generator, mirror_map):
    small, mdp, legal, places = masked_pair(generator)
    law = torch.full((5,), 0.2, dtype=F64)
    best = pmd.soft_policy_iteration(mdp, 0.3, 20, mirror_map=mirror_map)
    uniform = mdp.uniform_policy()
    mine = pmd.bounds.distance(mirror_map, best, uniform, law, feasible=mdp.feasible)
    their = kept(best, legal, places), small.uniform_policy()
    close(mine, pmd.bounds.distance(mirror_map, *their, law))


def test_minus_infinity_is_a_mask_and_each_process_may_have_its_own(generator):
    plain = pmd.garnet(4, 3, 2, 0.9, generator)
    reward = plain.reward.expand(2, 4, 3).clone()
    reward[0, 1, 2] = reward[1, 3, 0] = -math.inf
    mdp = pmd.TabularMDP(plain.transition, reward, 0.9)
    assert mdp.feasible.sum() == 22
    found = pmd.policy_mirror_descent(mdp, mm.Entropy(), 1.0, 5)
    assert found[0, 1, 2] == found[1, 3, 0] == 0
    for k in range(2):
        alone = pmd.TabularMDP(plain.transition, reward[k], 0.9)
        close(pmd.policy_mirror_descent(alone, mm.Entropy(), 1.0, 5), found[k])
        close(pmd.policy_iteration(alone).value, pmd.policy_iteration(mdp).value[k])
    # A mask with a batch of its own, beside one table of rewards.
    masks = pmd.TabularMDP(plain.transition, plain.reward, 0.9, reward > -math.inf)
    close(pmd.policy_iteration(masks).value, pmd.policy_iteration(mdp).value)


def test_fewer_actions_are_worth_less(garnets, generator):
    legal = torch.rand(garnets.reward.shape, generator=generator) < 0.6
    legal[..., 0] = True
    mdp = pmd.TabularMDP(garnets.transition, garnets.reward, 0.9, legal)
    at_most(pmd.policy_iteration(mdp).value, pmd.policy_iteration(garnets).value)


REWARD = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=F64)
ROWS = torch.full((2, 2, 2), 0.5, dtype=F64)
ONE = torch.tensor([[True, False], [True, True]])


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: pmd.TabularMDP(ROWS, REWARD.log() - 1, 0.9, ~ONE), ValueError, "got none in stat"),
        (lambda: pmd.TabularMDP(ROWS, REWARD * -math.inf, 0.9), ValueError, "reward: expected fin"),
        (lambda: pmd.TabularMDP(ROWS, REWARD, 0.9, ONE.double()), TypeError, "feasible"),
        (lambda: pmd.TabularMDP(ROWS, REWARD, 0.9, ONE.numpy()), TypeError, "feasible"),
        (lambda: pmd.TabularMDP(ROWS, REWARD, 0.9, ONE[:1]), ValueError, "feasible"),
        (
            lambda: pmd.TabularMDP(ROWS, REWARD.expand(3, 2, 2), 0.9, ONE & torch.tensor(
                [True, True, False])[:, None, None]),
            ValueError, r"state 0 of process \(2,\)",
        ),
        (
            lambda: pmd.evaluate(pmd.TabularMDP(ROWS, REWARD, 0.9, ONE), ROWS[0]),
            ValueError, "policy: expected the probability 0",
        ),
        (
            lambda: pmd.TabularMDP(ROWS * 2, REWARD, 0.9, ONE), ValueError, "transition",
        ),
        (lambda: pmd.TabularMDP(ROWS, REWARD[:0], 0.9), ValueError, "reward"),
        (lambda: pmd.TabularMDP(ROWS.numpy(), REWARD, 0.9), TypeError, "transition"),
        (lambda: pmd.TabularMDP(ROWS, REWARD.numpy(), 0.9), TypeError, "reward"),
        (
            lambda: pmd.policy_mirror_descent(
                pmd.TabularMDP(ROWS, REWARD, 0.9), mm.Entropy(), np.ones(2), 2, None, 0.1
            ),
            TypeError, "step_size",
        ),
        (
            lambda: pmd.bounds.contraction(np.ones(3), 0.9, 2), TypeError, "gap",
        ),
    ],
)  # fmt: skip
def test_masks_and_arrays_are_refused_by_name(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_numbers_of_numpy_are_numbers():
    mdp = pmd.TabularMDP(ROWS, REWARD, np.float64(0.9))
    mine = pmd.policy_mirror_descent(mdp, mm.Entropy(), np.float32(0.5), np.int64(2))
    close(mine, pmd.policy_mirror_descent(mdp, mm.Entropy(), 0.5, 2))
    soft = pmd.policy_mirror_descent(mdp, mm.Entropy(), np.float64(np.inf), 2, None, np.float64(1))
    close(soft, pmd.soft_policy_iteration(mdp, 1.0, 2))


# ---------------------------------------------------------------------------- gradients and memory


@pytest.mark.parametrize("discount", [0.9, 1 - 1e-5])
def test_gradients_of_sparse_processes_are_those_of_dense_ones(generator, discount):
    _, mdp, legal, _ = masked_pair(generator, discount)
    initial = torch.full((5,), 0.2, dtype=F64)
    rows = torch.where(legal[..., None], mdp.transition, 0.0)

    def gradients(is_sparse):
        reward = torch.where(legal, mdp.reward, 0.0).requires_grad_()
        logits = torch.linspace(-1, 1, 20, dtype=F64).reshape(5, 4).requires_grad_()
        policy = logits.masked_fill(~legal, -math.inf).softmax(-1)
        transition = rows.clone()
        if is_sparse:
            transition = sparse.to_csr(transition.flatten(0, 1).to_sparse_coo())
        transition.requires_grad_()
        process = pmd.TabularMDP(transition, reward, discount, legal)
        value = pmd.evaluate(process, policy, 0.1)[0]
        share = pmd.occupancy(process, policy, initial)
        goal = (initial * value).sum() + (share * torch.arange(5)).sum()
        goal = goal + pmd.policy_mirror_descent(process, mm.Entropy(), 0.1, 2)[0, 0]
        goal = goal + pmd.policy_iteration(process).value.sum()
        goal.backward()
        slope = transition.grad
        slope = slope.to_dense().reshape(rows.shape) if is_sparse else slope
        return reward.grad, logits.grad, torch.where(rows > 0, slope, 0.0)

    for mine, theirs in zip(gradients(True), gradients(False), strict=True):
        assert theirs.isfinite().all()
        close(mine, theirs, tolerance=1e-9)


def test_what_is_yielded_owns_its_memory(few):
    start = few.uniform_policy()
    for mirror_map in MAPS[:4]:
        for temperature in (0.0, 0.2):
            arguments = few, mirror_map, 0.5, 4, start, temperature
            expected = list(pmd.policy_iterates(*arguments))
            for iterate, right in zip(pmd.policy_iterates(*arguments), expected, strict=True):
                for part, kept_part in zip(iterate, right, strict=True):
                    close(part, kept_part)
                iterate.policy.zero_()
                assert not (iterate.dual == 0).all()
                for part in iterate:
                    part.fill_(math.nan)
    close(start, few.uniform_policy())
    same = pmd.policy_mirror_descent(few, mm.Entropy(), 1.0, 0, start)
    same.zero_()
    close(start, few.uniform_policy())
