"""Instances of bounds on maps, regret and targets, as vectors that a search may change.

Numbers in a range are made by a sigmoid, positive ones by an exponential, points of the simplex by
a softmax. Horizons are short: what makes a bound tight is seldom long.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mdtheory.convex.mirror_maps import Ball, Box, Entropy, Euclidean, Simplex, mirror_step
from mdtheory.convex.online_learning import (
    AdaGrad,
    FollowTheRegularizedLeader,
    Hedge,
    Learner,
    LinearLosses,
    OnlineMirrorDescent,
    OnlineNewtonStep,
    OptimisticMirrorDescent,
    PortfolioLosses,
    bounds,
    play,
)
from mdtheory.convex.target_surrogates import LogisticLoss
from mdtheory.convex.target_surrogates import bounds as target
from tools.tight import Problem

Sides = tuple[Tensor, Tensor]
BALL, DIAMETER = Ball(1.0), 2.0
LINE = Euclidean(BALL)


def square(x: Tensor) -> Tensor:
    """Squared lengths."""
    return (x * x).sum(-1)


def inside(v: Tensor) -> Tensor:
    """Points of the unit ball: every one is reached."""
    return BALL.project(v)


def rounds_of(v: Tensor, rounds: int) -> Tensor:
    """Vectors ``(n, T d)`` as a stream ``(T, n, d)``."""
    return v.unflatten(-1, (rounds, -1)).movedim(1, 0)


def worst(gradients: Tensor) -> Tensor:
    """The best decision of the unit ball in hindsight."""
    return BALL.minimize_linear(gradients.sum(0))


def paid(decisions: Tensor, gradients: Tensor, u: Tensor) -> Tensor:
    """Regret of linear losses."""
    return (gradients * (decisions - u)).sum((0, -1))


def decisions_of(learner: Learner, gradients: Tensor) -> Tensor:
    """What a learner plays against linear losses."""
    decisions = play(learner, LinearLosses(gradients), len(gradients)).decisions
    assert decisions is not None
    return decisions


def regret(learner: Learner, gradients: Tensor, u: Tensor) -> Tensor:
    """Regret of a learner on linear losses."""
    return paid(decisions_of(learner, gradients), gradients, u)


# --- mirror maps -----------------------------------------------------------------------------


def pythagoras(v: Tensor) -> Sides:
    """Euclidean, on the ball."""
    u, y = inside(v[:, :2]), v[:, 2:]
    near = BALL.project(y)
    return (square(u - near) + square(near - y)) / 2, square(u - y) / 2


def strong_convexity(v: Tensor) -> Sides:
    """Pinsker's inequality."""
    x, y = v[:, :3].softmax(-1), v[:, 3:].softmax(-1)
    return (x - y).abs().sum(-1) ** 2 / 2, Entropy().divergence(x, y)


def stability(v: Tensor) -> Sides:
    """The softmax is 1-Lipschitz from the largest entry to the sum of absolute values."""
    moved = (v[:, :3].softmax(-1) - v[:, 3:].softmax(-1)).abs().sum(-1)
    return moved, (v[:, :3] - v[:, 3:]).abs().amax(-1)


def prox(v: Tensor) -> Sides:
    """The projected gradient step, with the negative terms on the left."""
    y, u, g = inside(v[:, :3]), inside(v[:, 3:6]), v[:, 6:]
    after = mirror_step(LINE, y, g, 0.7)
    left = 0.7 * (g * (after - u)).sum(-1) + square(u - after) / 2 + square(after - y) / 2
    return left, square(u - y) / 2


# --- online learning -------------------------------------------------------------------------


def omd(v: Tensor) -> Sides:
    """Three rounds on the interval."""
    start, u, g = inside(v[:, :1]), inside(v[:, 1:2]), rounds_of(v[:, 2:5], 3)
    step = v[:, 5].clamp(-8, 8).exp()
    learner = OnlineMirrorDescent(LINE, start, step)
    left = regret(learner, g, u)
    ends = square(u - start) - square(u - learner.decision)
    return left, ends / 2 / step + step / 2 * (g**2).sum((0, -1))


