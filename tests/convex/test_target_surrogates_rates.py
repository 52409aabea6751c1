"""Statements about rates with mini-batches, and about how many inner steps they need."""

import itertools
import math

import pytest
import torch

from mdtheory.convex.target_surrogates import (
    LinearModel,
    SquaredLoss,
    bounds,
    target_sgd,
)
from mdtheory.runs import check_bound, check_identity
from tests.convex.target_surrogates_cases import F64, normal, square
from tests.refused import bound as of
from tests.refused import fails
from tests.refused import identity as same

EXPONENTIAL = "thm-target-exponential"


def steps_of(rounds, first=1.0):
    clock = torch.arange(1, rounds + 1, dtype=F64)
    return first * rounds ** (-clock / rounds)


def unrolled(distance, noise, steps, curvature, remainder=0.0, slope=0.0, gradient=0.0):
    """The recursion with equality: errors of the inner loop q^m eta (slope r + gradient)."""
    r = distance
    for eta in steps:
        error = remainder * eta * (slope * r + gradient)
        r = ((1 - curvature * eta) * r**2 + 2 * eta**2 * noise**2).sqrt() + error
    return r


ROUNDS = [3, 4, 10, 100, 3000]
GRID = torch.cartesian_prod(
    torch.tensor([2.0, 5.0, 100.0, 1e4], dtype=F64),  # condition
    torch.tensor([0.0, 1e-3, 1.0, 50.0], dtype=F64),  # noise over curvature
    torch.tensor([0.01, 1.0], dtype=F64),  # curvature
).T


@pytest.mark.theorem("thm-target-exponential", "bound")
@pytest.mark.parametrize("rounds", ROUNDS)
def test_the_unrolled_recursion_stays_below_the_rate(rounds):
    condition, noise, mu = GRID
    steps = steps_of(rounds)[:, None] / (condition * mu)
    one = torch.ones_like(mu)
    r = unrolled(one, noise * mu, steps, mu)
    check_bound(EXPONENTIAL, r, bounds.exponential_rate(one, noise * mu, rounds, condition, mu))


@pytest.mark.theorem("thm-target-exponential", "bound")
@pytest.mark.parametrize("rounds", ROUNDS)
def test_enough_inner_steps_keep_the_rate_up_to_their_own_floor(rounds):
    condition, noise, mu = GRID
    steps = steps_of(rounds)[:, None] / (condition * mu)
    one = torch.ones_like(mu)
    for share, stiffness, spare in itertools.product((1.0, 0.05), (1.0, 30.0), (1.0, 1e-3)):
        smooth = stiffness * mu
        # The step may be b / (2 n L) at most.
        inside = condition * mu >= 2 * smooth / share
        remainder = spare * mu / (4 * smooth) * math.sqrt(share)
        slope = smooth / math.sqrt(share)
        for gradient in (0.0, 3.0):
            r = unrolled(one, noise * mu, steps, mu, remainder, slope, gradient)
            limit = bounds.inexact_rate(one, noise * mu, rounds, condition, mu, remainder, gradient)
            if inside.any():
                check_bound(EXPONENTIAL, r[inside], limit[inside])


@pytest.mark.theorem("thm-target-exponential", "equality")
def test_without_noise_the_squared_loss_shrinks_by_known_factors():
    """All rows, mu = L = 1: z - z* is multiplied by 1 - eta_t, in every direction of the model."""
    model = LinearModel(normal(6, 3, seed=1))
    loss = SquaredLoss(normal(6, 1, seed=2))
    batches = torch.arange(6).expand(7, 6)
    start = normal(3, 1, seed=3)
    record = target_sgd(
        loss, model, start, 0.5, batches, math.inf, schedule="exponential", proximity="all"
    )
    goal = model(torch.linalg.pinv(model.features) @ loss.data)
    factor = (1 - steps_of(7, 0.5)).prod()
    check_identity(EXPONENTIAL, model(record.parameters) - goal, factor * (model(start) - goal))
    distance = square(model(start) - goal).sqrt()
    got = square(model(record.parameters) - goal).sqrt()
    limit = bounds.exponential_rate(distance, 0.0, 7, 2.0, 1.0)
    check_bound(EXPONENTIAL, got, limit)


def test_three_rounds_are_tight():
    got = (1 - steps_of(3, 0.5)).prod()
    limit = bounds.exponential_rate(1.0, 0.0, 3, 2.0, 1.0)
    check_bound(EXPONENTIAL, got, limit)
    check_bound(EXPONENTIAL, limit, 3 * got)


