"""Solvers' answers made exact, so that a comparison with them says something on any processor.

A general solver stops at its own tolerance, or before it with a warning, and where it stops differs
from processor to processor. Its answer is good enough as a guess of what is active; Newton's method
on the conditions of optimality does the rest, and the conditions are checked at the end.
"""

import warnings

import cvxpy
import torch

NEAR = 1e-4  # a constraint that a solver's answer meets within this may be active
OFF = 1e-6  # where the search for a coordinate begins whose bound turned out not to hold it


def guessed(problem):
    """Solve a cvxpy problem as well as the solver can, for an answer that will be polished.

    It aims high and calls what it reaches on the way inaccurate, or fails; then it aims lower.
    """
    for aim in (1e-13, 1e-10, 1e-7):
        tight = dict.fromkeys(("tol_gap_abs", "tol_gap_rel", "tol_feas"), aim)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Solution may be inaccurate")
            # A rounding error below 0 under a root, in the value that the solver reports.
            warnings.filterwarnings("ignore", "invalid value encountered in power")
            try:
                problem.solve(solver=cvxpy.CLARABEL, **tight)
            except cvxpy.error.SolverError:
                continue
        if problem.status in ("optimal", "optimal_inaccurate"):
            return problem
    raise AssertionError("the solver failed")


def best_mixture(preference):
    """The mixture of rows whose worst column is best, and its value, by a linear programme."""
    count = len(preference)
    mixture, value = cvxpy.Variable(count, nonneg=True), cvxpy.Variable()
    fair = [preference.numpy().T @ mixture >= value, cvxpy.sum(mixture) == 1]
    guessed(cvxpy.Problem(cvxpy.Maximize(value), fair))
    best = polished(
        lambda z: -z[-1], [*mixture.value, float(value.value)],
        lower=torch.tensor([0.0] * count + [-torch.inf], dtype=torch.float64),
        equal=lambda z: z[:-1].sum()[None] - 1, inside=lambda z: preference.T @ z[:-1] - z[-1],
    )  # fmt: skip
    return best[:-1], best[-1]


def polished(objective, guess, *, equal=None, inside=None, lower=None, upper=None):
    """Minimiser of a smooth convex objective near a solver's answer.

    Args:
        objective: function of a vector (n,).
        guess: the solver's answer, (n,); an array or a tensor.
        equal: function to (m,) that has to be 0.
        inside: concave function to (k,) that has to be at least 0.
        lower, upper: bounds of the coordinates, numbers or (n,).

    Returns:
        The minimiser: its conditions hold, and one more Newton step would move it by less than
        1e-11 of its size. Where these conditions cannot be met the test fails.
    """
    point = torch.as_tensor(guess, dtype=torch.float64).clone()
    bounds = [(1.0, lower), (-1.0, upper)]
    held = [
        torch.zeros_like(point, dtype=torch.bool) if b is None else sign * (point - b) < NEAR
        for sign, b in bounds
    ]
    tight = point.new_zeros(0, dtype=torch.bool) if inside is None else inside(point) < NEAR
    for _ in range(10):
        for mask, (_, bound) in zip(held, bounds, strict=True):
            point = point if bound is None else torch.where(mask, bound, point)
        point, pull, force = _newton(objective, point, ~(held[0] | held[1]), equal, inside, tight)
        slack = 1e-10 * (1 + pull.abs().max())
        # No bound may be broken, and none may be held from the wrong side.
        wrong = [
            torch.zeros_like(mask)
            if bound is None
            else torch.where(mask, sign * pull < -slack, sign * (point - bound) < 0)
            for mask, (sign, bound) in zip(held, bounds, strict=True)
        ]
        away = tight.new_zeros(0) if inside is None else inside(point) < 0
        astray = torch.where(tight, tight.new_zeros(()).expand_as(tight), away)
        astray[tight] = force < -slack
        if not any(bool(mask.any()) for mask in (*wrong, astray)):
            return point
        # A slope may be infinite on a bound: what comes off one starts inside.
        for mask, change, (sign, bound) in zip(held, wrong, bounds, strict=True):
            point = (
                point if bound is None else torch.where(mask & change, bound + sign * OFF, point)
            )
        held = [mask ^ change for mask, change in zip(held, wrong, strict=True)]
        tight = tight ^ astray
    raise AssertionError("no set of active constraints fulfils the conditions of optimality")


def _newton(objective, start, free, equal, inside, tight):
    """Root of the conditions in the free coordinates.

    With it come the gradient of the Lagrangian, and the multipliers of what is inside.
    """
    places, active = free.nonzero()[:, 0], tight.nonzero()[:, 0]
    count = len(places)

    def whole(z):
        return start.index_copy(0, places, z[:count])

    def conditions(x):
        parts = [x[:0]] if equal is None else [equal(x)]
        return torch.cat([*parts, *([inside(x)[active]] if len(active) else [])])

    def lagrangian(x, multipliers):
        return objective(x) - multipliers @ conditions(x)

    # Its saddle point: there the gradient in the coordinates and the multipliers vanishes.
    residual = torch.func.grad(lambda z: lagrangian(whole(z), z[count:]))
    curvature = torch.func.jacrev(residual)
    slopes = torch.func.jacrev(conditions)(start)[:, places]
    slope = torch.func.grad(objective)(start)[places]
    z = torch.cat([start[places], _least(slopes.mT, slope)])
    force = residual(z)
    for _ in range(60):
        step = -_least(curvature(z), force)
        length = 1.0
        while length > 1e-9:
            ahead = residual(z + length * step)
            if ahead.isfinite().all() and ahead.norm() < (1 - length / 4) * force.norm():
                break
            length /= 2
        else:
            break
        z, force = z + length * step, ahead
    away = step.norm()
    assert away <= 1e-11 * (1 + z.norm()), f"Newton's method stopped {away:.1e} away"
    x, multipliers = whole(z), z[count:]
    pull = torch.func.grad(lagrangian)(x, multipliers)
    return x, pull, multipliers[len(multipliers) - len(active) :]


def _least(matrix, right):
    if not matrix.numel():
        return right.new_zeros(matrix.shape[1])
    return torch.linalg.lstsq(matrix, right[:, None], driver="gelsd").solution[:, 0]
