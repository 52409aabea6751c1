"""Mirror steps against a general convex solver that knows only the objective and the set."""

import math

import cvxpy as cp
import numpy as np
import pytest
import torch

from mdtheory.convex import mirror_maps as mm
from tests.polish import guessed, polished

STEPS = [(0.6, 0.0), (0.6, 0.8), (math.inf, 0.8), (0.05, 3.0)]  # step size, magnet weight
INSTANCES = 3


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
    """The step by the solver, and then exactly by its conditions of optimality."""
    x = cp.Variable(tuple(y.shape), symmetric=case.event_dims == 2)
    objective = cp.sum(cp.multiply(g.numpy(), x))
    if weight > 0:
        objective += weight * divergence_atom(case, x, z)
    if eta < math.inf:
        objective += divergence_atom(case, x, y) / eta
    if case.name == "mahalanobis-ball":
        objective = completed_square(case, x, y, g, eta, z, weight)
    guessed(cp.Problem(cp.Minimize(objective), constraints(case, x)))
    shape, entries = coordinates(case, torch.as_tensor(np.asarray(x.value)))
    pull = g - weight * case.gradient(z) - (case.gradient(y) / eta if eta < math.inf else 0.0)

    def loss(v):
        point = shape(v)
        return (pull * point).sum() + (weight + 1 / eta) * case.psi(point)

    return shape(polished(loss, entries, **limits(case, shape)))


def coordinates(case, x):
    """A map from vectors to points, and the vector of a point: of a matrix its upper triangle."""
    if case.event_dims == 1:
        return lambda v: v, x
    rows, columns = torch.triu_indices(len(x), len(x))
    place = torch.zeros(len(x), len(x), dtype=torch.int64)
    place[rows, columns] = place[columns, rows] = torch.arange(len(rows))
    return lambda v: v[place], x[rows, columns]


def limits(case, shape):
    """What bounds the coordinates, where the slope of the potential does not."""
    return {
        "ball": {"inside": lambda v: 1 - v.square().sum()[None]},
        "box": {"lower": -1.0, "upper": 1.0},
        "simplex": {
            "equal": lambda v: v.sum()[None] - 1,
            **({} if case.steep else {"lower": 0.0}),
        },
        "spectrahedron": {"equal": lambda v: shape(v).trace()[None] - 1},
    }.get(case.domain, {})


def completed_square(case, x, y, g, eta, z, weight):
    """The same objective up to a constant, in the form in which the solver reaches 1e-7."""
    curvature = (weight + 1 / eta) * case.mirror_map.matrix.numpy()
    slope = (g - weight * case.gradient(z) - case.gradient(y) / eta).numpy()
    root = np.linalg.cholesky(curvature)
    return cp.sum_squares(root.T @ x + np.linalg.solve(root, slope)) / 2


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
        assert (ours[k] - theirs).abs().max().item() <= case.point_tolerance * scale


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
    assert (steps[mutant]()[0] - theirs).abs().max().item() > 1e-3 * scale


SETS = {
    "ball": (
        mm.Ball(0.7), lambda x: [cp.norm(x) <= 0.7],
        {"inside": lambda v: 0.49 - v.square().sum()[None]},
    ),
    "box": (mm.Box(-0.3, 0.8), lambda x: [x >= -0.3, x <= 0.8], {"lower": -0.3, "upper": 0.8}),
    "simplex": (
        mm.Simplex(), lambda x: [x >= 0, cp.sum(x) == 1],
        {"equal": lambda v: v.sum()[None] - 1, "lower": 0.0},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SETS)
def test_projections_and_linear_minimisers_agree_with_the_solver(generator, name):
    domain, inside, bounds = SETS[name]
    points = 2 * torch.randn(5, 6, generator=generator, dtype=torch.float64)
    projected, least = domain.project(points), domain.minimize_linear(points)
    assert domain.contains(projected).all()
    assert domain.contains(least).all()
    for k, point in enumerate(points):
        x = cp.Variable(6)
        guessed(cp.Problem(cp.Minimize(cp.sum_squares(x - point.numpy())), inside(x)))
        theirs = polished(lambda v, p=point: (v - p).square().sum() / 2, x.value, **bounds)
        assert (projected[k] - theirs).abs().max() <= 1e-12
        guessed(cp.Problem(cp.Minimize(point.numpy() @ x), inside(x)))
        theirs = polished(lambda v, p=point: p @ v, x.value, **bounds)
        assert (least[k] - theirs).abs().max() <= 1e-12
