"""Statements about the ensemble and special cases."""

import itertools
import math

import numpy as np
import pytest
import torch

from mdtheory.convex.sea import (
    bounds,
    optimistic_mirror_descent,
    random_order,
    regret_bound,
    step_size_pool,
    two_layer_ensemble,
)
from mdtheory.runs import check_bound, check_identity
from tests.convex.sea_cases import (
    BALL,
    BOTH,
    DIAMETER,
    EVERY,
    F64,
    D,
    T,
    along,
    descend,
    facts,
    make,
    mean,
    moves,
    moving_comparators,
    path,
    seeded,
    square,
)
from tests.refused import bound as of
from tests.refused import breaks, fails, identity

# --- prop-sea-ensemble-identity --------------------------------------------------------------


def gather(environment, rounds=T, smoothness=1.0, **changes):
    bound = environment.gradient_bound(1.0).max().item()
    run = two_layer_ensemble(
        environment, environment.start(), BALL, rounds, gradient_bound=bound,
        smoothness=smoothness, **changes,
    )  # fmt: skip
    return run, bound


def split_regret(run, comparators, correction):
    """Upper layer, its correction and the lower layer for every step size, (K, S)."""
    g = run.record.gradients
    base = (g[:, None] * (run.base_decisions - comparators[:, None])).sum((0, -1))
    upper = run.meta_loss - run.meta_losses
    return upper - correction * run.mean_movement + correction * run.base_movements + base


@pytest.mark.theorem("prop-sea-ensemble-identity", "equality")
@EVERY
@BOTH
def test_the_regret_of_the_ensemble_splits_exactly(case, curve):
    environment = make(case, curve, seeds=8, rounds=60)
    corrections = (None, 0.0, 7.0) if case == "switching" else (None,)
    for correction in corrections:
        run, _ = gather(environment, 60, correction=correction)
        used = 2.0 if correction is None else correction
        assert run.correction == used
        for comparators in moving_comparators(run.record.gradients):
            whole = along(run.record.gradients, run.record.decisions, comparators)
            parts = split_regret(run, comparators, used)
            check_identity(
                "prop-sea-ensemble-identity", parts, whole.expand_as(parts), tolerance=1e-9
            )


@pytest.mark.theorem("prop-sea-ensemble-identity", "mutant")
@pytest.mark.parametrize("mutant", ["no correction", "twice", "wrong sign"])
def test_the_identity_needs_its_correction(mutant):
    run, _ = gather(make("switching", "curved", seeds=8, rounds=60), 60)
    comparators = next(moving_comparators(run.record.gradients))
    whole = along(run.record.gradients, run.record.decisions, comparators)
    used = {"no correction": 0.0, "twice": 4.0, "wrong sign": -2.0}[mutant]
    parts = split_regret(run, comparators, used)
    whole = whole.expand_as(parts)
    true = (split_regret(run, comparators, 2.0), whole)
    fails(identity("prop-sea-ensemble-identity"), parts, whole, true=true, tolerance=1e-9)


# --- thm-sea-ensemble ------------------------------------------------------------------------


@pytest.mark.theorem("thm-sea-ensemble", "bound")
@EVERY
@BOTH
def test_the_ensemble_keeps_the_bound_of_its_proof_on_every_run(case, curve):
    """The two layers' bounds added up, before any expectation is taken."""
    environment = make(case, curve, rounds=60)
    run, bound = gather(environment, 60)
    record, smooth = run.record, 1.0
    count = math.log(len(run.step_sizes))
    first = (DIAMETER * bound) ** 2 + 9 * smooth**2 * DIAMETER**4 * count
    missed = DIAMETER**2 / 4 * record.variation
    upper = math.sqrt(count) * (math.sqrt(first) + 3 * missed.sqrt())
    sizes = run.step_sizes[:, None]
    for comparators in moving_comparators(record.gradients):
        reach = DIAMETER**2 + 2 * DIAMETER * path(comparators)
        lower = reach / (2 * sizes) + sizes * record.variation
        result = along(record.gradients, record.decisions, comparators)
        limit = (upper + lower).amin(0) - smooth * record.movement
        check_bound("thm-sea-ensemble", result, limit)


