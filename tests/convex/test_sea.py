"""Optimistic learners in the SEA model: plain loops, batches, sizes."""

import math

import numpy as np
import pytest
import torch

from mdtheory.convex.mirror_maps import Ball, Box, Euclidean, Simplex
from mdtheory.convex.online_learning import OptimisticMirrorDescent
from mdtheory.convex.sea import (
    StochasticallyExtendedAdversary,
    bounds,
    optimistic_ftrl,
    optimistic_mirror_descent,
    two_layer_ensemble,
)
from mdtheory.convex.sea.special_cases import bounded_noise
from tests.convex.sea_play_cases import F64, D, S, T, close, normal, seeded, wild
from tests.polish import guessed, polished

DOMAINS = {"ball": Ball(1.0), "box": Box(-0.4, 0.9), "simplex": Simplex()}
EVERY = pytest.mark.parametrize("domain", DOMAINS.values(), ids=DOMAINS)


# --- learners --------------------------------------------------------------------------------

REGIMES = {
    "convex": {"regime": "convex"},
    "strongly convex": {"regime": "strongly convex", "curvature": 0.3},
    "constant": {"step_size": 0.2},
}


def rule_of(name, learner, bound, diameter, offset):
    """The step sizes as a rule for the learner of the earlier chapter."""

    def rule(t):
        if name == "constant":
            return 0.2
        if name == "strongly convex":
            return 2 / (0.3 * t)
        variation = learner[0].variation if learner else torch.zeros(S, dtype=F64)
        return diameter / (offset + 4 * bound**2 + variation).sqrt()

    return rule


@EVERY
@pytest.mark.parametrize("name", REGIMES)
@pytest.mark.parametrize("hinted", [True, False])
def test_decisions_are_those_of_the_learner_of_online_learning(domain, name, hinted):
    environment, start = wild(), domain.project(normal(S, D, seed=9))
    bound = environment.gradient_bound(2.0)
    numbers = {"gradient_bound": bound, "offset": 1.5} if name == "convex" else {}
    record = optimistic_mirror_descent(
        environment, start, domain, T, hints=hinted, **REGIMES[name], **numbers
    )
    made: list[OptimisticMirrorDescent] = []
    rule = rule_of(name, made, bound, domain.diameter(D), 1.5)
    made.append(OptimisticMirrorDescent(Euclidean(domain), start, rule))
    for t in range(1, T + 1):
        decision = made[0].decision
        close(record.decisions[t - 1], decision)
        loss, gradient = environment(t, decision)
        close(record.losses[t - 1], loss)
        close(record.gradients[t - 1], gradient)
        made[0].update(gradient, gradient if hinted else None)
    close(record.variation, made[0].variation)
    close(record.linear_loss, made[0].suffered)


def numpy_project(domain, point):
    if isinstance(domain, Ball):
        return point / max(1.0, float(np.linalg.norm(point)))
    return np.clip(point, -0.4, 0.9)


@pytest.mark.parametrize("domain", [Ball(1.0), Box(-0.4, 0.9)], ids=repr)
def test_decisions_are_those_of_a_numpy_loop(domain):
    environment = wild()
    start = domain.project(normal(S, D, seed=9))
    bound, diameter = environment.gradient_bound(2.0), domain.diameter(D)
    record = optimistic_mirror_descent(environment, start, domain, T, gradient_bound=bound)
    curvature = np.array([0.0, 0.5, 2.0])
    slopes = 0.3 * environment.moves + environment.offset + 0.7 * environment.noise
    for s in range(S):
        anchor, hint, variation = start[s].numpy(), np.zeros(D), 0.0
        for t in range(T):
            step = diameter / math.sqrt(4 * bound[s].item() ** 2 + variation)
            x = numpy_project(domain, anchor - step * hint)
            gradient = curvature * x + slopes[t, s].numpy()
            variation += float((gradient - hint) @ (gradient - hint))
            anchor = numpy_project(domain, anchor - step * gradient)
            hint = gradient
            close(record.decisions[t, s], torch.as_tensor(x))
        close(record.variation[s].item(), variation)
        assert record.step_size[s].item() == pytest.approx(step, rel=1e-12)


