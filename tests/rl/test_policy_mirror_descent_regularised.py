"""Statements about regularised rates, policy iteration and the library's bounds."""

import math

import pytest
import torch

from mdtheory.convex import mirror_maps as mm
from mdtheory.rl import policy_mirror_descent as pmd
from tests.refused import at_most, close, fails
from tests.rl.policy_mirror_descent_cases import (
    F64,
    Path,
    descend,
    every_map,
    geometric_sides,
    mean,
    mismatch_of,
    myopic,
    optimum,
    policies_of,
    random_law,
    random_policy,
    stationary,
    stationary_sides,
    sublinear_sides,
    uniform,
)

# ---------------------------------------------------------------------------- thm-pmd-regularised


def regularised_sides(mdp, mirror_map, eta, tau, policies, rate=None):
    law = stationary(mdp, optimum(mdp, tau, mirror_map)[0])
    path = Path(mdp, policies, mirror_map, tau, law)
    weight = tau + 1 / eta
    rate = max(mdp.discount, 1 / (1 + eta * tau)) if rate is None else rate
    potential = path.gaps + weight * path.far
    return potential, rate**path.counts * potential[0]


@pytest.mark.theorem("thm-pmd-regularised", "bound")
@every_map
@pytest.mark.parametrize("tau", [0.02, 0.2])
@pytest.mark.parametrize("share", [0.1, 1.0, 5.0, math.inf])
def test_the_regularised_rate(garnets, mirror_map, tau, share):
    """``share`` of the step at which the two rates meet."""
    eta = share * (1 / garnets.discount - 1) / tau
    policies = policies_of(garnets, mirror_map, [eta] * 25, tau)
    at_most(*regularised_sides(garnets, mirror_map, eta, tau, policies))


@pytest.mark.theorem("thm-pmd-regularised", "equality")
def test_without_rewards_the_dual_shrinks_by_the_rate():
    flat = pmd.TabularMDP(torch.ones(1, 2, 1, dtype=F64), torch.zeros(1, 2, dtype=F64), 0.3)
    tau, eta = 0.5, 0.7
    start = torch.tensor([[0.9, 0.1]], dtype=F64)
    policies = policies_of(flat, mm.Entropy(), [eta] * 5, tau, start)
    duals = torch.stack([(p.log()[0, 0] - p.log()[0, 1]) for p in policies])
    close(duals, duals[0] / (1 + eta * tau) ** torch.arange(6, dtype=F64), tolerance=1e-12)


@pytest.mark.theorem("thm-pmd-regularised", "equality")
def test_an_opposed_start_nearly_attains_the_regularised_rate(garnets):
    """Divergences from far away fall linearly, not like squares: the rate is then exact."""
    tau, entropy = 0.02, mm.Entropy()
    q = pmd.evaluate(garnets, optimum(garnets, tau)[0], tau)[1]
    start = (-3 * q / tau).softmax(-1)
    eta = (1 / garnets.discount - 1) / tau
    policies = policies_of(garnets, entropy, [eta] * 5, tau, start)
    potential, bound = regularised_sides(garnets, entropy, eta, tau, policies)
    at_most(potential, bound)
    assert (potential / bound)[5].max() > 0.999


@pytest.mark.theorem("thm-pmd-regularised", "equality")
@every_map
def test_the_limit_is_the_regularised_optimum(garnets, mirror_map):
    found = pmd.policy_mirror_descent(garnets, mirror_map, 2.0, 60, temperature=0.5)
    close(found, optimum(garnets, 0.5, mirror_map)[0], tolerance=1e-7)


