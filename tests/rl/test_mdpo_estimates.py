"""Statements about advantages and improvement."""

import math

import pytest
import torch

from mdtheory.rl.mdpo import (
    generalized_advantages,
)
from tests.refused import at_most, fails
from tests.rl.mdpo_cases import equal, float64, kl


class Tabular:
    """Random finite Markov decision processes, evaluated by linear systems."""

    def __init__(self, generator, problems=200, states=5, actions=3, discount=0.9):
        def draw(*shape):
            return torch.rand(problems, *shape, generator=generator, dtype=float64)

        self.discount = discount
        self.transition = draw(states, actions, states) ** 4
        self.transition = self.transition / self.transition.sum(-1, keepdim=True)
        self.reward = draw(states, actions)
        self.start = draw(states) + 0.1
        self.start = self.start / self.start.sum(-1, keepdim=True)

    def policy(self, generator, sharpness=1.0):
        shape = self.reward.shape
        return (sharpness * torch.randn(*shape, generator=generator, dtype=float64)).softmax(-1)

    def kernel(self, policy):
        return torch.einsum("bsa,bsat->bst", policy, self.transition)

    def values(self, policy):
        system = torch.eye(policy.shape[1], dtype=float64) - self.discount * self.kernel(policy)
        return torch.linalg.solve(system, (policy * self.reward).sum(-1))

    def advantages(self, policy):
        value = self.values(policy)
        ahead = torch.einsum("bsat,bt->bsa", self.transition, value)
        return self.reward + self.discount * ahead - value[..., None]

    def visits(self, policy):
        """Discounted law of the states, which sums to 1."""
        system = torch.eye(policy.shape[1], dtype=float64) - self.discount * self.kernel(policy).mT
        return (1 - self.discount) * torch.linalg.solve(system, self.start)

    def worth(self, policy):
        return (self.start * self.values(policy)).sum(-1)


@pytest.fixture
def tabular():
    return Tabular


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(7)


# -------------------------------------------------------------------------------------- prop-gae


def trajectory(normal, steps=30, copies=8, ends=0.15):
    rewards, values = normal(steps, copies), normal(steps + 1, copies)
    ended = normal(steps, copies) > -math.log(ends)
    terminated = ended & (normal(steps, copies) > 0)
    return rewards, values, terminated, ended & ~terminated


def advantages(rewards, values, terminated, truncated, trace, discount=0.9):
    return generalized_advantages(
        rewards, values, terminated, truncated, discount=discount, gae_lambda=trace
    )[0]


def n_step(rewards, values, terminated, truncated, t, c, n, discount):
    """Reward of at most n steps, then the value of where they led, less V(s_t)."""
    total = -values[t, c]
    for k in range(n):
        total = total + discount**k * rewards[t + k, c]
        if terminated[t + k, c]:
            return total
        if truncated[t + k, c] or k == n - 1 or t + k + 1 == len(rewards):
            return total + discount ** (k + 1) * values[t + k + 1, c]
    raise AssertionError("unreachable")


def mixed(rewards, values, terminated, truncated, trace, discount=0.9):
    """The weighted mean of n-step estimates, written without the recursion."""
    steps, copies = rewards.shape
    found = torch.empty_like(rewards)
    for t in range(steps):
        for c in range(copies):
            left = steps - t
            parts = [
                n_step(rewards, values, terminated, truncated, t, c, n, discount)
                for n in range(1, left + 1)
            ]
            weights = [(1 - trace) * trace ** (n - 1) for n in range(1, left)]
            weights.append(trace ** (left - 1))
            found[t, c] = sum(w * p for w, p in zip(weights, parts, strict=True))
    return found


@pytest.mark.theorem("prop-gae", "equality")
@pytest.mark.parametrize("trace", [0.0, 0.4, 0.95, 1.0])
def test_the_recursion_is_the_weighted_mean_of_n_step_estimates(normal, trace):
    played = trajectory(normal)
    assert played[2].any()
    assert played[3].any()
    equal(advantages(*played, trace), mixed(*played, trace), 1e-10)


@pytest.mark.theorem("prop-gae", "equality")
def test_a_truncation_taken_for_a_termination_costs_the_value_of_the_rest(normal):
    rewards, values, none, _ = trajectory(normal, steps=12, ends=1e-9)
    last = torch.zeros_like(none)
    last[-1] = True
    discount, trace = 0.9, 0.8
    right = advantages(rewards, values, none, last, trace, discount)
    wrong = advantages(rewards, values, last, none, trace, discount)
    power = torch.arange(11, -1, -1, dtype=float64)[:, None]
    equal(right - wrong, (discount * trace) ** power * discount * values[-1], 1e-10)


