"""Policy mirror descent: the update, tiny numbers and batches."""

import math

import cvxpy
import pytest
import torch

from mdtheory.convex import mirror_maps as mm
from mdtheory.rl import policy_mirror_descent as pmd
from mdtheory.rl.policy_mirror_descent import mdp as mdp_module
from tests.polish import guessed, polished
from tests.rl.pmd_cases import ENTROPY, F64, close, drawn, one

MAPS = [
    mm.Entropy(), mm.Euclidean(mm.Simplex()), mm.Tsallis(0.5), mm.Tsallis(1.5), mm.LogBarrier(),
]  # fmt: skip


# ------------------------------------------------------------------------------ the update, exactly


def test_the_step_is_the_maximiser_that_cvxpy_finds(few):
    mdp, eta = one(few), 0.8
    start = drawn(mdp, torch.Generator().manual_seed(2))
    for tau in (0.0, 0.3):
        q = pmd.evaluate(mdp, start, tau)[1]
        after = pmd.policy_mirror_descent(mdp, ENTROPY, eta, 1, start, tau)
        for state in range(mdp.states):
            p = cvxpy.Variable(mdp.actions)
            near = cvxpy.sum(cvxpy.kl_div(p, start[state].numpy()))
            flat = cvxpy.sum(cvxpy.kl_div(p, [1 / mdp.actions] * mdp.actions))
            goal = q[state].numpy() @ p - tau * flat - near / eta
            guessed(cvxpy.Problem(cvxpy.Maximize(goal), [cvxpy.sum(p) == 1]))

            def loss(x, q=q[state], old=start[state], tau=tau):
                near = (torch.xlogy(x, x) - x * old.log()).sum()
                return -(q @ x) + tau * torch.xlogy(x, x).sum() + near / eta

            best = polished(loss, p.value, equal=lambda x: x.sum()[None] - 1)
            close(after[state], best, 1e-11)


def test_the_multiplicative_formula(few):
    eta, policy = 0.7, few.uniform_policy()
    for _ in range(5):
        q = pmd.evaluate(few, policy)[1]
        policy = policy * (eta * q).exp()
        policy = policy / policy.sum(-1, keepdim=True)
    close(pmd.policy_mirror_descent(few, ENTROPY, eta, 5), policy)
    close(pmd.natural_policy_gradient(few, eta * (1 - few.discount), 5), policy)


def test_the_formula_with_a_kept_regulariser(few):
    eta, mu, policy = 0.7, 0.4, few.uniform_policy()
    for _ in range(5):
        q = pmd.evaluate(few, policy, mu)[1]
        policy = (policy * (eta * q).exp()) ** (1 / (1 + eta * mu))
        policy = policy / policy.sum(-1, keepdim=True)
    close(pmd.policy_mirror_descent(few, ENTROPY, eta, 5, temperature=mu), policy)


def test_the_formula_of_projected_ascent(few):
    policy = few.uniform_policy()
    for _ in range(5):
        policy = mm.Simplex().project(policy + 0.3 * pmd.evaluate(few, policy)[1])
    close(pmd.projected_q_ascent(few, 0.3, 5), policy)
    # Tsallis with q = 2 is twice the Euclidean potential.
    close(pmd.policy_mirror_descent(few, mm.Tsallis(2.0), 0.6, 5), policy)


def test_the_formula_of_adaptive_trpo(few):
    tau, policy = 0.5, few.uniform_policy()
    for k in range(5):
        t = 1 / (tau * (k + 2))
        q = pmd.evaluate(few, policy, tau)[1]
        policy = policy ** (1 - t * tau) * (t * q).exp()
        policy = policy / policy.sum(-1, keepdim=True)
    close(pmd.adaptive_trust_region(few, 5, temperature=tau), policy)
    policy = few.uniform_policy()
    for k in range(5):
        weight = policy * (3 / math.sqrt(k + 1) * pmd.evaluate(few, policy)[1]).exp()
        policy = weight / weight.sum(-1, keepdim=True)
    close(pmd.adaptive_trust_region(few, 5, scale=3.0), policy)