@pytest.mark.parametrize("regime", ["convex", "strongly convex"])
@pytest.mark.parametrize("hinted", [True, False])
def test_leaders_are_those_of_a_numpy_loop(regime, hinted):
    domain, environment = Ball(1.0), wild()
    start = domain.project(normal(S, D, seed=9))
    numbers = {"offset": 3.0} if regime == "convex" else {"curvature": 0.4}
    record = optimistic_ftrl(environment, start, domain, T, regime=regime, hints=hinted, **numbers)
    curvature = np.array([0.0, 0.5, 2.0])
    slopes = 0.3 * environment.moves + environment.offset + 0.7 * environment.noise
    for s in range(S):
        total, hint, spent = np.zeros(D), np.zeros(D), 3.0
        visited = np.zeros(D)
        for t in range(T):
            if regime == "convex":
                step = 4.0 / spent
                x = numpy_project(domain, start[s].numpy() - step / 2 * (total + hint))
            elif t == 0:
                step, x = 1 / 0.4, start[s].numpy()
            else:
                step = 1 / (0.4 * t)
                x = numpy_project(domain, (0.4 * visited - total - hint) / (0.4 * t))
            close(record.decisions[t, s], torch.as_tensor(x))
            gradient = curvature * x + slopes[t, s].numpy()
            spent += step * float((gradient - hint) @ (gradient - hint))
            total, visited = total + gradient, visited + x
            hint = gradient if hinted else hint


def test_the_strongly_convex_leader_agrees_with_cvxpy():
    cp = pytest.importorskip("cvxpy")
    domain, environment = Ball(1.0), wild(seeds=1)
    record = optimistic_ftrl(
        environment, environment.start(), domain, 8, regime="strongly convex", curvature=0.4
    )
    x, g = record.decisions.numpy(), record.gradients.numpy()
    for s in range(1):
        for t in range(1, 6):
            y = cp.Variable(D)
            past = sum(g[k, s] @ y + 0.2 * cp.sum_squares(y - x[k, s]) for k in range(t))
            guessed(cp.Problem(cp.Minimize(past + g[t - 1, s] @ y), [cp.norm(y) <= 1]))
            old, pull = record.decisions[:t, s], record.gradients[:t, s].sum(0)

            def loss(z, old=old, pull=pull + record.gradients[t - 1, s]):
                return pull @ z + 0.2 * (z - old).square().sum()

            best = polished(loss, y.value, inside=lambda z: 1 - z.square().sum()[None])
            close(record.decisions[t, s], best, 1e-11)


LEARNERS = {
    "convex": lambda e, s, d, **k: optimistic_mirror_descent(
        e, s, d, T, gradient_bound=e.gradient_bound(1.0), **k
    ),
    "strongly convex": lambda e, s, d, **k: optimistic_mirror_descent(
        e, s, d, T, regime="strongly convex", curvature=0.3, **k
    ),
    "exp-concave": lambda e, s, d, **k: optimistic_mirror_descent(
        e, s, d, T, regime="exp-concave", gamma=0.4, gradient_bound=e.gradient_bound(1.0), **k
    ),
    "leader": lambda e, s, d, **k: optimistic_ftrl(e, s, d, T, offset=5.0, **k),
    "strong leader": lambda e, s, d, **k: optimistic_ftrl(
        e, s, d, T, regime="strongly convex", curvature=0.3, **k
    ),
    "ensemble": lambda e, s, d, **k: (
        two_layer_ensemble(
            e, s, d, T, gradient_bound=e.gradient_bound(1.0).max().item(), smoothness=2.0, **k
        ).record
    ),
}
WITH_HINTS = [name for name in LEARNERS if name != "ensemble"]