@pytest.mark.theorem("prop-gae", "mutant")
@pytest.mark.parametrize("mutant", ["truncation ends", "nothing ends", "trace without discount"])
def test_other_recursions_are_found_out(normal, mutant):
    rewards, values, terminated, truncated = trajectory(normal)
    none = torch.zeros_like(terminated)
    wrong = {
        "truncation ends": (rewards, values, terminated | truncated, none, 0.8),
        "nothing ends": (rewards, values, none, none, 0.8),
        "trace without discount": (rewards, values, terminated, truncated, 0.8 / 0.9),
    }[mutant]
    right = (rewards, values, terminated, truncated, 0.8)
    fails(equal, advantages(*wrong), mixed(*right), true=(advantages(*right), mixed(*right)))


# ------------------------------------------------------------------------------- thm-improvement


def improvement_sides(problem, old, new, constant=2.0):
    """Gain, and the surrogate less the penalty of the theorem."""
    advantage, gamma = problem.advantages(old), problem.discount
    surrogate = (problem.visits(old) * (new * advantage).sum(-1)).sum(-1) / (1 - gamma)
    largest = advantage.abs().flatten(1).amax(-1)
    worst = kl(new, old).amax(-1)
    penalty = constant * gamma * largest * worst / (1 - gamma) ** 2
    return surrogate - penalty, problem.worth(new) - problem.worth(old)


@pytest.mark.theorem("thm-improvement", "bound")
@pytest.mark.parametrize("sharpness", [0.05, 1.0, 3.0])
def test_the_gain_is_at_least_the_penalised_surrogate(tabular, generator, sharpness):
    problem = tabular(generator)
    old = problem.policy(generator)
    new = (old.log() + sharpness * problem.policy(generator, 3.0)).softmax(-1)
    at_most(*improvement_sides(problem, old, new))


@pytest.mark.theorem("thm-improvement", "bound")
def test_the_bound_in_total_variation(tabular, generator):
    problem = tabular(generator)
    old, new = problem.policy(generator), problem.policy(generator, 2.0)
    advantage, gamma = problem.advantages(old), problem.discount
    gain = (new * advantage).sum(-1)
    visits = problem.visits(old)
    moved = (visits * (new - old).abs().sum(-1)).sum(-1)
    drift = (problem.visits(new) - visits).abs().sum(-1)
    at_most(drift, gamma / (1 - gamma) * moved)
    lower = (visits * gain).sum(-1) / (1 - gamma)
    lower = lower - gamma / (1 - gamma) ** 2 * gain.abs().amax(-1) * moved
    at_most(lower, problem.worth(new) - problem.worth(old))


@pytest.mark.theorem("thm-improvement", "equality")
def test_the_drift_of_the_visits_is_attained(tabular, generator):
    """Two states that keep what enters them: one action leads to either, all drift is kept."""
    problem = tabular(generator, 1, 3, 2)
    problem.transition = torch.zeros(1, 3, 2, 3, dtype=float64)
    problem.transition[0, 0] = torch.tensor([[0.0, 1, 0], [0, 0, 1]])
    problem.transition[0, 1, :, 1] = 1
    problem.transition[0, 2, :, 2] = 1
    problem.start = torch.tensor([[1.0, 0, 0]], dtype=float64)
    old = torch.tensor([[0.5, 0.5]] * 3, dtype=float64)[None]
    new = old.clone()
    new[0, 0] = torch.tensor([0.9, 0.1])
    gamma = problem.discount
    drift = (problem.visits(new) - problem.visits(old)).abs().sum(-1)
    moved = (problem.visits(old) * (new - old).abs().sum(-1)).sum(-1)
    equal(drift, gamma / (1 - gamma) * moved, 1e-10)


@pytest.mark.theorem("thm-improvement", "equality")
def test_the_gain_is_the_advantage_over_the_new_visits(tabular, generator):
    problem = tabular(generator)
    old, new = problem.policy(generator), problem.policy(generator, 2.0)
    gain = (problem.visits(new) * (new * problem.advantages(old)).sum(-1)).sum(-1)
    equal(problem.worth(new) - problem.worth(old), gain / (1 - problem.discount))


@pytest.mark.theorem("thm-improvement", "mutant")
def test_without_the_penalty_the_surrogate_promises_too_much(tabular, generator):
    problem = tabular(generator)
    old, new = problem.policy(generator), problem.policy(generator, 3.0)
    wrong, true = (improvement_sides(problem, old, new, constant=c) for c in (0.0, 2.0))
    fails(at_most, *wrong, true=true)