@pytest.mark.parametrize("mirror_map", MAPS, ids=repr)
def test_a_huge_step_is_policy_iteration(few, mirror_map):
    start = pmd.evaluate(few, few.uniform_policy())[1]
    clear = start.topk(2, -1).values.diff(dim=-1)[..., 0].abs() > 1e-3
    after = pmd.policy_mirror_descent(few, mirror_map, 1e8, 1)
    greedy = pmd.greedy(few, pmd.evaluate(few, few.uniform_policy())[0])
    close(after[clear], greedy[clear], 1e-4)
    found = pmd.policy_mirror_descent(few, ENTROPY, pmd.geometric_steps(1e4, 2.0, 12), 12)
    close(pmd.evaluate(few, found)[0], pmd.policy_iteration(few).value, 1e-9)


@pytest.mark.parametrize("mirror_map", MAPS, ids=repr)
def test_rewards_that_all_rise_change_nothing(few, mirror_map):
    """A constant in the action values of a state cannot matter."""
    higher = pmd.TabularMDP(few.transition, few.reward + 5, few.discount)
    for tau in (0.0, 0.2):
        mine = pmd.policy_mirror_descent(few, mirror_map, 0.5, 6, temperature=tau)
        close(pmd.policy_mirror_descent(higher, mirror_map, 0.5, 6, temperature=tau), mine, 1e-10)


def test_action_values_and_advantages_give_the_same_step(few):
    policy = drawn(few, torch.Generator().manual_seed(3))
    value, q = pmd.evaluate(few, policy)
    for mirror_map in MAPS:
        by_q = mm.mirror_step(mirror_map, policy, -q, 0.5)
        close(by_q, mm.mirror_step(mirror_map, policy, value[..., None] - q, 0.5), 1e-10)
        close(by_q, pmd.policy_mirror_descent(few, mirror_map, 0.5, 1, policy), 1e-10)


def test_two_bandit_steps_are_one_of_twice_the_size(generator):
    """With discount 0 the action values do not move, so steps compose in the dual."""
    bandits = pmd.garnet(4, 3, 2, 0.0, generator, (10,))
    for mirror_map in (mm.Entropy(), mm.Tsallis(0.5), mm.LogBarrier()):
        twice = pmd.policy_mirror_descent(bandits, mirror_map, 0.4, 2)
        close(twice, pmd.policy_mirror_descent(bandits, mirror_map, 0.8, 1), 1e-10)


def turn_round(small):
    """Staying in the first state seems best until the second has been understood."""
    transition = torch.zeros(2, 2, 2, dtype=F64)
    transition[0, 0, 0] = transition[0, 1, 1] = 1  # stay, or go to the second state
    transition[1, :, 1] = 1
    reward = torch.tensor([[small, 0.0], [0.0, 1.0]], dtype=F64)
    return pmd.TabularMDP(transition, reward, 0.9)


def test_only_steep_maps_carry_their_dual():
    """The Euclidean dual is re-anchored: lazy steps remember old values for longer."""
    mdp = turn_round(0.7)
    start = torch.tensor([[0.5, 0.5], [1.0, 0.0]], dtype=F64)
    lazy, dual, behind = start, start, []
    for k in range(1, 60):
        dual = dual + 0.1 * pmd.evaluate(mdp, lazy)[1]
        lazy = mm.Simplex().project(dual)
        behind.append((pmd.projected_q_ascent(mdp, 0.1, k, start)[0, 1] - lazy[0, 1]).item())
    assert max(behind) > 0.1


def test_the_regularised_optimum_is_a_fixed_point(few):
    tau = 0.3
    best = pmd.soft_policy_iteration(few, tau, 40)
    for after in (
        pmd.natural_policy_gradient(few, 0.1, 1, best, tau),
        pmd.policy_mirror_descent(few, ENTROPY, 2.0, 1, best, tau),
        pmd.adaptive_trust_region(few, 1, best, tau),
        pmd.soft_policy_iteration(few, tau, 1, best),
    ):
        close(after, best, 1e-10)
    value = pmd.evaluate(few, best, tau)[0]
    close(pmd.bellman(few, value, None, tau), value)


def test_a_vanishing_temperature_is_none(few):
    close(
        pmd.natural_policy_gradient(few, 0.05, 6, temperature=1e-12),
        pmd.natural_policy_gradient(few, 0.05, 6),
        1e-8,
    )


