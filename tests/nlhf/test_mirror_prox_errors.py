"""Statements about errors, the single call and policy gradients of Nash mirror prox."""

import math

import pytest
import torch

from mdtheory.nlhf import mirror_prox as mp
from mdtheory.nlhf import nash_md as nash
from mdtheory.nlhf.mirror_prox import bounds
from tests.nlhf.mirror_prox_cases import F64, Games, at_most, close, cycle, fails, inner

# Errors.


def noisy_run(games, size, gamma, iterations, kind):
    def error(exact):
        draws = torch.rand(exact.shape, generator=games.generator, dtype=F64)
        if kind == "corner":
            draws = (draws > 0.5).to(F64)
        return size * draws

    run = mp.nash_mirror_prox_iterates(games.game, iterations, gamma, payoff_error=error)
    return torch.stack([nash.kl(games.star, now.policy) for now in run])


@pytest.mark.theorem("thm-mirror-prox-inexact", "bound")
@pytest.mark.parametrize("kind", ["even", "corner"])
@pytest.mark.parametrize("gamma", [0.3, 2.0])
def test_floor_of_errors(kind, gamma):
    for actions in (3, 12):
        games = Games(actions)
        far = noisy_run(games, 0.1, gamma, 60, kind)
        at_most(far, bounds.inexact_rate(far[0], 0.1, games.temperature, gamma, 60))


@pytest.mark.theorem("thm-mirror-prox-inexact", "bound")
@pytest.mark.parametrize("gamma", [0.05, 1.0, math.sqrt(2)])
def test_floor_of_fair_errors(gamma):
    """One game a row of a batch of 400; the bound holds for the mean over the batch."""
    preference, reference = cycle()
    tau, size = 0.2, 0.2
    generator = torch.Generator().manual_seed(5)
    star = nash.regularized_nash(nash.PreferenceGame(preference, reference, tau))

    def error(exact):
        draws = torch.randint(0, 2, exact.shape, generator=generator).to(F64)
        return size * (draws - 0.5)

    run = mp.nash_mirror_prox_iterates(
        nash.PreferenceGame(preference.expand(400, 3, 3), reference, tau),
        80,
        gamma,
        payoff_error=error,
    )
    far = torch.stack([nash.kl(star, now.policy).mean() for now in run])
    # e - e' has independent entries of -1, 0, 0, 1 times the size.
    values = torch.cartesian_prod(*[torch.tensor([-1.0, 0, 0, 1], dtype=F64)] * 3)
    square = (size * nash.span(values)).square().mean()
    kept = (1 + gamma * tau) ** -torch.arange(81, dtype=F64)
    at_most(far, kept * far[0] + (1 - kept) * gamma * square / (4 * tau))


@pytest.mark.theorem("thm-mirror-prox-inexact", "equality")
@pytest.mark.theorem("thm-mirror-prox-inexact", "mutant")
def test_a_constant_error_moves_the_equilibrium():
    """Preferences one half and a constant error: the limit is known, and so is its KL."""
    games = Games(2, 50)
    half = torch.full_like(games.preference, 0.5)
    even = torch.full_like(games.reference, -math.log(2))
    error = torch.tensor([0.1, 0.0], dtype=F64)
    tau = games.temperature
    run = mp.nash_mirror_prox_iterates(
        nash.PreferenceGame(half, even, tau),
        400,
        2.0,
        payoff_error=lambda exact: error.expand(exact.shape),
    )
    last = list(run)[-1].policy
    limit = (even + error / tau[:, None]).log_softmax(-1)
    close(last, limit, 1e-10)
    far = nash.kl(even, last)
    closed = (0.1 / (2 * tau)).cosh().log()
    close(far, closed, 1e-10)
    floor = bounds.noise_floor(0.1, tau)
    # A fifth of the floor is what a constant error costs for high temperatures: eps^2/(8 tau^2).
    assert (far[-1] / floor[-1] - 0.2).abs() < 1e-3
    # Without tau^2, and with tau in its place.
    for wrong in (torch.full_like(tau, bounds.noise_floor(0.1, 1.0)), floor * tau):
        fails(at_most, far, wrong, true=(far, floor))


# The single call.


