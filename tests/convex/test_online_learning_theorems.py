"""The statements of the chapter: each with its bound, an equality, and mutants that must fail."""

import math

import pytest
import torch

from mdtheory.convex.mirror_maps import (
    Ball,
    BinaryEntropy,
    Box,
    Entropy,
    Euclidean,
    LogBarrier,
    Mahalanobis,
    PNorm,
    Simplex,
    Tsallis,
    VonNeumann,
)
from mdtheory.convex.online_learning import (
    AdaGrad,
    Adversary,
    FollowTheRegularizedLeader,
    Hedge,
    LinearLosses,
    LogisticLosses,
    OnlineMirrorDescent,
    OnlineNewtonStep,
    OptimisticMirrorDescent,
    PortfolioLosses,
    QuadraticLosses,
    best_constant_gap,
    best_constant_portfolio,
    bounds,
    dirichlet,
    log_wealth,
    play,
    punish_heaviest,
    push_sideways,
    regret,
    universal_portfolio,
)
from mdtheory.runs import check_bound, check_identity
from tests.polish import guessed, polished
from tests.refused import breaks

F64 = torch.float64
SEEDS, D, T = 40, 5, 60


def seeded(number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=F64)


def uniform(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=seeded(seed), dtype=F64)


def symmetric(x: torch.Tensor) -> torch.Tensor:
    return (x + x.mT) / 2


def metric(seed: int = 3) -> torch.Tensor:
    root = normal(D, D, seed=seed)
    return root @ root.mT + 0.3 * torch.eye(D, dtype=F64)


def simplex_points(seed: int) -> torch.Tensor:
    return dirichlet((SEEDS,), D, seeded(seed))


def ball_points(seed: int) -> torch.Tensor:
    return Ball(1.5).project(normal(SEEDS, D, seed=seed))


def densities(seed: int) -> torch.Tensor:
    root = normal(SEEDS, D, D, seed=seed)
    square = root @ root.mT
    return symmetric(square / square.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None])


# Each geometry with points of its domain: a start, and comparators.
GEOMETRIES = {
    "whole space": (Euclidean(), lambda s: normal(SEEDS, D, seed=s)),
    "ball": (Euclidean(Ball(1.5)), ball_points),
    "box": (Euclidean(Box(-1.0, 2.0)), lambda s: 3 * uniform(SEEDS, D, seed=s) - 1),
    "projected simplex": (Euclidean(Simplex()), simplex_points),
    "mahalanobis": (Mahalanobis(metric()), lambda s: normal(SEEDS, D, seed=s)),
    "mahalanobis ball": (Mahalanobis(metric(), Ball(1.5)), ball_points),
    "entropy": (Entropy(), simplex_points),
    "p-norm": (PNorm(1.5), lambda s: normal(SEEDS, D, seed=s)),
    "bit entropy": (BinaryEntropy(), lambda s: 0.02 + 0.96 * uniform(SEEDS, D, seed=s)),
    "log-barrier": (LogBarrier(), simplex_points),
    "tsallis 1/2": (Tsallis(0.5), simplex_points),
    "tsallis 2": (Tsallis(2.0), simplex_points),
    "von neumann": (VonNeumann(), densities),
}
EVERY = pytest.mark.parametrize("name", GEOMETRIES)
FLAT = [name for name in GEOMETRIES if name != "von neumann"]


def streams(mirror_map, seed: int = 7):
    """Gradients of every round: random ones and ones that answer the decision."""
    shape = (SEEDS, D) if mirror_map.event_dims == 1 else (SEEDS, D, D)
    fixed = normal(T, *shape, seed=seed)
    if mirror_map.event_dims == 2:
        fixed = symmetric(fixed)
    drift = 0.3 * normal(*fixed.shape[1:], seed=seed + 1)
    drift = symmetric(drift) if mirror_map.event_dims == 2 else drift
    yield "random", lambda t, x: fixed[t - 1]
    yield "drifting", lambda t, x: drift + 0.1 * fixed[t - 1]
    yield "alternating", lambda t, x: (-1.0) ** t * drift
    # Away from the mean of the domain: larger where the learner already is.
    yield "answering", lambda t, x: x + 0.1 * fixed[t - 1]
    yield "signs", lambda t, x: torch.where(x > x.mean(), 1.0, -1.0).to(x.dtype)


def symmetric_signs(mirror_map, gradient):
    return symmetric(gradient) if mirror_map.event_dims == 2 else gradient


def environment(mirror_map, stream):
    axes = tuple(range(-mirror_map.event_dims, 0))

    def respond(t, x):
        gradient = symmetric_signs(mirror_map, stream(t, x))
        return (gradient * x).sum(axes), gradient

    return respond


def norms(mirror_map, record):
    return mirror_map.dual_norm(record.gradients)


# --- thm-omd ---------------------------------------------------------------------------------


@pytest.mark.theorem("thm-omd", "bound")
@EVERY
def test_mirror_descent_keeps_its_bound(name):
    mirror_map, points = GEOMETRIES[name]
    for step_size in (0.02, 0.3):
        for _, stream in streams(mirror_map):
            learner = OnlineMirrorDescent(mirror_map, points(1), step_size)
            record = play(learner, environment(mirror_map, stream), T)
            for seed in (2, 3):
                comparator = points(seed)
                bound = bounds.mirror_descent(
                    mirror_map.divergence(comparator, points(1)),
                    step_size,
                    norms(mirror_map, record),
                    mirror_map.strong_convexity,
                )
                check_bound("thm-omd", regret(record, comparator), bound)


@pytest.mark.theorem("thm-omd", "equality")
def test_the_last_point_attains_the_bound_of_gradient_descent():
    for _, stream in streams(Euclidean()):
        learner = OnlineMirrorDescent(Euclidean(), normal(SEEDS, D, seed=1), 0.2)
        record = play(learner, environment(Euclidean(), stream), T)
        comparator = learner.decision
        divergence = Euclidean().divergence(comparator, normal(SEEDS, D, seed=1))
        bound = bounds.mirror_descent(divergence, 0.2, norms(Euclidean(), record), 1.0)
        check_identity("thm-omd", regret(record, comparator), bound, tolerance=1e-9)


@pytest.mark.theorem("thm-omd", "mutant")
@pytest.mark.parametrize("mutant", ["one per cent", "no gradients", "no distance", "ascent"])
def test_mutants_of_the_bound_of_mirror_descent_break(mutant):
    start = normal(SEEDS, D, seed=1)
    sign = -1.0 if mutant == "ascent" else 1.0
    learner = OnlineMirrorDescent(Euclidean(), start, 0.2)
    stream = normal(T, SEEDS, D, seed=4) + 0.5
    decisions = []
    for gradient in stream:
        decisions.append(learner.decision)
        learner.update(sign * gradient)
    comparator = start - 0.2 * stream.sum(0)
    result = (stream * (torch.stack(decisions) - comparator)).sum((0, -1))
    divergence = Euclidean().divergence(comparator, start)
    lengths = Euclidean().dual_norm(stream)
    bound = bounds.mirror_descent(divergence, 0.2, lengths, 1.0)
    if mutant == "one per cent":
        bound = 0.01 * bound
    if mutant == "no gradients":
        bound = divergence / 0.2
    if mutant == "no distance":
        bound = bound - divergence / 0.2
    assert breaks("thm-omd", result, bound)


# --- thm-omd-adaptive ------------------------------------------------------------------------

BOUNDED = ["ball", "box", "projected simplex", "mahalanobis ball", "tsallis 2"]


@pytest.mark.theorem("thm-omd-adaptive", "bound")
@pytest.mark.parametrize("name", BOUNDED)
def test_mirror_descent_with_falling_steps_keeps_its_bound(name):
    mirror_map, points = GEOMETRIES[name]
    for _, stream in streams(mirror_map):
        learner = OnlineMirrorDescent(mirror_map, points(1), lambda t: 0.5 / math.sqrt(t))
        record = play(learner, environment(mirror_map, stream), T)
        comparator = points(2)
        largest = mirror_map.divergence(comparator, record.decisions).amax(0)
        bound = bounds.mirror_descent_adaptive(
            largest, record.step_sizes, norms(mirror_map, record), mirror_map.strong_convexity
        )
        check_bound("thm-omd-adaptive", regret(record, comparator), bound)


@pytest.mark.theorem("thm-omd-adaptive", "equality")
def test_regret_with_falling_steps_is_a_sum_by_parts():
    learner = OnlineMirrorDescent(Euclidean(), normal(SEEDS, D, seed=1), lambda t: 1 / t)
    record = play(learner, LinearLosses(normal(T, SEEDS, D, seed=2)), T)
    comparator = normal(SEEDS, D, seed=3)
    points = torch.cat([record.decisions, learner.decision[None]])
    distance = Euclidean().divergence(comparator, points)
    inverse = 1 / record.step_sizes
    by_parts = (
        distance[0] * inverse[0]
        + (distance[1:-1] * (inverse[1:] - inverse[:-1])).sum(0)
        - distance[-1] * inverse[-1]
        + (record.step_sizes * norms(Euclidean(), record) ** 2).sum(0) / 2
    )
    check_identity("thm-omd-adaptive", regret(record, comparator), by_parts, tolerance=1e-10)