def falling(v: Tensor) -> Tensor:
    """Step sizes that do not grow, ``(n, T)`` to ``(T, n)``."""
    logs = torch.cat([v[:, :1].clamp(-8, 8), -v[:, 1:].abs()], -1)
    return logs.cumsum(-1).clamp(-20, 20).exp().T


def omd_adaptive(v: Tensor) -> Sides:
    """Four rounds on the interval with steps that fall."""
    start, g, steps = inside(v[:, :1]), rounds_of(v[:, 1:5], 4), falling(v[:, 5:9])
    u = worst(g)
    x = decisions_of(OnlineMirrorDescent(LINE, start, lambda t: steps[t - 1]), g)
    far = square(u - x).amax(0) / 2
    return paid(x, g, u), bounds.mirror_descent_adaptive(far, steps, g.norm(dim=-1), 1.0)


def gradient_descent(v: Tensor) -> Sides:
    """Gradients of length at most 1, the step that knows the horizon."""
    start, g = inside(v[:, :1]), inside(rounds_of(v[:, 1:], 6))
    step = DIAMETER / math.sqrt(6)
    left = regret(OnlineMirrorDescent(LINE, start, step), g, worst(g))
    return left, torch.full_like(left, bounds.gradient_descent(DIAMETER, 1.0, 6))


def adagrad_norm(v: Tensor) -> Sides:
    """Eight rounds on the interval."""
    start, g = inside(v[:, :1]), rounds_of(v[:, 1:], 8)
    return regret(AdaGrad(start, BALL, "norm"), g, worst(g)), bounds.adagrad_norm(DIAMETER, g)


def adagrad_diagonal(v: Tensor) -> Sides:
    """Six rounds on a square."""
    box = Box(-1.0, 1.0)
    start, g = box.project(v[:, :2]), rounds_of(v[:, 2:], 6)
    left = regret(AdaGrad(start, box, "diagonal"), g, box.minimize_linear(g.sum(0)))
    return left, bounds.adagrad_diagonal(2.0, g)


def adagrad_full(v: Tensor) -> Sides:
    """Five rounds on the disc."""
    start, g = inside(v[:, :2]), rounds_of(v[:, 2:], 5)
    step = DIAMETER / math.sqrt(2)
    return regret(AdaGrad(start, BALL, "full"), g, worst(g)), bounds.adagrad_full(DIAMETER, step, g)


def ftrl(v: Tensor) -> Sides:
    """The leader on the interval, from any centre."""
    start, g, step = inside(v[:, :1]), rounds_of(v[:, 1:6], 5), v[:, 6].clamp(-8, 8).exp()
    u = worst(g)
    left = regret(FollowTheRegularizedLeader(LINE, start, step), g, u)
    return left, bounds.follow_the_leader(
        square(u - start) / 2, step.expand(5, -1), g.norm(dim=-1), 1.0
    )


def hoeffding(v: Tensor) -> Sides:
    """Three points of the unit interval."""
    chance, z = v[:, :3].softmax(-1), v[:, 3:6].sigmoid()
    s = v[:, 6:7].clamp(-8, 8)
    centred = z - (chance * z).sum(-1, keepdim=True)
    left = (chance.log() + s * centred).logsumexp(-1)
    width = z.amax(-1) - z.amin(-1)
    return left, s[:, 0] ** 2 * width**2 / 8


def hedge(v: Tensor) -> Sides:
    """Sixteen rounds, two experts, losses 0 to 1, the best step."""
    losses = rounds_of(v, 16).sigmoid()
    step = math.sqrt(8 * math.log(2) / 16)
    start = torch.full_like(losses[0], 0.5)
    decisions = decisions_of(Hedge(start, step), losses)
    best = losses.sum(0).amin(-1)
    left = (decisions * losses).sum((0, -1)) - best
    return left, torch.full_like(left, bounds.hedge(2, 16))


def strongly_convex(v: Tensor) -> Sides:
    """Curvature 1 on the interval."""
    start, u, g = inside(v[:, :1]), inside(v[:, 1:2]), rounds_of(v[:, 2:6], 4)
    learner = OnlineMirrorDescent(LINE, start, [1 / t for t in range(1, 5)])
    x = decisions_of(learner, g)
    left = ((g * (x - u)).sum(-1) - square(x - u) / 2).sum(0)
    return left, bounds.strongly_convex(g.norm(dim=-1), 1.0)