def followers(environment, rounds):
    """Comparators fixed in advance that follow the expected losses, smoothed more and more."""
    slopes = environment.offset + environment.moves
    slopes = slopes.mean(1) if slopes.ndim == 3 else slopes
    for width in (1, 10, rounds):
        blocks = [slopes[k : k + width].mean(0) for k in range(0, rounds, width)]
        targets = torch.stack(blocks).repeat_interleave(width, 0)[:rounds]
        if environment.smoothness == 0:
            u = BALL.minimize_linear(targets)
        else:
            u = BALL.project(-targets / environment.curvature)
        yield u[:, None].expand(rounds, environment.batch[0], D)


@pytest.mark.theorem("thm-sea-ensemble", "bound")
@EVERY
@BOTH
def test_expected_dynamic_regret_keeps_the_bound_of_the_ensemble(case, curve):
    environment = make(case, curve, seeds=200, rounds=60)
    run, _ = gather(environment, 60)
    f = facts(environment) | {"smoothness": 1.0, "pool": len(run.step_sizes)}
    for comparators in followers(environment, 60):
        at = [environment(t, comparators[t - 1])[0] for t in range(1, 61)]
        result = mean(run.record.loss - torch.stack(at).sum(0))
        length = path(comparators).mean().item()
        limit = regret_bound("dynamic", path_length=length, **f)
        check_bound("thm-sea-ensemble", result, limit)


@pytest.mark.theorem("thm-sea-ensemble", "bound")
@pytest.mark.parametrize("smoothness", [0.01, 1.0, 50.0])
@pytest.mark.parametrize("energy", [0.0, 0.01, 1.0])
def test_the_bound_of_the_ensemble_covers_every_movement_and_its_best_step(smoothness, energy):
    """Maximise over E S_T, minimise over the pool: what the proof does by hand."""
    diameter, bound, rounds = 1.3, 2.0, 5000
    variance, variation = energy * bound**2 * rounds, energy * 4 * bound**2 * (rounds - 1)
    pool = torch.tensor(step_size_pool(diameter, bound, smoothness, rounds), dtype=F64)
    count = math.log(len(pool))
    movement = torch.cat([torch.zeros(1), torch.logspace(-9, 9, 5000)]).double()
    spread = bounds.expected_variation(bound, smoothness, variance, variation, movement)
    first = (diameter * bound) ** 2 + 9 * smoothness**2 * diameter**4 * count
    upper = math.sqrt(count) * (math.sqrt(first) + 1.5 * diameter * spread.sqrt())
    for length in (0.0, 3.0, 400.0, diameter * (rounds - 1)):
        reach = diameter**2 + 2 * diameter * length
        lower = reach / (2 * pool[:, None]) + pool[:, None] * spread
        largest = (upper + lower - smoothness * movement).amax(1).amin()
        limit = regret_bound(
            "dynamic", diameter=diameter, gradient_bound=bound, smoothness=smoothness,
            variance=variance, variation=variation, path_length=length, pool=len(pool),
        )  # fmt: skip
        check_bound("thm-sea-ensemble", largest, limit)


@pytest.mark.theorem("thm-sea-ensemble", "equality")
def test_one_step_size_alone_is_the_learner_with_that_step():
    environment = make("switching", "curved", rounds=60)
    run, _ = gather(environment, 60, step_sizes=[0.2])
    alone = optimistic_mirror_descent(environment, environment.start(), BALL, 60, step_size=0.2)
    check_identity("thm-sea-ensemble", run.record.decisions, alone.decisions)
    check_identity("thm-sea-ensemble", run.record.loss, alone.loss)
    check_identity("thm-sea-ensemble", run.weights, torch.ones_like(run.weights))
    pool, _ = gather(environment, 60)
    own = optimistic_lower_layer(pool, environment.start())
    check_identity("thm-sea-ensemble", pool.base_decisions, own)
    mixed = (pool.weights[..., None] * pool.base_decisions).sum(1)
    check_identity("thm-sea-ensemble", pool.record.decisions, mixed)