@pytest.mark.theorem("thm-pmd-regularised", "mutant")
@pytest.mark.parametrize(
    "mutant", ["magnet forgotten", "rate squared", "myopic", "weight of 1 - a"]
)
def test_a_mistake_breaks_the_regularised_rate(hundred, mutant):
    entropy, tau = mm.Entropy(), 0.2
    eta = (1 / hundred.discount - 1) / tau
    rate = hundred.discount**2 if mutant == "rate squared" else None
    signal = myopic if mutant == "myopic" else None
    move = {
        "magnet forgotten": lambda p, q, step: mm.mirror_step(entropy, p, -q, step),
        "weight of 1 - a": lambda p, q, step: (p.log() / (1 + step * tau) + step * q).softmax(-1),
    }.get(mutant)
    policies = descend(hundred, entropy, [eta] * 60, tau, signal=signal, move=move)
    right = policies_of(hundred, entropy, [eta] * 60, tau)
    wrong = regularised_sides(hundred, entropy, eta, tau, policies, rate)
    true = regularised_sides(hundred, entropy, eta, tau, right)
    fails(at_most, *wrong, true=true, tolerance=1e-6)


# ------------------------------------------------------------------------------------ thm-npg-sup


def npg_sides(mdp, policies, alpha, tau, drop=False):
    """Distances of action values and of log-policies, with their bounds."""
    best = optimum(mdp, tau)[0]
    q_best = pmd.evaluate(mdp, best, tau)[1]
    kept = 1 - alpha * tau / (1 - mdp.discount)
    rate = 1 - alpha * tau
    runs = [(pmd.evaluate(mdp, policy, tau)[1], policy.log()) for policy in policies]
    values = torch.stack([(q_best - q).abs().flatten(-2).amax(-1) for q, _ in runs])
    logs = torch.stack([(best.log() - log).abs().flatten(-2).amax(-1) for _, log in runs])
    constant = values[0] + (0 if drop else 2 * tau * kept * logs[0])
    powers = rate ** torch.arange(len(policies) - 1, dtype=F64)[:, None]
    return (
        (values[1:], mdp.discount * constant * powers),
        (logs[1:], 2 * constant / tau * powers),
    )


@pytest.mark.theorem("thm-npg-sup", "bound")
@pytest.mark.parametrize("tau", [0.02, 0.2, 1.0])
@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_natural_gradients_with_entropy_converge_everywhere(garnets, tau, share, generator):
    alpha = share * (1 - garnets.discount) / tau
    eta = pmd.natural_step(alpha, garnets.discount, tau)
    start = random_policy(garnets, generator, 1.0)
    for policy in (None, start):
        policies = policies_of(garnets, mm.Entropy(), [eta] * 30, tau, policy)
        for sides in npg_sides(garnets, policies, alpha, tau):
            at_most(*sides, tolerance=1e-9)


@pytest.mark.theorem("thm-npg-sup", "equality")
def test_the_formula_of_the_regularised_natural_gradient(garnets):
    tau, alpha, policy = 0.3, 0.1, uniform(garnets)
    for _ in range(4):
        q = pmd.evaluate(garnets, policy, tau)[1]
        power = 1 - alpha * tau / (1 - garnets.discount)
        policy = policy**power * (alpha * q / (1 - garnets.discount)).exp()
        policy = policy / policy.sum(-1, keepdim=True)
    close(policy, pmd.natural_policy_gradient(garnets, alpha, 4, temperature=tau))


@pytest.mark.theorem("thm-npg-sup", "equality")
def test_equal_rewards_move_only_the_policy(generator):
    """Where all actions are alike the values stay, and the logits shrink as the proof says."""
    twin = pmd.TabularMDP(torch.ones(1, 2, 1, dtype=F64), torch.zeros(1, 2, dtype=F64), 0.9)
    start = torch.tensor([[0.8, 0.2]], dtype=F64)
    tau, alpha = 0.5, 0.04
    after = pmd.natural_policy_gradient(twin, alpha, 3, start, tau)
    kept = 1 - alpha * tau / (1 - twin.discount)
    close(after.log()[0, 0] - after.log()[0, 1], kept**3 * torch.tensor(4.0, dtype=F64).log())