def exp_concave(v: Tensor) -> Sides:
    """A portfolio of two stocks; M is the ratio of the relatives less 1."""
    r, x, u = v[:, :2].clamp(-6, 6).exp(), v[:, 2:4].softmax(-1), v[:, 4:6].softmax(-1)
    reach = r.amax(-1) / r.amin(-1) - 1
    gamma = (1 / reach).clamp(max=1.0) / 2
    slope = (u * r).sum(-1) / (x * r).sum(-1) - 1
    # Both sides less the slope: what the lemma says of the curvature alone.
    return gamma / 2 * slope**2, slope - slope.log1p()


def newton_step(v: Tensor) -> Sides:
    """Portfolios of two stocks over four days."""
    r = rounds_of(v.clamp(-2, 2), 4).exp()
    gamma = 0.5 * min(1.0, 1 / (math.exp(4) - 1))
    start = torch.full_like(r[0], 0.5)
    learner = OnlineNewtonStep(start, Simplex(), gamma)
    game = play(learner, PortfolioLosses(r, tangent=True), 4)
    share = torch.linspace(0, 1, 101, dtype=v.dtype)
    grid = torch.stack([share, 1 - share], -1)
    best, at = (grid @ r.movedim(0, -1)).log().sum(-1).max(-1)
    left = best + game.losses.sum(0)
    distance = (grid[at] - start).norm(dim=-1)
    return left, bounds.newton_step(gamma, learner.epsilon, distance, learner.matrix)