@pytest.mark.theorem("thm-omd-adaptive", "equality")
def test_one_step_size_gives_the_plain_bound():
    divergence, lengths = uniform(SEEDS), uniform(T, SEEDS, seed=1)
    steps = torch.full((T, SEEDS), 0.2, dtype=F64)
    check_identity(
        "thm-omd-adaptive",
        bounds.mirror_descent_adaptive(divergence, steps, lengths, 0.7),
        bounds.mirror_descent(divergence, 0.2, lengths, 0.7),
    )


@pytest.mark.theorem("thm-omd-adaptive", "mutant")
@pytest.mark.parametrize("mutant", ["growing steps", "one per cent"])
def test_mutants_of_the_bound_with_falling_steps_break(mutant):
    # One coordinate on the interval [-1, 1], and a comparator at its end.
    domain, comparator = Euclidean(Box(-1.0, 1.0)), torch.tensor([-1.0], dtype=F64)
    if mutant == "growing steps":  # all is lost before the step is large
        start, steps = torch.zeros(1, dtype=F64), [0.01, 10.0, 10.0]
        losses = torch.tensor([[1.0], [0.0], [0.0]], dtype=F64)
    else:
        start, steps = torch.ones(1, dtype=F64), [0.5 / math.sqrt(t) for t in range(1, 41)]
        losses = torch.full((40, 1), 0.5, dtype=F64)
    record = play(OnlineMirrorDescent(domain, start, steps), LinearLosses(losses), len(losses))
    largest = domain.divergence(comparator, record.decisions).amax(0)
    bound = bounds.mirror_descent_adaptive(largest, record.step_sizes, norms(domain, record), 1.0)
    if mutant == "one per cent":
        bound = 0.01 * bound
    assert breaks("thm-omd-adaptive", regret(record, comparator), bound)


# --- cor-gradient-descent --------------------------------------------------------------------


def descend(step_size, losses_or_adversary, rounds=T, start=None):
    start = torch.zeros(SEEDS, D, dtype=F64) if start is None else start
    learner = OnlineMirrorDescent(Euclidean(Ball(1.0)), start, step_size)
    return play(learner, losses_or_adversary, rounds)


def unit(x):
    return x / x.norm(dim=-1, keepdim=True)


@pytest.mark.theorem("cor-gradient-descent", "bound")
@pytest.mark.parametrize("anytime", [False, True])
def test_gradient_descent_keeps_its_bound(anytime):
    def step(t):
        return 2 / math.sqrt(t if anytime else T)

    bound = bounds.gradient_descent(2.0, 1.0, T, anytime=anytime)
    fixed = unit(normal(T, SEEDS, D))
    constant = unit(normal(SEEDS, D)).expand(T, SEEDS, D)
    away = Adversary(lambda t, x, total: torch.where(x == 0, D**-0.5, unit(x + 1e-300)))
    for start in (torch.zeros(SEEDS, D, dtype=F64), unit(normal(SEEDS, D, seed=5))):
        for played in (
            LinearLosses(fixed),
            LinearLosses(constant),
            Adversary(push_sideways),
            away,
        ):
            record = descend(step, played, start=start)
            assert (record.gradients.norm(dim=-1) <= 1 + 1e-12).all()
            best = Ball(1.0).minimize_linear(record.total_gradient)
            result = regret(record, best)
            check_bound("cor-gradient-descent", result, result.new_tensor(bound))


@pytest.mark.theorem("cor-gradient-descent", "equality")
def test_one_round_attains_the_bound_of_gradient_descent():
    direction = unit(normal(SEEDS, D))
    record = descend(2.0, LinearLosses(direction[None]), rounds=1, start=direction)
    best = Ball(1.0).minimize_linear(record.total_gradient)
    bound = torch.tensor(bounds.gradient_descent(2.0, 1.0, 1), dtype=F64)
    check_identity("cor-gradient-descent", regret(record, best), bound)


@pytest.mark.theorem("cor-gradient-descent", "equality")
def test_both_constants_come_from_the_general_bounds():
    rounds, diameter, size = 20_000, 1.7, 0.6
    lengths = torch.full((rounds,), size, dtype=F64)
    half = torch.tensor(diameter**2 / 2, dtype=F64)
    tuned = bounds.mirror_descent(half, diameter / (size * math.sqrt(rounds)), lengths, 1.0)
    expected = torch.tensor(bounds.gradient_descent(diameter, size, rounds), dtype=F64)
    check_identity("cor-gradient-descent", tuned, expected)
    falling = diameter / (size * torch.arange(1, rounds + 1, dtype=F64).sqrt())
    anytime = bounds.mirror_descent_adaptive(half, falling, lengths, 1.0)
    stated = bounds.gradient_descent(diameter, size, rounds, anytime=True)
    assert 0.99 * stated < anytime.item() <= stated


@pytest.mark.theorem("cor-gradient-descent", "mutant")
@pytest.mark.parametrize("mutant", ["one per cent", "step without the root", "tenth of the step"])
def test_mutants_of_gradient_descent_break(mutant):
    bound = bounds.gradient_descent(2.0, 1.0, 400)
    steps = {
        "one per cent": 2 / 20,
        "step without the root": 2 / 400,
        "tenth of the step": 2 / 20 / 10,
    }
    start = unit(normal(SEEDS, D))
    record = descend(steps[mutant], LinearLosses(start.expand(400, SEEDS, D)), 400, start)
    result = regret(record, -start)
    factor = 0.01 if mutant == "one per cent" else 1.0
    assert breaks("cor-gradient-descent", result, factor * bound)


# --- AdaGrad ---------------------------------------------------------------------------------


def adagrad_streams(scale):
    fixed = normal(T, SEEDS, D) * scale
    yield LinearLosses(fixed)
    yield LinearLosses(fixed * (uniform(T, SEEDS, D, seed=1) < 0.1))  # sparse
    yield LinearLosses(fixed[:1].expand(T, SEEDS, D))
    yield LinearLosses(fixed * torch.logspace(-3, 3, T, dtype=F64)[:, None, None])
    yield Adversary(lambda t, x, total: x + 0.1 * fixed[t - 1])
    yield Adversary(lambda t, x, total: torch.where(x > 0, 1.0, -1.0).to(x.dtype) * scale)


SCALE = torch.tensor([0.01, 0.1, 1.0, 10.0, 3.0], dtype=F64)
SIDES = torch.tensor([1.0, 0.1, 5.0, 2.0, 0.5], dtype=F64)


@pytest.mark.theorem("cor-adagrad-norm", "bound")
@pytest.mark.parametrize("domain", [Ball(1.5), Box(-SIDES / 2, SIDES / 2), Simplex()], ids=repr)
def test_adagrad_with_one_step_keeps_its_bound(domain):
    start = domain.project(normal(SEEDS, D, seed=9))
    for played in adagrad_streams(SCALE):
        record = play(AdaGrad(start, domain, "norm"), played, T)
        best = domain.minimize_linear(record.total_gradient)
        bound = bounds.adagrad_norm(domain.diameter(D), record.gradients)
        check_bound("cor-adagrad-norm", regret(record, best), bound)


@pytest.mark.theorem("cor-adagrad-norm", "equality")
def test_adagrad_with_one_step_is_mirror_descent_with_its_steps():
    losses = normal(T, SEEDS, D) * SCALE
    record = play(AdaGrad(ball_points(1), Ball(1.5), "norm"), LinearLosses(losses), T)
    energy = (losses**2).sum(-1).cumsum(0)
    steps = 3.0 / (2 * energy).sqrt()
    again = OnlineMirrorDescent(Euclidean(Ball(1.5)), ball_points(1), lambda t: steps[t - 1])
    other = play(again, LinearLosses(losses), T)
    check_identity("cor-adagrad-norm", record.decisions, other.decisions)
    check_identity("cor-adagrad-norm", record.step_sizes, steps)


@pytest.mark.theorem("cor-adagrad-norm", "equality")
def test_the_bound_of_adagrad_is_the_general_one_in_the_limit():
    lengths = torch.ones(40_000, dtype=F64)
    steps = 3.0 / (2 * lengths.cumsum(0)).sqrt()
    general = bounds.mirror_descent_adaptive(3.0**2 / 2, steps, lengths, 1.0).item()
    stated = bounds.adagrad_norm(3.0, lengths[:, None]).item()
    assert 0.99 * stated < general <= stated


