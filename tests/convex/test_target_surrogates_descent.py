"""Statements about descent, rates and noise."""

import math

import pytest
import torch

from mdtheory.convex.target_surrogates import (
    Armijo,
    LinearModel,
    LogisticLoss,
    SquaredLoss,
    draw_batches,
    majorize_minimize,
    target_sgd,
    target_step,
)
from mdtheory.runs import check_bound, check_identity
from tests.convex.target_surrogates_cases import (
    EVERY,
    F64,
    LINE,
    LOSSES,
    NET,
    D,
    N,
    X,
    all_batches,
    best_targets,
    draw,
    hard_labels,
    normal,
    seeded,
    slope,
    square,
)
from tests.refused import bound, breaks, differ, fails

# Descent.


@pytest.mark.theorem("thm-mm-descent", "bound")
@pytest.mark.parametrize("m", [1, 3, 100, math.inf])
@EVERY
def test_every_round_descends_by_the_gradient(name, m):
    loss = LOSSES[name]
    eta, start, rounds = 1 / loss.smoothness, draw(LINE, name, 10), 25
    alpha = eta / torch.linalg.eigvalsh(X.T @ X / N)[-1].item()
    record = majorize_minimize(loss, LINE, start, eta, rounds, m)
    norms = record.gradient_norms
    check_identity("thm-mm-descent", norms[0], slope(loss, LINE, start).norm(dim=(-2, -1)))
    check_bound(
        "thm-mm-descent", record.losses[1:], record.losses[:-1] - alpha / 2 * norms[:-1] ** 2
    )
    below = loss.value(best_targets(loss, LINE, 1)) if name in ("squared", "ridge") else 0.0
    rate = 2 * (record.losses[0] - below) / (alpha * rounds)
    check_bound("thm-mm-descent", norms[:-1].amin(0) ** 2, rate)


@pytest.mark.theorem("thm-mm-descent", "bound")
def test_a_network_descends_by_armijo_and_by_small_steps():
    loss, start = LOSSES["logistic"], draw(NET, "logistic", 5, scale=1.0)
    eta = 1 / loss.smoothness
    for inner_step in (0.05, Armijo()):
        record = majorize_minimize(loss, NET, start, eta, 12, 4, inner_step=inner_step)
        assert bool((record.losses.diff(dim=0) <= 1e-14).all())
        assert bool((record.losses[-1] < record.losses[0]).all())
    alpha = 0.05 * eta
    record = majorize_minimize(loss, NET, start, eta, 12, 4, inner_step=0.05)
    drop = alpha / 2 * record.gradient_norms[:-1] ** 2
    check_bound("thm-mm-descent", record.losses[1:], record.losses[:-1] - drop)


@pytest.mark.theorem("thm-mm-descent", "equality")
def test_the_descent_is_attained_by_one_step_of_a_parabola():
    """One parameter, squared loss, alpha = 1/beta and eta = 1: the bound is an equality."""
    x, y = normal(N, 1, seed=15), normal(N, 1, seed=16)
    y = x * (x * y).sum() / (x * x).sum()  # so that h* = 0
    record = majorize_minimize(SquaredLoss(y), LinearModel(x), x.new_ones(1, 1), 1.0, 1, 1)
    alpha = 1 / x.square().mean()
    right = record.losses[0] - alpha / 2 * record.gradient_norms[0] ** 2
    check_identity("thm-mm-descent", record.losses[1], right)


@pytest.mark.theorem("thm-mm-descent", "mutant")
def test_the_descent_fails_with_steps_that_are_too_long():
    loss, start = LOSSES["squared"], draw(LINE, "squared", 10)
    lam = torch.linalg.eigvalsh(X.T @ X / N)[-1].item()

    def broken(eta, inner_step, m):
        record = majorize_minimize(loss, LINE, start, eta, 10, m, inner_step=inner_step)
        drop = eta * inner_step / 2 * record.gradient_norms[:-1] ** 2
        return breaks("thm-mm-descent", record.losses[1:], record.losses[:-1] - drop)

    assert not broken(1.0, 1 / lam, 5)
    assert broken(3.0, 1 / lam, 50)  # the surrogate is no majoriser
    assert broken(1.0, 2.5 / lam, 5)  # the inner loop climbs
    assert broken(1.0, 1.5 / lam, 1)  # a longer step than the theorem allows promises too much