def hinted(v: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Four rounds on the interval with any hints: start, u, g, m, step and the decisions."""
    start, u = inside(v[:, :1]), inside(v[:, 1:2])
    g, m, step = rounds_of(v[:, 2:6], 4), rounds_of(v[:, 6:10], 4), v[:, 10].clamp(-6, 6).exp()
    learner = OptimisticMirrorDescent(LINE, start, step, hint=m[0])
    kept = []
    for t in range(4):
        kept.append(torch.stack([learner.decision, learner.anchor]))
        learner.update(g[t], hint=m[min(t + 1, 3)])
    kept.append(torch.stack([learner.decision, learner.anchor]))
    return start, u, g, m, step, torch.stack(kept, 1)


def master(v: Tensor) -> Sides:
    """The negative terms stand on the left."""
    _, u, g, m, step, points = hinted(v)
    x, anchor = points
    left = paid(x[:4], g, u) + (square(anchor[1:] - x[:4]) + square(x[:4] - anchor[:4])).sum(0) / (
        2 * step
    )
    ends = (square(u - anchor[0]) - square(u - anchor[4])) / (2 * step)
    return left, ends + ((g - m) * (x[:4] - anchor[1:])).sum((0, -1))


def optimistic(v: Tensor) -> Sides:
    """The movement stands on the left."""
    start, u, g, m, step, points = hinted(v)
    x = points[0, :4]
    moved = square(x[1:] - x[:-1]).sum(0) / (4 * step)
    right = square(u - start) / 2 / step + step * square(g - m).sum(0)
    return paid(x, g, u) + moved, right


def players(v: Tensor) -> Sides:
    """Two by two games, six rounds, the longest step."""
    matrix = v.tanh().unflatten(-1, (2, 2))
    largest = matrix.abs().amax((-2, -1))
    step = (1 / (2 * largest))[:, None]
    p = q = torch.zeros_like(v[:, :2])
    seen_p, seen_q = torch.zeros_like(p), torch.zeros_like(q)
    last_p, last_q = torch.zeros_like(p), torch.zeros_like(q)
    mean_x, mean_y = torch.zeros_like(p), torch.zeros_like(q)
    for _ in range(6):
        x = (-step * (seen_p + last_p)).softmax(-1)
        y = (-step * (seen_q + last_q)).softmax(-1)
        last_p = (matrix @ y[..., None])[..., 0]
        last_q = -(matrix.mT @ x[..., None])[..., 0]
        seen_p, seen_q = seen_p + last_p, seen_q + last_q
        mean_x, mean_y = mean_x + x / 6, mean_y + y / 6
    gap = (matrix.mT @ mean_x[..., None])[..., 0].amax(-1)
    gap = gap - (matrix @ mean_y[..., None])[..., 0].amin(-1)
    return gap, (2 * math.log(2) / step[:, 0] + 2 * step[:, 0] * largest**2) / 6


def universal(v: Tensor) -> Sides:
    """Two stocks, three days; the integral by a Gauss rule, the best portfolio on a grid."""
    r = rounds_of(v.clamp(-12, 12), 3).exp()
    nodes, weights = _GAUSS
    grid = torch.linspace(0, 1, 401, dtype=v.dtype)

    def wealth(share: Tensor) -> Tensor:
        return (share * r[..., :1] + (1 - share) * r[..., 1:]).prod(0)

    mean = (wealth(nodes) * weights).sum(-1)
    left = (wealth(grid).amax(-1) / mean).log()
    return left, torch.full_like(left, bounds.universal_portfolio(2, 3))


_GAUSS = (
    torch.tensor([0.5 - math.sqrt(0.15), 0.5, 0.5 + math.sqrt(0.15)], dtype=torch.float64),
    torch.tensor([5 / 18, 8 / 18, 5 / 18], dtype=torch.float64),
)


def exponentiated(v: Tensor) -> Sides:
    """Two stocks, eight days, the step of the corollary."""
    r = rounds_of(0.1 * v.tanh(), 8).exp()
    ratio = math.exp(0.2)
    step = math.sqrt(8 * math.log(2) / 8) / (ratio - 1)
    game = play(Hedge(torch.full_like(r[0], 0.5), step), PortfolioLosses(r), 8)
    share = torch.linspace(0, 1, 101, dtype=v.dtype)
    grid = torch.stack([share, 1 - share], -1)
    best = (grid @ r.movedim(0, -1)).log().sum(-1).amax(-1)
    left = best + game.losses.sum(0)
    return left, torch.full_like(left, bounds.exponentiated_gradient(2, 8, ratio))


def online_to_batch(v: Tensor) -> Sides:
    """Four lists of two quadratic losses with slopes; the learner is any function of the past."""
    bend, slopes, u = v[:, :1].exp(), v[:, 1:3], v[:, 3:4]
    x1, x2 = v[:, 4:5], v[:, 5:7]  # the second decision for each first loss
    mean = slopes.mean(-1, keepdim=True)

    def risk(x: Tensor) -> Tensor:
        return bend / 2 * x**2 + mean * x

    left = (risk((x1 + x2) / 2) - risk(u)).mean(-1)
    right = (risk(x1)[:, 0] + risk(x2).mean(-1)) / 2 - risk(u)[:, 0]
    return left, right


# --- target-based surrogates ------------------------------------------------------------------


def majorisation(v: Tensor) -> Sides:
    """The logistic loss of one row: what the tangent leaves, against L / 2 of the square."""
    label, z, here = (v[:, :1] > 0).double(), v[:, 1:2], v[:, 2:3]
    loss = LogisticLoss(label[..., None])
    move = z - here
    slope = loss.gradient(here[..., None])[..., 0]
    rest = loss.value(z[..., None]) - loss.value(here[..., None]) - (slope * move)[:, 0]
    return rest, loss.smoothness / 2 * move[:, 0] ** 2


def mm_descent(v: Tensor) -> Sides:
    """Squared loss, two rows of one parameter, m = 1 or 3 inner steps."""
    x, y, w = v[:, :2], v[:, 2:4], v[:, 4:5]
    bend = square(x) / 2
    step = v[:, 5].sigmoid() / bend.clamp(min=1e-6)  # alpha <= 1 / beta with eta = 1
    slope = ((x * w - y) * x).mean(-1)
    left, here = step / 2 * slope**2, w[:, 0]
    for _ in range(3):
        here = here - step * ((x * here[:, None] - y) * x).mean(-1)
    before, after = (square(x * z - y) / 4 for z in (w, here[:, None]))
    return left, before - after


def exact_projection(v: Tensor) -> Sides:
    """A loss with curvatures between mu and L = 1 along two free rows, the linear rate."""
    mu, bend = 0.3, 0.3 + 0.7 * v[:, :2].sigmoid()
    z, eta = v[:, 2:4], v[:, 4:5].sigmoid()
    after = z * (1 - eta * bend) ** 3
    return square(after).sqrt(), (1 - mu * eta[:, 0]) ** 3 * square(z).sqrt()


def two_batches(v: Tensor, rounds: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Squared loss, two rows of one parameter, all lists of single rows, exact projection.

    Returns:
        Distances before and after in the mean, the noise, the first step, and 1 / (mu eta).
    """
    x, y, start = v[:, :2], v[:, 2:4], v[:, 4:5]
    eta = v[:, 5].sigmoid() / 4
    bend = square(x).clamp(min=1e-9)
    best = (x * y).sum(-1) / bend
    size = (square(x) / 2).sqrt()  # of one unit of the parameter, in targets
    noise = ((x * best[:, None] - y) ** 2).sum(-1) / 2  # (1/b - 1/n) sum of squares
    clock = torch.arange(1, rounds + 1, dtype=v.dtype)
    steps = eta[:, None] * (rounds ** (-clock / rounds) if rounds > 1 else 1.0)
    lists = torch.cartesian_prod(*[torch.arange(2)] * rounds).reshape(-1, rounds)
    here = start.expand(-1, len(lists))
    for t in range(rounds):
        row = lists[:, t]
        pull = 2 * (x[:, row] * here - y[:, row]) * x[:, row] / bend[:, None]
        here = here - steps[:, t : t + 1] * pull
    before = (start[:, 0] - best).abs() * size
    after = ((here - best[:, None]) ** 2).mean(-1).sqrt() * size
    return before, after, noise.sqrt(), eta, 1 / eta


def target_sgd(v: Tensor) -> Sides:
    """One round of the recursion."""
    before, after, noise, eta, _ = two_batches(v, 1)
    return after, ((1 - eta) * before**2 + 2 * eta**2 * noise**2).sqrt()


def target_exponential(v: Tensor) -> Sides:
    """Four rounds of the exponential schedule."""
    before, after, noise, _, condition = two_batches(v, 4)
    return after, target.exponential_rate(before, noise, 4, condition, 1.0)


def relative_smoothness(v: Tensor) -> Sides:
    """The gap of two logistic rows under the surrogate of the conjugate."""
    z, here, eta = v[:, :2], v[:, 2:4], v[:, 4].sigmoid()
    old = torch.stack([here, torch.zeros_like(here)], -1).softmax(-1)
    new = torch.stack([z, torch.zeros_like(z)], -1).softmax(-1)
    apart = Entropy().divergence(old, new).mean(-1)
    return apart, apart / eta


PROBLEMS = [
    Problem("thm-pythagoras", 4, pythagoras),
    Problem("prop-strong-convexity", 6, strong_convexity),
    Problem("lem-stability", 6, stability),
    Problem("thm-prox-inequality", 9, prox),
    Problem("thm-omd", 6, omd),
    Problem("thm-omd-adaptive", 9, omd_adaptive),
    Problem("cor-gradient-descent", 7, gradient_descent),
    Problem("cor-adagrad-norm", 9, adagrad_norm),
    Problem("thm-adagrad-diagonal", 14, adagrad_diagonal),
    Problem("thm-adagrad-full", 12, adagrad_full),
    Problem("thm-ftrl", 7, ftrl),
    Problem("lem-hoeffding", 7, hoeffding),
    Problem("thm-hedge", 32, hedge),
    Problem("thm-strongly-convex", 6, strongly_convex),
    Problem("lem-exp-concave", 6, exp_concave),
    Problem("thm-newton-step", 8, newton_step),
    Problem("lem-optimistic-master", 11, master),
    Problem("thm-optimistic", 11, optimistic),
    Problem("cor-optimistic-players", 4, players),
    Problem("thm-online-to-batch", 7, online_to_batch),
    Problem("thm-universal-portfolio", 6, universal),
    Problem("cor-exponentiated-gradient", 16, exponentiated),
    Problem("thm-majorisation", 3, majorisation),
    Problem("thm-mm-descent", 6, mm_descent),
    Problem("thm-exact-projection", 5, exact_projection),
    Problem("thm-target-sgd", 6, target_sgd),
    Problem("thm-target-exponential", 6, target_exponential),
]
