"""Streams of the SEA model, their comparators, and the ensemble."""

import math

import numpy as np
import pytest
import torch

from mdtheory.convex.mirror_maps import Ball, Box, Euclidean, Simplex
from mdtheory.convex.online_learning import OptimisticMirrorDescent, play
from mdtheory.convex.sea import (
    SPECIAL_CASES,
    StochasticallyExtendedAdversary,
    iid,
    optimistic_mirror_descent,
    regret_bound,
    step_size_pool,
    two_layer_ensemble,
)
from tests.convex.sea_play_cases import F64, D, S, T, close, normal, seeded, wild
from tests.polish import guessed, polished


@pytest.mark.parametrize("curvature", [0.0, (0.0, 0.5, 2.0)], ids=["linear", "curved"])
def test_losses_gradients_and_sums_are_the_formulas(curvature):
    curvature = [curvature] * D if curvature == 0.0 else curvature
    environment = wild(curvature=curvature)
    diagonal = torch.tensor(curvature, dtype=F64)
    x = normal(S, D, seed=20).requires_grad_(True)
    for t in (1, 7, T):
        mean = environment.offset + 0.3 * environment.moves[t - 1]
        for call, slope in (
            (environment, mean + 0.7 * environment.noise[t - 1]),
            (environment.expected, mean),
        ):
            loss, gradient = call(t, x)
            close(loss, (diagonal * x**2 / 2 + slope * x).sum(-1))
            (automatic,) = torch.autograd.grad(loss.sum(), x)
            close(gradient, automatic)
    point = normal(S, D, seed=21)
    for rounds in (1, 9, T):
        losses = torch.stack([environment(t, point)[0] for t in range(1, rounds + 1)])
        close(environment.loss_at(point, rounds), losses.sum(0), 1e-11)
    one = point[0]
    close(environment.loss_at(one, T), environment.loss_at(one.expand(S, D), T))
    assert environment.smoothness == max(curvature)
    assert environment.strong_convexity == min(curvature)


def test_variance_and_variation_are_those_of_the_stream():
    environment = wild()
    close(environment.variances, 0.49 * torch.full((T, S), 1 / 3, dtype=F64))
    x = normal(S, D, seed=20)
    means = torch.stack([environment.expected(t, x)[1] for t in range(1, T + 1)])
    close(environment.variations, ((means[1:] - means[:-1]) ** 2).sum(-1))
    still = StochasticallyExtendedAdversary(torch.zeros(T, D, dtype=F64))
    assert still.batch == ()
    assert still.variances.shape == (T,)
    assert still.variations.shape == (T - 1,)
    assert still.variances.sum() == still.variations.sum() == 0


@pytest.mark.parametrize("case", SPECIAL_CASES)
def test_no_gradient_is_longer_than_its_bound(case):
    environment = SPECIAL_CASES[case](60, 6, D, seeded(2), curvature=[0.2, 1.0, 3.0])
    for radius in (0.0, 0.5, 2.0):
        bound = environment.gradient_bound(radius)
        assert bound.shape == (6,)
        points = radius * torch.nn.functional.normalize(normal(50, 6, D), dim=-1)
        for t in (1, 2, 30, 59, 60):
            lengths = environment(t, points)[1].norm(dim=-1)
            assert (lengths <= bound * (1 + 1e-12)).all()


def test_the_bound_on_gradients_is_attained():
    moves = torch.tensor([[0.0, 3.0], [0.0, -1.0]], dtype=F64)
    environment = StochasticallyExtendedAdversary(
        moves, curvature=[1.0, 2.0], offset=torch.tensor([0.0, 0.5], dtype=F64), drift_scale=2.0
    )
    gradient = environment(1, torch.tensor([0.0, 1.0], dtype=F64))[1]
    assert gradient.norm() == environment.gradient_bound(1.0) == 8.5


