"""Statements about exp-concave losses."""

import math

import numpy as np
import pytest
import torch

from mdtheory.convex.mirror_maps import Ball, Simplex
from mdtheory.convex.online_learning import bounds as ol_bounds
from mdtheory.convex.sea import (
    SPECIAL_CASES,
    StochasticallyExtendedAdversary,
    bounds,
    optimistic_mirror_descent,
    regret_bound,
)
from mdtheory.runs import check_bound, check_identity
from tests.convex.sea_cases import (
    BALL,
    DIAMETER,
    EVERY,
    F64,
    MANY,
    SEEDS,
    D,
    along,
    answering,
    constant,
    errors,
    facts,
    fixed_comparator,
    make,
    mean,
    moves,
    normal,
    seeded,
    worst_of,
)
from tests.polish import guessed, polished
from tests.refused import bound as of
from tests.refused import breaks, fails, identity

# --- thm-sea-exp-concave ---------------------------------------------------------------------


def bent_regret(x, g, gamma, comparator):
    """What exp-concavity leaves: sum of <g, x - u> - gamma/2 <g, x - u>^2."""
    inner = (g * (x - comparator)).sum(-1)
    return (inner - gamma / 2 * inner**2).sum(0)


def worst_bent(x, g, gamma, domain=BALL):
    """The largest of it over random comparators, corners and minimisers."""
    candidates = domain.project(3 * normal(60, SEEDS, D, seed=6))
    candidates = torch.cat([candidates, worst_of(g, domain)[None], x[-1:]])
    return torch.stack([bent_regret(x, g, gamma, u) for u in candidates]).amax(0)


@pytest.mark.theorem("thm-sea-exp-concave", "bound")
@EVERY
def test_matrix_steps_keep_the_bent_bound_on_every_run(case):
    """The bound is one on gradients alone, so curved losses and any gamma may try it."""
    environment = make(case, "curved", rounds=40)
    bound = environment.gradient_bound(1.0)
    for gamma in (0.02, 2.0):
        record = optimistic_mirror_descent(
            environment, environment.start(), BALL, 40, regime="exp-concave",
            gradient_bound=bound, gamma=gamma,
        )  # fmt: skip
        limit = bounds.exp_concave_pathwise(
            DIAMETER, bound, gamma, D, record.variation, record.movement
        )
        result = worst_bent(record.decisions, record.gradients, gamma)
        check_bound("thm-sea-exp-concave", result, limit)


@pytest.mark.theorem("thm-sea-exp-concave", "bound")
@pytest.mark.parametrize("domain", [Ball(0.3), Simplex()], ids=repr)
@pytest.mark.parametrize("length", [1e-2, 1.0, 30.0])
def test_the_bent_bound_holds_against_answers(domain, length):
    start = domain.project(normal(SEEDS, D, seed=2))
    diameter = domain.diameter(D)
    gamma = 1 / (2 * length * diameter)
    record = optimistic_mirror_descent(
        answering(length), start, domain, 40, regime="exp-concave", gradient_bound=length,
        gamma=gamma,
    )  # fmt: skip
    limit = bounds.exp_concave_pathwise(
        diameter, length, gamma, D, record.variation, record.movement
    )
    result = worst_bent(record.decisions, record.gradients, gamma, domain)
    check_bound("thm-sea-exp-concave", result, limit)


def gamma_of(environment):
    """Strongly convex losses with bounded gradients are exp-concave with lambda / G^2."""
    bound = environment.gradient_bound(1.0).max().item()
    alpha = environment.strong_convexity / bound**2
    return ol_bounds.exp_concave_gamma(alpha, bound * DIAMETER), bound


@pytest.mark.theorem("thm-sea-exp-concave", "bound")
@EVERY
def test_matrix_steps_keep_the_bound_for_the_losses_themselves(case):
    environment = make(case, "curved", rounds=50)
    gamma, bound = gamma_of(environment)
    record = optimistic_mirror_descent(
        environment, environment.start(), BALL, 50, regime="exp-concave",
        gradient_bound=bound, gamma=gamma,
    )  # fmt: skip
    comparator = environment.best_comparator(BALL, hindsight=True)
    result = record.loss - environment.loss_at(comparator, 50)
    limit = bounds.exp_concave_pathwise(
        DIAMETER, bound, gamma, D, record.variation, record.movement
    )
    check_bound("thm-sea-exp-concave", result, limit)


