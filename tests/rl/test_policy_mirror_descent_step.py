"""Statements about one step of policy mirror descent."""

import pytest
import torch

from mdtheory.convex import mirror_maps as mm
from mdtheory.rl import policy_mirror_descent as pmd
from tests.refused import at_most, close, fails
from tests.rl.policy_mirror_descent_cases import (
    F64,
    MAPS,
    descend,
    every_map,
    follow,
    myopic,
    random_policy,
    uniform,
)

# --------------------------------------------------------------------------------- lem-policy-prox


def prox_sides(mirror_map, u, policy, q, after, eta, tau):
    """Left and right of the inequality in every state, for a comparator."""
    middle = torch.full_like(policy, 1 / policy.shape[-1])
    regulariser = mirror_map.divergence(u, middle) - mirror_map.divergence(after, middle)
    left = eta * (((u - after) * q).sum(-1) - tau * regulariser)
    right = (
        mirror_map.divergence(u, policy)
        - (1 + eta * tau) * mirror_map.divergence(u, after)
        - mirror_map.divergence(after, policy)
    )
    return left, right


def prox_instance(mdp, generator, mirror_map, tau, eta):
    policy, u = random_policy(mdp, generator, 1.0), random_policy(mdp, generator, 3.0)
    q = pmd.evaluate(mdp, policy, tau, mirror_map)[1]
    after = pmd.policy_mirror_descent(mdp, mirror_map, eta, 1, policy, tau)
    return u, policy, q, after


@pytest.mark.theorem("lem-policy-prox", "bound")
@every_map
@pytest.mark.parametrize("tau", [0.0, 0.4])
def test_what_one_step_buys(garnets, generator, mirror_map, tau):
    u, policy, q, after = prox_instance(garnets, generator, mirror_map, tau, 0.7)
    at_most(*prox_sides(mirror_map, u, policy, q, after, 0.7, tau))
    corner = pmd.policy_iteration(garnets).policy
    at_most(*prox_sides(mirror_map, corner, policy, q, after, 0.7, tau))


@pytest.mark.theorem("lem-policy-prox", "equality")
@pytest.mark.parametrize("name", ["entropy", "tsallis-half"])
def test_steep_maps_waste_nothing(garnets, generator, name):
    u, policy, q, after = prox_instance(garnets, generator, MAPS[name], 0.4, 0.7)
    close(*prox_sides(MAPS[name], u, policy, q, after, 0.7, 0.4))


@pytest.mark.theorem("lem-policy-prox", "mutant")
@every_map
@pytest.mark.parametrize("mutant", ["half the step", "magnet forgotten", "sign"])
def test_other_steps_break_the_inequality(garnets, generator, mirror_map, mutant):
    u, policy, q, after = prox_instance(garnets, generator, mirror_map, 0.4, 0.7)
    true = prox_sides(mirror_map, u, policy, q, after, 0.7, 0.4)
    if mutant == "half the step":
        after = pmd.policy_mirror_descent(garnets, mirror_map, 0.35, 1, policy, 0.4)
    else:
        signal = -q if mutant == "magnet forgotten" else q
        after = mm.mirror_step(mirror_map, policy, signal, 0.7)
    sides = prox_sides(mirror_map, u, policy, q, after, 0.7, 0.4)
    fails(at_most, *sides, true=true, tolerance=1e-6)


@pytest.mark.theorem("lem-policy-prox", "mutant")
@pytest.mark.parametrize("name", ["entropy", "tsallis-half", "tsallis-three-halves"])
def test_reversed_divergences_break_the_inequality(garnets, generator, name):
    mirror_map = MAPS[name]
    u, policy, q, after = prox_instance(garnets, generator, mirror_map, 0.0, 0.7)
    left = 0.7 * ((u - after) * q).sum(-1)
    right = mirror_map.divergence(policy, u) - mirror_map.divergence(after, u)
    true = prox_sides(mirror_map, u, policy, q, after, 0.7, 0.0)
    right = right - mirror_map.divergence(policy, after)
    fails(at_most, left, right, true=true, tolerance=1e-6)


# ---------------------------------------------------------------------- prop-monotone-improvement