# The exact minimiser.


@pytest.mark.theorem("thm-exact-projection", "bound")
@pytest.mark.parametrize("relative", [0.4, 1.0])
@pytest.mark.parametrize("name", ["squared", "ridge"])
def test_the_rates_of_the_exact_minimiser(name, relative):
    loss, start, rounds = LOSSES[name], draw(LINE, name, 10), 60
    eta = relative / loss.smoothness
    goal = best_targets(loss, LINE, 1)
    record = majorize_minimize(loss, LINE, start, eta, rounds, math.inf, keep_targets=True)
    far = square(record.targets - goal).sqrt()
    times = torch.arange(1, rounds + 1, dtype=F64)[:, None]
    excess = record.losses[1:] - loss.value(goal)
    check_bound("thm-exact-projection", excess, far[0] ** 2 / (2 * eta * times))
    shrunk = (1 - loss.strong_convexity * eta) ** times * far[0]
    check_bound("thm-exact-projection", far[1:], shrunk)


@pytest.mark.theorem("thm-exact-projection", "bound")
def test_the_slow_rate_without_strong_convexity():
    """Labels that no plane separates, so that the minimum is attained."""
    soft = normal(N, 1, seed=17).sigmoid()
    loss, start = LogisticLoss(soft), draw(LINE, "logistic", 10)
    goal = best_targets(loss, LINE, 1)
    record = majorize_minimize(loss, LINE, start, 4.0, 80, math.inf, keep_targets=True)
    times = torch.arange(1, 81, dtype=F64)[:, None]
    excess = record.losses[1:] - loss.value(goal)
    bound = square(record.targets[0] - goal) / (8 * times)
    check_bound("thm-exact-projection", excess, bound)


@pytest.mark.theorem("thm-exact-projection", "equality")
def test_the_squared_loss_attains_the_linear_rate():
    loss, start, eta = LOSSES["squared"], draw(LINE, "squared", 4), 0.3
    goal = X @ torch.linalg.lstsq(X, loss.data).solution
    record = majorize_minimize(loss, LINE, start, eta, 20, math.inf, keep_targets=True)
    times = torch.arange(21, dtype=F64)[:, None]
    far = square(record.targets - goal).sqrt()
    check_identity("thm-exact-projection", far, 0.7**times * far[0], tolerance=1e-11)


@pytest.mark.theorem("thm-exact-projection", "mutant")
def test_the_squared_rate_is_not_true_of_the_distance():
    loss, start, eta = LOSSES["squared"], draw(LINE, "squared", 4), 0.3
    goal = X @ torch.linalg.lstsq(X, loss.data).solution
    record = majorize_minimize(loss, LINE, start, eta, 5, math.inf, keep_targets=True)
    far = square(record.targets - goal).sqrt()
    times = torch.arange(1, 6, dtype=F64)[:, None]
    true, wrong = (far[1:], 0.7**times * far[0]), 0.7 ** (2 * times) * far[0]
    fails(bound("thm-exact-projection"), far[1:], wrong, true=true)
    once = majorize_minimize(loss, LINE, start, eta, 5, 1, keep_targets=True)  # m = 1 has no rate
    short = square(once.targets - goal).sqrt()
    assert breaks("thm-exact-projection", short[1:], 0.7**times * short[0])
    long = majorize_minimize(loss, LINE, start, 2.5, 5, math.inf, keep_targets=True)
    start = square(long.targets[0] - goal)
    check_bound(
        "thm-exact-projection", record.losses[1:] - loss.value(goal), start / (2 * eta * times)
    )
    excess = long.losses[1:] - loss.value(goal)
    assert breaks("thm-exact-projection", excess, start / (5 * times))