@pytest.mark.theorem("cor-adagrad-norm", "mutant")
@pytest.mark.parametrize("mutant", ["one per cent", "no root", "no sum"])
def test_mutants_of_adagrad_with_one_step_break(mutant):
    direction = unit(normal(SEEDS, D))
    losses = 4 * direction.expand(400, SEEDS, D)
    energy = (losses**2).sum(-1).cumsum(0)
    steps = math.sqrt(2) / {"one per cent": energy.sqrt(), "no root": energy}.get(mutant, energy)
    if mutant == "no sum":  # the step does not fall with the gradients that came
        losses = losses * torch.tensor([1.0, -1.0] * 200, dtype=F64)[:, None, None]
        steps = torch.full_like(energy, 200.0)
    learner = OnlineMirrorDescent(Euclidean(Ball(1.0)), direction, lambda t: steps[t - 1])
    record = play(learner, LinearLosses(losses), 400)
    best = Ball(1.0).minimize_linear(record.total_gradient)
    factor = 0.01 if mutant == "one per cent" else 1.0
    bound = factor * bounds.adagrad_norm(2.0, losses)
    assert breaks("cor-adagrad-norm", regret(record, best), bound)


@pytest.mark.theorem("thm-adagrad-diagonal", "bound")
@pytest.mark.parametrize("domain", [Ball(1.5), Box(-SIDES / 2, SIDES / 2)], ids=repr)
def test_diagonal_adagrad_keeps_its_bound(domain):
    start = domain.project(normal(SEEDS, D, seed=9))
    widths = SIDES if isinstance(domain, Box) else 3.0
    for played in adagrad_streams(SCALE):
        record = play(AdaGrad(start, domain, "diagonal"), played, T)
        assert domain.contains(record.decisions).all()
        best = domain.minimize_linear(record.total_gradient)
        bound = bounds.adagrad_diagonal(widths, record.gradients)
        check_bound("thm-adagrad-diagonal", regret(record, best), bound)


@pytest.mark.theorem("thm-adagrad-diagonal", "equality")
def test_diagonal_adagrad_on_a_box_plays_each_coordinate_by_itself():
    losses = normal(T, SEEDS, D) * SCALE
    box = Box(-SIDES / 2, SIDES / 2)
    start = box.project(normal(SEEDS, D, seed=9))
    record = play(AdaGrad(start, box, "diagonal"), LinearLosses(losses), T)
    for i, side in enumerate(SIDES.tolist()):
        interval = Box(-side / 2, side / 2)
        single = AdaGrad(start[:, i : i + 1], interval, "norm")
        alone = play(single, LinearLosses(losses[..., i : i + 1]), T)
        mine = record.decisions[..., i : i + 1]
        check_identity("thm-adagrad-diagonal", mine, alone.decisions)
    parts = [
        bounds.adagrad_norm(side, losses[..., i : i + 1]) for i, side in enumerate(SIDES.tolist())
    ]
    whole = bounds.adagrad_diagonal(SIDES, losses)
    check_identity("thm-adagrad-diagonal", whole, torch.stack(parts).sum(0))


@pytest.mark.theorem("thm-adagrad-diagonal", "mutant")
@pytest.mark.parametrize("mutant", ["one per cent", "one step for all", "no root"])
def test_mutants_of_diagonal_adagrad_break(mutant):
    box = Box(-1.0, 1.0)
    # One loud coordinate and one quiet one, whose own pace one common step does not see.
    losses = torch.tensor([100.0, 0.01], dtype=F64).expand(400, 2)
    start = torch.ones(2, dtype=F64)
    if mutant == "one step for all":
        losses = losses.clone()
        losses[:, 0] *= torch.tensor([1.0, -1.0] * 200, dtype=F64)
        bound = bounds.adagrad_norm(2.0, losses[:, 1:])  # what the quiet one is promised
        record = play(AdaGrad(start, box, "norm"), LinearLosses(losses), 400)
        result = (losses[:, 1] * (record.decisions[:, 1] + 1)).sum()
        mine = play(AdaGrad(start, box), LinearLosses(losses), 400)
        check_bound(
            "thm-adagrad-diagonal", (losses[:, 1] * (mine.decisions[:, 1] + 1)).sum(), bound
        )
    elif mutant == "no root":
        steps = math.sqrt(2) / (losses**2).cumsum(0)
        point, result = start, torch.tensor(0.0, dtype=F64)
        for loss, step in zip(losses, steps, strict=True):
            result = result + (loss * (point + 1)).sum()
            point = box.project(point - step * loss)
        bound = bounds.adagrad_diagonal(2.0, losses)
    else:
        record = play(AdaGrad(start, box), LinearLosses(losses), 400)
        result = regret(record, -start)
        bound = 0.01 * bounds.adagrad_diagonal(2.0, losses)
    assert breaks("thm-adagrad-diagonal", result, bound)


@pytest.mark.theorem("thm-adagrad-full", "bound")
@pytest.mark.parametrize("epsilon", [0.0, 0.3])
def test_full_adagrad_keeps_its_bound(epsilon):
    ball = Ball(1.5)
    for played in adagrad_streams(SCALE):
        learner = AdaGrad(ball_points(9), ball, "full", epsilon=epsilon)
        record = play(learner, played, T)
        assert ball.contains(record.decisions).all()
        step = 3.0 / math.sqrt(2)
        for comparator in (ball.minimize_linear(record.total_gradient), ball_points(2)):
            far = (record.decisions - comparator).norm(dim=-1).amax(0)
            bound = bounds.adagrad_full(far, step, record.gradients, epsilon)
            check_bound("thm-adagrad-full", regret(record, comparator), bound)


@pytest.mark.theorem("thm-adagrad-full", "equality")
def test_the_trace_of_the_bound_is_that_of_the_root():
    gradients = normal(T, SEEDS, D) * SCALE
    outer = (gradients[..., :, None] * gradients[..., None, :]).sum(0)
    trace = torch.linalg.eigvalsh(outer).clamp(min=0).sqrt().sum(-1)
    distance, step = uniform(SEEDS), 0.4
    by_hand = distance**2 / (2 * step) * (0.1 + trace) + step * trace
    stated = bounds.adagrad_full(distance, step, gradients, 0.1)
    check_identity("thm-adagrad-full", stated, by_hand, tolerance=1e-9)


@pytest.mark.theorem("thm-adagrad-full", "equality")
def test_full_adagrad_without_projection_obeys_the_exact_identity():
    losses, step = normal(T, SEEDS, 3), 0.4
    learner = AdaGrad(normal(SEEDS, 3, seed=1), None, "full", step_size=step, epsilon=0.2)
    record = play(learner, LinearLosses(losses), T)
    comparator = normal(SEEDS, 3, seed=2)
    points = torch.cat([record.decisions, learner.decision[None]])
    outer = (losses[..., :, None] * losses[..., None, :]).cumsum(0)
    squares, axes = torch.linalg.eigh(outer)
    roots = squares.clamp(min=0).sqrt() + 0.2
    total = torch.zeros(SEEDS, dtype=F64)
    for t in range(T):
        offset, after, slope = (
            (axes[t].mT @ v[..., None])[..., 0]
            for v in (points[t] - comparator, points[t + 1] - comparator, losses[t])
        )
        near = (roots[t] * (offset**2 - after**2)).sum(-1) / (2 * step)
        total = total + near + step / 2 * (slope**2 / roots[t]).sum(-1)
    check_identity("thm-adagrad-full", regret(record, comparator), total, tolerance=1e-6)


@pytest.mark.theorem("thm-adagrad-full", "mutant")
@pytest.mark.parametrize("mutant", ["one per cent", "no root", "ascent"])
def test_mutants_of_full_adagrad_break(mutant):
    ball, start = Ball(1.0), unit(normal(SEEDS, 3))
    losses = 4 * start.expand(400, SEEDS, 3) + 0.01 * normal(400, SEEDS, 3, seed=1)
    sign = -1.0 if mutant == "ascent" else 1.0
    if mutant == "no root":
        point, matrix, points = start, 1e-9 * torch.eye(3, dtype=F64), []
        for gradient in losses:
            points.append(point)
            matrix = matrix + gradient[..., :, None] * gradient[..., None, :]
            solved = torch.linalg.solve(matrix, gradient[..., None])[..., 0]
            point = ball.project(point - math.sqrt(2) * solved)
        decisions = torch.stack(points)
    else:
        learner, points = AdaGrad(start, ball, "full"), []
        for gradient in losses:
            points.append(learner.decision)
            learner.update(sign * gradient)
        decisions = torch.stack(points)
    best = ball.minimize_linear(losses.sum(0))
    result = (losses * (decisions - best)).sum((0, -1))
    bound = bounds.adagrad_full(2.0, math.sqrt(2), losses)
    if mutant == "one per cent":
        bound = 0.01 * bound
    assert breaks("thm-adagrad-full", result, bound)


# --- thm-ftrl --------------------------------------------------------------------------------


@pytest.mark.theorem("thm-ftrl", "bound")
@EVERY
@pytest.mark.parametrize("falling", [False, True])
def test_the_regularised_leader_keeps_its_bound(name, falling):
    mirror_map, points = GEOMETRIES[name]
    step = (lambda t: 0.5 / math.sqrt(t)) if falling else 0.1
    for _, stream in streams(mirror_map):
        for centred in (True, False):
            start = points(1) if centred else tuple(points(1).shape)
            learner = FollowTheRegularizedLeader(mirror_map, start, step)
            first = learner.decision
            record = play(learner, environment(mirror_map, stream), T)
            comparator = points(2)
            reach = (
                mirror_map.divergence(comparator, first)
                if centred
                else mirror_map.potential(comparator) - mirror_map.potential(first)
            )
            bound = bounds.follow_the_leader(
                reach, record.step_sizes, norms(mirror_map, record), mirror_map.strong_convexity
            )
            check_bound("thm-ftrl", regret(record, comparator), bound)