@pytest.mark.theorem("thm-npg-sup", "mutant")
@pytest.mark.parametrize("mutant", ["magnet forgotten", "myopic"])
def test_a_mistake_breaks_the_rate_of_the_natural_gradient(hundred, mutant):
    tau, entropy = 0.2, mm.Entropy()
    alpha = 0.5 * (1 - hundred.discount) / tau
    eta = pmd.natural_step(alpha, hundred.discount, tau)
    signal = myopic if mutant == "myopic" else None
    move = None
    if mutant == "magnet forgotten":
        move = lambda p, q, step: mm.mirror_step(entropy, p, -q, step)  # noqa: E731
    wrong, true = (
        npg_sides(hundred, policies, alpha, tau)[0]
        for policies in (
            descend(hundred, entropy, [eta] * 60, tau, signal=signal, move=move),
            policies_of(hundred, entropy, [eta] * 60, tau),
        )
    )
    fails(at_most, *wrong, true=true, tolerance=1e-6)


@pytest.mark.theorem("thm-npg-sup", "mutant")
def test_right_values_with_a_wrong_policy_need_the_policy_term():
    """Everything leads to a state without rewards, where the policy is right from the start."""
    transition = torch.zeros(1, 2, 2, 2, dtype=F64)
    transition[..., 1] = 1
    mdp = pmd.TabularMDP(transition, torch.zeros(1, 2, 2, dtype=F64), 0.9)
    start = torch.tensor([[[0.9, 0.1], [0.5, 0.5]]], dtype=F64)
    tau, alpha = 0.2, 0.1
    eta = pmd.natural_step(alpha, mdp.discount, tau)
    policies = policies_of(mdp, mm.Entropy(), [eta] * 5, tau, start)
    wrong, true = (npg_sides(mdp, policies, alpha, tau, drop)[1] for drop in (True, False))
    assert (wrong[1] == 0).all()
    reason = "of the constant the policy term is all that there is"
    fails(at_most, *wrong, true=true, tolerance=1e-6, scaled=reason)


# --------------------------------------------------------------------------- thm-policy-iteration


def iteration_sides(mdp, policies, tau, mirror_map):
    best = optimum(mdp, tau, mirror_map)[1]
    values = [pmd.evaluate(mdp, policy, tau, mirror_map)[0] for policy in policies]
    gaps = torch.stack([(best - v).abs().amax(-1) for v in values])
    return gaps, mdp.discount ** torch.arange(len(policies), dtype=F64)[:, None] * gaps[0]


def greedy_policies(mdp, tau, mirror_map, iterations=15, mix=0.0):
    policy = uniform(mdp)
    found = [policy]
    for _ in range(iterations):
        value = pmd.evaluate(mdp, policy, tau, mirror_map)[0]
        policy = (1 - mix) * pmd.greedy(mdp, value, tau, mirror_map) + mix * policy
        found.append(policy)
    return found


@pytest.mark.theorem("thm-policy-iteration", "bound")
@every_map
@pytest.mark.parametrize("tau", [0.0, 0.02, 0.5])
def test_greedy_policies_contract(garnets, mirror_map, tau):
    policies = greedy_policies(garnets, tau, mirror_map)
    at_most(*iteration_sides(garnets, policies, tau, mirror_map))


@pytest.mark.theorem("thm-policy-iteration", "equality")
@every_map
def test_an_infinite_step_is_the_greedy_policy(garnets, mirror_map):
    for tau in (0.1, 1.0):
        mine = pmd.soft_policy_iteration(garnets, tau, 3, mirror_map=mirror_map)
        close(mine, greedy_policies(garnets, tau, mirror_map, 3)[-1])
    found = pmd.soft_policy_iteration(garnets, 0.1, 3)
    policy = uniform(garnets)
    for _ in range(3):
        policy = (pmd.evaluate(garnets, policy, 0.1)[1] / 0.1).softmax(-1)
    close(found, policy)


@pytest.mark.theorem("thm-policy-iteration", "equality")
def test_a_fork_attains_the_rate():
    """Someone who does not know yet what the left road will be worth takes the right one."""
    fork, left, right, end, crumb = 0, 1, 2, 3, 1e-9
    transition = torch.zeros(4, 2, 4, dtype=F64)
    transition[fork, 0, left] = transition[fork, 1, right] = 1
    transition[left:, :, end] = 1
    reward = torch.zeros(4, 2, dtype=F64)
    reward[left, 1], reward[right] = 1, crumb
    mdp = pmd.TabularMDP(transition, reward, 0.7)
    policy = torch.tensor([[1.0, 0.0]] * 4, dtype=F64)
    after = pmd.greedy(mdp, pmd.evaluate(mdp, policy)[0])
    gaps, bound = iteration_sides(mdp, [policy, after], 0.0, mm.Entropy())
    close(gaps, bound[:, 0], tolerance=1e-8)