@pytest.mark.theorem("prop-reparametrisation", "equality")
@EVERY
def test_coordinates_do_not_matter_to_the_exact_minimiser(name):
    loss, start = LOSSES[name], draw(LINE, name, 4)
    turn = normal(D, D, seed=18) + 2 * torch.eye(D, dtype=F64)
    other = LinearModel(X @ torch.linalg.inv(turn))
    eta = 1 / loss.smoothness
    ours = majorize_minimize(loss, LINE, start, eta, 30, math.inf, keep_targets=True)
    theirs = majorize_minimize(loss, other, turn @ start, eta, 30, math.inf, keep_targets=True)
    check_identity("prop-reparametrisation", ours.targets, theirs.targets, tolerance=1e-9)
    check_identity(
        "prop-reparametrisation", turn @ ours.parameters, theirs.parameters, tolerance=1e-8
    )


@pytest.mark.theorem("prop-reparametrisation", "mutant")
def test_coordinates_matter_to_finitely_many_steps():
    loss, start = LOSSES["logistic"], draw(LINE, "logistic", 4)
    turn = normal(D, D, seed=18) + 2 * torch.eye(D, dtype=F64)
    other = LinearModel(X @ torch.linalg.inv(turn))
    for m in (1, 10):
        ours = majorize_minimize(loss, LINE, start, 4.0, 3, m, keep_targets=True)
        theirs = majorize_minimize(loss, other, turn @ start, 4.0, 3, m, keep_targets=True)
        assert differ("prop-reparametrisation", ours.targets, theirs.targets)
    ours = majorize_minimize(loss, LINE, start, 4.0, 3, math.inf, keep_targets=True)
    theirs = majorize_minimize(loss, other, turn @ start, 4.0, 3, math.inf, keep_targets=True)
    check_identity("prop-reparametrisation", ours.targets, theirs.targets, tolerance=1e-9)
    # One parameter, scaled by 2, the same alpha: the targets move a quarter as far.
    x, loss = normal(N, 1, seed=19), LOSSES["squared"]
    zero = torch.zeros(1, 1, dtype=F64)
    ours = x @ target_step(loss, LinearModel(x), zero, 1.0, 1, inner_step=0.1).parameters
    theirs = x / 2 @ target_step(loss, LinearModel(x / 2), zero, 1.0, 1, inner_step=0.1).parameters
    check_identity("prop-reparametrisation", theirs, ours / 4)


def one_round(loss, model, start, eta, b, m=math.inf, **extra):
    """Targets after one round, for every batch there is; their plain mean is the expectation."""
    batches = all_batches(loss.rows, b)
    record = target_sgd(loss, model, start, eta, batches[None], m, **extra)
    return model(record.parameters)


def recursion(loss, mu, n, b, eta, goal, before):
    s_star = (1 / b - 1 / n) * loss.gradient(goal).square().sum((-2, -1))
    return ((1 - mu * eta) * before + 2 * eta**2 * s_star).sqrt()


@pytest.mark.theorem("thm-target-sgd", "equality")
@pytest.mark.parametrize("b", [1, 3, 6])
def test_noise_at_the_minimum_by_enumeration(b):
    n = 6
    loss = LogisticLoss(hard_labels(n), ridge=0.2)
    goal = best_targets(loss, LinearModel(X[:n, :2]), 1)
    slopes = loss.gradient(goal)
    errors = []
    for batch in all_batches(n, b):
        estimate = torch.zeros_like(slopes)
        estimate[batch] = n / b * slopes[batch]
        errors.append(estimate - slopes)
    errors = torch.stack(errors)
    rounding = len(errors) * torch.finfo(F64).eps * errors.abs().max()  # of the mean itself
    assert errors.mean(0).abs().max() <= rounding  # unbiased
    right = (1 / b - 1 / n) * slopes.square().sum()
    check_identity("thm-target-sgd", square(errors).mean(), right)
    if b == 3:
        assert differ("thm-target-sgd", square(errors).mean(), right * (n - 1) / n)


@pytest.mark.theorem("thm-target-sgd", "equality")
@pytest.mark.parametrize("b", [1, 2, 5, 6])
def test_the_expectation_of_a_round_by_enumeration(b):
    """With free targets and a squared loss everything can be computed: no noise at the minimum."""
    n, eta = 6, 0.05
    loss, model = SquaredLoss(normal(n, 1, seed=20)), LinearModel(normal(n, n, seed=21))
    start = normal(n, 1, seed=22)
    before = square(model(start) - loss.data)
    after = square(one_round(loss, model, start, eta, b, proximity="all") - loss.data).mean()
    check_identity("thm-target-sgd", after, (1 - 2 * eta + eta**2 * n / b) * before, tolerance=1e-9)
    assert after <= (1 - eta) * before