@pytest.mark.theorem("prop-monotone-improvement", "bound")
@every_map
@pytest.mark.parametrize("tau", [0.0, 0.2])
@pytest.mark.parametrize("eta", [0.01, 1.0, 100.0])
def test_no_state_ever_loses(garnets, mirror_map, tau, eta):
    run = pmd.policy_iterates(garnets, mirror_map, eta, 12, temperature=tau)
    middle, last = uniform(garnets), None
    for now in run:
        if last is not None:
            price = mirror_map.divergence(now.policy, middle)
            price = tau * (price - mirror_map.divergence(last.policy, middle))
            gain = ((now.policy - last.policy) * last.action_value).sum(-1) - price
            at_most(torch.zeros_like(gain), gain)
            at_most(gain, now.value - last.value)
        last = now


def second_line(mirror_map, before, after, q, eta, tau):
    """Sides of the second line of eq-monotone: what moving costs, and eta times the gain."""
    middle = torch.full_like(before, 1 / before.shape[-1])
    price = mirror_map.divergence(after, middle) - mirror_map.divergence(before, middle)
    gain = ((after - before) * q).sum(-1) - tau * price
    there, back = mirror_map.divergence(after, before), mirror_map.divergence(before, after)
    return there + (1 + eta * tau) * back, eta * gain


@pytest.mark.theorem("prop-monotone-improvement", "bound")
@every_map
@pytest.mark.parametrize("tau", [0.0, 0.2])
@pytest.mark.parametrize("eta", [0.01, 1.0])
def test_the_gain_pays_for_the_move(garnets, generator, mirror_map, tau, eta):
    start = random_policy(garnets, generator, 1.0)
    for policy in (uniform(garnets), start):
        first, second = pmd.policy_iterates(garnets, mirror_map, eta, 1, policy, tau)
        q = first.action_value
        sides = second_line(mirror_map, policy, second.policy, q, eta, tau)
        at_most(*sides, tolerance=1e-10)
        if mirror_map.carries_dual:  # a steep map wastes nothing
            close(*sides, tolerance=1e-10)
            there = mirror_map.divergence(second.policy, policy)
            more = there + (1 + 2 * eta * (tau + 1)) * (sides[0] - there)
            fails(at_most, more, sides[1], true=sides, tolerance=1e-10)


@pytest.mark.theorem("prop-monotone-improvement", "equality")
def test_the_improvement_is_the_gain_met_on_the_way(garnets):
    first, second = pmd.policy_iterates(garnets, mm.Entropy(), 2.0, 1)
    gain = ((second.policy - first.policy) * first.action_value).sum(-1)
    eye = torch.eye(garnets.states, dtype=F64)
    resolvent = torch.linalg.inv(eye - garnets.discount * follow(garnets, second.policy))
    close(second.value - first.value, (resolvent @ gain[..., None])[..., 0])


@pytest.mark.theorem("prop-monotone-improvement", "equality")
def test_without_a_future_the_improvement_is_the_gain(generator):
    now_only = pmd.garnet(5, 3, 2, 0.0, generator, (50,))
    first, second = pmd.policy_iterates(now_only, mm.Entropy(), 2.0, 1)
    gain = ((second.policy - first.policy) * first.action_value).sum(-1)
    close(second.value - first.value, gain)


@pytest.mark.theorem("prop-monotone-improvement", "mutant")
@pytest.mark.parametrize("mutant", ["myopic", "sign", "values of another policy"])
def test_steps_along_something_else_lose_somewhere(garnets, generator, mutant):
    other = pmd.evaluate(garnets, random_policy(garnets, generator, 5.0))[1]
    signal = {
        "myopic": myopic,
        "sign": lambda mdp, q: -q,
        "values of another policy": lambda mdp, q: other,
    }[mutant]
    runs = [descend(garnets, mm.Entropy(), [2.0] * 30, signal=s) for s in (signal, None)]
    wrong, right = (torch.stack([pmd.evaluate(garnets, p)[0] for p in run]) for run in runs)
    fails(at_most, wrong[:-1], wrong[1:], true=(right[:-1], right[1:]), tolerance=1e-6)