def every_run(rounds, n=4, b=1):
    """All sequences of batches, as rows of runs: expectations over them are exact."""
    chosen = torch.tensor(list(itertools.combinations(range(n), b)))
    orders = torch.tensor(list(itertools.product(range(len(chosen)), repeat=rounds))).T
    return chosen[orders]  # (T, runs, b)


@pytest.mark.theorem("thm-target-exponential", "bound")
@pytest.mark.parametrize("fits", [True, False])
@pytest.mark.parametrize("batch", [1, 2])
def test_runs_over_all_batches_keep_the_rate(fits, batch):
    n, rounds = 4, 5 if batch == 1 else 4
    model = LinearModel(normal(n, 2, seed=4) * torch.tensor([1.0, 0.4], dtype=F64))
    truth = normal(2, 1, seed=5)
    data = model(truth) if fits else normal(n, 1, seed=6)
    loss = SquaredLoss(data)
    goal = model(torch.linalg.pinv(model.features) @ data)
    eta = batch / (2 * n)
    batches = every_run(rounds, n, batch)
    row = loss.gradient(goal).square().sum()
    noise, gradient = ((1 / batch - 1 / n) * row).sqrt(), (row / batch).sqrt()
    spectrum = torch.linalg.eigvalsh(model.features.T @ model.features / n)
    shrink = (1 - spectrum[0] / spectrum[-1]).item()
    need = bounds.inner_steps_needed(shrink, 1.0, 1.0, batch / n)
    start = truth + normal(2, 1, seed=7)
    far = square(model(start) - goal).sqrt()
    for m in (math.inf, need, 3 * need):
        record = target_sgd(
            loss, model, start, eta, batches, m, schedule="exponential", proximity="all",
            inner_step=1 / spectrum[-1],
        )  # fmt: skip
        r = square(model(record.parameters) - goal).mean().sqrt()
        if m == math.inf:
            limit = bounds.exponential_rate(far, noise, rounds, 1 / eta, 1.0)
        else:
            assert shrink**m <= math.sqrt(batch / n) / 4
            limit = bounds.inexact_rate(far, noise, rounds, 1 / eta, 1.0, shrink**m, gradient)
        check_bound(EXPONENTIAL, r, limit)


@pytest.mark.theorem("thm-target-exponential", "mutant")
def test_a_constant_step_made_for_noise_is_slow_without_it():
    """min{b / (2nL), log T / (mu T)} leaves 1 / T after T rounds where the schedule is linear."""
    rounds = 2000
    one = torch.ones((), dtype=F64)
    constant = torch.full((rounds,), min(0.5, math.log(rounds) / rounds), dtype=F64)
    wrong = unrolled(one, 0.0, constant, one)
    right = unrolled(one, 0.0, steps_of(rounds, 0.5), one)
    limit = bounds.exponential_rate(one, 0.0, rounds, 2.0, 1.0)
    check_bound(EXPONENTIAL, right, limit)
    check_identity(EXPONENTIAL, wrong**2, (1 - constant).prod())
    with pytest.raises(AssertionError):
        check_bound(EXPONENTIAL, wrong, limit)


@pytest.mark.theorem("thm-target-exponential", "mutant")
@pytest.mark.parametrize("mutant", ["no noise", "one inner step"])
def test_mutants_of_the_rate_break(mutant):
    rounds, one = 500, torch.ones(2, dtype=F64)
    steps = steps_of(rounds, 0.5)
    if mutant == "no noise":
        r = unrolled(one, 1.0, steps, one)
        right = bounds.exponential_rate(one, 1.0, rounds, 2.0, 1.0)
        wrong = bounds.exponential_rate(one, 0.0, rounds, 2.0, 1.0)
        fails(of(EXPONENTIAL), r, wrong, true=(r, right), scaled="a term is dropped")
        return
    # q = .999 and one step: each round of the squared loss removes a thousandth of its part.
    lazy = (1 - 0.001 * steps).prod() * one
    need = bounds.inner_steps_needed(0.999, 1.0, 1.0)
    assert 0.999**need <= 0.25 < 0.999 ** (need - 1)
    busy = (1 - (1 - 0.999**need) * steps).prod() * one
    limit = bounds.inexact_rate(one, 0.0, rounds, 2.0, 1.0, 0.25, 0.0)
    fails(of(EXPONENTIAL), lazy, limit, true=(busy, limit))


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ((1.0, 0.5, 0.2), "shrink"),
        ((0.5, 0.0, 0.2), "smoothness"),
        ((0.5, 1.0, 2.0), "curvature"),
        ((0.5, 1.0, 0.5, 0.0), "share"),
    ],
)
def test_numbers_out_of_range_are_refused_by_name(arguments, name):
    with pytest.raises(ValueError, match=f"^{name}:"):
        bounds.inner_steps_needed(*arguments)