DOMAIN_SETS = {
    "ball": (
        Ball(1.0), lambda cp, x: [cp.norm(x) <= 1],
        {"inside": lambda x: 1 - x.square().sum()[None]},
    ),
    "wide ball": (
        Ball(50.0), lambda cp, x: [cp.norm(x) <= 50],
        {"inside": lambda x: 1 - (x / 50).square().sum()[None]},
    ),
    "box": (
        Box(-0.5, 0.75), lambda cp, x: [x >= -0.5, x <= 0.75], {"lower": -0.5, "upper": 0.75},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DOMAIN_SETS)
@pytest.mark.parametrize("curvature", [(0.3, 0.5, 2.0), (0.0, 0.5, 2.0), (0.0, 0.0, 1.0)], ids=str)
@pytest.mark.parametrize("hindsight", [False, True])
def test_the_best_comparator_agrees_with_cvxpy(name, curvature, hindsight):
    cp = pytest.importorskip("cvxpy")
    domain, inside, limits = DOMAIN_SETS[name]
    environment = wild(curvature=curvature, seeds=2)
    best = environment.best_comparator(domain, 30, hindsight=hindsight)
    assert best.shape == (2, D)
    slopes = environment.offset + 0.3 * environment.moves[:30]
    if hindsight:
        slopes = slopes + 0.7 * environment.noise[:30]
    slopes, diagonal = slopes.mean(0), torch.tensor(curvature, dtype=F64)
    for s in range(2):
        x = cp.Variable(D)
        bent = cp.sum(cp.multiply(np.array(curvature) / 2, cp.square(x)))
        guessed(cp.Problem(cp.Minimize(bent + slopes[s].numpy() @ x), inside(cp, x)))

        def loss(z, pull=slopes[s]):
            return (diagonal * z**2 / 2 + pull * z).sum()

        least = polished(loss, x.value, **limits)
        close(loss(best[s]), loss(least), 1e-11)
        close(best[s], least, 1e-10)
    # What no solver's tolerance blurs: a gradient step leads back to the minimiser.
    ahead = domain.project(best - (diagonal * best + slopes))
    close(ahead, best, 1e-9)


def test_where_nothing_pulls_the_comparator_stays_inside():
    """Flat directions without a slope: any point is best, the one given must be finite."""
    for curvature in (0.0, [0.0, 1.0, 0.0]):
        environment = StochasticallyExtendedAdversary(
            torch.zeros(5, D, dtype=F64), curvature=curvature
        )
        for domain in (Ball(2.0), Box(-1.0, 1.0)):
            best = environment.best_comparator(domain)
            assert domain.contains(best)
            assert environment.loss_at(best, 5) == 0
    line = StochasticallyExtendedAdversary(torch.ones(5, 2, D, dtype=F64))
    best = line.best_comparator(Simplex())
    assert best.shape == (2, D)
    assert Simplex().contains(best).all()


def test_the_protocol_of_online_learning_plays_it_too():
    environment = iid(T, S, D, seeded(), curvature=0.5)
    learner = OptimisticMirrorDescent(Euclidean(Ball(1.0)), environment.start(), 0.2)
    record = play(learner, environment, T)
    ours = optimistic_mirror_descent(
        environment, environment.start(), Ball(1.0), T, step_size=0.2, hints=False
    )
    close(record.decisions, ours.decisions)
    close(record.losses, ours.losses)


# --- the ensemble ----------------------------------------------------------------------------


def test_the_ensemble_leaves_what_it_says():
    environment = wild(curvature=(0.2, 0.5, 2.0))
    start, bound = environment.start(), environment.gradient_bound(1.0).max().item()
    run, bare = (
        two_layer_ensemble(
            environment, start, Ball(1.0), T, gradient_bound=bound, smoothness=2.0, keep=keep
        )
        for keep in (True, False)
    )
    assert bare.weights is bare.base_decisions is None
    pool = step_size_pool(2.0, bound, 2.0, T)
    assert run.step_sizes.tolist() == pool
    assert run.correction == 4.0
    base, g = run.base_decisions, run.record.gradients
    assert base.shape == (T, len(pool), S, D)
    close(run.weights.sum(1), torch.ones(T, S, dtype=F64))
    close(run.weights[0], torch.full((len(pool), S), 1 / len(pool), dtype=F64))
    moved = torch.cat([torch.zeros_like(base[:1, ..., 0]), ((base[1:] - base[:-1]) ** 2).sum(-1)])
    along = (g[:, None] * base).sum(-1)
    losses = along + 4 * moved
    expected = {
        "base_losses": along.sum(0),
        "base_movements": moved.sum(0),
        "meta_loss": (run.weights * losses).sum((0, 1)),
        "meta_losses": losses.sum(0),
        "mean_movement": (run.weights * moved).sum((0, 1)),
    }
    for field, value in expected.items():
        close(getattr(run, field), value, 1e-11)
        assert torch.equal(getattr(run, field), getattr(bare, field))


def test_the_weights_find_the_step_size_that_is_right():
    """A comparator that does not move asks for the shortest step, a fast one for the longest."""
    noise = SPECIAL_CASES["i.i.d."](600, 4, D, seeded(), noise=8.0)
    turning = SPECIAL_CASES["rotating"](600, 4, D, seeded(), period=30.0)
    means = []
    for environment in (noise, turning):
        bound = environment.gradient_bound(1.0).max().item()
        run = two_layer_ensemble(
            environment, environment.start(), Ball(1.0), 600, gradient_bound=bound,
            smoothness=0.05, correction=0.0,
        )  # fmt: skip
        means.append((run.weights[-1] * run.step_sizes[:, None]).sum(0))
    assert (means[0] < means[1]).all()


# --- the bounds ------------------------------------------------------------------------------

FACTS = {
    "diameter": 2.0,
    "gradient_bound": 1.5,
    "smoothness": 1.0,
    "variance": 30.0,
    "variation": 4.0,
    "curvature": 0.2,
    "largest_variance": 0.4,
    "largest_variation": 0.3,
    "gamma": 0.1,
    "dimension": 5,
    "path_length": 3.0,
    "pool": 8,
}


@pytest.mark.parametrize("regime", ["convex", "strongly convex", "exp-concave", "dynamic"])
def test_bounds_grow_with_chance_and_drift_and_take_tensors(regime):
    base = regret_bound(regime, **FACTS)
    assert base.dtype == F64
    for name in ("gradient_bound", "variance", "variation", "diameter", "smoothness"):
        grown = regret_bound(regime, **(FACTS | {name: 2 * FACTS[name]}))
        if (regime, name) != ("convex", "gradient_bound"):  # 25 D^3 L^2 / c falls with G
            assert grown > base, name
    table = torch.tensor([[30.0], [60.0]], dtype=torch.float32)
    both = regret_bound(regime, **(FACTS | {"variance": table}))
    assert both.shape == (2, 1)
    assert both.dtype == torch.float32
    assert both[0].item() == pytest.approx(base.item(), rel=1e-5)


def test_zeros_are_allowed_where_they_mean_something():
    still = FACTS | {"variance": 0.0, "variation": 0.0, "largest_variance": 0.0}
    still |= {"largest_variation": 0.0, "smoothness": 0.0, "path_length": 0.0, "pool": 1}
    assert regret_bound("convex", **still).item() == pytest.approx(1.5 * 2 + 2.5 * 2 * 1.5)
    assert regret_bound("strongly convex", **still).item() == pytest.approx(2 * 2.25 / 0.2)
    assert regret_bound("dynamic", **still).item() == pytest.approx(3 * math.sqrt(2.25 * 4 / 2))