def matrix_steps(
    environment, start, rounds, gamma, bound, *,
    euclidean=False, ahead=False, sign=1.0, first=1.0,
):  # fmt: skip
    """The algorithm written again for a ball, with bisection for the secular equation."""
    anchor, last = start, torch.zeros_like(start)
    eye = torch.eye(start.shape[-1], dtype=F64)
    matrix = (1 + first * gamma * bound**2) * eye.expand(*start.shape, -1)
    kept = []
    for t in range(1, rounds + 1):
        pull = project_in(matrix, anchor - solve(matrix, sign * last), euclidean)
        gradient = environment(t, pull)[1]
        grown = matrix + gamma / 2 * gradient[..., :, None] * gradient[..., None, :]
        anchor = project_in(
            grown if ahead else matrix,
            anchor - solve(grown if ahead else matrix, gradient),
            euclidean,
        )
        kept.append((pull, gradient))
        matrix, last = grown, gradient
    return (*(torch.stack(part) for part in zip(*kept, strict=True)), matrix)


def solve(matrix, vector):
    return torch.linalg.solve(matrix, vector[..., None])[..., 0]


def project_in(matrix, point, euclidean=False):
    if euclidean:
        return BALL.project(point)
    values, axes = torch.linalg.eigh(matrix)
    turned = (axes.mT @ point[..., None])[..., 0] * values
    low = torch.zeros_like(turned[..., :1])
    high = turned.norm(dim=-1, keepdim=True)  # there the length is at most 1
    for _ in range(60):
        middle = (low + high) / 2
        outside = (turned / (values + middle)).norm(dim=-1, keepdim=True) > 1
        low, high = torch.where(outside, middle, low), torch.where(outside, high, middle)
    return (axes @ (turned / (values + high))[..., None])[..., 0]


EXP = {"rounds": 30, "gamma": 0.8, "bound": 3.0}


@pytest.mark.theorem("thm-sea-exp-concave", "equality")
def test_matrix_steps_are_the_algorithm_written_again():
    environment = make("corrupted", "curved", seeds=5, rounds=30)
    start = environment.start() + 0.2
    record = optimistic_mirror_descent(
        environment, start, BALL, 30, regime="exp-concave", gradient_bound=3.0, gamma=0.8
    )
    x, g, matrix = matrix_steps(environment, start, **EXP)
    assert (x.norm(dim=-1) > 1 - 1e-9).any()
    check_identity("thm-sea-exp-concave", record.decisions, x, tolerance=1e-9)
    before = matrix - 0.4 * g[-1][..., :, None] * g[-1][..., None, :]
    check_identity("thm-sea-exp-concave", record.matrix, before, tolerance=1e-9)
    assert torch.equal(record.movement, record.paid_movement)
    variation, movement = errors(g).sum(0), moves(x).sum(0)
    stated = 2 * (1 + 0.8 * 9) + 30 * (1 + variation / 30).log() - movement / 4
    got = bounds.exp_concave_pathwise(2.0, 3.0, 0.8, 3, record.variation, record.movement)
    check_identity("thm-sea-exp-concave", got, stated, tolerance=1e-9)


@pytest.mark.theorem("thm-sea-exp-concave", "equality")
@pytest.mark.parametrize("domain", [Ball(1.0), Simplex()], ids=repr)
def test_steps_in_the_norm_of_the_matrix_agree_with_cvxpy(domain):
    cp = pytest.importorskip("cvxpy")
    environment = make("switching", "curved", seeds=2, rounds=5, noise=3.0)
    start = domain.project(environment.start())
    record = optimistic_mirror_descent(
        environment, start, domain, 5, regime="exp-concave", gradient_bound=9.0, gamma=0.8
    )
    g = record.gradients
    limits = {"inside": lambda z: 1 - z.square().sum()[None]}
    if isinstance(domain, Simplex):
        limits = {"equal": lambda z: z.sum()[None] - 1, "lower": 0.0}
    for s in range(2):
        matrix, anchor = 65.8 * np.eye(D), start[s].numpy()
        last = np.zeros(D)
        for t in range(5):
            now = g[t, s].numpy()
            points = []
            for slope in (last, now):
                x = cp.Variable(D)
                away = cp.quad_form(x - anchor, cp.psd_wrap(matrix)) / 2
                inside = [cp.norm(x) <= 1] if isinstance(domain, Ball) else [x >= 0, cp.sum(x) == 1]
                guessed(cp.Problem(cp.Minimize(slope @ x + away), inside))

                def loss(z, pull=slope, matrix=matrix, anchor=anchor):
                    pull, matrix, anchor = (torch.as_tensor(v) for v in (pull, matrix, anchor))
                    return pull @ z + (z - anchor) @ matrix @ (z - anchor) / 2

                points.append(polished(loss, x.value, **limits).numpy())
            check_identity(
                "thm-sea-exp-concave", record.decisions[t, s], torch.as_tensor(points[0]),
                tolerance=1e-11,
            )  # fmt: skip
            anchor, last = points[1], now
            matrix = matrix + 0.4 * np.outer(now, now)


