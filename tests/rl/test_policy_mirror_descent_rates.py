"""Statements about the rates of policy mirror descent."""

import pytest
import torch

from mdtheory.convex import mirror_maps as mm
from mdtheory.rl import policy_mirror_descent as pmd
from tests.refused import at_most, close, fails
from tests.rl.policy_mirror_descent_cases import (
    F64,
    MAPS,
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
    stationary,
    stationary_sides,
    sublinear,
    sublinear_sides,
    uniform,
)

STEPS = {
    "small": [0.1] * 25,
    "one": [1.0] * 25,
    "large": [100.0] * 25,
    "falling": pmd.trust_region_steps(25, scale=2.0),
    "up and down": [0.1, 5.0] * 13,
}


@pytest.mark.theorem("thm-pmd-sublinear", "bound")
@every_map
@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS)
def test_the_mean_rate(garnets, generator, mirror_map, steps):
    initial = random_law(garnets, generator)
    policies = policies_of(garnets, mirror_map, steps)
    at_most(*sublinear_sides(garnets, mirror_map, steps, policies, initial))


@pytest.mark.theorem("thm-pmd-sublinear", "equality")
@pytest.mark.parametrize("name", ["entropy", "tsallis-half"])
def test_the_sum_of_the_proof_is_exact_for_steep_maps(garnets, generator, name):
    mirror_map, steps = MAPS[name], [0.3, 1.0, 0.5, 2.0]
    initial = random_law(garnets, generator)
    share = pmd.occupancy(garnets, optimum(garnets)[0], initial)
    policies = policies_of(garnets, mirror_map, steps)
    path = Path(garnets, policies, mirror_map, 0.0, share, initial)
    total = path.far[0] - path.far[-1]
    for policy, after, eta in zip(policies, policies[1:], steps, strict=False):
        q = pmd.evaluate(garnets, policy)[1]
        total = total + eta * mean(share, ((after - policy) * q).sum(-1))
        total = total - mean(share, mirror_map.divergence(after, policy))
    weights = torch.tensor(steps, dtype=F64)[:, None]
    close((1 - garnets.discount) * (weights * path.gaps[:-1]).sum(0), total)


@pytest.mark.theorem("thm-pmd-sublinear", "equality")
def test_a_bandit_and_a_huge_step_attain_the_bound(generator):
    bandit = pmd.TabularMDP(
        torch.ones(1, 3, 1, dtype=F64), torch.rand(30, 1, 3, generator=generator, dtype=F64), 0.0
    )
    policies = policies_of(bandit, mm.Entropy(), [1e13])
    law = torch.ones(30, 1, dtype=F64)
    close(*sublinear_sides(bandit, mm.Entropy(), [1e13], policies, law), tolerance=1e-9)


@pytest.mark.theorem("thm-pmd-sublinear", "mutant")
@pytest.mark.parametrize("mutant", ["myopic", "start gap dropped", "divergence dropped"])
def test_a_mistake_breaks_the_mean_rate(hundred, generator, mutant):
    initial, entropy = random_law(hundred, generator), mm.Entropy()
    share = pmd.occupancy(hundred, optimum(hundred)[0], initial)
    if mutant == "myopic":
        steps = [10.0] * 200
        policies = descend(hundred, entropy, steps, signal=myopic)
        right = policies_of(hundred, entropy, steps)
        wrong, true = (
            sublinear_sides(hundred, entropy, steps, run, initial) for run in (policies, right)
        )
        fails(at_most, *wrong, true=true, tolerance=1e-6)
        return
    steps = [100.0] if mutant == "start gap dropped" else [0.001] * 30
    path = Path(hundred, policies_of(hundred, entropy, steps), entropy, 0.0, share, initial)
    start_gap = mean(share, path.best_value - path.values[0])
    true = sublinear(path, start_gap, steps, hundred.discount)
    if mutant == "start gap dropped":
        start_gap = torch.zeros_like(start_gap)
    else:
        path.far = torch.zeros_like(path.far)
    sides = sublinear(path, start_gap, steps, hundred.discount)
    fails(at_most, *sides, true=true, tolerance=1e-6)


