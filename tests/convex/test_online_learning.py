"""Learners beside plain loops, and identities that hold to rounding."""

import math

import numpy as np
import pytest
import torch

from mdtheory.convex.mirror_maps import (
    Ball,
    Entropy,
    Euclidean,
    LogDet,
    Mahalanobis,
    Simplex,
    Tsallis,
    VonNeumann,
)
from mdtheory.convex.online_learning import (
    AdaGrad,
    FollowTheRegularizedLeader,
    Hedge,
    LinearLosses,
    OnlineMirrorDescent,
    OnlineNewtonStep,
    OptimisticMirrorDescent,
    ftrl_decisions,
    hedge_decisions,
    hedge_losses,
    oblivious,
    play,
    regret,
)
from tests.convex.online_learning_play_cases import (
    F64,
    B,
    D,
    T,
    centre,
    close,
    normal,
    path,
    uniform,
)


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