def single_distances(games, gamma, iterations=60):
    policy, result = games.reference, []
    for _ in range(iterations + 1):
        result.append(nash.kl(games.star, policy))
        policy = games.step(policy, policy, gamma)
    return torch.stack(result)


@pytest.mark.theorem("thm-preference-mmd", "bound")
def test_rate_of_the_single_call(games):
    for share in (0.5, 1.0):
        gamma = 4 * share * games.temperature
        far = single_distances(games, gamma)
        at_most(far[1:] * (1 + gamma * games.temperature), far[:-1], 1e-12)
        right = bounds.single_call_rate(far[0], games.temperature, gamma, 60)
        at_most(far, right, 1e-12)


@pytest.mark.theorem("thm-preference-mmd", "equality")
@pytest.mark.theorem("thm-preference-mmd", "mutant")
def test_account_of_the_single_call():
    games = Games(6)
    policy, tau = games.policy(), games.temperature
    for gamma in (0.2, 2.0):
        after = games.step(policy, policy, gamma)
        swing = games.game.preferred(policy) - games.game.preferred(after)
        left = (1 + gamma * tau) * nash.kl(games.star, after)
        right = (
            nash.kl(games.star, policy)
            - nash.kl(after, policy)
            - gamma * tau * nash.kl(after, games.star)
            - gamma * inner(swing, games.star, after)
        )
        wrong = right + gamma * inner(swing, games.star, after)
        fails(close, left, wrong, true=(left, right), tolerance=1e-10)
    cold = Games(3, 20)
    preference, _ = cycle()
    cold.preference, cold.temperature = preference.expand(20, 3, 3), torch.full((20,), 0.02).to(F64)
    cold.play()

    def sides(gamma):
        far = single_distances(cold, gamma)
        return far[1:] * (1 + gamma * 0.02), far[:-1]

    fails(at_most, *sides(2.0), true=sides(0.08))  # the step of mirror prox


# The fair cycle.


def jacobian(preference, policy, tau, gamma, calls):
    """Of a step in logarithms, modulo constants, at a policy."""
    game = nash.PreferenceGame(preference, policy, tau)

    def step(logs):
        point = logs.log_softmax(-1)
        opponent = point if calls == 1 else game.step(point, point, gamma)
        return game.step(point, opponent, gamma)

    return torch.autograd.functional.jacobian(step, policy)


@pytest.mark.theorem("prop-cycle-single-call", "equality")
@pytest.mark.theorem("prop-cycle-single-call", "mutant")
def test_eigenvalues_on_the_cycle():
    preference, reference = cycle()
    for tau, gamma in [(0.02, 2.0), (0.3, 2.0), (0.02, 0.08), (0.1, 5.0)]:
        for calls in (1, 2):
            matrix = jacobian(preference, reference, tau, gamma, calls)
            found = torch.linalg.eigvals(matrix).abs().max()
            right = torch.tensor(bounds.cycle_modulus(tau, gamma, calls), dtype=F64)
            other = torch.tensor(bounds.cycle_modulus(tau, gamma, 3 - calls), dtype=F64)
            fails(close, found, other, true=(found, right), tolerance=1e-9)


@pytest.mark.theorem("prop-cycle-single-call", "bound")
def test_the_threshold_on_the_cycle():
    preference, reference = cycle()
    near = reference + 1e-6 * torch.tensor([1.0, -1.0, 0.0], dtype=F64)
    for tau in (0.02, 0.05, 0.07, 0.09, 0.2):
        game = nash.PreferenceGame(preference, reference, tau)
        threshold = 2 * tau / (1 / 12 - tau**2)
        for gamma in (0.9 * threshold, 1.1 * threshold, 2.0):
            policy = near.log_softmax(-1)
            for _ in range(40):
                policy = game.step(policy, policy, gamma)
            grows = nash.span(policy - reference) > nash.span(near - reference)
            assert bool(grows) == (gamma > threshold)
            policy = near.log_softmax(-1)
            for _ in range(40):
                policy = game.step(policy, game.step(policy, policy, 2.0), 2.0)
            assert nash.span(policy - reference) < nash.span(near - reference)


# Policy gradients on sequences.


def table_of(space, policy):
    """Logits of a policy over whole sequences: its conditional log-probabilities."""
    rows = []
    for _ in range(space.length):
        level = policy.unflatten(-1, (-1, space.vocabulary))
        rows.insert(0, level.log_softmax(-1))
        policy = level.logsumexp(-1)
    return torch.cat(rows)