@pytest.mark.theorem("thm-ftrl", "equality")
def test_the_last_point_attains_the_bound_of_the_leader():
    for start in (normal(SEEDS, D, seed=1), (SEEDS, D)):
        learner = FollowTheRegularizedLeader(Euclidean(), start, 0.2)
        first = learner.decision
        record = play(learner, LinearLosses(normal(T, SEEDS, D, seed=2)), T)
        comparator = learner.decision
        reach = Euclidean().divergence(comparator, first)
        bound = bounds.follow_the_leader(reach, 0.2, norms(Euclidean(), record), 1.0)
        check_identity("thm-ftrl", regret(record, comparator), bound, tolerance=1e-9)


@pytest.mark.theorem("thm-ftrl", "equality")
def test_the_leader_minimises_what_it_says():
    cvxpy = pytest.importorskip("cvxpy")
    losses, steps = normal(4, D, seed=2), [0.7, 0.5, 0.4, 0.2]
    learner = FollowTheRegularizedLeader(Euclidean(Ball(1.5)), normal(D, seed=1) / 9, steps)
    start = learner.decision
    for t, (loss, step) in enumerate(zip(losses, steps, strict=True)):
        learner.update(loss)
        x = cvxpy.Variable(D)
        total = losses[: t + 1].sum(0).numpy()
        objective = total @ x + cvxpy.sum_squares(x - start.numpy()) / (2 * step)
        guessed(cvxpy.Problem(cvxpy.Minimize(objective), [cvxpy.norm(x) <= 1.5]))
        pull = losses[: t + 1].sum(0)
        expected = polished(
            lambda y, pull=pull, step=step: pull @ y + (y - start).square().sum() / (2 * step),
            x.value, inside=lambda y: 2.25 - y.square().sum()[None],
        )  # fmt: skip
        check_identity("thm-ftrl", learner.decision, expected, tolerance=1e-11)


@pytest.mark.theorem("thm-ftrl", "mutant")
@pytest.mark.parametrize("mutant", ["growing steps", "one per cent", "no gradients"])
def test_mutants_of_the_bound_of_the_leader_break(mutant):
    ball, alternating = Euclidean(Ball(1.0)), torch.tensor([1.0, -1.0] * 100, dtype=F64)
    losses, steps = alternating.reshape(200, 1).clone(), [3.0] * 200
    losses[0] = 0.5
    if mutant == "growing steps":  # all is lost before the step is large
        losses, steps = torch.tensor([[1.0], [0.0], [0.0]], dtype=F64), [0.01, 10.0, 10.0]
    learner = FollowTheRegularizedLeader(ball, (1,), steps)
    record = play(learner, LinearLosses(losses), len(losses))
    result = torch.stack([regret(record, torch.tensor([u], dtype=F64)) for u in (-1.0, 1.0)])
    reach = torch.tensor(0.5, dtype=F64)
    bound = bounds.follow_the_leader(reach, record.step_sizes, norms(ball, record), 1.0)
    if mutant == "one per cent":
        bound = 0.01 * bound
    if mutant == "no gradients":
        bound = reach / steps[0]
    assert breaks("thm-ftrl", result, bound)


# --- thm-hedge -------------------------------------------------------------------------------


def hedge_streams(rounds, experts):
    yield LinearLosses(uniform(rounds, SEEDS, experts))
    coins = (uniform(rounds, SEEDS, experts, seed=1) < 0.5).to(F64)
    yield LinearLosses(coins)
    yield Adversary(punish_heaviest)
    fixed = torch.zeros(rounds, SEEDS, experts, dtype=F64)
    fixed[..., 1:] = 1.0
    yield LinearLosses(fixed)
    yield Adversary(lambda t, p, total: (p >= p.median(-1, keepdim=True).values).to(p.dtype))


@pytest.mark.theorem("thm-hedge", "bound")
@pytest.mark.parametrize("rounds", [1, 30, 300])
@pytest.mark.parametrize("experts", [1, 2, 10])
def test_hedge_keeps_its_bounds(rounds, experts):
    start = torch.full((SEEDS, experts), 1 / experts, dtype=F64)
    tuned = math.sqrt(8 * math.log(max(experts, 2)) / rounds)
    for step_size in (tuned, 0.05, 2.0):
        for played in hedge_streams(rounds, experts):
            record = play(Hedge(start, step_size), played, rounds)
            best = Simplex().minimize_linear(record.total_gradient)
            result = regret(record, best)
            bound = bounds.hedge(experts, rounds, step_size)
            check_bound("thm-hedge", result, result.new_tensor(bound))
            if step_size == tuned and experts > 1:
                bound = bounds.hedge(experts, rounds)
                check_bound("thm-hedge", result, result.new_tensor(bound))
            ranges = record.gradients.amax(-1) - record.gradients.amin(-1)
            apart = math.log(experts)
            check_bound("thm-hedge", result, bounds.hedge_ranges(apart, step_size, ranges))
            second = bounds.hedge_second_order(apart, step_size, record.decisions, record.gradients)
            check_bound("thm-hedge", result, second)


@pytest.mark.theorem("thm-hedge", "bound")
def test_the_second_bound_of_hedge_asks_only_that_losses_are_not_negative():
    losses = 50 * uniform(T, SEEDS, D) ** 4
    record = play(Hedge(simplex_points(1), 0.3), LinearLosses(losses), T)
    best = Simplex().minimize_linear(record.total_gradient)
    for comparator in (best, simplex_points(2)):
        apart = Entropy().divergence(comparator, simplex_points(1))
        second = bounds.hedge_second_order(apart, 0.3, record.decisions, losses)
        check_bound("thm-hedge", regret(record, comparator), second)
        shifted = play(Hedge(simplex_points(1), 0.3), LinearLosses(losses - 20), T)
        ranges = losses.amax(-1) - losses.amin(-1)
        bound = bounds.hedge_ranges(apart, 0.3, ranges)
        check_bound("thm-hedge", regret(shifted, comparator), bound)


@pytest.mark.theorem("thm-hedge", "equality")
def test_the_mixture_losses_of_hedge_telescope():
    losses, start, step = uniform(T, SEEDS, D), simplex_points(1), 0.7
    record = play(Hedge(start, step), LinearLosses(losses), T)
    mixture = -(record.decisions * (-step * losses).exp()).sum(-1).log().sum(0) / step
    at_once = -(start * (-step * losses.sum(0)).exp()).sum(-1).log() / step
    check_identity("thm-hedge", mixture, at_once, tolerance=1e-11)


@pytest.mark.theorem("thm-hedge", "equality")
def test_the_eighth_in_the_bound_of_hedge_cannot_be_smaller():
    # One round, two experts, losses 0 and 1: the gap between mean and mixture loss.
    for step in (1e-1, 1e-2, 1e-3):
        gap = 0.5 + math.log((1 + math.exp(-step)) / 2) / step
        assert gap <= step / 8
        assert gap == pytest.approx(step / 8, rel=step)


def cumulant(values, weights, s):
    """log E exp(s (Z - E Z)) of variables with finitely many values."""
    mean = (weights * values).sum(-1, keepdim=True)
    return (weights.log() + s * (values - mean)).logsumexp(-1)


@pytest.mark.theorem("lem-hoeffding", "bound")
def test_bounded_variables_have_hoeffding_s_cumulant():
    values, weights = normal(SEEDS, D), simplex_points(1)
    length = values.amax(-1) - values.amin(-1)
    for s in (-30.0, -1.0, -1e-3, 1e-3, 0.5, 4.0, 100.0):
        check_bound("lem-hoeffding", cumulant(values, weights, s), s**2 * length**2 / 8)


@pytest.mark.theorem("lem-hoeffding", "equality")
def test_a_fair_coin_has_the_logarithm_of_cosh_and_attains_the_eighth():
    s = torch.tensor([-0.1, -0.05, -0.02, 0.02, 0.05, 0.1], dtype=F64)
    values = torch.tensor([0.0, 1.0], dtype=F64)
    mine = torch.stack([cumulant(values, torch.full_like(values, 0.5), v) for v in s])
    check_identity("lem-hoeffding", mine, (s / 2).cosh().log())
    ratio = mine / (s**2 / 8)
    assert ratio.min() > 0.998
    assert ratio.max() <= 1 + 1e-9


@pytest.mark.theorem("lem-hoeffding", "mutant")
@pytest.mark.parametrize("mutant", ["a ninth", "not centred"])
def test_mutants_of_hoeffding_s_lemma_break(mutant):
    values, half = torch.tensor([0.0, 1.0], dtype=F64), torch.full((2,), 0.5, dtype=F64)
    left, s = cumulant(values, half, 0.5), 0.5
    if mutant == "not centred":
        left = left + s * 0.5
    assert breaks("lem-hoeffding", left, s**2 / (9 if mutant == "a ninth" else 8))


