"""The game: regret, comparators and their certificates, environments."""

import math
import warnings

import numpy as np
import pytest
import torch

from mdtheory.convex.mirror_maps import (
    Ball,
    Box,
    Domain,
    Entropy,
    Euclidean,
    Simplex,
)
from mdtheory.convex.online_learning import (
    Adversary,
    Hedge,
    LinearLosses,
    LogisticLosses,
    OnlineMirrorDescent,
    OptimisticMirrorDescent,
    PortfolioLosses,
    QuadraticLosses,
    play,
    punish_heaviest,
    push_sideways,
    regret,
)
from tests.convex.online_learning_play_cases import F64, B, D, T, centre, close, normal, uniform
from tests.polish import guessed, polished

# --- the game --------------------------------------------------------------------------------


def test_regret_of_linear_quadratic_and_unknown_losses():
    losses, comparator = uniform(T, B, D), torch.eye(D, dtype=F64)[0]
    record = play(Hedge(centre(B), 0.3), LinearLosses(losses), T)
    by_hand = (losses * (record.decisions - comparator)).sum((0, -1))
    close(regret(record, comparator), by_hand, 1e-11)
    close(regret(record, comparator, linear=True), by_hand, 1e-11)
    moving = torch.eye(D, dtype=F64)[torch.arange(T) % D][:, None].expand(T, B, D)
    dynamic = (losses * (record.decisions - moving)).sum((0, -1))
    close(regret(record, moving), dynamic, 1e-11)

    played = QuadraticLosses(normal(T, B, D), 0.5)
    record = play(OnlineMirrorDescent(Euclidean(), normal(B, D), 0.1), played, T)
    offset = played.targets - comparator
    close(played.loss_at(comparator, T), 0.25 * (offset**2).sum((0, -1)), 1e-11)
    true = record.losses.sum(0) - 0.25 * (offset**2).sum((0, -1))
    close(regret(record, comparator), true, 1e-11)
    assert (regret(record, comparator, linear=True) > true).all()

    unknown = play(
        OnlineMirrorDescent(Euclidean(), normal(B, D), 0.1), lambda t, x: played(t, x), T
    )
    close(regret(unknown, comparator), regret(record, comparator, linear=True))
    with pytest.raises(ValueError, match="linear"):
        regret(unknown, comparator, linear=False)
    with pytest.raises(ValueError, match="comparator"):
        regret(record, moving, linear=False)
    light = play(Hedge(centre(B), 0.3), LinearLosses(losses), T, keep=False)
    with pytest.raises(ValueError, match="comparator"):
        regret(light, moving)
    for wrong in (
        torch.zeros(D + 1, dtype=F64),
        torch.zeros(1, 1, 1, D, dtype=F64),
        torch.zeros(B + 1, D),
    ):
        with pytest.raises((TypeError, ValueError), match="comparator"):
            regret(record, wrong)


@pytest.mark.parametrize("domain", [Ball(1.2), Box(-0.5, 1.0), Simplex()], ids=repr)
def test_best_comparators_agree_with_cvxpy(domain):
    pytest.importorskip("cvxpy")
    linear, quadratic = LinearLosses(normal(T, 2, D)), QuadraticLosses(normal(T, 2, D) + 1)
    features, labels = normal(T, 2, D), torch.where(normal(T, 2) > 0, 1.0, -1.0).to(F64)
    for played in (linear, quadratic, LogisticLosses(features, labels)):
        best = played.best_comparator(domain)
        assert domain.contains(best).all()
        least = played.loss_at(best, T)
        for seed in range(20):  # nothing nearby or far is better
            for scale in (1e-3, 1.0):
                other = domain.project(best + scale * normal(2, D, seed=seed))
                assert (played.loss_at(other, T) >= least - 1e-8).all()
    cvxpy = pytest.importorskip("cvxpy")
    x = cvxpy.Variable(D)
    inside = {
        "Ball": [cvxpy.norm(x) <= 1.2],
        "Box": [x >= -0.5, x <= 1.0],
        "Simplex": [x >= 0, cvxpy.sum(x) == 1],
    }[type(domain).__name__]
    limits = {
        "Ball": {"inside": lambda y: 1.44 - y.square().sum()[None]},
        "Box": {"lower": -0.5, "upper": 1.0},
        "Simplex": {"equal": lambda y: y.sum()[None] - 1, "lower": 0.0},
    }[type(domain).__name__]
    for play_ in range(2):
        targets = quadratic.targets[:, play_]
        total = sum(cvxpy.sum_squares(x - z) / 2 for z in targets.numpy())
        guessed(cvxpy.Problem(cvxpy.Minimize(total), inside))
        exact = polished(lambda y, z=targets: (y - z).square().sum() / 2, x.value, **limits)
        close(quadratic.best_comparator(domain)[play_], exact, 1e-11)
        score = linear.losses[:, play_].sum(0)
        guessed(cvxpy.Problem(cvxpy.Minimize(score.numpy() @ x), inside))
        least = polished(lambda y, g=score: g @ y, x.value, **limits)
        ours = linear.loss_at(linear.best_comparator(domain), T)[play_]
        close(ours, score @ least, 1e-11)