def test_a_full_natural_step_is_soft_policy_iteration(few):
    tau = 0.3
    full = (1 - few.discount) / tau
    assert pmd.natural_step(full, few.discount, tau) == math.inf
    close(
        pmd.natural_policy_gradient(few, full, 3, temperature=tau),
        pmd.soft_policy_iteration(few, tau, 3),
    )


@pytest.mark.parametrize("mirror_map", MAPS, ids=repr)
def test_iterates_are_the_policies_with_their_values(few, mirror_map):
    run = list(pmd.policy_iterates(few, mirror_map, [0.5, 1.0, 2.0], 3, temperature=0.1))
    assert len(run) == 4
    for k, iterate in enumerate(run):
        steps = [0.5, 1.0, 2.0][:k]
        policy = pmd.policy_mirror_descent(few, mirror_map, steps, k, temperature=0.1)
        assert torch.equal(iterate.policy, policy)
        value, q = pmd.evaluate(few, policy, 0.1, mirror_map)
        close(iterate.value, value)
        close(iterate.action_value, q)
        close(mirror_map.to_primal(iterate.dual), policy, 1e-9)


# ------------------------------------------------------------------------------------- tiny numbers


def test_probabilities_of_1e_300_keep_their_digits():
    """Against logarithms by hand: tiny probabilities must grow back exactly."""
    reward = torch.tensor([[1.0, 0.0]], dtype=F64)
    bandit = pmd.TabularMDP(torch.ones(1, 2, 1, dtype=F64), reward, 0.5)
    start = torch.tensor([[1e-300, 1.0]], dtype=F64)
    after = pmd.policy_mirror_descent(bandit, ENTROPY, 10.0, 69, start)
    logit = math.log(1e-300) + 69 * 10.0
    close(after.log()[0, 0] - after.log()[0, 1], torch.tensor(logit, dtype=F64), 1e-12)
    assert after[0, 0] > 0.1 * math.exp(logit) / (1 + math.exp(logit))


def test_a_probability_that_vanished_comes_back_from_its_dual():
    """Values turn round after a while: what carries points has lost the action for ever."""
    mdp = turn_round(0.5)
    start = torch.tensor([[0.5, 0.5], [1 - 1e-9, 1e-9]], dtype=F64)
    steps = [2000.0] + [50.0] * 80
    run = list(pmd.policy_iterates(mdp, ENTROPY, steps, 81, start))
    assert run[1].policy[0, 1] == 0  # too small for the type
    assert run[1].dual[0, 1] > -math.inf
    close(run[-1].policy, torch.tensor([[0.0, 1.0], [0.0, 1.0]], dtype=F64))
    by_points = start
    for step in steps:
        by_points = mm.mirror_step(ENTROPY, by_points, -pmd.evaluate(mdp, by_points)[1], step)
    assert by_points[0, 1] == 0


def test_an_action_of_probability_zero_stays_there(few):
    start = few.uniform_policy().clone()
    start[..., 0] = 0
    start = start / start.sum(-1, keepdim=True)
    after = pmd.policy_mirror_descent(few, ENTROPY, 1.0, 10, start)
    assert (after[..., 0] == 0).all()
    close(after.sum(-1), torch.ones(20, 8, dtype=F64))


def test_a_step_that_overflows_is_refused(few):
    found = pmd.policy_mirror_descent(few, ENTROPY, 1e300, 12)
    close(found.sum(-1), torch.ones(20, 8, dtype=F64))
    dear = pmd.TabularMDP(few.transition, 1e6 * few.reward, few.discount)
    with pytest.raises(ValueError, match="step_size"):
        pmd.policy_mirror_descent(dear, ENTROPY, 1e308, 3)


# ------------------------------------------------------------------------------------------ batches