@pytest.mark.theorem("thm-target-sgd", "bound")
@pytest.mark.parametrize("m", [1, 20, math.inf])
@pytest.mark.parametrize("name", ["squared", "ridge"])
def test_the_recursion_of_one_round_by_enumeration(name, m):
    n, b = 7, 2
    x = normal(n, 2, seed=23)
    loss = SquaredLoss(normal(n, 1, seed=24)) if name == "squared" else LogisticLoss(
        hard_labels(n), ridge=0.1
    )  # fmt: skip
    model = LinearModel(x)
    goal, start = best_targets(loss, model, 1), normal(2, 1, seed=25)
    for relative in (0.1, 1.0):
        eta = relative * b / (2 * n * loss.smoothness)
        for here in (start, 0.01 * start, torch.linalg.lstsq(x, goal).solution):
            got = one_round(loss, model, here, eta, b, m, proximity="all")
            exact = one_round(loss, model, here, eta, b, proximity="all")
            error = square(got - exact).mean().sqrt()
            before = square(model(here) - goal)
            right = recursion(loss, loss.strong_convexity, n, b, eta, goal, before) + error
            check_bound("thm-target-sgd", square(got - goal).mean().sqrt(), right)


@pytest.mark.theorem("thm-target-sgd", "bound")
def test_the_recursion_over_many_rounds_and_seeds():
    n, b, rounds, seeds = 8, 2, 40, 300
    x = normal(n, 3, seed=26)
    loss, model = LogisticLoss(hard_labels(n), ridge=0.3), LinearModel(x)
    goal = best_targets(loss, model, 1)
    eta = b / (2 * n * loss.smoothness)
    batches = draw_batches(rounds, n, b, seeded(27), (seeds,))
    here = 3 * normal(3, 1, seed=28)
    right = square(model(here) - goal).sqrt()
    for t in range(rounds):
        record = target_sgd(loss, model, here, eta, batches[t : t + 1], math.inf, proximity="all")
        here = record.parameters
        right = recursion(loss, 0.3, n, b, eta, goal, right**2)
        left = square(model(here) - goal).mean().sqrt()
        check_bound("thm-target-sgd", left, right)


@pytest.mark.theorem("thm-target-sgd", "mutant")
def test_the_recursion_needs_all_rows_and_its_noise():
    n, b = 7, 2
    loss, model = SquaredLoss(normal(n, 1, seed=24)), LinearModel(normal(n, 2, seed=23))
    goal = best_targets(loss, model, 1)
    here = torch.linalg.lstsq(model.features, goal).solution  # at the minimum
    eta = b / (2 * n)
    right = recursion(loss, 1.0, n, b, eta, goal, goal.new_zeros(()))
    got = one_round(loss, model, here, eta, b, proximity="all")
    check_bound("thm-target-sgd", square(got - goal).mean().sqrt(), right)
    assert breaks("thm-target-sgd", square(got - goal).mean().sqrt(), 0.0 * right)  # without s_*
    sampled = one_round(loss, model, here, eta * n / b, b, proximity="batch")
    assert breaks("thm-target-sgd", square(sampled - goal).mean().sqrt(), right)


@pytest.mark.theorem("thm-target-sgd", "mutant")
def test_the_recursion_fails_for_a_step_fit_for_all_rows():
    """L in place of n L / b: with b = 1 such a step blows up what it should shrink."""
    n = 6
    loss, model = SquaredLoss(normal(n, 1, seed=20)), LinearModel(normal(n, n, seed=21))
    start = normal(n, 1, seed=22)
    before = square(model(start) - loss.data)
    right = one_round(loss, model, start, 0.5 / n, 1, proximity="all") - loss.data
    check_bound(
        "thm-target-sgd", square(right).mean().sqrt(),
        recursion(loss, 1.0, n, 1, 0.5 / n, loss.data, before),
    )  # fmt: skip
    after = square(one_round(loss, model, start, 0.5, 1, proximity="all") - loss.data).mean()
    assert breaks("thm-target-sgd", after.sqrt(), (0.5 * before).sqrt())