@pytest.mark.theorem("thm-hedge", "mutant")
@pytest.mark.parametrize("mutant", ["one per cent", "half the logarithm", "range 2", "ascent"])
def test_mutants_of_the_bound_of_hedge_break(mutant):
    rounds, experts = 300, 10
    step = math.sqrt(8 * math.log(experts) / rounds)
    start = torch.full((SEEDS, experts), 1 / experts, dtype=F64)
    losses = torch.ones(rounds, SEEDS, experts, dtype=F64)
    losses[..., 0] = 0.0
    bound = bounds.hedge(experts, rounds, step)
    if mutant == "ascent":
        learner, suffered = Hedge(start, step), 0.0
        for loss in losses:
            suffered = suffered + (loss * learner.decision).sum(-1)
            learner.update(-loss)
        assert breaks("thm-hedge", suffered, bound)
        return
    if mutant == "half the logarithm":
        step = 0.02  # so small that only the start matters: regret is almost log(d) / step
        long = losses.repeat(40, 1, 1)[:, :2]
        record = play(Hedge(start[:2], step), LinearLosses(long), len(long))
        lost = regret(record, torch.eye(experts, dtype=F64)[0])
        tight = (math.log(experts) / 2) / step
        assert breaks("thm-hedge", lost, tight)
        assert not breaks("thm-hedge", lost, bounds.hedge(experts, len(long), step))
        return
    if mutant == "range 2":
        record = play(
            Hedge(start[:, :2] * 5, 1.0),
            Adversary(lambda t, p, total: 2 * punish_heaviest(t, p, total) - 1),
            rounds,
        )
        bound = bounds.hedge(2, rounds, 1.0)
    else:
        record = play(Hedge(start, step), LinearLosses(losses), rounds)
        bound = 0.01 * bound
    best = Simplex().minimize_linear(record.total_gradient)
    assert breaks("thm-hedge", regret(record, best), bound)


# --- thm-strongly-convex ---------------------------------------------------------------------


