"""The extended model: its learners against others' loops, its environments against the truth."""

import math

import numpy as np
import pytest
import torch

from mdtheory.convex.mirror_maps import Ball, Box, Euclidean, Simplex
from mdtheory.convex.online_learning import OptimisticMirrorDescent, play
from mdtheory.convex.sea import (
    SPECIAL_CASES,
    StochasticallyExtendedAdversary,
    bounds,
    iid,
    optimistic_ftrl,
    optimistic_mirror_descent,
    regret_bound,
    step_size_pool,
    two_layer_ensemble,
)
from mdtheory.convex.sea.special_cases import bounded_noise
from tests.polish import guessed, polished

F64 = torch.float64
T, S, D = 40, 4, 3
DOMAINS = {"ball": Ball(1.0), "box": Box(-0.4, 0.9), "simplex": Simplex()}
EVERY = pytest.mark.parametrize("domain", DOMAINS.values(), ids=DOMAINS)


def seeded(number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=F64)


def close(left, right, tolerance=1e-12):
    torch.testing.assert_close(left, right, rtol=tolerance, atol=tolerance)


def wild(seed=0, curvature=(0.0, 0.5, 2.0), seeds=S):
    """Moves, noise and offset that differ from play to play."""
    noise, variance = bounded_noise(T, seeds, D, seeded(seed))
    return StochasticallyExtendedAdversary(
        normal(T, seeds, D, seed=seed + 1),
        noise,
        variance,
        curvature=list(curvature),
        offset=normal(seeds, D, seed=seed + 2),
        noise_scale=0.7,
        drift_scale=0.3,
    )


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
