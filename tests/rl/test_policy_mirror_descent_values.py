"""Statements about values, operators and gradients."""

import math

import pytest
import torch

from mdtheory.convex import mirror_maps as mm
from mdtheory.rl import policy_mirror_descent as pmd
from tests.refused import at_most, close, fails
from tests.rl.policy_mirror_descent_cases import (
    F64,
    every_map,
    follow,
    mean,
    optimum,
    random_law,
    random_policy,
    stationary,
    uniform,
)


def share_by_series(mdp, policy, initial, terms=600):
    """The occupancy term by term: no linear system here."""
    matrix, now, total = follow(mdp, policy), initial, torch.zeros_like(initial)
    for t in range(terms):
        total = total + (1 - mdp.discount) * mdp.discount**t * now
        now = (now[..., None, :] @ matrix)[..., 0, :]
    return total


# ------------------------------------------------------------------------------ prop-policy-value


@pytest.mark.theorem("prop-policy-value", "equality")
def test_values_and_shares_are_the_sums_over_time(garnets, generator):
    policy, initial = random_policy(garnets, generator), random_law(garnets, generator)
    matrix, reward = follow(garnets, policy), (policy * garnets.reward).sum(-1)
    value, total = torch.zeros_like(reward), reward
    for t in range(600):
        value = value + garnets.discount**t * total
        total = (matrix @ total[..., None])[..., 0]
    found, action_value = pmd.evaluate(garnets, policy)
    close(found, value)
    ahead = torch.einsum("...sat,...t->...sa", garnets.transition, value)
    close(action_value, garnets.reward + garnets.discount * ahead)
    share = pmd.occupancy(garnets, policy, initial)
    close(share, share_by_series(garnets, policy, initial))
    close(share.sum(-1), torch.ones(1000, dtype=F64))


def return_by_shares(mdp, policy, initial, share):
    return mean(share, (policy * mdp.reward).sum(-1)) / (1 - mdp.discount)


@pytest.mark.theorem("prop-policy-value", "equality")
def test_the_return_is_the_reward_under_the_shares(garnets, generator):
    policy, initial = random_policy(garnets, generator), random_law(garnets, generator)
    share = pmd.occupancy(garnets, policy, initial)
    value = mean(initial, pmd.evaluate(garnets, policy)[0])
    close(return_by_shares(garnets, policy, initial, share), value)


@pytest.mark.theorem("prop-policy-value", "mutant")
@pytest.mark.parametrize("mutant", ["not transposed", "stationary law", "no discount of the start"])
def test_other_shares_give_another_return(garnets, generator, mutant):
    policy, initial = random_policy(garnets, generator), random_law(garnets, generator)
    eye, matrix = torch.eye(garnets.states, dtype=F64), follow(garnets, policy)
    share = {
        "not transposed": lambda: (
            (1 - garnets.discount) * torch.linalg.solve(eye - garnets.discount * matrix, initial)
        ),
        "stationary law": lambda: stationary(garnets, policy),
        "no discount of the start": lambda: initial,
    }[mutant]()
    value = mean(initial, pmd.evaluate(garnets, policy)[0])
    right = pmd.occupancy(garnets, policy, initial)
    fails(
        close, return_by_shares(garnets, policy, initial, share), value, tolerance=1e-3,
        true=(return_by_shares(garnets, policy, initial, right), value),
    )  # fmt: skip


# ----------------------------------------------------------------------- prop-regularised-bellman


def random_value(mdp, generator):
    return 5 * torch.randn(*mdp.batch_shape, mdp.states, generator=generator, dtype=F64)


@pytest.mark.theorem("prop-regularised-bellman", "bound")
@every_map
@pytest.mark.parametrize("tau", [0.0, 0.3])
def test_bellman_operators_are_monotone_contractions(garnets, generator, mirror_map, tau):
    v, w = random_value(garnets, generator), random_value(garnets, generator)
    for policy in (None, random_policy(garnets, generator)):
        after_v = pmd.bellman(garnets, v, policy, tau, mirror_map)
        after_w = pmd.bellman(garnets, w, policy, tau, mirror_map)
        distance = (after_v - after_w).abs().amax(-1)
        at_most(distance, garnets.discount * (v - w).abs().amax(-1))
        at_most(after_v, pmd.bellman(garnets, torch.maximum(v, w), policy, tau, mirror_map))


