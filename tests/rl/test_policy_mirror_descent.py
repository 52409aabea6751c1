"""Policy mirror descent beyond its theorems: the models, the references, the cases, exactness."""

import bisect
import itertools
import math

import cvxpy
import gymnasium
import pytest
import torch

from mdtheory.convex import mirror_maps as mm
from mdtheory.rl import policy_mirror_descent as pmd
from mdtheory.rl.policy_mirror_descent import mdp as mdp_module
from mdtheory.rl.policy_mirror_descent import sparse
from tests.polish import guessed, polished

F64 = torch.float64
ENTROPY = mm.Entropy()
MAPS = [
    mm.Entropy(), mm.Euclidean(mm.Simplex()), mm.Tsallis(0.5), mm.Tsallis(1.5), mm.LogBarrier(),
]  # fmt: skip


def close(left, right, tolerance=1e-12):
    torch.testing.assert_close(left, right, rtol=tolerance, atol=tolerance)


def one(mdp, index=0):
    return pmd.TabularMDP(mdp.transition[index], mdp.reward[index], mdp.discount)


def drawn(mdp, generator):
    shape = (*mdp.batch_shape, mdp.states, mdp.actions)
    return torch.randn(shape, generator=generator, dtype=F64).softmax(-1)


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
