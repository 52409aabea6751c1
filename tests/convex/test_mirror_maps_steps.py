"""Mirror steps against a general convex solver that knows only the objective and the set."""

import math
import warnings

import cvxpy as cp
import numpy as np
import pytest
import torch

from mdtheory.convex import mirror_maps as mm

STEPS = [(0.6, 0.0), (0.6, 0.8), (math.inf, 0.8), (0.05, 3.0)]  # step size, magnet weight
INSTANCES = 3
# Largest entry of the difference, relative to the largest entry of the point (at least 1).
QUADRATIC, ENTROPIC, MATRIX = 1e-6, 1e-5, 1e-4


def minimise(objective, sets=()):
    """Solve with tightened tolerances: with the defaults the solver's own error reaches 2e-5.

    It aims at 1e-13 and calls what it reaches on the way inaccurate; whether that is accurate
    enough is for the test to say. Where it fails, a looser aim is tried.
    """
    problem = cp.Problem(cp.Minimize(objective), list(sets))
    for aim in (1e-13, 1e-11, 1e-9):
        tight = dict.fromkeys(["tol_gap_abs", "tol_gap_rel", "tol_feas"], aim)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Solution may be inaccurate")
            # A rounding error below 0 under a root, in the value that the solver reports.
            warnings.filterwarnings("ignore", "invalid value encountered in power")
            try:
                problem.solve(solver="CLARABEL", **tight)
            except cp.error.SolverError:
                continue
        return problem.value
    raise AssertionError("the solver failed")


def potential_atom(case, x):
    kind, _, order = case.atom.partition(" ")
    return {
        "half_square": lambda: cp.sum_squares(x) / 2,
        "half_form": lambda: cp.sum_squares(np.linalg.cholesky(case.mirror_map.matrix).T @ x) / 2,
        "p_norm": lambda: cp.square(cp.pnorm(x, 1.5)) / 2,
        "entropy": lambda: -cp.sum(cp.entr(x)),
        "binary_entropy": lambda: -cp.sum(cp.entr(x)) - cp.sum(cp.entr(1 - x)),
        "log_barrier": lambda: -cp.sum(cp.log(x)),
        "tsallis": lambda: cp.sum(cp.power(x, float(order))) / (float(order) - 1),
        # The default approximation of this atom is good to 1e-5.
        "von_neumann": lambda: -cp.von_neumann_entr(x, quad_approx=(5, 5)),
        "log_det": lambda: -cp.log_det(x),
    }[kind]()


def constraints(case, x):
    return {
        "free": lambda: [],
        # Two forms of one set: the solver does better with one or the other.
        "ball": lambda: [(cp.norm if case.atom == "half_square" else cp.sum_squares)(x) <= 1],
        "box": lambda: [x >= -1, x <= 1],
        "simplex": lambda: [x >= 0, cp.sum(x) == 1],
        "orthant": lambda: [x >= 0],
        "unit_box": lambda: [x >= 0, x <= 1],
        "spectrahedron": lambda: [x >> 0, cp.trace(x) == 1],
        "positive_definite": lambda: [x >> 0],
    }[case.domain]()


def divergence_atom(case, x, y):
    """D(x, y) up to a constant, from the tests' own gradient."""
    return potential_atom(case, x) - cp.sum(cp.multiply(case.gradient(y).numpy(), x))


def solve(case, y, g, eta, z, weight):
    x = cp.Variable(tuple(y.shape), symmetric=case.event_dims == 2)
    objective = cp.sum(cp.multiply(g.numpy(), x))
    if weight > 0:
        objective += weight * divergence_atom(case, x, z)
    if eta < math.inf:
        objective += divergence_atom(case, x, y) / eta
    if case.name == "mahalanobis-ball":
        objective = completed_square(case, x, y, g, eta, z, weight)
    minimise(objective, constraints(case, x))
    return torch.as_tensor(np.asarray(x.value))


def completed_square(case, x, y, g, eta, z, weight):
    """The same objective up to a constant, in the form in which the solver reaches 1e-7."""
    curvature = (weight + 1 / eta) * case.mirror_map.matrix.numpy()
    slope = (g - weight * case.gradient(z) - case.gradient(y) / eta).numpy()
    root = np.linalg.cholesky(curvature)
    return cp.sum_squares(root.T @ x + np.linalg.solve(root, slope)) / 2