@pytest.mark.parametrize("name", LEARNERS)
def test_a_run_that_keeps_nothing_has_the_same_sums(name):
    environment = wild()
    start = environment.start()
    full = LEARNERS[name](environment, start, Ball(1.0))
    bare = LEARNERS[name](environment, start, Ball(1.0), keep=False)
    assert bare.decisions is bare.gradients is bare.losses is None
    for field in ("loss", "linear_loss", "total_gradient", "variation", "movement", "step_size"):
        assert torch.equal(getattr(full, field), getattr(bare, field))
    x, g = full.decisions, full.gradients
    close(full.total_gradient, g.sum(0))
    close(full.loss, full.losses.sum(0))
    close(full.linear_loss, (g * x).sum((0, -1)))
    close(full.movement, ((x[1:] - x[:-1]) ** 2).sum((0, -1)))
    assert (x.norm(dim=-1) <= 1 + 1e-12).all()
    assert (full.matrix is None) == (name != "exp-concave")


@pytest.mark.parametrize("name", WITH_HINTS)
def test_without_hints_the_variation_is_that_of_the_gradients(name):
    environment = wild()
    record = LEARNERS[name](environment, environment.start(), Ball(1.0), hints=False)
    close(record.variation, (record.gradients**2).sum((0, -1)))


@pytest.mark.parametrize("name", LEARNERS)
def test_a_batch_is_so_many_single_plays(name):
    environment = wild(curvature=(1.0, 0.5, 2.0))
    together = LEARNERS[name](environment, environment.start(), Ball(1.0))
    for s in range(S):
        alone = StochasticallyExtendedAdversary(
            environment.moves[:, s], environment.noise[:, s], environment.variance[:, s],
            curvature=[1.0, 0.5, 2.0], offset=environment.offset[s], noise_scale=0.7,
            drift_scale=0.3,
        )  # fmt: skip
        if name == "ensemble":  # one bound for the whole batch
            bound = environment.gradient_bound(1.0).max().item()
            single = two_layer_ensemble(
                alone, alone.start(), Ball(1.0), T, gradient_bound=bound, smoothness=2.0
            ).record
        else:
            single = LEARNERS[name](alone, alone.start(), Ball(1.0))
        assert alone.batch == ()
        close(together.decisions[:, s], single.decisions, 1e-9)
        close(together.loss[s], single.loss, 1e-9)


@pytest.mark.parametrize("name", LEARNERS)
def test_single_precision_stays_single_and_near(name):
    exact = wild()
    rough = StochasticallyExtendedAdversary(
        exact.moves.float(), exact.noise.float(), exact.variance.float(),
        curvature=[0.0, 0.5, 2.0], offset=exact.offset.float(), noise_scale=0.7,
        drift_scale=0.3,
    )  # fmt: skip
    double = LEARNERS[name](exact, exact.start(), Ball(1.0))
    single = LEARNERS[name](rough, rough.start(), Ball(1.0))
    for field in ("loss", "variation", "movement", "decisions", "step_size", "matrix"):
        ours, theirs = getattr(single, field), getattr(double, field)
        if theirs is None:
            continue
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours.double(), theirs, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("name", LEARNERS)
def test_one_round_in_one_dimension(name, monkeypatch):
    environment = StochasticallyExtendedAdversary(torch.full((1, 1, 1), 0.5, dtype=F64))
    monkeypatch.setitem(globals(), "T", 1)
    record = LEARNERS[name](environment, environment.start(), Ball(1.0))
    assert record.decisions.tolist() == [[[0.0]]]
    assert record.gradients.tolist() == [[[0.5]]]
    assert record.variation.tolist() == [0.25]
    assert record.movement.tolist() == record.paid_movement.tolist() == record.loss.tolist() == [0]


