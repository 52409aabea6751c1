"""Statements about the step of MDPO and its two directions."""

import math

import pytest
import torch

from mdtheory.convex.mirror_maps import Entropy, mirror_step
from mdtheory.rl.mdpo import (
    Categorical,
    Gaussian,
    mdpo_loss,
)
from tests.refused import at_most, fails
from tests.rl.mdpo_cases import D, N, draws, equal, float64, kl


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(7)


# ----------------------------------------------------------------------------- prop-mdpo-tabular


def objective(p, old, advantage, t):
    return (advantage * p).sum(-1) - kl(p, old) / t


def closed_form(old, advantage, t):
    weights = old * (t * advantage).exp()
    return weights / weights.sum(-1, keepdim=True)


def check_completed_square(best, p, old, advantage, t):
    """The objective is log Z / t minus the divergence from the maximiser over t."""
    normaliser = (old * (t[:, None] * advantage).exp()).sum(-1).log()
    equal(objective(p, old, advantage, t), (normaliser - kl(p, best)) / t)


@pytest.fixture
def step_problem(normal):
    t = normal(N).exp()
    return normal(N, D).softmax(-1), normal(N, D).softmax(-1), normal(N, D), t


@pytest.mark.theorem("prop-mdpo-tabular", "equality")
def test_the_objective_is_a_divergence_from_its_maximiser(step_problem):
    p, old, advantage, t = step_problem
    check_completed_square(closed_form(old, advantage, t[:, None]), p, old, advantage, t)


@pytest.mark.theorem("prop-mdpo-tabular", "equality")
def test_the_closed_form_is_the_mirror_step_of_the_entropy(step_problem):
    _, old, advantage, t = step_problem
    step = mirror_step(Entropy(), old, -advantage, t)
    equal(step, closed_form(old, advantage, t[:, None]), 1e-12)


@pytest.mark.theorem("prop-mdpo-tabular", "equality")
def test_many_gradient_steps_on_the_loss_reach_the_closed_form(normal):
    """Softmax logits, exact advantages, every action weighted by the old policy."""
    states, actions, t = 6, 4, 0.7
    old = normal(states, actions)
    advantage = normal(states, actions)
    logits = old.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [logits], max_iter=400, tolerance_grad=1e-12, tolerance_change=1e-16,
        line_search_fn="strong_wolfe",
    )  # fmt: skip
    every = torch.arange(actions).expand(states, actions)
    weight = old.softmax(-1)

    def closure():
        optimizer.zero_grad()
        logs, old_logs = logits.log_softmax(-1), old.log_softmax(-1)
        divergence = Categorical(logits).kl(Categorical(old))[:, None].expand_as(every)
        loss = mdpo_loss(logs, old_logs, advantage, divergence, t, weight=weight).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    expected = closed_form(old.softmax(-1), advantage, t)
    equal(logits.detach().softmax(-1), expected, 1e-6)


@pytest.mark.theorem("prop-mdpo-tabular", "mutant")
@pytest.mark.parametrize("mutant", ["sign", "half the step", "no old policy", "KL reversed"])
def test_another_step_is_no_maximiser(step_problem, mutant):
    p, old, advantage, t = step_problem
    wide = t[:, None]
    wrong = {
        "sign": closed_form(old, -advantage, wide),
        "half the step": closed_form(old, advantage, wide / 2),
        "no old policy": (wide * advantage).softmax(-1),
        "KL reversed": reversed_step(old, advantage, wide),
    }[mutant]
    true = (closed_form(old, advantage, wide), p, old, advantage, t)
    fails(check_completed_square, wrong, p, old, advantage, t, true=true)


# ------------------------------------------------------------------------------ prop-first-step


def laws(kind, normal):
    """A law with parameters, and a copy without; random actions and advantages."""
    if kind == "categorical":
        logits = normal(3, 50, D).requires_grad_()
        law = Categorical(logits)
        action = torch.arange(50).remainder(D).expand(3, 50)
        return [logits], law, action
    mean, log_std = normal(3, 50, 2).requires_grad_(), normal(3, 1, 2).requires_grad_()
    law = Gaussian(mean, log_std)
    return [mean, log_std], law, (mean + normal(3, 50, 2)).detach()


def gradient(loss, parameters):
    found = torch.autograd.grad(loss.sum(), parameters, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]


def policy_gradient(law, action, advantage, parameters):
    """Of the mean of -A log pi: no ratio, no divergence."""
    return gradient(-(law.log_prob(action) * advantage).mean(-1), parameters)


def check_first_step(kind, normal, t, divergence):
    parameters, law, action = laws(kind, normal)
    old, advantage = law.detach(), normal(3, 50)
    loss = mdpo_loss(law.log_prob(action), old.log_prob(action), advantage, divergence(law, old), t)
    for mine, its in zip(
        gradient(loss, parameters), policy_gradient(law, action, advantage, parameters), strict=True
    ):
        equal(mine, its, 1e-10)