@pytest.mark.theorem("thm-sea-exp-concave", "mutant")
@pytest.mark.parametrize(
    "mutant", ["euclidean", "ahead", "wrong sign", "half of gamma G^2", "no hint"]
)
def test_mutants_of_the_matrix_steps_play_otherwise(mutant):
    environment = make("corrupted", "curved", seeds=5, rounds=30)
    start = environment.start() + 0.2
    changes = {
        "euclidean": {"euclidean": True},
        "ahead": {"ahead": True},
        "wrong sign": {"sign": -1.0},
        "no hint": {"sign": 0.0},
        "half of gamma G^2": {"first": 0.5},
    }[mutant]
    record = optimistic_mirror_descent(
        environment, start, BALL, 30, regime="exp-concave", gradient_bound=3.0, gamma=0.8
    )
    x, _, _ = matrix_steps(environment, start, **EXP, **changes)
    right, _, _ = matrix_steps(environment, start, **EXP)
    true = (record.decisions, right)
    fails(identity("thm-sea-exp-concave"), record.decisions, x, true=true, tolerance=1e-6)


def unmoved(length):
    """The same slope in every round."""
    return StochasticallyExtendedAdversary(length * torch.ones(400, 2, 1, dtype=F64))


BENT_MUTANTS = {
    "no variation": (lambda: make("alternating", seeds=2, rounds=400), 0.01, 400),
    "no start": (lambda: unmoved(0.1), 0.01, 60),
    "linear": (lambda: unmoved(1.0), 20.0, 400),  # without what exp-concavity gives
    "wrong sign": (lambda: unmoved(1.0), 0.01, 60),
}


@pytest.mark.theorem("thm-sea-exp-concave", "mutant")
def test_half_of_the_bent_bound_breaks_on_a_constant_slope():
    environment, start = constant()
    record = optimistic_mirror_descent(
        environment, start, BALL, 40, regime="exp-concave", gradient_bound=1.0, gamma=1e-3
    )
    x, g = record.decisions, record.gradients
    result = bent_regret(x, g, 1e-3, worst_of(g))
    right = bounds.exp_concave_pathwise(DIAMETER, 1.0, 1e-3, 1, errors(g).sum(0), moves(x).sum(0))
    fails(of("thm-sea-exp-concave"), result, right / 2, true=(result, right))


@pytest.mark.theorem("thm-sea-exp-concave", "mutant")
@pytest.mark.parametrize("mutant", BENT_MUTANTS)
def test_mutants_of_the_bent_bound_break(mutant):
    build, gamma, rounds = BENT_MUTANTS[mutant]
    environment = build()
    start, bound = environment.start(), environment.gradient_bound(1.0).max().item()

    def sides(sign=1.0):
        x, g, _ = matrix_steps(environment, start, rounds, gamma, bound, sign=sign)
        limit = bounds.exp_concave_pathwise(
            DIAMETER, bound, gamma, x.shape[-1], errors(g).sum(0), moves(x).sum(0)
        )
        return bent_regret(x, g, gamma, worst_of(g)), limit, x, g

    result, right, x, g = sides()
    first = DIAMETER**2 / 2 * (1 + gamma * bound**2)
    wrong = {
        "no variation": lambda: (result, first - moves(x).sum(0) / 4),
        "no start": lambda: (result, right - first),
        "linear": lambda: (along(g, x, worst_of(g)), right),
        "wrong sign": lambda: sides(-1.0)[:2],
    }[mutant]()
    fails(
        of("thm-sea-exp-concave"), *wrong, true=(result, right),
        scaled={"no variation": "the errors are dropped", "no start": "the start is dropped"}.get(
            mutant, ""
        ),
    )  # fmt: skip


# --- cor-sea-exp-concave ---------------------------------------------------------------------


def bent_facts(environment):
    gamma, _ = gamma_of(environment)
    return facts(environment) | {"gamma": gamma, "dimension": D}


@pytest.mark.theorem("cor-sea-exp-concave", "bound")
@EVERY
def test_expected_regret_keeps_the_exp_concave_bound(case):
    environment = make(case, "curved", seeds=MANY, rounds=50)
    f = bent_facts(environment)
    record = optimistic_mirror_descent(
        environment, environment.start(), BALL, 50, regime="exp-concave",
        gradient_bound=f["gradient_bound"], gamma=f["gamma"], keep=False,
    )  # fmt: skip
    comparator = fixed_comparator(environment, case)
    bound = regret_bound("exp-concave", **f)
    check_bound(
        "cor-sea-exp-concave", mean(record.loss - environment.loss_at(comparator, 50)), bound
    )
    best = environment.best_comparator(BALL, hindsight=True)
    check_bound("cor-sea-exp-concave", mean(record.loss - environment.loss_at(best, 50)), bound)