def optimistic_lower_layer(run, start):
    """Every step size on the gradients of the ensemble, one after the other."""
    g, bases = run.record.gradients, []
    for size in run.step_sizes:
        bases.append(descend(lambda t, x: (None, g[t - 1]), start, len(g), lambda t, v, s=size: s))
    return torch.stack([x for x, _, _ in bases], 1)


@pytest.mark.theorem("thm-sea-ensemble", "equality")
@pytest.mark.parametrize("rounds", [1, 10, 1000, 10**6])
@pytest.mark.parametrize("smoothness", [1e-3, 1.0, 300.0])
def test_the_pool_reaches_from_one_end_to_the_other(rounds, smoothness):
    pool = step_size_pool(1.3, 2.0, smoothness, rounds)
    smallest = 1.3 / (2.0 * math.sqrt(50 * rounds))
    expected = [1 / (8 * smoothness)]
    while expected[-1] > smallest:
        expected.append(expected[-1] / 2)
    check_identity("thm-sea-ensemble", torch.tensor(pool), torch.tensor(expected))
    assert len(pool) == 1 or pool[-2] > smallest >= pool[-1]
    count = math.log(len(pool))
    got = regret_bound(
        "dynamic", diameter=1.3, gradient_bound=2.0, smoothness=smoothness, variance=5.0,
        variation=3.0, path_length=6.0, pool=len(pool),
    )  # fmt: skip
    energy, reach = 4.0 + 40.0 + 12.0, 1.69 + 2.6 * 6
    stated = 2.6 * math.sqrt(count) + 7.5 * smoothness * 1.69 * count
    stated += 1.95 * math.sqrt(energy * count) + 8 * smoothness * reach
    stated += 3 * math.sqrt(energy * reach / 2)
    check_identity("thm-sea-ensemble", got, torch.tensor(stated, dtype=F64))


@pytest.mark.theorem("thm-sea-ensemble", "mutant")
@pytest.mark.parametrize("mutant", ["no path", "no energy", "one long step"])
def test_mutants_of_the_bound_of_the_ensemble_break(mutant):
    """The best point of every round, or a comparator at rest while the slopes alternate."""
    rounds = {"no path": 800, "no energy": 300}.get(mutant, 1400)
    smooth = 0.01
    chased = mutant == "no path"
    environment = make("adversarial" if chased else "alternating", seeds=2, rounds=rounds)
    sizes = [1 / (8 * smooth)] if mutant == "one long step" else None
    run, bound = gather(environment, rounds, smoothness=smooth, step_sizes=sizes)
    g = run.record.gradients
    u = BALL.minimize_linear(g) if chased else torch.zeros_like(g)
    pool = len(step_size_pool(DIAMETER, bound, smooth, rounds))
    f = facts(environment) | {"smoothness": smooth, "pool": pool}
    f["path_length"] = path(u).mean().item()
    result, right = mean(along(g, run.record.decisions, u)), regret_bound("dynamic", **f)
    if mutant == "one long step":  # a pool that is not the theorem's; its own keeps the bound
        pooled, _ = gather(environment, rounds, smoothness=smooth)
        check_bound("thm-sea-ensemble", mean(along(g, pooled.record.decisions, u)), right)
        assert breaks("thm-sea-ensemble", result, right)
        return
    if mutant == "no path":
        f["path_length"] = 0.0
    if mutant == "no energy":
        f["variation"] = 0.0
    fails(of("thm-sea-ensemble"), result, regret_bound("dynamic", **f), true=(result, right))


@pytest.mark.theorem("thm-sea-ensemble", "mutant")
@pytest.mark.parametrize("mutant", ["no correction", "no hints", "rate ahead"])
def test_mutants_of_the_upper_layer_weigh_otherwise(mutant):
    environment = make("switching", "curved", seeds=4)
    run = two_layer_ensemble(
        environment, environment.start(), BALL, 50, gradient_bound=2.0 + 2.0, smoothness=0.5,
        correction=0.0 if mutant == "no correction" else None, offset=FIRST,
    )  # fmt: skip
    played, weights = run.weights.movedim(1, -1), expected_weights(run, mutant)
    if mutant == "no correction":  # the run itself is the mutant; with the correction it is right
        run = two_layer_ensemble(
            environment, environment.start(), BALL, 50, gradient_bound=2.0 + 2.0, smoothness=0.5,
            offset=FIRST,
        )  # fmt: skip
        true = (run.weights.movedim(1, -1), expected_weights(run, ""))
    else:
        true = (played, expected_weights(run, ""))
    fails(identity("thm-sea-ensemble"), played, weights, true=true)