@pytest.mark.theorem("prop-regularised-bellman", "bound")
@every_map
def test_the_price_of_the_regulariser(garnets, mirror_map):
    best = optimum(garnets)[1]
    corner = torch.zeros(garnets.actions, dtype=F64)
    corner[0] = 1
    most = mirror_map.divergence(corner, torch.full_like(corner, 1 / garnets.actions))
    for tau in (0.01, 0.1, 1.0):
        policy, soft = optimum(garnets, tau, mirror_map)
        price = tau * most / (1 - garnets.discount)
        at_most(soft, best)
        at_most(best - price, soft)
        at_most(best - price, pmd.evaluate(garnets, policy)[0])
        at_most(pmd.evaluate(garnets, policy)[0], best)
        # Regularised values of other policies are below the regularised optimum.
        for other in (optimum(garnets)[0], uniform(garnets)):
            at_most(pmd.evaluate(garnets, other, tau, mirror_map)[0], soft)


@pytest.mark.theorem("prop-regularised-bellman", "equality")
@every_map
def test_the_optimal_operator_is_attained_by_the_greedy_policy(garnets, generator, mirror_map):
    v = random_value(garnets, generator)
    for tau in (0.0, 0.05, 2.0):
        policy = pmd.greedy(garnets, v, tau, mirror_map)
        best = pmd.bellman(garnets, v, None, tau, mirror_map)
        close(pmd.bellman(garnets, v, policy, tau, mirror_map), best)
        at_most(pmd.bellman(garnets, v, random_policy(garnets, generator), tau, mirror_map), best)


@pytest.mark.theorem("prop-regularised-bellman", "equality")
def test_one_state_has_a_formula(generator):
    """A bandit: log-mean-exp of the rewards, and the price is attained as the gap grows."""
    reward = torch.rand(200, 1, 4, generator=generator, dtype=F64)
    bandit = pmd.TabularMDP(torch.ones(1, 4, 1, dtype=F64), reward, 0.8)
    policy, value = optimum(bandit, 0.2, mm.Entropy())
    close(value, 0.2 * ((reward / 0.2).exp().mean(-1)).log() / 0.2)
    close(policy, (reward / 0.2).softmax(-1))
    alone = torch.tensor([[1000.0, 0.0, 0.0, 0.0]], dtype=F64)
    clear = pmd.TabularMDP(torch.ones(1, 4, 1, dtype=F64), alone, 0.8)
    gap = optimum(clear)[1] - optimum(clear, 0.2, mm.Entropy())[1]
    close(gap, torch.full((1,), 0.2 * math.log(4) / 0.2, dtype=F64), tolerance=1e-9)


@pytest.mark.theorem("prop-regularised-bellman", "mutant")
def test_operators_with_a_mistake_are_found_out(garnets, generator):
    v, w = random_value(garnets, generator), random_value(garnets, generator)
    undiscounted = pmd.TabularMDP(garnets.transition, garnets.reward, 0.999)
    shift = w + 1
    right = garnets.discount * (shift - w).abs().amax(-1)
    fails(
        at_most,
        (pmd.bellman(undiscounted, shift) - pmd.bellman(undiscounted, w)).abs().amax(-1),
        right,
        true=((pmd.bellman(garnets, shift) - pmd.bellman(garnets, w)).abs().amax(-1), right),
    )
    tau, ahead = 0.5, garnets.look_ahead(v)
    # Entropy added to the maximum, in place of the maximum of both.
    wrong = ahead.amax(-1) + tau * math.log(garnets.actions)
    soft_maximum = tau * (ahead / tau).exp().mean(-1).log()
    value = pmd.bellman(garnets, v, None, tau)
    fails(close, wrong, value, true=(soft_maximum, value))
    best, soft = optimum(garnets)[1], optimum(garnets, tau)[1]
    price = tau * math.log(garnets.actions)
    fails(  # the horizon is forgotten
        at_most, best - price, soft, true=(best - price / (1 - garnets.discount), soft)
    )


# --------------------------------------------------------------------- lem-performance-difference


def difference(mdp, policy, other, initial, tau, mirror_map, share):
    """Both sides of the lemma, with a given law of the states."""
    value, q = pmd.evaluate(mdp, other, tau, mirror_map)
    here = pmd.evaluate(mdp, policy, tau, mirror_map)[0]
    u = uniform(mdp)
    price = mirror_map.divergence(policy, u) - mirror_map.divergence(other, u)
    gain = ((policy - other) * q).sum(-1) - tau * price
    return mean(initial, here - value), mean(share, gain) / (1 - mdp.discount)