@pytest.mark.theorem("cor-sea-exp-concave", "bound")
@pytest.mark.parametrize("smoothness", [0.0, 0.1, 0.25, 1.0, 30.0])
def test_the_exp_concave_bound_covers_every_movement(smoothness):
    """Whatever E S_T is, the run bound under the drift lemma stays below the corollary."""
    diameter, bound, gamma, d, variance, variation = 1.3, 2.0, 0.11, 4, 17.0, 3.0
    scale = 8 * d / gamma
    movement = torch.logspace(-6, 9, 20_000, dtype=F64)
    variation_of = bounds.expected_variation(bound, smoothness, variance, variation, movement)
    run = bounds.exp_concave_pathwise(diameter, bound, gamma, d, variation_of, movement)
    f = {
        "diameter": diameter, "gradient_bound": bound, "smoothness": smoothness,
        "variance": variance, "variation": variation, "gamma": gamma, "dimension": d,
    }  # fmt: skip
    check_bound("cor-sea-exp-concave", run, regret_bound("exp-concave", **f))
    # What is left of S_T alone has its largest value at 1 + 4 L^2 S / k = 16 L^2.
    alone = scale * (4 * smoothness**2 * movement / scale).log1p() - movement / 4
    most = max(1.0, 16 * smoothness**2)
    peak = scale * (math.log(most) - 1 + 1 / most)
    if smoothness > 0.25:
        check_identity(
            "cor-sea-exp-concave", alone.max(), torch.tensor(peak, dtype=F64), tolerance=1e-5
        )
    check_bound("cor-sea-exp-concave", alone, torch.tensor(scale * math.log(most), dtype=F64))


@pytest.mark.theorem("cor-sea-exp-concave", "equality")
def test_the_exp_concave_bound_is_its_formula():
    for smoothness in (0.1, 3.0):
        got = regret_bound(
            "exp-concave", diameter=1.3, gradient_bound=2.0, smoothness=smoothness,
            variance=17.0, variation=3.0, gamma=0.11, dimension=4,
        )  # fmt: skip
        energy = 4.0 + 8 * 17.0 + 4 * 3.0
        stated = 0.845 * 1.44 + 32 / 0.11 * math.log(1 + 0.11 * energy / 32)
        stated += 32 / 0.11 * math.log(144.0) if smoothness == 3.0 else 0.0
        check_identity("cor-sea-exp-concave", got, torch.tensor(stated, dtype=F64))


@pytest.mark.theorem("cor-sea-exp-concave", "mutant")
def test_half_of_the_exp_concave_corollary_breaks_on_a_constant_slope():
    environment, start = constant(rounds=9)
    record = optimistic_mirror_descent(
        environment, start, BALL, 9, regime="exp-concave", gradient_bound=1.0, gamma=1e-3
    )
    result = mean(record.loss - environment.loss_at(environment.best_comparator(BALL), 9))
    f = facts(environment) | {"gamma": 1e-3, "dimension": 1}
    right = torch.as_tensor(regret_bound("exp-concave", **f), dtype=F64)
    fails(of("cor-sea-exp-concave"), result, right / 2, true=(result, right))


@pytest.mark.theorem("cor-sea-exp-concave", "mutant")
@pytest.mark.parametrize("mutant", ["no energy", "gamma too large"])
def test_mutants_of_the_exp_concave_corollary_break(mutant):
    """Linear losses are not exp-concave; flat ones make the constants small."""
    rounds, case = 700, "alternating"
    gamma = 0.002
    if mutant == "gamma too large":
        case, gamma = "i.i.d.", 20.0
    environment = SPECIAL_CASES[case](rounds, 2, 1, seeded())
    f = facts(environment) | {"gamma": gamma, "dimension": 1}
    record = optimistic_mirror_descent(
        environment, environment.start(), BALL, rounds, regime="exp-concave",
        gradient_bound=f["gradient_bound"], gamma=gamma, keep=False,
    )  # fmt: skip
    comparator = environment.best_comparator(BALL)
    result = mean(record.loss - environment.loss_at(comparator, rounds))
    right = torch.as_tensor(regret_bound("exp-concave", **f), dtype=F64)
    if mutant == "no energy":
        wrong = torch.full_like(right, DIAMETER**2 / 2 * (1 + gamma))
        fails(of("cor-sea-exp-concave"), result, wrong, true=(result, right))
    else:  # the assumption itself is broken: linear losses are exp-concave for no gamma
        assert breaks("cor-sea-exp-concave", result, right)
