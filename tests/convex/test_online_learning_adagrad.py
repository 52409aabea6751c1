"""Statements about AdaGrad."""

import math

import pytest
import torch

from mdtheory.convex.mirror_maps import (
    Ball,
    Box,
    Euclidean,
    Simplex,
)
from mdtheory.convex.online_learning import (
    AdaGrad,
    Adversary,
    LinearLosses,
    OnlineMirrorDescent,
    bounds,
    play,
    regret,
)
from mdtheory.runs import check_bound, check_identity
from tests.convex.online_learning_cases import F64, SEEDS, D, T, ball_points, normal, uniform, unit
from tests.refused import bound, fails

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
@pytest.mark.parametrize("mutant", ["three fifths", "no root", "no sum"])
def test_mutants_of_adagrad_with_one_step_break(mutant):
    direction = unit(normal(SEEDS, D))
    rounds = 1 if mutant == "three fifths" else 400  # after one round the ratio is 1 / sqrt 2
    losses = 4 * direction.expand(rounds, SEEDS, D)
    if mutant == "no sum":  # the step does not fall with the gradients that came
        losses = losses * torch.tensor([1.0, -1.0] * 200, dtype=F64)[:, None, None]
    energy = (losses**2).sum(-1).cumsum(0)

    def lost(steps):
        learner = OnlineMirrorDescent(Euclidean(Ball(1.0)), direction, lambda t: steps[t - 1])
        record = play(learner, LinearLosses(losses), rounds)
        return regret(record, Ball(1.0).minimize_linear(record.total_gradient))

    root = math.sqrt(2) / energy.sqrt()
    others = {"no root": math.sqrt(2) / energy, "no sum": torch.full_like(energy, 200.0)}
    right = bounds.adagrad_norm(2.0, losses)
    wrong = 0.6 * right if mutant == "three fifths" else right
    fails(
        bound("cor-adagrad-norm"), lost(others.get(mutant, root)), wrong, true=(lost(root), right)
    )


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
@pytest.mark.parametrize("mutant", ["three fifths", "one step for all", "no root"])
def test_mutants_of_diagonal_adagrad_break(mutant):
    box, start = Box(-1.0, 1.0), torch.ones(2, dtype=F64)
    # One loud coordinate and one quiet one, whose own pace one common step does not see.
    rounds = 1 if mutant == "three fifths" else 400  # after one round the ratio is 1 / sqrt 2
    losses = torch.tensor([100.0, 0.01], dtype=F64).repeat(rounds, 1)
    if mutant == "one step for all":
        losses[:, 0] *= torch.tensor([1.0, -1.0] * 200, dtype=F64)
    record = play(AdaGrad(start, box), LinearLosses(losses), rounds)
    result, right = regret(record, -start), bounds.adagrad_diagonal(2.0, losses)
    true = (result, right)
    if mutant == "three fifths":
        wrong = (result, 0.6 * right)
    elif mutant == "one step for all":
        right = bounds.adagrad_norm(2.0, losses[:, 1:])  # what the quiet one is promised
        common = play(AdaGrad(start, box, "norm"), LinearLosses(losses), rounds)
        true, wrong = (
            ((losses[:, 1] * (played.decisions[:, 1] + 1)).sum(), right)
            for played in (record, common)
        )
    else:
        steps = math.sqrt(2) / (losses**2).cumsum(0)
        point, other = start, torch.tensor(0.0, dtype=F64)
        for loss, step in zip(losses, steps, strict=True):
            other = other + (loss * (point + 1)).sum()
            point = box.project(point - step * loss)
        wrong = (other, right)
    fails(bound("thm-adagrad-diagonal"), *wrong, true=true)


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
@pytest.mark.parametrize("mutant", ["three fifths", "no root", "ascent"])
def test_mutants_of_full_adagrad_break(mutant):
    ball, start = Ball(1.0), unit(normal(SEEDS, 3))
    rounds = 1 if mutant == "three fifths" else 400  # after one round the ratio is 1 / sqrt 2
    losses = 4 * start.expand(rounds, SEEDS, 3) + 0.01 * normal(rounds, SEEDS, 3, seed=1)
    best = ball.minimize_linear(losses.sum(0))

    def lost(decisions):
        return (losses * (decisions - best)).sum((0, -1))

    def adagrad(sign):
        learner, points = AdaGrad(start, ball, "full"), []
        for gradient in losses:
            points.append(learner.decision)
            learner.update(sign * gradient)
        return lost(torch.stack(points))

    right = bounds.adagrad_full(2.0, math.sqrt(2), losses)
    true = (adagrad(1.0), right)
    if mutant == "three fifths":
        wrong = (true[0], 0.6 * right)
    elif mutant == "ascent":
        wrong = (adagrad(-1.0), right)
    else:
        point, matrix, points = start, 1e-9 * torch.eye(3, dtype=F64), []
        for gradient in losses:
            points.append(point)
            matrix = matrix + gradient[..., :, None] * gradient[..., None, :]
            solved = torch.linalg.solve(matrix, gradient[..., None])[..., 0]
            point = ball.project(point - math.sqrt(2) * solved)
        wrong = (lost(torch.stack(points)), right)
    fails(bound("thm-adagrad-full"), *wrong, true=true)