def tolerance(case):
    if case.event_dims == 2:
        return MATRIX
    return QUADRATIC if case.atom.startswith("half") else ENTROPIC


def instance(case, generator):
    y, z = (_inside(case, case.draw(INSTANCES, generator)) for _ in range(2))
    return y, z, case.direction(INSTANCES, generator)


def _inside(case, x):
    """A little off the border, where a barrier's slope is no number a solver can work with."""
    return 0.9 * x + 0.1 * x.mean(-1, keepdim=True) if case.domain == "simplex" else x


@pytest.mark.theorem("thm-one-update", "equality")
@pytest.mark.parametrize(("eta", "weight"), STEPS)
def test_steps_agree_with_the_solver(case, generator, eta, weight):
    y, z, g = instance(case, generator)
    ours = mm.mirror_step(case.mirror_map, y, g, eta, z, weight)
    for k in range(INSTANCES):
        theirs = solve(case, y[k], g[k], eta, z[k], weight)
        scale = max(1.0, theirs.abs().max().item())
        assert (ours[k] - theirs).abs().max().item() <= tolerance(case) * scale


@pytest.mark.theorem("thm-one-update", "mutant")
@pytest.mark.parametrize("mutant", ["sign", "magnet dropped", "weight dropped from b"])
def test_the_solver_tells_other_steps_apart(case, generator, mutant):
    y, z, g = instance(case, generator)
    eta, weight = 0.6, 0.8
    steps = {
        "sign": lambda: mm.mirror_step(case.mirror_map, y, -g, eta, z, weight),
        "magnet dropped": lambda: mm.mirror_step(case.mirror_map, y, g, eta),
        "weight dropped from b": lambda: case.mirror_map.to_primal(
            (case.gradient(y) + eta * weight * case.gradient(z)) / (1 + eta * weight) - eta * g
        ),
    }
    theirs = solve(case, y[0], g[0], eta, z[0], weight)
    scale = max(1.0, theirs.abs().max().item())
    assert (steps[mutant]()[0] - theirs).abs().max().item() > 10 * tolerance(case) * scale


@pytest.mark.parametrize(
    ("domain", "name"),
    [(mm.Ball(0.7), "ball"), (mm.Box(-0.3, 0.8), "box"), (mm.Simplex(), "simplex")],
)
def test_projections_agree_with_the_solver(generator, domain, name):
    points = 2 * torch.randn(5, 6, generator=generator, dtype=torch.float64)
    projected = domain.project(points)
    assert domain.contains(projected).all()
    for point, ours in zip(points, projected, strict=True):
        x = cp.Variable(6)
        sets = {
            "ball": [cp.norm(x) <= 0.7], "box": [x >= -0.3, x <= 0.8],
            "simplex": [x >= 0, cp.sum(x) == 1],
        }  # fmt: skip
        minimise(cp.sum_squares(x - point.numpy()), sets[name])
        assert abs(ours.numpy() - x.value).max() <= QUADRATIC


@pytest.mark.parametrize(
    ("domain", "name"),
    [(mm.Ball(0.7), "ball"), (mm.Box(-0.3, 0.8), "box"), (mm.Simplex(), "simplex")],
)
def test_linear_minimisers_agree_with_the_solver(generator, domain, name):
    gradients = torch.randn(5, 6, generator=generator, dtype=torch.float64)
    ours = (gradients * domain.minimize_linear(gradients)).sum(-1)
    assert domain.contains(domain.minimize_linear(gradients)).all()
    for gradient, value in zip(gradients, ours.tolist(), strict=True):
        x = cp.Variable(6)
        sets = {
            "ball": [cp.norm(x) <= 0.7], "box": [x >= -0.3, x <= 0.8],
            "simplex": [x >= 0, cp.sum(x) == 1],
        }  # fmt: skip
        assert value == pytest.approx(minimise(gradient.numpy() @ x, sets[name]), abs=1e-7)