DIVERGENCES = {
    "KL(new, old)": lambda new, old: new.kl(old),
    "KL(old, new)": lambda new, old: old.kl(new),
    "Tsallis 1.5": lambda new, old: new.divergence(old, 1.5),
    "Tsallis 2": lambda new, old: new.divergence(old, 2.0),
}


@pytest.mark.theorem("prop-first-step", "equality")
@pytest.mark.parametrize("kind", ["categorical", "gaussian"])
@pytest.mark.parametrize("name", DIVERGENCES)
@pytest.mark.parametrize("t", [1e-3, 1.0, math.inf])
def test_the_first_gradient_is_the_policy_gradient(kind, normal, name, t):
    check_first_step(kind, normal, t, DIVERGENCES[name])


@pytest.mark.theorem("prop-first-step", "mutant")
@pytest.mark.parametrize("kind", ["categorical", "gaussian"])
def test_an_entropy_in_place_of_a_divergence_moves_the_first_step(kind):
    def check(divergence):
        check_first_step(kind, draws(), 1.0, divergence)

    fails(check, lambda new, old: -new.entropy(), true=(DIVERGENCES["KL(new, old)"],))


@pytest.mark.theorem("prop-first-step", "mutant")
@pytest.mark.parametrize("name", DIVERGENCES)
def test_the_second_step_is_none_of_the_policy_gradient(name):
    def check(divergence):
        check_first_step("categorical", draws(), 1.0, divergence)

    def later(law, old):
        moved = Categorical(old.logits + torch.linspace(0, 1, D, dtype=float64))
        return DIVERGENCES[name](law, moved)

    fails(check, later, true=(DIVERGENCES[name],))


# --------------------------------------------------------------------------- prop-two-directions


def reversed_step(old, advantage, t):
    """Maximiser of <A, p> - KL(old, p) / t, by bisection for the multiplier."""
    top = advantage.amax(-1, keepdim=True)
    low, high = torch.zeros_like(top), (1 / t).expand_as(top)
    for _ in range(200):
        middle = (low + high) / 2
        total = (old / (t * (top + middle - advantage))).sum(-1, keepdim=True)
        low, high = torch.where(total > 1, middle, low), torch.where(total > 1, high, middle)
    return old / (t * (top + high - advantage))


def check_floor(new, old, advantage, t):
    gap = advantage.amax(-1, keepdim=True) - advantage
    at_most(old / (1 + t * gap), new, tolerance=1e-12)


@pytest.mark.theorem("prop-two-directions", "bound")
def test_the_reversed_step_never_falls_below_a_fraction(step_problem):
    _, old, advantage, t = step_problem
    check_floor(reversed_step(old, advantage, t[:, None]), old, advantage, t[:, None])


@pytest.mark.theorem("prop-two-directions", "equality")
def test_the_reversed_step_maximises_its_objective(step_problem):
    p, old, advantage, t = step_problem
    best = reversed_step(old, advantage, t[:, None])
    equal(best.sum(-1), torch.ones_like(t))
    value = (advantage * best).sum(-1) - kl(old, best) / t
    at_most((advantage * p).sum(-1) - kl(old, p) / t, value)
    # Stationary: the derivative along the simplex vanishes.
    slope = advantage + old / (best * t[:, None])
    equal(slope - slope.mean(-1, keepdim=True), torch.zeros_like(slope), 1e-6)


@pytest.mark.theorem("prop-two-directions", "equality")
def test_the_floor_is_attained_where_all_other_advantages_are_alike(normal):
    """As the step grows, the bad actions share out 1 / (1 + t gap) of what they had."""
    old = torch.tensor([[1e-9, 0.5, 0.5 - 1e-9]], dtype=float64)
    advantage = torch.tensor([[1.0, 0.0, 0.0]], dtype=float64)
    t = torch.tensor([[1e-3]], dtype=float64)
    new = reversed_step(old, advantage, t)
    floor = old / (1 + t * (1 - advantage))
    equal((new / floor)[:, 1:], torch.ones(1, 2, dtype=float64), 2e-3)


@pytest.mark.theorem("prop-two-directions", "equality")
@pytest.mark.parametrize("kind", ["categorical", "gaussian"])
def test_both_directions_are_the_same_quadratic_near_by(kind, normal):
    parameters, law, _ = laws(kind, normal)
    moves = [normal(*p.shape) for p in parameters]
    size = 1e-4
    near = type(law)(*(p + size * m for p, m in zip(law, moves, strict=True)))
    # Half of the move times the Fisher matrix times the move.
    image = law.metric(*moves)
    model = sum((m * i).sum(-1) for m, i in zip(moves, image, strict=True)) / 2
    equal(near.kl(law) / size**2, model, 2e-3)
    equal(law.kl(near) / size**2, model, 2e-3)


@pytest.mark.theorem("prop-two-directions", "mutant")
def test_the_step_of_the_right_direction_does_fall_below(step_problem):
    _, old, advantage, t = step_problem
    wide = 9 * t[:, None]
    true = (reversed_step(old, advantage, wide), old, advantage, wide)
    fails(check_floor, closed_form(old, advantage, wide), old, advantage, wide, true=true)