@pytest.mark.theorem("thm-policy-iteration", "mutant")
@pytest.mark.parametrize("mutant", ["half a step", "myopic"])
def test_a_mistake_breaks_the_contraction(hundred, mutant):
    entropy = mm.Entropy()
    policies = greedy_policies(hundred, 0.0, entropy, mix=0.95)
    if mutant == "myopic":
        choice = mm.Simplex().minimize_linear(-hundred.reward)
        policies = [uniform(hundred)] + [choice] * 15
    right = greedy_policies(hundred, 0.0, entropy)
    wrong, true = (iteration_sides(hundred, run, 0.0, entropy) for run in (policies, right))
    fails(at_most, *wrong, true=true, tolerance=1e-6)


# ---------------------------------------------------------------------- the library's right sides


def test_the_librarys_bounds_are_those_of_the_tests(garnets, generator):
    entropy, initial = mm.Entropy(), random_law(garnets, generator)
    best, value = optimum(garnets)
    share, law = pmd.occupancy(garnets, best, initial), stationary(garnets, best)
    close(pmd.bounds.stationary_law(garnets, best), law)
    steps = [0.5, 2.0, 1.0]
    policies = policies_of(garnets, entropy, steps)
    far = pmd.bounds.distance(entropy, best, policies[0], share)
    start_gap = mean(share, value - pmd.evaluate(garnets, policies[0])[0])
    mine = sublinear_sides(garnets, entropy, steps, policies, initial)[1]
    close(pmd.bounds.mean_rate(far, start_gap, steps, 0.9), mine)
    gap = mean(initial, value - pmd.evaluate(garnets, policies[0])[0])
    theta = mismatch_of(garnets, initial)
    mine = geometric_sides(garnets, entropy, 0.5, steps, initial, policies, theta)[1]
    close(pmd.bounds.linear_rate(far, gap, theta, 0.5, 0.9, 3), mine)
    far = pmd.bounds.distance(entropy, best, policies[0], law)
    gap = mean(law, value - pmd.evaluate(garnets, policies[0])[0])
    mine = stationary_sides(garnets, entropy, 0.5, policies, 0.0)[1]
    close(pmd.bounds.stationary_rate(far, gap, 0.5, 0.9, 3), mine)
    mine = iteration_sides(garnets, policies, 0.0, entropy)[1]
    close(pmd.bounds.contraction(mine[0], 0.9, 3), mine)


def test_the_librarys_regularised_bounds_are_those_of_the_tests(garnets):
    entropy, tau, alpha = mm.Entropy(), 0.2, 0.1
    eta = pmd.natural_step(alpha, 0.9, tau)
    policies = policies_of(garnets, entropy, [eta] * 3, tau)
    best, value = optimum(garnets, tau)
    law = pmd.bounds.stationary_law(garnets, best)
    first, q = pmd.evaluate(garnets, policies[0], tau)
    far, gap = pmd.bounds.distance(entropy, best, policies[0], law), mean(law, value - first)
    mine = regularised_sides(garnets, entropy, eta, tau, policies)[1]
    close(pmd.bounds.regularised_rate(far, gap, eta, tau, 0.9, 3), mine)
    values = (pmd.evaluate(garnets, best, tau)[1] - q).abs().amax((-2, -1))
    logs = (best.log() - policies[0].log()).abs().amax((-2, -1))
    theirs = pmd.bounds.natural_rate(values, logs, alpha, tau, 0.9, 3)
    for mine, library in zip(npg_sides(garnets, policies, alpha, tau), theirs, strict=True):
        close(library, mine[1])
    limit = pmd.bounds.regularised_rate(far, gap, math.inf, tau, 0.9, 1)[1]
    close(limit, 0.9 * (gap + tau * far))