def growing(mdp, initial, first, iterations):
    """The slowest growth that the theorem allows, for each process its own."""
    theta = mismatch_of(mdp, initial)
    return [first * (theta / (theta - 1)) ** k for k in range(iterations)]


@pytest.mark.theorem("thm-pmd-geometric", "bound")
@every_map
@pytest.mark.parametrize("first", [0.01, 1.0, 30.0])
def test_growing_steps_converge_linearly(garnets, generator, mirror_map, first):
    initial = random_law(garnets, generator)
    steps = growing(garnets, initial, first, 25)
    policies = policies_of(garnets, mirror_map, steps)
    theta = mismatch_of(garnets, initial)
    at_most(*geometric_sides(garnets, mirror_map, first, steps, initial, policies, theta))


@pytest.mark.theorem("thm-pmd-geometric", "equality")
def test_the_recursion_is_exact_where_the_start_is_stationary(garnets):
    """With the stationary law of the best policy nothing is lost to the mismatch."""
    best = optimum(garnets)[0]
    law = stationary(garnets, best)
    close(pmd.occupancy(garnets, best, law), law, tolerance=1e-10)
    steps, entropy = [0.5, 0.7, 1.1], mm.Entropy()
    policies = policies_of(garnets, entropy, steps)
    path = Path(garnets, policies, entropy, 0.0, law)
    for k, eta in enumerate(steps):
        q = pmd.evaluate(garnets, policies[k])[1]
        gain = ((policies[k + 1] - policies[k]) * q).sum(-1)
        lost = path.values[k + 1] - path.values[k] - gain
        moved = entropy.divergence(policies[k + 1], policies[k])
        left = path.gaps[k + 1] + path.far[k + 1] / eta + mean(law, lost + moved / eta)
        close(left, garnets.discount * path.gaps[k] + path.far[k] / eta, tolerance=1e-10)


@pytest.mark.theorem("thm-pmd-geometric", "mutant")
@pytest.mark.parametrize("mutant", ["steps do not grow", "myopic"])
def test_a_mistake_breaks_the_linear_rate(hundred, generator, mutant):
    initial, entropy, count = random_law(hundred, generator), mm.Entropy(), 250
    first = 0.02 if mutant == "steps do not grow" else 1e3
    theta = mismatch_of(hundred, initial)
    right = policies_of(hundred, entropy, growing(hundred, initial, first, count))
    if mutant == "steps do not grow":
        wrong = policies_of(hundred, entropy, [first] * count)
    else:
        wrong = descend(hundred, entropy, [first] * count, signal=myopic)
    sides, true = (
        geometric_sides(hundred, entropy, first, None, initial, run, theta)
        for run in (wrong, right)
    )
    fails(at_most, *sides, true=true, tolerance=1e-6)


def road(length=4, crumb=0.01):
    """At every fork a crumb ends the walk; who never takes it earns 1 after the last."""
    end = length
    transition = torch.zeros(1, length + 1, 2, length + 1, dtype=F64)
    transition[0, :, :, end] = 1
    for fork in range(length - 1):
        transition[0, fork, 1] = torch.eye(length + 1, dtype=F64)[fork + 1]
    reward = torch.zeros(1, length + 1, 2, dtype=F64)
    reward[0, :end, 0], reward[0, length - 1, 1] = crumb, 1
    return pmd.TabularMDP(transition, reward, 0.9)