def test_rates_refuse_what_the_theorem_does_not_cover():
    with pytest.raises(ValueError, match=r"^condition:"):
        bounds.exponential_rate(1.0, 0.0, 5, 1.0, 1.0)
    with pytest.raises(ValueError, match=r"^rounds:"):
        bounds.exponential_rate(1.0, 0.0, 2, 2.0, 1.0)
    with pytest.raises(ValueError, match=r"^curvature:"):
        bounds.inexact_rate(1.0, 0.0, 5, 2.0, 0.0, 0.1, 1.0)
    assert bounds.inner_steps_needed(0.0, 1.0, 1.0) == 1


# --- prop-target-two-rows --------------------------------------------------------------------

TWO = "prop-target-two-rows"


def two_rows(k, m, rounds, schedule, proximity, first=0.7):
    """Mean end of all sequences of single rows, and the contraction of the statement."""
    model = LinearModel(torch.tensor([[1.0], [k]], dtype=F64))
    loss = SquaredLoss(torch.tensor([[1.0], [0.0]], dtype=F64))
    batches = every_run(rounds, 2)
    a = 1 / k**2 if proximity == "batch" else 2 / (1 + k**2)
    start = torch.tensor([[3.0]], dtype=F64)
    record = target_sgd(
        loss, model, start, first, batches, m, schedule=schedule, proximity=proximity,
        inner_step=a,
    )  # fmt: skip
    clock = torch.arange(1, rounds + 1, dtype=F64)
    steps = {
        "constant": torch.full((rounds,), first, dtype=F64),
        "sqrt": first / clock.sqrt(),
        "exponential": steps_of(rounds, first),
    }[schedule]
    return record.parameters[..., 0, 0].mean(), steps


def limit_of(k, m):
    phi = 1.0 if m == math.inf else 1 - (1 - k**-2) ** m
    return phi / (1 + phi), phi


@pytest.mark.theorem("prop-target-two-rows", "equality")
@pytest.mark.parametrize("schedule", ["constant", "sqrt", "exponential"])
@pytest.mark.parametrize("m", [1, 5, math.inf])
def test_the_mean_of_all_runs_on_two_rows_is_known(schedule, m):
    for k in (1.5, 4.0):
        goal, phi = limit_of(k, m)
        got, steps = two_rows(k, m, 9, schedule, "batch")
        stated = goal + (3.0 - goal) * (1 - (1 + phi) / 2 * steps).prod()
        check_identity(TWO, got, stated)
        got, steps = two_rows(k, m, 9, schedule, "all")
        part = 1.0  # q = 0: one inner step is exact, for one parameter and a = 1 / lambda
        best = 1 / (1 + k**2)
        check_identity(TWO, got, best + (3.0 - best) * (1 - part * steps).prod())


@pytest.mark.theorem("prop-target-two-rows", "bound")
def test_more_inner_steps_mean_more_bias_on_sampled_rows():
    counts = torch.arange(1, 400, dtype=F64)
    for k in (1.1, 2.0, 10.0):
        phi = 1 - (1 - k**-2) ** counts
        goals = phi / (1 + phi)
        best = torch.tensor(1 / (1 + k**2), dtype=F64)
        check_bound(TWO, goals[:-1], goals[1:])
        check_bound(TWO, goals - best, 0.5 - best)
        check_identity(TWO, goals[0], best)


@pytest.mark.theorem("prop-target-two-rows", "mutant")
def test_sampled_rows_do_not_end_at_least_squares():
    k, m = 3.0, 20
    goal, phi = limit_of(k, m)
    got, steps = two_rows(k, m, 9, "sqrt", "batch")
    factor = (1 - (1 + phi) / 2 * steps).prod()
    best = 1 / (1 + k**2)
    true, wrong = goal + (3.0 - goal) * factor, best + (3.0 - best) * factor
    fails(same(TWO), got, wrong, true=(got, true))
