"""Learners, environments and the game: plain loops, sharp identities, extremes, refusals."""

import math
import warnings

import numpy as np
import pytest
import torch

from mdtheory.convex import online_learning
from mdtheory.convex.mirror_maps import (
    Ball,
    Box,
    Domain,
    Entropy,
    Euclidean,
    LogDet,
    Mahalanobis,
    PNorm,
    PositiveEntropy,
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
    ftrl_decisions,
    hedge_decisions,
    hedge_losses,
    oblivious,
    play,
    punish_heaviest,
    push_sideways,
    regret,
    simplex_quadratic,
)
from tests.polish import guessed, polished

F64 = torch.float64
B, D, T = 6, 4, 50


def normal(*shape, seed=0, dtype=F64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def uniform(*shape, seed=0, dtype=F64):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def centre(*batch, d=D, dtype=F64):
    return torch.full((*batch, d), 1 / d, dtype=dtype)


def close(left, right, tolerance=1e-12):
    torch.testing.assert_close(left, right, rtol=tolerance, atol=tolerance)


def path(learner, gradients):
    """Decisions of the rounds and the last one, one update after the other."""
    points = [learner.decision]
    for gradient in gradients:
        learner.update(gradient)
        points.append(learner.decision)
    return torch.stack(points)


def numpy_hedge(losses, step_size):
    """One seed, one round at a time: weights, loss, then the next weights."""
    weights, decisions = np.full(losses.shape[1], 1 / losses.shape[1]), []
    for loss in losses:
        decisions.append(weights)
        scores = np.log(weights) - step_size * loss
        scores -= scores.max()
        weights = np.exp(scores) / np.exp(scores).sum()
    return np.array(decisions)


# --- plain loops -----------------------------------------------------------------------------


def test_hedge_agrees_with_a_plain_loop_on_every_seed():
    losses = uniform(T, B, D)
    record = play(Hedge(centre(B), 0.4), LinearLosses(losses), T)
    for seed in range(B):
        expected = torch.as_tensor(numpy_hedge(losses[:, seed].numpy(), 0.4))
        close(record.decisions[:, seed], expected)
        close(record.losses[:, seed], (expected * losses[:, seed]).sum(-1))


def test_gradient_descent_agrees_with_a_plain_loop_on_every_seed():
    gradients = normal(T, B, D)
    points = path(
        OnlineMirrorDescent(Euclidean(Ball(1.0)), torch.zeros(B, D, dtype=F64), 0.3), gradients
    )
    for seed in range(B):
        x = np.zeros(D)
        for t in range(T):
            close(points[t, seed], torch.as_tensor(x))
            x = x - 0.3 * gradients[t, seed].numpy()
            x = x / max(1.0, float(np.linalg.norm(x)))


@pytest.mark.parametrize("kind", ["norm", "diagonal", "full"])
def test_adagrad_agrees_with_a_plain_loop_on_every_seed(kind):
    gradients = normal(T, B, 2)
    learner = AdaGrad(torch.zeros(B, 2, dtype=F64), None, kind, step_size=0.7, epsilon=0.1)
    points = path(learner, gradients)
    for seed in range(B):
        x, outer = np.zeros(2), np.zeros((2, 2))
        for t in range(T):
            close(points[t, seed], torch.as_tensor(x), 1e-8)
            g = gradients[t, seed].numpy()
            outer = outer + np.outer(g, g)
            if kind == "norm":
                x = x - 0.7 * g / (np.sqrt(np.trace(outer)) + 0.1)
            elif kind == "diagonal":
                x = x - 0.7 * g / (np.sqrt(np.diag(outer)) + 0.1)
            else:
                values, vectors = np.linalg.eigh(outer)
                roots = np.sqrt(np.clip(values, 0, None)) + 0.1
                x = x - 0.7 * vectors @ ((vectors.T @ g) / roots)


def test_the_newton_step_agrees_with_a_plain_loop_on_every_seed():
    gradients = normal(T, B, D)
    points = path(OnlineNewtonStep(torch.zeros(B, D, dtype=F64), None, 0.5, 2.0), gradients)
    for seed in range(B):
        x, matrix = np.zeros(D), 2.0 * np.eye(D)
        for t in range(T):
            close(points[t, seed], torch.as_tensor(x), 1e-10)
            g = gradients[t, seed].numpy()
            matrix = matrix + np.outer(g, g)
            x = x - np.linalg.solve(matrix, g) / 0.5


@pytest.mark.parametrize("kind", ["diagonal", "full"])
def test_adagrad_on_the_ball_projects_in_its_metric(kind):
    gradients = normal(5, D) * torch.tensor([0.1, 1.0, 5.0, 1.0])
    learner = AdaGrad(torch.zeros(D, dtype=F64), Ball(1.0), kind, epsilon=0.05)
    x, outer, borders = np.zeros(D), np.zeros((D, D)), 0
    for gradient in gradients:
        learner.update(gradient)
        g = gradient.numpy()
        outer += np.outer(g, g)
        values, vectors = np.linalg.eigh(outer if kind == "full" else np.diag(np.diag(outer)))
        metric = vectors @ np.diag(np.sqrt(np.clip(values, 0, None)) + 0.05) @ vectors.T
        moved = x - math.sqrt(2) * np.linalg.solve(metric, g)
        x = learner.decision.numpy()
        # Optimality: what is left of the move is a nonnegative multiple of the normal at x.
        pull = metric @ (moved - x)
        push = float(pull @ x)
        borders += push > 0
        assert push >= -1e-9
        close(torch.as_tensor(pull), torch.as_tensor(push * x), 1e-7)
        assert np.linalg.norm(x) <= 1 + 1e-12
        assert push < 1e-9 or np.linalg.norm(x) == pytest.approx(1, abs=1e-9)
    assert borders >= 2


def test_directions_without_a_metric_give_way_on_the_ball():
    """The limit of small equal metrics, which the plain method with an epsilon approaches."""
    start = torch.tensor([0.0, 0.6, 0.7], dtype=F64)
    gradient = torch.tensor([3.0, 0.0, 0.0], dtype=F64)
    for kind in ("diagonal", "full"):
        for step in (0.8, 5.0):
            exact = AdaGrad(start, Ball(1.0), kind, step_size=step)
            near = AdaGrad(start, Ball(1.0), kind, step_size=step, epsilon=1e-8)
            exact.update(gradient)
            near.update(gradient)
            assert Ball(1.0).contains(exact.decision)
            close(exact.decision, near.decision, 1e-6)


# --- sharp identities ------------------------------------------------------------------------


def test_entropic_mirror_descent_is_hedge():
    losses = uniform(T, B, D)
    close(
        path(OnlineMirrorDescent(Entropy(), centre(B), 0.4), losses),
        path(Hedge(centre(B), 0.4), losses),
    )


def test_mahalanobis_with_the_identity_is_euclidean():
    gradients, start = normal(T, B, D), torch.zeros(B, D, dtype=F64)
    for domain in (None, Ball(1.0)):
        plain = path(OnlineMirrorDescent(Euclidean(domain), start, 0.3), gradients)
        general = OnlineMirrorDescent(Mahalanobis(torch.eye(D, dtype=F64), domain), start, 0.3)
        close(path(general, gradients), plain)


def test_von_neumann_with_diagonal_losses_is_hedge():
    losses = uniform(T, B, D)
    matrix = path(
        OnlineMirrorDescent(VonNeumann(), torch.diag_embed(centre(B)), 0.4), losses.diag_embed()
    )
    close(matrix.diagonal(dim1=-2, dim2=-1), path(Hedge(centre(B), 0.4), losses), 1e-11)


@pytest.mark.parametrize("geometry", [Entropy(), Euclidean(Simplex()), Tsallis(0.5)])
def test_optimism_without_hints_is_mirror_descent(geometry):
    losses = uniform(T, B, D)
    plain = path(OnlineMirrorDescent(geometry, centre(B), 0.4), losses)
    close(path(OptimisticMirrorDescent(geometry, centre(B), 0.4), losses), plain)
    hinted = OptimisticMirrorDescent(geometry, centre(B), 0.4)
    for loss in losses:
        hinted.update(loss, torch.zeros_like(loss))
    close(hinted.decision, plain[-1])


@pytest.mark.parametrize(
    ("geometry", "same"), [(Entropy(), True), (Euclidean(), True), (Euclidean(Ball(1.0)), False)]
)
def test_lazy_and_active_descent_differ_only_where_the_dual_is_re_anchored(geometry, same):
    gradients = normal(T, B, D)
    start = centre(B)
    active = path(OnlineMirrorDescent(geometry, start, 0.5), gradients)
    lazy = path(FollowTheRegularizedLeader(geometry, start, 0.5), gradients)
    assert geometry.carries_dual is same
    if same:
        close(lazy, active, 1e-11)
    else:
        assert (lazy - active).abs().max() > 0.1


def test_the_leader_without_a_start_begins_at_the_potential_s_minimum():
    learner = FollowTheRegularizedLeader(Entropy(), (B, D), 0.4)
    close(learner.decision, centre(B))
    assert learner.decision.dtype == F64
    small = FollowTheRegularizedLeader(Euclidean(), (2,), 0.4, dtype=torch.float32)
    assert small.decision.dtype == torch.float32
    with pytest.raises(ValueError, match="theta"):
        FollowTheRegularizedLeader(LogDet(), (2, 2), 0.4)


def test_an_adaptive_step_may_read_the_variation():
    gradients = normal(T, B, D)
    seen = []

    def step(t):
        known = learner.variation if t > 1 else torch.zeros(B, dtype=F64)
        seen.append(known)
        return 1 / (4 + known).sqrt()

    learner = OptimisticMirrorDescent(Euclidean(Ball(1.0)), torch.zeros(B, D, dtype=F64), step)
    for gradient in gradients:
        learner.update(gradient, gradient)
    errors = torch.cat([gradients[:1], gradients[1:] - gradients[:-1]])
    expected = (errors**2).sum(-1).cumsum(0)
    assert len(seen) == T + 1
    close(torch.stack(seen[1:]), expected)


def test_cumulative_and_step_by_step_play_agree(monkeypatch):
    losses, step = uniform(T, B, D), torch.linspace(0.1, 1.0, B, dtype=F64)
    skewed = torch.softmax(normal(B, D, seed=4), -1)
    learners = {
        "hedge": lambda: Hedge(skewed, step),
        "hedge, one step": lambda: Hedge(skewed, 0.3),
        "leader": lambda: FollowTheRegularizedLeader(Euclidean(Simplex()), skewed, step),
        "falling leader": lambda: FollowTheRegularizedLeader(
            Entropy(), (B, D), [1 / (1 + t) for t in range(2 * T)]
        ),
    }
    for narrow, chunk in ((0, 1), (0, 7 * B * D), (10**9, 7 * B * D), (10**9, 10**9)):
        monkeypatch.setattr(oblivious, "NARROW", narrow)
        monkeypatch.setattr(oblivious, "CHUNK", chunk)
        for make in learners.values():
            fast, slow = make(), make()
            for _ in range(2):  # the second game goes on where the first ended
                quick = play(fast, LinearLosses(losses), T)
                plain = play(slow, lambda t, x: ((losses[t - 1] * x).sum(-1), losses[t - 1]), T)
                close(quick.decisions, plain.decisions, 1e-11)
                close(quick.losses, plain.losses, 1e-11)
                close(quick.linear_losses, plain.linear_losses, 1e-11)
                close(quick.total_gradient, plain.total_gradient, 1e-11)
                close(quick.step_sizes, plain.step_sizes)
                close(fast.decision, slow.decision, 1e-11)
                close(fast.suffered, slow.suffered, 1e-11)
                close(fast.loss, slow.loss, 1e-11)
                assert fast.round == slow.round


def test_all_rounds_at_once():
    losses = uniform(T, B, D)
    record = play(Hedge(centre(B), 0.3), LinearLosses(losses), T)
    close(hedge_decisions(losses, 0.3, centre()), record.decisions)
    close(hedge_losses(losses, 0.3, centre()), record.losses)
    close(ftrl_decisions(Entropy(), losses, 0.3), record.decisions)
    close(ftrl_decisions(Entropy(), losses, 0.3, centre()), record.decisions)
    light = play(Hedge(centre(B), 0.3), LinearLosses(losses), T, keep=False)
    assert light.decisions is None
    assert light.gradients is None
    assert light.step_sizes is None
    close(light.losses, record.losses)
    close(regret(light, torch.eye(D, dtype=F64)[1]), regret(record, torch.eye(D, dtype=F64)[1]))
    matrices = ftrl_decisions(VonNeumann(), losses.diag_embed(), 0.3)
    close(matrices.diagonal(dim1=-2, dim2=-1), record.decisions, 1e-10)


def test_adaptive_steps_of_the_leader_are_not_played_at_once():
    losses = uniform(T, B, D)
    asked = []

    def step(t):
        asked.append(learner.round)
        return 1 / math.sqrt(t)

    learner = FollowTheRegularizedLeader(Entropy(), (B, D), step)
    play(learner, LinearLosses(losses), T)
    assert asked == list(range(1, T + 1))


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


# --- batches, extremes, dtypes ---------------------------------------------------------------

MAKERS = {
    "omd": lambda x: OnlineMirrorDescent(Euclidean(Simplex()), x, 0.3),
    "hedge": lambda x: Hedge(x, 0.3),
    "ftrl": lambda x: FollowTheRegularizedLeader(Tsallis(0.5), x, 0.3),
    "optimistic": lambda x: OptimisticMirrorDescent(Entropy(), x, 0.3),
    "adagrad norm": lambda x: AdaGrad(x, Simplex(), "norm"),
    "adagrad diagonal": lambda x: AdaGrad(x, Box(0.0, 1.0), "diagonal"),
    "adagrad full": lambda x: AdaGrad(x, Ball(1.0), "full"),
    "newton ball": lambda x: OnlineNewtonStep(x, Ball(1.0), 0.5),
    "newton simplex": lambda x: OnlineNewtonStep(x, Simplex(), 0.5),
}
EVERY = pytest.mark.parametrize("name", MAKERS)


@EVERY
def test_plays_of_a_batch_do_not_see_each_other(name):
    gradients = normal(T, 2, 3, D)
    together = path(MAKERS[name](centre(2, 3)), gradients)
    for i in range(2):
        for j in range(3):
            alone = path(MAKERS[name](centre()), gradients[:, i, j])
            close(together[:, i, j], alone, 1e-10)


@EVERY
@pytest.mark.parametrize("batch", [(0,), (3, 0)])
def test_empty_batches_stay_empty(name, batch):
    learner = MAKERS[name](centre(*batch))
    learner.update(torch.zeros(*batch, D, dtype=F64))
    assert learner.decision.shape == (*batch, D)
    assert learner.suffered.shape == batch


@EVERY
def test_one_coordinate_and_one_round(name):
    learner = MAKERS[name](torch.ones(B, 1, dtype=F64))
    record = play(learner, LinearLosses(uniform(1, B, 1)), 1)
    assert record.decisions.shape == (1, B, 1)
    close(record.decisions, torch.ones(1, B, 1, dtype=F64))
    assert learner.decision.isfinite().all()


@EVERY
def test_single_precision_is_kept(name):
    learner = MAKERS[name](centre(B, dtype=torch.float32))
    gradients = normal(T, B, D, dtype=torch.float32)
    points = path(learner, gradients)
    assert points.dtype == torch.float32
    assert learner.suffered.dtype == torch.float32
    double = path(MAKERS[name](centre(B)), gradients.double())
    assert (points.double() - double).abs().max() < 2e-3


@EVERY
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_gradient_that_is_not_finite_is_found_and_leaves_the_learner_as_it_was(name, bad):
    learner = MAKERS[name](centre(B))
    learner.update(normal(B, D))
    before, after = learner.decision.clone(), MAKERS[name](centre(B))
    gradient = normal(B, D, seed=1)
    gradient[B - 1, D - 1] = bad
    with pytest.raises(ValueError, match="gradient"):
        learner.update(gradient)
    close(learner.decision, before)
    assert learner.round == 2
    after.update(normal(B, D))
    for one in (learner, after):
        one.update(normal(B, D, seed=2))
    close(learner.decision, after.decision)


@EVERY
def test_wrong_gradients_are_refused_by_name(name):
    learner = MAKERS[name](centre(B))
    for wrong in (normal(D), normal(B, D + 1), normal(1, B, D)):
        with pytest.raises(ValueError, match="gradient"):
            learner.update(wrong)
    for wrong in (normal(B, D).float(), [0.0] * D, torch.ones(B, D, dtype=torch.long)):
        with pytest.raises(TypeError, match="gradient"):
            learner.update(wrong)
    with pytest.raises(ValueError, match="device"):
        learner.update(torch.zeros(B, D, dtype=F64, device="meta"))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("at", [0, T - 1])
def test_losses_that_are_not_finite_are_found_in_all_rounds_at_once(bad, at):
    losses = uniform(T, B, D)
    losses[at, 2, 1] = bad
    for learner in (Hedge(centre(B), 0.3), FollowTheRegularizedLeader(Entropy(), (B, D), 0.3)):
        with pytest.raises(ValueError, match="gradients"):
            play(learner, LinearLosses(losses), T, keep=False)


def test_probabilities_of_1e_300_stay_exact():
    start = torch.tensor([1 - 1e-300, 1e-300], dtype=F64)
    losses = torch.tensor([1.0, 0.0], dtype=F64).expand(1400, 2)
    learner = Hedge(start, 1.0)
    points = path(learner, losses)
    expected = torch.sigmoid(torch.arange(1401, dtype=F64) - 300 * math.log(10))
    torch.testing.assert_close(points[:, 1], expected, rtol=1e-11, atol=0)
    close(hedge_decisions(losses, 1.0, start), points[:-1], 1e-11)
    # Below the smallest positive number, and back.
    learner = Hedge(centre(d=2), 1.0)
    learner.update(torch.tensor([0.0, 2000.0], dtype=F64))
    assert learner.decision[1] == 0
    close(learner.log_decision[1], torch.tensor(-2000.0, dtype=F64))
    learner.update(torch.tensor([2000.0, 0.0], dtype=F64))
    close(learner.decision, centre(d=2))


def test_zeros_of_the_start_stay_zero():
    start = torch.tensor([0.5, 0.0, 0.5], dtype=F64)
    points = path(Hedge(start, 0.5), normal(T, 3))
    assert (points[:, 1] == 0).all()
    close(points.sum(-1), torch.ones(T + 1, dtype=F64))
    close(hedge_decisions(normal(T, 3), 0.5, start), points[:-1])


@pytest.mark.parametrize("step_size", [1e-12, 1e6])
def test_extreme_steps_stay_on_the_simplex(step_size):
    losses = uniform(T, B, D)
    for learner in (
        Hedge(centre(B), step_size),
        OnlineMirrorDescent(Euclidean(Simplex()), centre(B), step_size),
        FollowTheRegularizedLeader(Tsallis(0.5), centre(B), step_size),
    ):
        points = path(learner, losses)
        assert (points >= 0).all()
        close(points.sum(-1), torch.ones(T + 1, B, dtype=F64), 1e-9)


def test_where_no_finite_step_exists_the_step_raises():
    learner = OnlineMirrorDescent(PositiveEntropy(), torch.ones(2, dtype=F64), 1e6)
    with pytest.raises(ValueError, match="step_size"):
        learner.update(torch.tensor([-1.0, 0.0], dtype=F64))
    huge = torch.full((2,), 1e200, dtype=F64)
    with pytest.raises(ValueError, match="gradient"):
        AdaGrad(centre(d=2), None, "full", step_size=1.0).update(huge)
    with pytest.raises(ValueError, match="gradient"):
        OnlineNewtonStep(centre(d=2), None, 1.0, 1.0).update(huge)


def test_many_steps_widen_the_batch():
    steps = torch.tensor([[0.1], [0.5], [2.0]], dtype=F64)
    losses = uniform(T, 3, B, D)
    record = play(Hedge(centre(B), steps), LinearLosses(losses), T)
    assert record.decisions.shape == (T, 3, B, D)
    assert record.step_sizes.shape == (T, 3, B)
    for i, step in enumerate(steps.flatten().tolist()):
        close(record.decisions[:, i], hedge_decisions(losses[:, i], step, centre(B)))
    newton = OnlineNewtonStep(centre(B), Simplex(), steps)
    assert newton.decision.shape == (3, B, D)
    for gradient in normal(5, 3, B, D):
        newton.update(gradient)
    single = OnlineNewtonStep(centre(B), Simplex(), 0.5)
    for gradient in normal(5, 3, B, D):
        single.update(gradient[1])
    close(newton.decision[1], single.decision, 1e-9)


# --- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize("maker", [Hedge, lambda x, s: OnlineMirrorDescent(Entropy(), x, s)])
@pytest.mark.parametrize(
    "step",
    [
        0.0,
        -1.0,
        math.nan,
        math.inf,
        [0.1, -0.1],
        torch.tensor([0.1, 0.0], dtype=F64),
        torch.ones(3, dtype=F64),
    ],
)
def test_wrong_step_sizes_are_refused_by_name(maker, step):
    with pytest.raises(ValueError, match="step_size"):
        maker(centre(2), step)


def test_wrong_step_sizes_of_later_rounds_are_refused_by_name():
    loss = torch.zeros(2, D, dtype=F64)
    for rule in (
        lambda t: 0.0,
        lambda t: torch.ones(3, dtype=F64),
        lambda t: torch.ones(3, 2, dtype=F64),
    ):
        with pytest.raises(ValueError, match="step_size"):
            Hedge(centre(2), rule).update(loss)
    with pytest.raises(TypeError, match="step_size"):
        Hedge(centre(2), lambda t: torch.tensor(0.1, dtype=torch.float32)).update(loss)
    with pytest.raises(TypeError, match="step_size"):
        Hedge(centre(2), "fast")
    short = Hedge(centre(2), [0.1])
    short.update(loss)
    with pytest.raises(ValueError, match="one entry a round"):
        short.update(loss)


def test_wrong_starts_are_refused_by_name():
    with pytest.raises(ValueError, match="initial"):
        Hedge(torch.tensor([0.5, 0.6], dtype=F64), 0.1)
    with pytest.raises(TypeError, match="initial"):
        Hedge([0.5, 0.5], 0.1)
    with pytest.raises(ValueError, match="initial"):
        OnlineMirrorDescent(Euclidean(Ball(1.0)), 2 * torch.ones(2, dtype=F64), 0.1)
    with pytest.raises(ValueError, match="initial"):
        FollowTheRegularizedLeader(Euclidean(), (), 0.1)
    for make in (lambda x: AdaGrad(x, Ball(1.0)), lambda x: OnlineNewtonStep(x, Ball(1.0), 1.0)):
        with pytest.raises(ValueError, match="initial"):
            make(2 * torch.ones(2, dtype=F64))
        with pytest.raises(ValueError, match="initial"):
            make(torch.tensor([math.nan, 0.0], dtype=F64))
    with pytest.raises(ValueError, match="initial"):
        hedge_decisions(uniform(T, B, D), 0.1, centre(B + 1))
    with pytest.raises(ValueError, match="hint"):
        OptimisticMirrorDescent(Entropy(), centre(B), 0.1, hint=torch.zeros(D, dtype=F64))
    learner = OptimisticMirrorDescent(Entropy(), centre(B), 0.1)
    with pytest.raises(ValueError, match="hint"):
        learner.update(torch.zeros(B, D, dtype=F64), torch.full((B, D), math.nan, dtype=F64))


def test_wrong_settings_of_adaptive_learners_are_refused_by_name():
    x = centre(B)
    refused = [
        (lambda: AdaGrad(x, Ball(1.0), "diag"), "kind"),
        (lambda: AdaGrad(x, Simplex(), "diagonal"), "domain"),
        (lambda: AdaGrad(x, Box(0.0, 1.0), "full"), "domain"),
        (lambda: AdaGrad(x, None), "step_size"),
        (lambda: AdaGrad(x, Ball(1.0), step_size=0.0), "step_size"),
        (lambda: AdaGrad(x, Ball(1.0), step_size=torch.ones(7, dtype=F64)), "step_size"),
        (lambda: AdaGrad(x, Ball(1.0), step_size=-torch.ones(D, dtype=F64)), "step_size"),
        (lambda: AdaGrad(x, Ball(1.0), epsilon=-1.0), "epsilon"),
        (lambda: OnlineNewtonStep(x, Box(0.0, 1.0), 1.0), "domain"),
        (lambda: OnlineNewtonStep(x, None, 1.0), "epsilon"),
        (lambda: OnlineNewtonStep(x, Ball(1.0), 0.0), "gamma"),
        (lambda: OnlineNewtonStep(x, Ball(1.0), torch.ones(7, dtype=F64)), "gamma"),
        (lambda: OnlineNewtonStep(x, Ball(1.0), 1.0, -1.0), "epsilon"),
    ]
    for make, name in refused:
        with pytest.raises(ValueError, match=name):
            make()
    with pytest.raises(TypeError, match="domain"):
        AdaGrad(x, "ball")
    widths = AdaGrad(x, Ball(1.0), step_size=torch.ones(D, dtype=F64))
    widths.update(torch.zeros(B, D, dtype=F64))  # no metric yet: nothing moves
    close(widths.decision, x)


def test_wrong_streams_and_rounds_are_refused_by_name():
    refused = [
        (lambda: LinearLosses(torch.zeros(D, dtype=F64)), "losses"),
        (lambda: LinearLosses(torch.zeros(0, D, dtype=F64)), "losses"),
        (lambda: QuadraticLosses(torch.full((T, D), math.nan, dtype=F64)), "targets"),
        (lambda: QuadraticLosses(torch.zeros(T, D, dtype=F64), 0.0), "curvature"),
        (lambda: LogisticLosses(normal(T, D), torch.zeros(T, dtype=F64)), "labels"),
        (lambda: LogisticLosses(normal(T, D), torch.ones(T + 1, dtype=F64)), "labels"),
        (lambda: PortfolioLosses(torch.zeros(T, D, dtype=F64)), "relatives"),
        (lambda: play(Hedge(centre(), 0.1), LinearLosses(uniform(T, D)), T + 1), "rounds"),
        (lambda: play(Hedge(centre(), 0.1), LinearLosses(uniform(T, D)), 0), "rounds"),
        (lambda: play(Hedge(centre(B), 0.1), LinearLosses(uniform(T, D)), T), "gradients"),
        (lambda: play(Hedge(centre(), 0.1), lambda t, x: (x, x), T), "loss"),
        (lambda: hedge_decisions(torch.zeros(0, D, dtype=F64), 0.1, centre()), "gradients"),
    ]
    for make, name in refused:
        with pytest.raises(ValueError, match=name):
            make()
    with pytest.raises(TypeError, match="loss"):
        play(Hedge(centre(), 0.1), lambda t, x: (0.0, x), T)
    with pytest.raises(ValueError, match="loss"):
        play(Hedge(centre(), 0.1), lambda t, x: (x.sum() * math.nan, x), T)
    with pytest.raises(TypeError, match="step_size"):
        ftrl_decisions(Entropy(), uniform(T, D), lambda t: 0.1)
    learner = OnlineMirrorDescent(VonNeumann(), torch.eye(3, dtype=F64) / 3, 0.1)
    with pytest.raises(ValueError, match="gradient"):
        learner.update(torch.triu(torch.ones(3, 3, dtype=F64)))
    with pytest.raises(ValueError, match="gradients"):
        ftrl_decisions(VonNeumann(), torch.ones(2, 3, 3, dtype=F64).triu(), 0.1)


# --- the quadratic problem on the simplex ----------------------------------------------------


@pytest.mark.parametrize("spread", [1.0, 1e4, 1e8])
@pytest.mark.parametrize("d", [1, 2, 7, 30])
def test_the_quadratic_problem_on_the_simplex_meets_its_conditions(d, spread, monkeypatch):
    axes = torch.linalg.qr(normal(B, d, d)).Q
    values = torch.logspace(0, math.log10(spread), d, dtype=F64)
    matrix = (axes * values) @ axes.mT
    matrix = (matrix + matrix.mT) / 2
    linear = spread**0.5 * normal(B, d, seed=1)
    results = []
    for guesses in (8, 1):  # with bold changes of the support and, mostly, without
        monkeypatch.setattr(online_learning.adaptive, "GUESSES", guesses)
        for start in (centre(B, d=d), torch.eye(d, dtype=F64)[:1].expand(B, d)):
            x = simplex_quadratic(matrix, linear, start)
            assert (x >= 0).all()
            close(x.sum(-1), torch.ones(B, dtype=F64))
            slope = (matrix @ x[..., None])[..., 0] - linear
            level = (slope * x).sum(-1, keepdim=True)
            size = matrix.abs().amax() + linear.abs().amax()
            assert (slope - level >= -1e-12 * d * size).all()
            assert ((slope - level) * x).abs().max() <= 1e-12 * d * size
            results.append(x)
    for x in results[1:]:
        close(x, results[0], 1e-8)


def test_the_quadratic_problem_agrees_with_the_euclidean_projection():
    y = normal(B, D)
    x = simplex_quadratic(torch.eye(D, dtype=F64).expand(B, D, D), y, centre(B))
    close(x, Simplex().project(y))


def test_wrong_quadratic_problems_are_refused_by_name():
    eye, x = torch.eye(D, dtype=F64), centre()
    with pytest.raises(ValueError, match="matrix"):
        simplex_quadratic(-eye, x, x)
    with pytest.raises(ValueError, match="matrix"):
        simplex_quadratic(eye * math.nan, x, x)
    with pytest.raises(ValueError, match="linear"):
        simplex_quadratic(eye, centre(d=D + 1), x)
    with pytest.raises(ValueError, match="start"):
        simplex_quadratic(eye, x, 2 * x)
    with pytest.raises(TypeError, match="linear"):
        simplex_quadratic(eye, x.float(), x)


def test_public_names_are_there():
    for name in online_learning.__all__:
        assert getattr(online_learning, name).__doc__
    assert PNorm(2.0).strong_convexity == 1.0