@pytest.mark.theorem("thm-pmd-geometric", "mutant")
def test_a_forgotten_mismatch_promises_too_much():
    """Walks begin at the first fork, where nothing is gained until the others are understood."""
    mdp, entropy, first = road(), mm.Entropy(), 1e4
    initial = torch.tensor([[1 - 4e-3, 1e-3, 1e-3, 1e-3, 1e-3]], dtype=F64)
    start = torch.tensor([0.999, 0.001], dtype=F64).expand(1, 5, 2)
    theta = mismatch_of(mdp, initial)
    least = torch.full_like(theta, 1 / (1 - mdp.discount))
    assert (theta > 10 * least).all()
    # Steps that grow as fast as without a mismatch, which is faster than the theorem asks.
    steps = [first / mdp.discount**k for k in range(12)]
    policies = policies_of(mdp, entropy, steps, policy=start)
    wrong, true = (
        geometric_sides(mdp, entropy, first, steps, initial, policies, t) for t in (least, theta)
    )
    fails(at_most, *wrong, true=true, tolerance=1e-6)


@pytest.mark.theorem("thm-pmd-stationary", "bound")
@every_map
@pytest.mark.parametrize(("tau", "eta"), [(0.0, 0.1), (0.0, 1.0), (0.0, 50.0), (0.1, 1.0)])
def test_the_rate_under_the_stationary_law(garnets, mirror_map, tau, eta):
    policies = policies_of(garnets, mirror_map, [eta] * 25, tau)
    at_most(*stationary_sides(garnets, mirror_map, eta, policies, tau))


@pytest.mark.theorem("thm-pmd-stationary", "bound")
def test_the_steps_of_adaptive_trpo(garnets):
    for tau in (0.05, 0.5):
        steps = pmd.trust_region_steps(25, tau)
        policies = policies_of(garnets, mm.Entropy(), steps, tau)
        at_most(*stationary_sides(garnets, mm.Entropy(), steps[0], policies, tau))


@pytest.mark.theorem("thm-pmd-stationary", "equality")
@pytest.mark.theorem("thm-pmd-regularised", "equality")
@pytest.mark.parametrize("tau", [0.0, 0.3])
def test_the_recursion_with_all_that_it_drops(garnets, tau):
    entropy, eta = mm.Entropy(), 0.8
    best = optimum(garnets, tau, entropy)[0]
    law, middle = stationary(garnets, best), uniform(garnets)
    policies = policies_of(garnets, entropy, [eta] * 3, tau)
    path = Path(garnets, policies, entropy, tau, law)
    for k in range(3):
        q = pmd.evaluate(garnets, policies[k], tau)[1]
        price = entropy.divergence(policies[k + 1], middle)
        price = tau * (price - entropy.divergence(policies[k], middle))
        gain = ((policies[k + 1] - policies[k]) * q).sum(-1) - price
        lost = path.values[k + 1] - path.values[k] - gain
        moved = entropy.divergence(policies[k + 1], policies[k])
        left = path.gaps[k + 1] + (1 / eta + tau) * path.far[k + 1]
        left = left + mean(law, lost + moved / eta)
        close(left, garnets.discount * path.gaps[k] + path.far[k] / eta, tolerance=1e-10)


@pytest.mark.theorem("thm-pmd-stationary", "mutant")
@pytest.mark.parametrize("mutant", ["myopic", "divergence dropped", "sign"])
def test_a_mistake_breaks_the_rate_under_the_stationary_law(hundred, mutant):
    entropy = mm.Entropy()
    if mutant == "divergence dropped":
        policies = policies_of(hundred, entropy, [0.001] * 20)
        wrong, true = (
            stationary_sides(hundred, entropy, eta, policies, 0.0) for eta in (1e9, 0.001)
        )
        fails(at_most, *wrong, true=true, tolerance=1e-6)
        return
    signal = myopic if mutant == "myopic" else lambda mdp, q: -q
    wrong, true = (
        stationary_sides(hundred, entropy, 10.0, policies, 0.0)
        for policies in (
            descend(hundred, entropy, [10.0] * 150, signal=signal),
            policies_of(hundred, entropy, [10.0] * 150),
        )
    )
    fails(at_most, *wrong, true=true, tolerance=1e-6)