FIRST = 40.0


def expected_weights(run, mutant):
    base, g = run.base_decisions, run.record.gradients
    hints = torch.cat([torch.zeros_like(g[:1]), g[:-1]])
    hints = 0 * hints if mutant == "no hints" else hints
    moved = torch.cat([torch.zeros_like(base[:1, ..., 0]), moves(base)])  # 2 L = 1
    losses = ((g[:, None] * base).sum(-1) + moved).movedim(1, -1)
    guesses = ((hints[:, None] * base).sum(-1) + moved).movedim(1, -1)
    missed = losses - guesses
    half = ((missed.amax(-1) - missed.amin(-1)) / 2) ** 2
    spent = FIRST + half.cumsum(0) - (0 if mutant == "rate ahead" else half)
    rate = (math.log(len(run.step_sizes)) / spent).sqrt()
    return (-rate[..., None] * (losses.cumsum(0) - losses + guesses)).softmax(-1)


# --- prop-sea-special-cases ------------------------------------------------------------------


def special_values(case, environment, rounds):
    """The proposition's bounds on the sums of variances and variations, by the issue's formulas."""
    gradient = environment.gradient_bound(0.0).max().item()
    third = rounds / 3
    return {
        "i.i.d.": (third, 0.0),
        "adversarial": (0.0, 4 * gradient**2 * (rounds - 1)),
        "rotating": (0.0, (rounds - 1) * (2 * math.sin(math.pi / 1000)) ** 2),
        "alternating": (0.0, 4.0 * (rounds - 1)),
        "corrupted": (third, 4 * gradient * (rounds // 50)),
        "random order": (rounds * 1.0, 2 * math.pi**2 / 3 - 4),
        "switching": (third, 4.0 * 4),
        "slow shift": (third, rounds * 0.01**2),
        "mini-batches": (third / 8, 0.0),
        # |C^{-T} r_y| <= (1 + 3b) / (a - b) for the accuracy a and b = (1 - a) / 2
        "label shift": (third * 3 * (1.45 / 0.55) ** 2 / 20, shifted_labels(rounds)),
    }[case]


def shifted_labels(rounds):
    """Sum of |mu_t - mu_{t-1}|_1^2 for the proportions of the case."""
    turn = 2 * np.pi * (np.arange(rounds)[:, None] / 500 + np.arange(3) / 3)
    proportions = (1 + 0.9 * np.cos(turn)) / 3
    return (np.abs(np.diff(proportions, axis=0)).sum(-1) ** 2).sum()


@pytest.mark.theorem("prop-sea-special-cases", "bound")
@EVERY
def test_special_cases_keep_what_the_proposition_says(case):
    environment = make(case, seeds=8, rounds=200)
    variance, variation = special_values(case, environment, 200)
    got = environment.variances.sum(0), environment.variations.sum(0)
    check_bound("prop-sea-special-cases", got[0], torch.tensor(variance, dtype=F64))
    check_bound("prop-sea-special-cases", got[1], torch.tensor(variation, dtype=F64))


@pytest.mark.theorem("prop-sea-special-cases", "bound")
@pytest.mark.parametrize("passes", [1, 2, 5, 50])
def test_passes_in_random_order_hardly_drift(passes):
    environment = random_order(200, 20, D, seeded(), passes=passes)
    variation = environment.variations.sum(0)
    every = 2 * math.pi**2 / 3 * passes - 4
    check_bound("prop-sea-special-cases", variation, torch.tensor(every, dtype=F64))


@pytest.mark.theorem("prop-sea-special-cases", "bound")
def test_a_deck_of_signs_reaches_more_than_half_of_its_bound():
    """Signs that alternate: of all decks of up to 14 signs the hardest."""
    count = 14
    deck = ((-1.0) ** torch.arange(count, dtype=F64))[:, None]
    left = torch.arange(count, 0, -1, dtype=F64)[:, None]
    means = deck.flip(0).cumsum(0).flip(0) / left
    variation = ((means[1:] - means[:-1]) ** 2).sum(0)
    limit = torch.tensor(2 * math.pi**2 / 3 - 4, dtype=F64)
    check_bound("prop-sea-special-cases", variation, limit)
    assert variation.max() > limit / 3


def all_orders(count, seeds=4000):
    """One play for each order of the losses, so that means over plays are expectations."""
    environment = random_order(count, seeds, 2, seeded(3))
    drawn = environment.moves + environment.noise  # (n, seeds, 2)
    losses = drawn[:, 0]
    orders = (drawn[:, :, None] - losses).abs().sum(-1).argmin(-1).T  # (seeds, n)
    assert (orders.sort(-1)[0] == torch.arange(count)).all()
    place = {tuple(order): k for k, order in enumerate(orders.tolist())}
    wanted = list(itertools.permutations(range(count)))
    assert set(place) == set(wanted)
    chosen = torch.tensor([place[order] for order in wanted])
    return environment, losses, torch.tensor(wanted), chosen


@pytest.mark.theorem("prop-sea-special-cases", "equality")
def test_over_all_orders_of_five_losses_everything_is_exact():
    count = 5
    environment, losses, orders, chosen = all_orders(count)
    assert len(orders) == math.factorial(count)
    spread = square(losses - losses.mean(0)).mean()
    moves_of, variances = environment.moves[:, chosen], environment.variances[:, chosen]
    for t in range(1, count + 1):
        left = count - t + 1
        rest = losses[orders[:, t - 1 :]]  # what has not been seen, this one included
        check_identity("prop-sea-special-cases", moves_of[t - 1], rest.mean(1))
        exact = square(rest - rest.mean(1, keepdim=True)).mean(1)
        check_identity("prop-sea-special-cases", variances[t - 1], exact)
        stated = (left - 1) * count / (left * (count - 1)) * spread
        check_identity("prop-sea-special-cases", variances[t - 1].mean(), stated)
        check_bound("prop-sea-special-cases", variances[t - 1].mean(), spread)
        if t > 1:
            # (grad F_{t-1} - grad f_{t-1}) / r
            step = (moves_of[t - 2] - losses[orders[:, t - 2]]) / left
            check_identity("prop-sea-special-cases", moves_of[t - 1] - moves_of[t - 2], step)
            drift = environment.variations[t - 2, chosen]
            check_identity("prop-sea-special-cases", drift, square(step))


@pytest.mark.theorem("prop-sea-special-cases", "mutant")
@pytest.mark.parametrize("mutant", ["with replacement", "whole mean", "one pass's drift"])
def test_mutants_of_the_special_cases_break(mutant):
    if mutant == "one pass's drift":
        # Two opposite losses over and over: each new pass brings the sum back.
        environment = random_order(4000, 20, D, seeded(), passes=2000)
        one = torch.full((20,), 2 * math.pi**2 / 3, dtype=F64)
        total = environment.variations.sum(0)
        fails(of("prop-sea-special-cases"), total, one, true=(total, 2000 * one - 4),
              scaled="the passes after the first are dropped")  # fmt: skip
        return
    _, losses, orders, _ = all_orders(5)
    if mutant == "with replacement":
        orders = torch.randint(5, orders.shape, generator=seeded())
    rest = losses[orders[:, 1:]]
    exact = (losses.sum(0) - losses[orders[:, 0]]) / 4
    got = losses.mean(0).expand_as(exact) if mutant == "whole mean" else rest.mean(1)
    _, _, ordered, _ = all_orders(5)
    true = (losses[ordered[:, 1:]].mean(1), (losses.sum(0) - losses[ordered[:, 0]]) / 4)
    fails(identity("prop-sea-special-cases"), got, exact, true=true)