@pytest.mark.parametrize("mirror_map", MAPS, ids=repr)
def test_processes_in_a_batch_do_not_see_each_other(garnets, mirror_map):
    batch = pmd.TabularMDP(
        garnets.transition[:6].unflatten(0, (2, 3)), garnets.reward[:6].unflatten(0, (2, 3)), 0.9
    )
    together = pmd.policy_mirror_descent(batch, mirror_map, 0.7, 5, temperature=0.1)
    for k in range(6):
        alone = pmd.policy_mirror_descent(one(garnets, k), mirror_map, 0.7, 5, temperature=0.1)
        close(together[k // 3, k % 3], alone, 1e-9)


def test_many_rewards_share_a_transition(garnets, generator):
    reward = torch.rand(7, 8, 3, generator=generator, dtype=F64)
    many = pmd.TabularMDP(garnets.transition[0], reward, 0.9)
    assert many.batch_shape == (7,)
    solution = pmd.policy_iteration(many)
    soft = pmd.policy_mirror_descent(many, ENTROPY, 2.0, 4)
    for k in range(7):
        alone = pmd.TabularMDP(garnets.transition[0], reward[k], 0.9)
        close(solution.value[k], pmd.policy_iteration(alone).value)
        close(soft[k], pmd.policy_mirror_descent(alone, ENTROPY, 2.0, 4))


def test_one_policy_and_one_law_for_a_whole_batch(few, generator):
    policy = torch.randn(8, 3, generator=generator, dtype=F64).softmax(-1)
    law = torch.randn(8, generator=generator, dtype=F64).softmax(-1)
    value, share = pmd.evaluate(few, policy)[0], pmd.occupancy(few, policy, law)
    after = pmd.policy_mirror_descent(few, ENTROPY, 1.0, 2, policy, 0.1)
    assert value.shape == share.shape == (20, 8)
    for k in (0, 19):
        close(value[k], pmd.evaluate(one(few, k), policy)[0])
        close(share[k], pmd.occupancy(one(few, k), policy, law))
        alone = pmd.policy_mirror_descent(one(few, k), ENTROPY, 1.0, 2, policy, 0.1)
        close(after[k], alone)


def test_tiny_chains_are_summed_and_others_multiplied(garnets, generator, monkeypatch):
    policy = drawn(garnets, generator)
    both = []
    for limit in (0, 1000):
        monkeypatch.setattr(mdp_module, "TINY", limit)
        both.append(pmd.evaluate(garnets, policy)[1])
    close(*both)


def test_many_policies_on_one_process(garnets, generator):
    mdp = one(garnets)
    policies = torch.randn(5, 4, 8, 3, generator=generator, dtype=F64).softmax(-1)
    value, q = pmd.evaluate(mdp, policies)
    assert value.shape == (5, 4, 8)
    assert q.shape == (5, 4, 8, 3)
    close(value[2, 1], pmd.evaluate(mdp, policies[2, 1])[0])
    after = pmd.policy_mirror_descent(mdp, ENTROPY, 1.0, 2, policies)
    close(after[2, 1], pmd.policy_mirror_descent(mdp, ENTROPY, 1.0, 2, policies[2, 1]))


def test_steps_as_number_sequence_tensor_and_one_for_each_process(few):
    number = pmd.policy_mirror_descent(few, ENTROPY, 0.5, 4)
    for steps in ([0.5] * 4, torch.full((4,), 0.5, dtype=F64), torch.tensor(0.5, dtype=F64)):
        close(pmd.policy_mirror_descent(few, ENTROPY, steps, 4), number)
    each = torch.linspace(0.1, 2.0, 20, dtype=F64)
    together = pmd.policy_mirror_descent(few, ENTROPY, [each] * 4, 4)
    for k in (0, 7, 19):
        alone = pmd.policy_mirror_descent(one(few, k), ENTROPY, each[k].item(), 4)
        close(together[k], alone)


def test_no_iteration_gives_the_start(few, generator):
    start = drawn(few, generator)
    assert torch.equal(pmd.policy_mirror_descent(few, ENTROPY, 1.0, 0, start), start)
    assert torch.equal(pmd.policy_mirror_descent(few, ENTROPY, [], 0), few.uniform_policy())


def test_float32_comes_back_as_float32(few, generator):
    single = pmd.TabularMDP(few.transition.float(), few.reward.float(), few.discount)
    policy = drawn(few, generator)
    value, q = pmd.evaluate(single, policy.float())
    assert value.dtype == q.dtype == torch.float32
    torch.testing.assert_close(value.double(), pmd.evaluate(few, policy)[0], rtol=1e-5, atol=1e-5)
    assert pmd.policy_mirror_descent(single, ENTROPY, 1.0, 2).dtype == torch.float32
    assert pmd.policy_iteration(single).value.dtype == torch.float32
    initial = torch.full((20, 8), 1 / 8)
    assert pmd.occupancy(single, policy.float(), initial).dtype == torch.float32