def objective(space, preference, logits, opponent, target, reference, tau, gamma):
    policy = space.log_probs(logits)
    won = (policy.exp() * (preference @ space.log_probs(opponent).exp() - 0.5)).sum()
    near = (policy.exp() * (policy - space.log_probs(target))).sum()
    far = (policy.exp() * (policy - space.log_probs(reference))).sum()
    return won - tau * far - near / gamma


@pytest.mark.theorem("prop-proximal-gradient", "equality")
@pytest.mark.theorem("prop-proximal-gradient", "mutant")
@pytest.mark.parametrize(("vocabulary", "length"), [(5, 1), (3, 3), (2, 4)])
def test_policy_gradient_against_full_enumeration(vocabulary, length):
    space = nash.SequenceSpace(vocabulary, length)
    games = Games(space.count, 1)
    preference, generator = games.preference[0], games.generator
    tables = torch.randn(4, space.prefixes, vocabulary, generator=generator, dtype=F64)
    logits, opponent, target, reference = tables
    leaf = logits.clone().requires_grad_()
    value = objective(space, preference, leaf, opponent, target, reference, 0.3, 2.0)
    (slope,) = torch.autograd.grad(value, leaf)
    found = mp.proximal_gradient(
        space,
        nash.PreferenceGame(preference, space.log_probs(reference), 0.3),
        logits,
        opponent,
        target,
        2.0,
    )
    true = found, slope
    # The opponent is held fixed, the target is kept to, and the temperature counts.
    leaf = logits.clone().requires_grad_()
    value = objective(space, preference, leaf, leaf, target, reference, 0.3, 2.0)
    (both,) = torch.autograd.grad(value, leaf)
    same = mp.proximal_gradient(
        space,
        nash.PreferenceGame(preference, space.log_probs(reference), 0.3),
        logits,
        logits,
        target,
        2.0,
    )
    fails(close, same, both, true=true, tolerance=1e-11)
    for tau, gamma in [(0.0, 2.0), (0.3, math.inf)]:
        other = mp.proximal_gradient(
            space,
            nash.PreferenceGame(preference, space.log_probs(reference), tau),
            logits,
            opponent,
            target,
            gamma,
        )
        fails(close, other, slope, true=true, tolerance=1e-11)
    # What the maximiser is ahead by.
    game = nash.PreferenceGame(preference, space.log_probs(reference), 0.3)
    best = game.step(space.log_probs(target), space.log_probs(opponent), 2.0)
    table = table_of(space, best)
    top = objective(space, preference, table, opponent, target, reference, 0.3, 2.0)
    now = objective(space, preference, logits, opponent, target, reference, 0.3, 2.0)
    close(top - now, (0.3 + 0.5) * nash.kl(space.log_probs(logits), best), 1e-11)
    zero = mp.proximal_gradient(
        space,
        nash.PreferenceGame(preference, space.log_probs(reference), 0.3),
        table,
        opponent,
        target,
        2.0,
    )
    close(zero, torch.zeros_like(zero), 1e-12)


def test_bounds_of_a_batch_are_those_of_its_members():
    start = torch.tensor([1.0, 0.3], dtype=F64)
    taus, steps = torch.tensor([[0.1], [0.5], [1.0]], dtype=F64), torch.tensor([1.0, 2.0])
    steps = steps.to(F64)
    calls = {
        "kl": lambda d, t, g: bounds.kl_rate(d, t, g, 4),
        "span": lambda d, t, g: bounds.span_rate(d, 2 * d, t, g, 4),
        "gain": lambda d, t, g: bounds.exploitability_rate(d, t, g, 4),
        "floor": lambda d, t, g: bounds.inexact_rate(d, 0.1, t, g, 4),
    }
    for call in calls.values():
        table = call(start, taus, steps)
        assert table.shape == (5, 3, 2)
        for i, tau in enumerate(taus[:, 0].tolist()):
            for j in range(2):
                close(table[:, i, j], call(start[j], tau, steps[j].item()), 1e-12)
    assert bounds.kl_rate(torch.tensor(1.0, dtype=F64), taus[:, 0], 2.0, 2).shape == (3, 3)