@pytest.mark.parametrize("scale", [1e-150, 1e150])
def test_losses_of_any_size_are_played_alike(scale):
    """Steps divide by the size of the gradients, so decisions do not see it."""
    base, big = (StochasticallyExtendedAdversary(k * normal(T, S, D)) for k in (1.0, scale))

    def runs(environment, k):
        bound = environment.gradient_bound(1.0)
        start = environment.start()
        yield optimistic_mirror_descent(environment, start, Ball(1.0), T, gradient_bound=bound)
        yield optimistic_mirror_descent(environment, start, Ball(1.0), T, step_size=0.3 / k)
        yield optimistic_ftrl(environment, start, Ball(1.0), T, offset=4 * bound)
        yield two_layer_ensemble(
            environment, start, Ball(1.0), T, gradient_bound=bound.max().item(), smoothness=k
        ).record

    for one, other in zip(runs(base, 1.0), runs(big, scale), strict=True):
        close(one.decisions, other.decisions, 1e-9)
        close(one.loss, other.loss / scale, 1e-9)


@pytest.mark.parametrize("radius", [1e-150, 1e150])
def test_domains_of_any_size_are_played_alike(radius):
    environment = StochasticallyExtendedAdversary(normal(T, S, D))
    start, bound = environment.start(), environment.gradient_bound(0.0)
    one, other = (
        optimistic_mirror_descent(environment, start, Ball(r), T, gradient_bound=bound)
        for r in (1.0, radius)
    )
    close(one.decisions, other.decisions / radius, 1e-9)
    stated = [
        bounds.convex_pathwise(2 * r, bound, record.variation, record.paid_movement) / r
        for r, record in ((1.0, one), (radius, other))
    ]
    close(*stated, 1e-9)


def test_a_bound_for_each_play():
    environment = wild()
    limits = environment.gradient_bound(1.0)
    assert limits.shape == (S,)
    together = optimistic_mirror_descent(
        environment, environment.start(), Ball(1.0), T, gradient_bound=limits
    )
    one = optimistic_mirror_descent(
        environment, environment.start(), Ball(1.0), T, gradient_bound=limits.max().item()
    )
    same = limits == limits.max()
    close(together.decisions[:, same], one.decisions[:, same])
    assert not torch.allclose(together.decisions[:, ~same], one.decisions[:, ~same])


def test_other_environments_may_be_played():
    def environment(t, x):
        return (x**4).sum(-1), 4 * x**3

    start = torch.full((2, 3), 0.5, dtype=F64)
    for run in (
        optimistic_mirror_descent(environment, start, Ball(1.0), 300, gradient_bound=4.0),
        optimistic_ftrl(environment, start, Ball(1.0), 300, offset=16.0),
    ):
        assert (run.losses[-1] < run.losses[0] / 10).all()


# --- the environment -------------------------------------------------------------------------


def grid(noises, drifts, generator_seed=3, curvature=(0.5, 1.0, 2.0)):
    noise, variance = bounded_noise(T, S, D, seeded(generator_seed))
    moves = normal(T, 1, D, seed=generator_seed)
    return StochasticallyExtendedAdversary(
        moves, noise, variance, curvature=list(curvature), noise_scale=noises, drift_scale=drifts
    )


def test_a_grid_with_common_random_numbers_is_its_cells_one_by_one():
    noises = torch.tensor([0.0, 0.5, 2.0], dtype=F64)
    drifts = torch.tensor([0.0, 0.1], dtype=F64)
    whole = grid(noises[:, None, None], drifts[None, :, None])
    assert whole.batch == (3, 2, S)
    assert whole.start().shape == (3, 2, S, D)
    bound = whole.gradient_bound(1.0)
    record = optimistic_mirror_descent(whole, whole.start(), Ball(1.0), T, gradient_bound=bound)
    best = whole.best_comparator(Ball(1.0))
    for i, s in enumerate(noises.tolist()):
        for j, v in enumerate(drifts.tolist()):
            cell = grid(s, v)
            single = optimistic_mirror_descent(
                cell, cell.start(), Ball(1.0), T, gradient_bound=cell.gradient_bound(1.0)
            )
            close(record.decisions[:, i, j], single.decisions)
            close(record.loss[i, j], single.loss)
            close(bound[i, j], cell.gradient_bound(1.0))
            close(whole.variances[:, i, j], cell.variances)
            close(whole.variations[:, i, j], cell.variations)
            close(best[i, j], cell.best_comparator(Ball(1.0)), 1e-9)