@pytest.mark.theorem("lem-performance-difference", "equality")
@every_map
@pytest.mark.parametrize("tau", [0.0, 0.3])
def test_performance_difference(garnets, generator, mirror_map, tau):
    policy, other = random_policy(garnets, generator), random_policy(garnets, generator)
    initial = random_law(garnets, generator)
    share = pmd.occupancy(garnets, policy, initial)
    close(*difference(garnets, policy, other, initial, tau, mirror_map, share))


@pytest.mark.theorem("lem-performance-difference", "equality")
def test_performance_difference_with_shares_by_series(garnets, generator):
    policy, other = random_policy(garnets, generator), random_policy(garnets, generator)
    initial = random_law(garnets, generator)
    share = share_by_series(garnets, policy, initial)
    close(*difference(garnets, policy, other, initial, 0.0, mm.Entropy(), share))


@pytest.mark.theorem("lem-performance-difference", "mutant")
@pytest.mark.parametrize("mutant", ["roles reversed", "start law", "regulariser dropped"])
def test_performance_difference_with_a_mistake(garnets, generator, mutant):
    policy, other = random_policy(garnets, generator), random_policy(garnets, generator)
    initial, entropy = random_law(garnets, generator), mm.Entropy()
    share = pmd.occupancy(garnets, other if mutant == "roles reversed" else policy, initial)
    share = initial if mutant == "start law" else share
    left, right = difference(garnets, policy, other, initial, 0.3, entropy, share)
    if mutant == "regulariser dropped":
        right = difference(garnets, policy, other, initial, 0.0, entropy, share)[1]
    true = difference(garnets, policy, other, initial, 0.3, entropy,
                      pmd.occupancy(garnets, policy, initial))  # fmt: skip
    fails(close, left, right, true=true, tolerance=1e-3)


# ------------------------------------------------------------------------- prop-natural-gradient


def natural_direction(mdp, logits, initial, power=1.0):
    """Fisher's pseudoinverse times the gradient of the return, by autograd and pinv.

    ``power`` is that of the occupancies in Fisher's matrix: 1 is right.
    """
    logits = logits.clone().requires_grad_(True)
    policy = logits.softmax(-1)
    eye = torch.eye(mdp.states, dtype=F64)
    reward = (policy * mdp.reward).sum(-1)
    value = torch.linalg.solve(eye - mdp.discount * follow(mdp, policy), reward)
    (gradient,) = torch.autograd.grad((initial * value).sum(), logits)
    policy = policy.detach()
    share = pmd.occupancy(mdp, policy, initial) ** power
    fisher = torch.diag_embed(policy) - policy[..., :, None] * policy[..., None, :]
    inverse = torch.linalg.pinv(share[..., None, None] * fisher, rtol=1e-12)
    return gradient, (inverse @ gradient[..., None])[..., 0]


@pytest.mark.theorem("prop-natural-gradient", "equality")
def test_the_natural_gradient_is_the_advantage(few, generator):
    logits = torch.randn(20, 8, 3, generator=generator, dtype=F64)
    initial = random_law(few, generator)
    policy = logits.softmax(-1)
    value, q = pmd.evaluate(few, policy)
    advantage = (q - value[..., None]) / (1 - few.discount)
    gradient, direction = natural_direction(few, logits, initial)
    share = pmd.occupancy(few, policy, initial)
    close(gradient, share[..., None] * policy * advantage, tolerance=1e-10)
    step = 0.05
    moved = (logits + step * direction).softmax(-1)
    close(moved, pmd.natural_policy_gradient(few, step, 1, policy), tolerance=1e-9)
    close(moved, (logits + step * advantage).softmax(-1), tolerance=1e-9)


@pytest.mark.theorem("prop-natural-gradient", "mutant")
@pytest.mark.parametrize("mutant", ["plain gradient", "shares forgotten", "horizon forgotten"])
def test_other_gradients_are_not_natural(few, generator, mutant):
    logits = torch.randn(20, 8, 3, generator=generator, dtype=F64)
    initial, policy, step = random_law(few, generator), logits.softmax(-1), 0.05
    gradient, direction = natural_direction(few, logits, initial)
    if mutant == "plain gradient":
        direction = gradient
    elif mutant == "shares forgotten":
        direction = natural_direction(few, logits, initial, power=0.0)[1]
    else:
        direction = direction * (1 - few.discount)
    moved = (logits + step * direction).softmax(-1)
    right = (logits + step * natural_direction(few, logits, initial)[1]).softmax(-1)
    after = pmd.natural_policy_gradient(few, step, 1, policy)
    fails(close, moved, after, true=(right, after), tolerance=1e-4)
