"""Near order 1 the maps of Tsallis are the entropy, and no digit of a step may be lost there."""

import math

import pytest
import torch

from mdtheory.convex import mirror_maps as mm
from mdtheory.rl import policy_mirror_descent as pmd
from tests.refused import close
from tests.rl.policy_mirror_descent_cases import random_policy

NEAR = [1 + sign * size for size in (1e-6, 1e-10, 1e-13) for sign in (-1, 1)]
near_one = pytest.mark.parametrize("q", NEAR)


def away(q):
    """How far the maps themselves are from the entropy, with room for what steps add."""
    return 1e3 * abs(q - 1) + 1e-11


@near_one
@pytest.mark.parametrize(("tau", "eta"), [(0.0, 0.7), (0.3, 0.7), (0.3, math.inf)])
def test_descent_is_that_of_the_entropy(few, generator, q, tau, eta):
    policy = random_policy(few, generator, 1.0)
    found = pmd.policy_mirror_descent(few, mm.Tsallis(q), eta, 20, policy, tau)
    right = pmd.policy_mirror_descent(few, mm.Entropy(), eta, 20, policy, tau)
    close(found, right, tolerance=away(q))


@near_one
def test_iterates_of_an_order_beside_1_have_the_digits_of_the_entropy(few, generator, q):
    """The dual of every iterate is that of its policy, up to a constant in each state."""
    policy = random_policy(few, generator, 1.0)
    for now in pmd.policy_iterates(few, mm.Tsallis(q), 0.7, 3, policy, 0.3):
        exact = now.policy.log()
        change = now.dual - exact
        centred = change - change.mean(-1, keepdim=True)
        close(centred, torch.zeros_like(centred), tolerance=away(q))


@near_one
def test_bellman_operators_and_greedy_policies(few, q):
    value = pmd.evaluate(few, few.uniform_policy())[0]
    for call in (pmd.greedy, lambda mdp, v, tau, one: pmd.bellman(mdp, v, None, tau, one)):
        close(
            call(few, value, 0.2, mm.Tsallis(q)), call(few, value, 0.2, mm.Entropy()),
            tolerance=away(q),
        )  # fmt: skip


@near_one
def test_where_an_action_is_not_feasible(few, q):
    legal = torch.ones_like(few.reward, dtype=torch.bool)
    legal[..., 0, 1] = legal[..., 2, 0] = False
    mdp = pmd.TabularMDP(few.transition, few.reward, few.discount, legal)
    found = pmd.policy_mirror_descent(mdp, mm.Tsallis(q), 0.7, 10, temperature=0.2)
    right = pmd.policy_mirror_descent(mdp, mm.Entropy(), 0.7, 10, temperature=0.2)
    close(found, right, tolerance=away(q))
    assert (found[~legal] == 0).all()


@near_one
def test_the_plain_dual_would_lose_them(q):
    """What the constant of the textbook's dual costs, and that of a step does not."""
    law = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    one, change = mm.Tsallis(q), torch.tensor([1e-3, 0.0, -1e-3], dtype=torch.float64)
    right = (law.log() + change).log_softmax(-1).exp()
    close(one._to_primal(one._step_dual(law) + change), right, tolerance=away(q))
    if abs(q - 1) < 1e-11:
        lost = one._to_primal(one._to_dual(law) + change)
        assert (lost - right).abs().max() > 1e-6