@pytest.mark.theorem("thm-strongly-convex", "bound")
@pytest.mark.parametrize("curvature", [0.2, 1.0, 7.0])
def test_gradient_descent_on_strongly_convex_losses_keeps_its_bound(curvature):
    ball = Ball(1.5)
    targets = normal(T, SEEDS, D)
    sudden = torch.cat([torch.ones(T // 2, SEEDS, D), -torch.ones(T - T // 2, SEEDS, D)]).double()
    for played in (QuadraticLosses(targets, curvature), QuadraticLosses(sudden, curvature)):
        learner = OnlineMirrorDescent(
            Euclidean(ball), ball_points(1), lambda t: 1 / (curvature * t)
        )
        record = play(learner, played, T)
        lengths = record.gradients.norm(dim=-1)
        largest = lengths.max().item()
        for comparator in (played.best_comparator(ball), ball_points(2)):
            result = regret(record, comparator)
            bound = bounds.strongly_convex(lengths, curvature)
            check_bound("thm-strongly-convex", result, bound)
            worst = bounds.strongly_convex_worst_case(largest, curvature, T)
            check_bound("thm-strongly-convex", bound, bound.new_tensor(worst))


@pytest.mark.theorem("thm-strongly-convex", "equality")
def test_the_mean_attains_the_bound_for_quadratic_losses():
    """Then the learner's last point is the mean of the targets, the best comparator."""
    played = QuadraticLosses(normal(T, SEEDS, D), 0.7)
    learner = OnlineMirrorDescent(Euclidean(), normal(SEEDS, D, seed=1), lambda t: 1 / (0.7 * t))
    record = play(learner, played, T)
    comparator = played.targets.mean(0)
    check_identity("thm-strongly-convex", learner.decision, comparator, tolerance=1e-11)
    bound = bounds.strongly_convex(record.gradients.norm(dim=-1), 0.7)
    check_identity("thm-strongly-convex", regret(record, comparator), bound, tolerance=1e-10)


@pytest.mark.theorem("thm-strongly-convex", "mutant")
@pytest.mark.parametrize("mutant", ["one per cent", "linear regret", "step of convex losses"])
def test_mutants_of_the_strongly_convex_bound_break(mutant):
    played = QuadraticLosses(normal(T, SEEDS, D) + 1, 0.7)
    step = (lambda t: 0.05) if mutant == "step of convex losses" else (lambda t: 1 / (0.7 * t))
    learner = OnlineMirrorDescent(Euclidean(), normal(SEEDS, D, seed=1), step)
    record = play(learner, played, T)
    lengths = record.gradients.norm(dim=-1)
    bound = bounds.strongly_convex(lengths, 0.7)
    if mutant == "one per cent":
        bound = 0.01 * bound
    linear = mutant == "linear regret"  # the curvature that the theorem uses is given away
    result = regret(record, played.targets.mean(0), linear=linear)
    assert breaks("thm-strongly-convex", result, bound)


# --- lem-exp-concave and thm-newton-step -----------------------------------------------------


def logistic(seed=0):
    features = normal(T, SEEDS, 3, seed=seed)
    labels = torch.where(uniform(T, SEEDS, seed=seed + 1) < 0.5, 1.0, -1.0).to(F64)
    return LogisticLosses(features / features.norm(dim=-1, keepdim=True).clamp(min=1), labels)


@pytest.mark.theorem("lem-exp-concave", "bound")
def test_an_exp_concave_loss_lies_above_its_parabola():
    ball, played = Ball(1.0), logistic()
    alpha = math.exp(-1.0)
    gamma = bounds.exp_concave_gamma(alpha, 2.0)
    x, u = ball.project(normal(SEEDS, 3, seed=3)), ball.project(normal(SEEDS, 3, seed=4))
    for t in range(1, T + 1):
        loss, gradient = played(t, x)
        slope = (gradient * (x - u)).sum(-1)
        gap = loss - played(t, u)[0]
        check_bound("lem-exp-concave", gap, bounds.exp_concave_surrogate(slope, gamma))
    market = PortfolioLosses(0.5 + uniform(T, SEEDS, D))
    x, u = simplex_points(1), simplex_points(2)
    for t in range(1, T + 1):
        loss, gradient = market(t, x)
        slope = (gradient * (x - u)).sum(-1)
        gamma = 0.5 * torch.minimum(1 / slope.abs(), torch.ones(SEEDS, dtype=F64))
        gap = loss - market(t, u)[0]
        check_bound("lem-exp-concave", gap, bounds.exp_concave_surrogate(slope, gamma))


@pytest.mark.theorem("lem-exp-concave", "equality")
def test_the_first_half_of_the_lemma_is_exact_for_portfolios():
    """With gamma 1/2 the function exp(-2 gamma f) of the proof is linear."""
    market = PortfolioLosses(0.5 + uniform(1, SEEDS, D))
    x, u = simplex_points(1), simplex_points(2)
    loss, gradient = market(1, x)
    slope = (gradient * (x - u)).sum(-1)
    gap = loss - market(1, u)[0]
    check_identity("lem-exp-concave", gap, (1 + slope).log())


@pytest.mark.theorem("lem-exp-concave", "equality")
def test_the_scalar_inequality_of_the_lemma_is_tangent_at_zero():
    z = torch.linspace(-1, 1, 20_001, dtype=F64)[:-1]
    slack = -torch.log1p(-z) - z - z**2 / 4
    assert slack.min().item() >= -1e-16
    near = z.abs() < 0.01
    assert (slack[near] <= 0.26 * z[near] ** 2).all()


@pytest.mark.theorem("lem-exp-concave", "mutant")
@pytest.mark.parametrize("mutant", ["four times gamma", "sign"])
def test_mutants_of_the_exp_concave_lemma_break(mutant):
    market = PortfolioLosses(0.5 + uniform(1, SEEDS, D))
    x, u = simplex_points(1), simplex_points(2)
    loss, gradient = market(1, x)
    slope = (gradient * (x - u)).sum(-1)
    gap = loss - market(1, u)[0]
    gamma = 2.0 if mutant == "four times gamma" else 0.5
    if mutant == "sign":
        slope = -slope
    assert breaks("lem-exp-concave", gap, bounds.exp_concave_surrogate(slope, gamma))


def ball_newton(gamma, played=None, epsilon=None):
    played = logistic() if played is None else played
    learner = OnlineNewtonStep(torch.zeros(SEEDS, 3, dtype=F64), Ball(1.0), gamma, epsilon)
    return learner, play(learner, played, T)


@pytest.mark.theorem("thm-newton-step", "bound")
def test_the_newton_step_keeps_its_bound_on_logistic_losses():
    gamma = bounds.exp_concave_gamma(math.exp(-1.0), 2.0)
    ball = Ball(1.0)
    one = LogisticLosses(
        unit(normal(1, SEEDS, 3)).expand(T, SEEDS, 3), torch.ones(T, SEEDS).double()
    )

    def contrary(t, x):  # the label that hurts most
        features = unit(normal(SEEDS, 3, seed=100 + t % 4))
        labels = torch.where((features * x).sum(-1) > 0, -1.0, 1.0).to(F64)
        return LogisticLosses(features[None], labels[None])(1, x)

    for played in (logistic(), one, contrary):
        learner, record = ball_newton(gamma, played)
        for comparator in (
            ball.minimize_linear(record.total_gradient),
            ball.project(normal(SEEDS, 3, seed=4)),
            torch.zeros(SEEDS, 3, dtype=F64),
        ):
            surrogate = surrogate_regret(record, comparator, gamma)
            bound = bounds.newton_step(gamma, learner.epsilon, 2.0, learner.matrix)
            check_bound("thm-newton-step", surrogate, bound)
            if hasattr(played, "loss_at"):
                check_bound("thm-newton-step", regret(record, comparator), surrogate)
        worst = bounds.newton_step_worst_case(gamma, 2.0, 1.0, 3, T)
        check_bound("thm-newton-step", bound, bound.new_tensor(worst))


@pytest.mark.theorem("thm-newton-step", "bound")
def test_the_newton_step_keeps_its_bound_on_portfolios():
    relatives = (0.1 * normal(T, SEEDS, D)).exp()
    crashing = relatives.clone()
    crashing[::7, :, 0] = 0.1
    for table in (relatives, crashing):
        spread = (table.amax(-1) - table.amin(-1)) / table.amin(-1)
        gamma = bounds.exp_concave_gamma(1.0, spread.max().item())
        start = torch.full((SEEDS, D), 1 / D, dtype=F64)
        learner = OnlineNewtonStep(start, Simplex(), gamma)
        record = play(learner, PortfolioLosses(table, tangent=True), T)
        best = best_constant_portfolio(table)
        bound = bounds.newton_step(gamma, learner.epsilon, math.sqrt(2), learner.matrix)
        check_bound("thm-newton-step", regret(record, best), bound)


def surrogate_regret(record, comparator, gamma):
    slope = (record.gradients * (record.decisions - comparator)).sum(-1)
    return bounds.exp_concave_surrogate(slope, gamma).sum(0)


@pytest.mark.theorem("thm-newton-step", "equality")
def test_without_projection_the_newton_step_obeys_the_exact_identity():
    gamma, losses = 0.4, normal(T, SEEDS, 3)
    learner = OnlineNewtonStep(normal(SEEDS, 3, seed=1), None, gamma, epsilon=0.9)
    record = play(learner, LinearLosses(losses), T)
    comparator = normal(SEEDS, 3, seed=2)
    outer = losses[..., :, None] * losses[..., None, :]
    matrices = 0.9 * torch.eye(3, dtype=F64) + outer.cumsum(0)
    slopes = (losses * torch.linalg.solve(matrices, losses[..., None])[..., 0]).sum(-1)
    first, last = normal(SEEDS, 3, seed=1) - comparator, learner.decision - comparator
    after = (last * (learner.matrix @ last[..., None])[..., 0]).sum(-1)
    exact = gamma / 2 * (0.9 * (first**2).sum(-1) - after) + slopes.sum(0) / (2 * gamma)
    surrogate = surrogate_regret(record, comparator, gamma)
    check_identity("thm-newton-step", surrogate, exact, tolerance=1e-9)
    growth = torch.logdet(matrices[-1]) - 3 * math.log(0.9)
    check_bound("thm-newton-step", slopes.sum(0), growth)


@pytest.mark.theorem("thm-newton-step", "equality")
def test_the_worst_case_of_the_newton_step_is_its_bound_on_balanced_gradients():
    gamma, rounds = 0.3, 300
    gradients = torch.eye(3, dtype=F64).repeat(rounds // 3, 1)
    epsilon = 1 / (gamma * 2.0) ** 2
    matrix = epsilon * torch.eye(3, dtype=F64) + gradients.mT @ gradients
    stated = bounds.newton_step_worst_case(gamma, 2.0, 1.0, 3, rounds)
    measured = bounds.newton_step(gamma, epsilon, 2.0, matrix)
    check_identity("thm-newton-step", measured, measured.new_tensor(stated))


@pytest.mark.theorem("thm-newton-step", "mutant")
@pytest.mark.parametrize("mutant", ["no growth of the matrix", "ascent", "a hundredth of epsilon"])
def test_mutants_of_the_newton_step_break(mutant):
    gamma, rounds = 0.25, 400
    features = torch.tensor([1.0, 0.0, 0.0], dtype=F64).expand(rounds, 1, 3)
    labels = torch.ones(rounds, 1, dtype=F64)
    played = LogisticLosses(features, labels)
    start = torch.tensor([[-1.0, 0.0, 0.0]], dtype=F64)
    learner = OnlineNewtonStep(start, Ball(1.0), gamma)
    if mutant == "ascent":
        for t in range(1, rounds + 1):
            learner.update(-played(t, learner.decision)[1])
        result = rounds * played(1, learner.decision)[0] - played.loss_at(-start, rounds)
        bound = bounds.newton_step_worst_case(gamma, 2.0, 1.0, 3, rounds)
    else:
        record = play(learner, played, rounds)
        result = regret(record, -start)
        bound = bounds.newton_step(gamma, learner.epsilon, 2.0, learner.matrix)
        check_bound("thm-newton-step", result, bound)
        if mutant == "no growth of the matrix":
            bound = bounds.newton_step(gamma, learner.epsilon, 0.0, learner.matrix) * 0.01
        else:  # charged for a start that it did not have
            bound = bounds.newton_step(gamma, 0.01 * learner.epsilon, 2.0, 0.01 * learner.matrix)
            bound = bound - (learner.matrix.logdet() - 3 * math.log(learner.epsilon)) / (2 * gamma)
    assert breaks("thm-newton-step", result, bound)


# --- optimism --------------------------------------------------------------------------------


def optimistic_run(mirror_map, start, gradients, hints, step_size):
    """Decisions, anchors and steps of a run whose hints are given."""
    steps = step_size if callable(step_size) else None
    learner = OptimisticMirrorDescent(mirror_map, start, step_size, hint=hints[0])
    decisions, anchors = [], [learner.anchor]
    for t, gradient in enumerate(gradients):
        decisions.append(learner.decision)
        learner.update(gradient, hints[t + 1] if t + 1 < len(hints) else None)
        anchors.append(learner.anchor)
    batch = learner.suffered.shape
    each = [steps(t + 1) if steps else step_size for t in range(len(gradients))]
    sizes = torch.tensor(each, dtype=F64).reshape(-1, *(1,) * len(batch)).expand(-1, *batch)
    return learner, torch.stack(decisions), torch.stack(anchors), sizes


def hinted_gradients(mirror_map, quality, seed=0):
    shape = (T, SEEDS, D) if mirror_map.event_dims == 1 else (T, SEEDS, D, D)
    gradients = normal(*shape, seed=seed)
    noise = normal(*shape, seed=seed + 1)
    if mirror_map.event_dims == 2:
        gradients, noise = symmetric(gradients), symmetric(noise)
    hints = {
        "good": gradients + 0.1 * noise,
        "late": torch.cat([torch.zeros_like(gradients[:1]), gradients[:-1]]),
        "contrary": -gradients,
    }[quality]
    return gradients, hints


@pytest.mark.theorem("lem-optimistic-master", "bound")
@EVERY
@pytest.mark.parametrize("quality", ["good", "late", "contrary"])
def test_every_optimistic_run_obeys_the_master_inequality(name, quality):
    mirror_map, points = GEOMETRIES[name]
    gradients, hints = hinted_gradients(mirror_map, quality)
    axes = tuple(range(-mirror_map.event_dims, 0))
    # Steps so small that no point rounds to the border, where divergences have no value.
    for step in (0.02, lambda t: 0.1 / math.sqrt(t)):
        _, decisions, anchors, sizes = optimistic_run(mirror_map, points(1), gradients, hints, step)
        comparator = points(2)
        result = (gradients * (decisions - comparator)).sum(axes).sum(0)
        bound = bounds.optimistic_master(
            mirror_map, comparator, decisions, anchors, gradients, hints, sizes
        )
        check_bound("lem-optimistic-master", result, bound)


@pytest.mark.theorem("lem-optimistic-master", "equality")
@pytest.mark.parametrize("name", ["whole space", "mahalanobis", "p-norm", "entropy", "von neumann"])
def test_the_master_inequality_is_an_equality_where_nothing_is_projected(name):
    mirror_map, points = GEOMETRIES[name]
    gradients, hints = hinted_gradients(mirror_map, "late")
    axes = tuple(range(-mirror_map.event_dims, 0))
    _, decisions, anchors, sizes = optimistic_run(mirror_map, points(1), gradients, hints, 0.05)
    comparator = points(2)
    result = (gradients * (decisions - comparator)).sum(axes).sum(0)
    bound = bounds.optimistic_master(
        mirror_map, comparator, decisions, anchors, gradients, hints, sizes
    )
    check_identity("lem-optimistic-master", result, bound, tolerance=1e-9)


@pytest.mark.theorem("lem-optimistic-master", "mutant")
@pytest.mark.parametrize("mutant", ["moves twice", "hints of the wrong round", "one step size"])
def test_mutants_of_the_master_inequality_break(mutant):
    gradients, hints = hinted_gradients(Entropy(), "late")
    step = (lambda t: 0.5 / t) if mutant == "one step size" else 0.2
    _, decisions, anchors, sizes = optimistic_run(
        Entropy(), simplex_points(1), gradients, hints, step
    )
    comparator = simplex_points(2)
    result = (gradients * (decisions - comparator)).sum((0, -1))
    if mutant == "hints of the wrong round":
        hints = torch.roll(hints, 1, 0)
    if mutant == "one step size":
        sizes = sizes[:1].expand_as(sizes)
    bound = bounds.optimistic_master(
        Entropy(), comparator, decisions, anchors, gradients, hints, sizes
    )
    if mutant == "moves twice":
        moved = Entropy().divergence(anchors[1:], decisions)
        bound = bound - (moved / sizes).sum(0)
    assert breaks("lem-optimistic-master", result, bound)


def optimistic_sides(mirror_map, start, comparator, gradients, hints, step):
    learner, decisions, _, _ = optimistic_run(mirror_map, start, gradients, hints, step)
    axes = tuple(range(-mirror_map.event_dims, 0))
    result = (gradients * (decisions - comparator)).sum(axes).sum(0)
    bound = bounds.optimistic(
        mirror_map.divergence(comparator, start),
        step,
        mirror_map.dual_norm(gradients - hints),
        mirror_map.norm(decisions[1:] - decisions[:-1]),
        mirror_map.strong_convexity,
    )
    return learner, result, bound


@pytest.mark.theorem("thm-optimistic", "bound")
@EVERY
@pytest.mark.parametrize("quality", ["good", "late", "contrary"])
def test_optimistic_mirror_descent_keeps_its_bound(name, quality):
    mirror_map, points = GEOMETRIES[name]
    gradients, hints = hinted_gradients(mirror_map, quality)
    for step in (0.02, 0.3):
        learner, result, bound = optimistic_sides(
            mirror_map, points(1), points(2), gradients, hints, step
        )
        check_bound("thm-optimistic", result, bound)
        variation = (mirror_map.dual_norm(gradients - hints) ** 2).sum(0)
        check_identity("thm-optimistic", learner.variation, variation)


@pytest.mark.theorem("thm-optimistic", "bound")
@pytest.mark.parametrize("step", [0.01, 1.0, 100.0])
def test_perfect_hints_leave_only_the_distance(step):
    """Sharp test (f): with m_t = g_t the regret is at most D(u, x_1) / eta for every eta."""
    gradients = normal(T, SEEDS, D)
    for mirror_map, points in (GEOMETRIES["entropy"], GEOMETRIES["ball"], GEOMETRIES["box"]):
        _, result, _ = optimistic_sides(
            mirror_map, points(1), points(2), gradients, gradients, step
        )
        check_bound("thm-optimistic", result, mirror_map.divergence(points(2), points(1)) / step)


@pytest.mark.theorem("thm-optimistic", "equality")
def test_one_round_without_a_hint_is_worth_twice_the_gradient_term_of_mirror_descent():
    """In the whole space the only slack of one round is known in closed form."""
    start, gradient, step = normal(SEEDS, D, seed=1), normal(1, SEEDS, D), 0.3
    comparator = start - step * gradient[0]
    _, result, bound = optimistic_sides(
        Euclidean(), start, comparator, gradient, torch.zeros_like(gradient), step
    )
    square = (gradient[0] ** 2).sum(-1)
    check_identity("thm-optimistic", result, step * square)
    check_identity("thm-optimistic", bound - result, step / 2 * square)


@pytest.mark.theorem("thm-optimistic", "equality")
def test_optimistic_hedge_is_optimistic_follow_the_leader():
    gradients, hints = hinted_gradients(Entropy(), "late")
    _, decisions, _, _ = optimistic_run(Entropy(), simplex_points(1), gradients, hints, 0.2)
    ahead = gradients.cumsum(0) - gradients + hints
    closed = (simplex_points(1).log() - 0.2 * ahead).softmax(-1)
    check_identity("thm-optimistic", decisions, closed)


@pytest.mark.theorem("thm-optimistic", "mutant")
@pytest.mark.parametrize("mutant", ["no error", "moves with factor 4", "sign of the hint"])
def test_mutants_of_the_optimistic_bound_break(mutant):
    # Long steps on gradients that alternate: the moves are large, so little slack is left.
    start, gradients = normal(SEEDS, D, seed=1), normal(T, SEEDS, D)
    hints = torch.zeros_like(gradients)
    if mutant != "no error":
        gradients = 0.2 * gradients + 1
        hints = gradients + 0.3 * normal(T, SEEDS, D, seed=2)
    step = 0.2
    comparator = start - step * gradients.sum(0)
    played = -hints if mutant == "sign of the hint" else hints
    _, decisions, _, _ = optimistic_run(Euclidean(), start, gradients, played, step)
    result = (gradients * (decisions - comparator)).sum((0, -1))
    errors = Euclidean().dual_norm(gradients - hints)
    moves = (decisions[1:] - decisions[:-1]).norm(dim=-1)
    divergence = Euclidean().divergence(comparator, start)
    bound = bounds.optimistic(divergence, step, errors, moves, 1.0)
    if mutant == "no error":
        bound = bound - step * (errors**2).sum(0)
    if mutant == "moves with factor 4":
        bound = bounds.optimistic(divergence, step, errors, 4 * moves, 1.0)
    assert breaks("thm-optimistic", result, bound)


def duel(matrix, step, rounds, *, hinted=True, sign=1.0):
    """Duality gap of the averages of two players of Hedge with the last gradient as hint."""
    batch, (n, m) = matrix.shape[0], matrix.shape[-2:]
    first = OptimisticMirrorDescent(Entropy(), torch.full((batch, n), 1 / n, dtype=F64), step)
    second = OptimisticMirrorDescent(Entropy(), torch.full((batch, m), 1 / m, dtype=F64), step)
    sums = torch.zeros(batch, n, dtype=F64), torch.zeros(batch, m, dtype=F64)
    for _ in range(rounds):
        x, y = first.decision, second.decision
        sums = sums[0] + x, sums[1] + y
        pay, gain = (matrix @ y[..., None])[..., 0], -(matrix.mT @ x[..., None])[..., 0]
        first.update(pay, sign * pay if hinted else None)
        second.update(gain, sign * gain if hinted else None)
    x, y = sums[0] / rounds, sums[1] / rounds
    best_gain = (matrix.mT @ x[..., None])[..., 0].amax(-1)
    return best_gain - (matrix @ y[..., None])[..., 0].amin(-1)


def duels():
    random = 2 * uniform(SEEDS, 4, 3) - 1
    pennies = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=F64)
    skewed = pennies + torch.tensor([[0.0, 0.0], [0.0, 0.5]], dtype=F64)
    yield random
    yield torch.stack([pennies, skewed, 3 * skewed])


@pytest.mark.theorem("cor-optimistic-players", "bound")
@pytest.mark.parametrize("rounds", [1, 20, 200])
def test_two_optimistic_players_close_their_gap(rounds):
    for matrix in duels():
        largest = matrix.abs().max().item()
        for step in (0.1 / largest, 0.5 / largest):
            gap = duel(matrix, step, rounds)
            n, m = matrix.shape[-2:]
            bound = bounds.optimistic_players(n, m, largest, step, rounds)
            check_bound("cor-optimistic-players", gap, gap.new_tensor(bound))


@pytest.mark.theorem("cor-optimistic-players", "equality")
def test_the_gap_of_two_players_is_the_sum_of_their_regrets():
    matrix, rounds, step = 2 * uniform(SEEDS, 4, 3) - 1, 30, 0.3
    players = [
        OptimisticMirrorDescent(Entropy(), torch.full((SEEDS, k), 1 / k, dtype=F64), step)
        for k in (4, 3)
    ]
    totals = [torch.zeros(SEEDS, k, dtype=F64) for k in (4, 3)]
    for _ in range(rounds):
        x, y = (player.decision for player in players)
        gradients = (matrix @ y[..., None])[..., 0], -(matrix.mT @ x[..., None])[..., 0]
        for i, gradient in enumerate(gradients):
            totals[i] = totals[i] + gradient
            players[i].update(gradient, gradient)
    regrets = sum(
        player.suffered - total.amin(-1) for player, total in zip(players, totals, strict=True)
    )
    gap = duel(matrix, step, rounds)
    check_identity("cor-optimistic-players", gap, regrets / rounds, tolerance=1e-11)


@pytest.mark.theorem("cor-optimistic-players", "mutant")
@pytest.mark.parametrize("mutant", ["no hints", "hints of the wrong sign", "one per cent"])
def test_mutants_of_two_players_break(mutant):
    matrix = torch.tensor([[[1.0, -1.0], [-1.0, 2.0]]], dtype=F64)
    rounds, step = 3000, 0.25
    factor = 0.01 if mutant == "one per cent" else 1.0
    sign = -1.0 if mutant == "hints of the wrong sign" else 1.0
    if mutant == "one per cent":
        rounds = 20
    gap = duel(matrix, step, rounds, hinted=mutant != "no hints", sign=sign)
    bound = factor * bounds.optimistic_players(2, 2, 2.0, step, rounds)
    assert breaks("cor-optimistic-players", gap, bound)


# --- portfolios ------------------------------------------------------------------------------


def quadrature(nodes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Gauss-Legendre nodes on the portfolios of two stocks, and logarithms of their weights."""
    import numpy

    x, w = numpy.polynomial.legendre.leggauss(nodes)
    share = torch.as_tensor((x + 1) / 2)
    return torch.stack([share, 1 - share], -1), torch.as_tensor(w / 2).log()


def two_stock_markets(rounds):
    yield (0.3 * normal(rounds, 2)).exp()
    yield torch.tensor([[1.0, 1e-9]], dtype=F64).expand(rounds, 2)
    yield torch.tensor([[1.0, 2.0], [1.0, 0.5]], dtype=F64).repeat(rounds // 2, 1)
    yield torch.tensor([[1.0, 1e-6], [1e-6, 1.0]], dtype=F64).repeat(rounds // 2, 1)


@pytest.mark.theorem("thm-universal-portfolio", "bound")
def test_the_universal_portfolio_keeps_its_bound():
    nodes, log_weights = quadrature(40)  # exact for products of up to 79 days
    for relatives in two_stock_markets(60):
        wealth = universal_portfolio(relatives, nodes, log_weights)[-1]
        best = best_constant_portfolio(relatives)
        result = log_wealth(relatives, best)[-1] - wealth
        bound = result.new_tensor(bounds.universal_portfolio(2, 60))
        check_bound("thm-universal-portfolio", result, bound)
        check_bound("thm-universal-portfolio", bound, bound.new_tensor(math.log(61)))


@pytest.mark.theorem("thm-universal-portfolio", "equality")
@pytest.mark.parametrize("ups", [0, 7, 30])
def test_on_a_market_of_one_living_stock_a_day_wealth_is_the_beta_integral(ups):
    rounds = 30
    relatives = torch.full((rounds, 2), 1e-30, dtype=F64)
    relatives[:ups, 0] = 1.0
    relatives[ups:, 1] = 1.0
    nodes, log_weights = quadrature(40)
    wealth = universal_portfolio(relatives, nodes, log_weights)[-1]
    downs = rounds - ups
    integral = math.lgamma(ups + 1) + math.lgamma(downs + 1) - math.lgamma(rounds + 2)
    check_identity("thm-universal-portfolio", wealth, wealth.new_tensor(integral))
    if ups in (0, rounds):  # one stock lives throughout: the bound is attained
        bound = wealth.new_tensor(bounds.universal_portfolio(2, rounds))
        check_identity("thm-universal-portfolio", -wealth, bound)


@pytest.mark.theorem("thm-universal-portfolio", "equality")
def test_the_bound_counts_the_types_of_a_game():
    for assets, rounds in ((2, 5), (3, 4), (36, 100)):
        count = math.comb(rounds + assets - 1, assets - 1)
        assert bounds.universal_portfolio(assets, rounds) == pytest.approx(
            math.log(count), rel=1e-12
        )


@pytest.mark.theorem("thm-universal-portfolio", "mutant")
@pytest.mark.parametrize("mutant", ["half", "skewed prior", "best day's loss"])
def test_mutants_of_the_universal_portfolio_break(mutant):
    relatives = torch.tensor([[1.0, 1e-30]], dtype=F64).expand(60, 2)
    nodes, log_weights = quadrature(60)
    if mutant == "skewed prior":
        log_weights = log_weights + 3 * nodes[:, 1].log()
    wealth = universal_portfolio(relatives, nodes, log_weights)[-1]
    if mutant == "best day's loss":  # the average of portfolios in place of that of wealth
        wealth = log_wealth(relatives, nodes.new_tensor([0.5, 0.5]))[-1]
    bound = bounds.universal_portfolio(2, 60) / (2 if mutant == "half" else 1)
    assert breaks("thm-universal-portfolio", -wealth, bound)


@pytest.mark.theorem("cor-exponentiated-gradient", "bound")
def test_exponentiated_gradient_keeps_its_bound():
    relatives = (0.2 * normal(T, SEEDS, D)).exp()
    crashing = relatives.clone()
    crashing[::5, :, 0] = 0.2
    start = torch.full((SEEDS, D), 1 / D, dtype=F64)
    for table in (relatives, crashing):
        ratio = (table.amax(-1) / table.amin(-1)).max().item()
        step = math.sqrt(8 * math.log(D) / T) / (ratio - 1)
        record = play(Hedge(start, step), PortfolioLosses(table), T)
        result = regret(record, best_constant_portfolio(table))
        bound = bounds.exponentiated_gradient(D, T, ratio)
        check_bound("cor-exponentiated-gradient", result, result.new_tensor(bound))


@pytest.mark.theorem("cor-exponentiated-gradient", "equality")
def test_the_bound_of_exponentiated_gradient_is_that_of_hedge_on_its_ranges():
    ratio, rounds = 1.7, 50
    step = math.sqrt(8 * math.log(D) / rounds) / (ratio - 1)
    ranges = torch.full((rounds,), ratio - 1, dtype=F64)
    general = bounds.hedge_ranges(math.log(D), step, ranges)
    stated = general.new_tensor(bounds.exponentiated_gradient(D, rounds, ratio))
    check_identity("cor-exponentiated-gradient", general, stated)


@pytest.mark.theorem("cor-exponentiated-gradient", "mutant")
@pytest.mark.parametrize("mutant", ["one per cent", "sign"])
def test_mutants_of_exponentiated_gradient_break(mutant):
    relatives = torch.tensor([2.0, 1.0], dtype=F64).expand(400, 2)
    step, start = math.sqrt(8 * math.log(2) / 400), torch.tensor([0.5, 0.5], dtype=F64)
    learner, played = Hedge(start, step), PortfolioLosses(relatives)
    suffered = torch.zeros((), dtype=F64)
    for t in range(1, 401):
        loss, gradient = played(t, learner.decision)
        suffered = suffered + loss
        learner.update(-gradient if mutant == "sign" else gradient)
    result = suffered + 400 * math.log(2)
    factor = 0.01 if mutant == "one per cent" else 1.0
    bound = factor * bounds.exponentiated_gradient(2, 400, 2.0)
    assert breaks("cor-exponentiated-gradient", result, bound)


@pytest.mark.theorem("prop-best-constant", "bound")
def test_no_portfolio_beats_the_certificate():
    relatives = (0.2 * normal(T, SEEDS, D)).exp()
    best = best_constant_portfolio(relatives)
    for seed in (1, 2):
        portfolio = simplex_points(seed)
        gain = -PortfolioLosses(relatives).loss_at(best, T)
        gain = gain + PortfolioLosses(relatives).loss_at(portfolio, T)
        check_bound("prop-best-constant", gain, best_constant_gap(relatives, portfolio))


@pytest.mark.theorem("prop-best-constant", "equality")
def test_the_best_portfolio_makes_the_certificate_vanish_and_agrees_with_cvxpy():
    pytest.importorskip("cvxpy")
    relatives = (0.2 * normal(T, 4, D)).exp()
    best = best_constant_portfolio(relatives, tolerance=1e-13)
    gap = best_constant_gap(relatives, best)
    check_identity("prop-best-constant", gap, torch.zeros_like(gap), tolerance=1e-12)
    played = PortfolioLosses(relatives)
    other = played.best_comparator(Simplex())
    for seed in range(4):
        exact = polished(
            lambda x, day=relatives[:, seed]: -(day @ x).log().sum(), other[seed],
            equal=lambda x: x.sum()[None] - 1, lower=0.0,
        )  # fmt: skip
        # The loss is flat at its minimum: a gap of 1e-13 leaves its root to the point.
        check_identity("prop-best-constant", best[seed], exact, tolerance=1e-6)
        other[seed] = exact
    mine, theirs = played.loss_at(best, T), played.loss_at(other, T)
    check_identity("prop-best-constant", mine, theirs, tolerance=1e-12)


@pytest.mark.theorem("prop-best-constant", "mutant")
def test_the_smallest_ratio_is_no_certificate():
    relatives = (0.2 * normal(T, SEEDS, D)).exp()
    best, portfolio = best_constant_portfolio(relatives), simplex_points(1)
    played = PortfolioLosses(relatives)
    gain = played.loss_at(portfolio, T) - played.loss_at(best, T)
    growth = (relatives * portfolio).sum(-1, keepdim=True)
    smallest = T * (relatives / growth).mean(0).amin(-1).log()
    assert breaks("prop-best-constant", gain, smallest)