def test_a_point_without_a_certificate_is_refused_whatever_the_solver_says(monkeypatch):
    cvxpy = pytest.importorskip("cvxpy")
    played = PortfolioLosses(uniform(T, D) + 0.5)
    right = played.best_comparator(Simplex())
    solve = cvxpy.Problem.solve

    def inaccurate(problem, **options):
        warnings.warn("Solution may be inaccurate.", UserWarning, stacklevel=1)
        return solve(problem, **options)

    monkeypatch.setattr(cvxpy.Problem, "solve", inaccurate)
    close(played.best_comparator(Simplex()), right, 1e-6)

    def away(problem, **options):
        solve(problem, **options)
        problem.variables()[0].save_value(np.full(D, 1 / D))

    def fails(problem, **options):
        raise cvxpy.error.SolverError("no")

    for broken in (away, fails):
        monkeypatch.setattr(cvxpy.Problem, "solve", broken)
        with pytest.raises(ArithmeticError, match="plays: expected a loss within"):
            played.best_comparator(Simplex())


def test_the_solver_refuses_a_domain_that_it_does_not_know():
    class Slab(Domain):
        def diameter(self, dimension):
            return math.inf

        def _project(self, x):
            return x

        _minimize_linear = _contains = _project

    with pytest.raises(TypeError, match="domain"):
        PortfolioLosses(uniform(T, D) + 0.5).best_comparator(Slab())


def test_gradients_of_the_environments_are_those_of_autograd():
    labels = torch.where(normal(T, B) > 0, 1.0, -1.0).to(F64)
    x = torch.softmax(normal(B, D), -1).requires_grad_()
    for played in (
        LinearLosses(normal(T, B, D)),
        QuadraticLosses(normal(T, B, D), 0.7),
        LogisticLosses(normal(T, B, D), labels),
        PortfolioLosses(uniform(T, B, D) + 0.5),
    ):
        loss, gradient = played(3, x)
        (expected,) = torch.autograd.grad(loss.sum(), x)
        close(gradient, expected)
        total = sum(played(t, x)[0] for t in range(1, 11))
        close(played.loss_at(x, 10), total, 1e-11)
    market = uniform(T, B, D) + 0.5
    full = PortfolioLosses(market)(2, x.detach())[1]
    tangent = PortfolioLosses(market, tangent=True)(2, x.detach())[1]
    close(tangent, full - full.mean(-1, keepdim=True))


def test_adversaries_answer_the_decision_and_begin_anew():
    record = play(Hedge(centre(B), 0.3), Adversary(punish_heaviest), T)
    close(record.losses, record.decisions.amax(-1))
    adversary = Adversary(push_sideways)
    first = None
    for _ in range(2):
        learner = OnlineMirrorDescent(Euclidean(Ball(1.0)), torch.zeros(B, D, dtype=F64), 0.1)
        record = play(learner, adversary, T)
        assert record.losses.abs().max() < 1e-12
        close(record.total_gradient.norm(dim=-1), torch.full((B,), math.sqrt(T), dtype=F64), 1e-9)
        first = record.decisions if first is None else first
        close(record.decisions, first)
    # In one dimension no direction is left once the learner has moved.
    flat = push_sideways(1, torch.ones(B, 1, dtype=F64), torch.zeros(B, 1, dtype=F64))
    assert (flat == 0).all()


def test_hints_of_the_environment_reach_the_learner():
    class Announced(LinearLosses):
        def hint(self, round_):
            return self.losses[round_ - 1]

    losses = uniform(T, B, D)
    learner = OptimisticMirrorDescent(Entropy(), centre(B), 0.5, hint=losses[0])
    play(learner, Announced(losses), T)
    close(learner.variation, torch.zeros(B, dtype=F64))
    endless = OptimisticMirrorDescent(Entropy(), centre(B), 0.5)
    announced = Announced(losses)

    def respond(t, x):
        return announced(t, x)

    respond.hint = lambda t: torch.zeros(B, D, dtype=F64)
    play(endless, respond, T)
    close(endless.variation, (losses**2).amax(-1).sum(0), 1e-11)
