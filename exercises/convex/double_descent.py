"""Marks for the assignment 'Double descent'. Runs in the grader's process.

The references are on purpose unlike the solutions: features are made from singular vectors that the
grader knows, so that nothing is decomposed; steps are taken one by one, or as powers of matrices;
constants come from a root, risks from fractions. `call` runs the student's function in the
student's process.
"""

import math
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np

from mdtheory.course import agrees, award, has_shape

POINTS = {
    "descent": 4,
    "first_above": 3,
    "noise_norms": 4,
    "ridge_distance": 3,
    "gaussian_risk": 3,
    "heavy_ball": 3,
}
FILTERS = ["gradient_descent_filter", "gradient_descent_solution"]
FORBIDDEN = {
    "descent": [*FILTERS, "preconditioned_solution", "cyclic_solution", "descent_iterates"],
    "first_above": [*FILTERS, "steps_to_fit"],
    "noise_norms": [*FILTERS, "noise_bound", "bounds.noise_norm", "bounds.noise_peak"],
    "ridge_distance": [*FILTERS, "ridge_filter", "ridge_solution"],
    "gaussian_risk": ["bounds.gaussian_noise_risk"],
    "heavy_ball": ["heavy_ball_filter", "heavy_ball_solution"],
}


def check_descent(call, generator: np.random.Generator) -> float:
    """1 point each: a few steps, batches with equal columns, many steps, a bad condition."""
    z, y, start = (generator.normal(0, 1, shape) for shape in ((7, 4), (7,), (4,)))
    step = float(generator.uniform(0.3, 0.9)) / np.linalg.norm(z, 2) ** 2
    good = True
    for steps in (3, 1):
        answer = call("descent", z, y, step, steps, start)
        good &= agrees(answer, _loop(z, y, step, steps, start), rtol=1e-9, atol=1e-10)
    least = z[:1, :1], y[:1], 1 / float(z[0, 0]) ** 2, 2, start[:1]  # the longest step, one number
    good &= agrees(call("descent", *least), y[:1] / z[0, :1], rtol=1e-9, atol=1e-10)
    score = award(call, 1, good, "wrong after few steps")
    z, y, start = (generator.normal(0, 1, shape) for shape in ((2, 3, 4, 6), (2, 3, 4), (2, 3, 6)))
    z[..., 5] = z[..., 0]
    z[..., 3, :] = z[..., 2, :]
    step = 0.5 / np.linalg.norm(z, 2, axis=(-2, -1)).max() ** 2
    answer = call("descent", z, y, float(step), 40, start)
    right = [_loop(z[i], y[i], step, 40, start[i]) for i in np.ndindex(2, 3)]
    score += award(
        call, 1, agrees(answer, np.reshape(right, (2, 3, 6)), rtol=1e-9, atol=1e-9),
        "wrong on a batch with more features than rows and with equal columns",
    )  # fmt: skip
    cases = [
        (30.0, 10**6, 1e-9, "wrong after a million steps"),
        (1e6, 10**5, 1e-7, "wrong or not exact with a condition number of a million"),
    ]
    for condition, steps, tolerance, words in cases:
        left, values, right = _factors(generator, 8, 8, condition)
        y, start = generator.normal(0, 1, 8), generator.normal(0, 1, 8)
        answer = call("descent", (left * values) @ right, y, 1.0, steps, start)
        missing = left.T @ y - values * (right @ start)
        exact = start + right.T @ (_shares(values, 1.0, steps) / values * missing)
        scale = float(np.abs(exact).max())
        good = agrees(answer, exact, rtol=tolerance, atol=tolerance * scale)
        score += award(call, 1, good, words)
    return score


def check_first_above(call, generator: np.random.Generator) -> float:
    """1 point for each of two single problems, 1 for a batch in which one never gets there."""
    score = 0.0
    marks = np.unique(np.logspace(0, 9, 19).round())
    cases = [
        ((), 9, "wrong on a single problem"),
        ((), 6, "wrong on a problem with fewer features than rows"),
        ((2, 3), 9, "wrong on a batch, or where the level is never passed"),
    ]
    for batch, columns, words in cases:
        problems, answers, level = _peaks(generator, math.prod(batch), columns, marks, bool(batch))
        parts = [
            np.array(part).reshape(*batch, *part[0].shape) for part in zip(*problems, strict=True)
        ]
        answer = call("first_above", *parts, marks, level)
        good = agrees(answer, np.reshape(answers, batch), rtol=1e-12)
        if not batch:  # the first mark of all, and a list of one
            z, y, test, truth = parts
            beta = z.T @ y / np.linalg.norm(z, 2) ** 2
            below = float(((test @ beta - truth) ** 2).mean()) / 2
            for few in (marks, marks[:1]):
                answer = call("first_above", *parts, few, below)
                good &= agrees(answer, np.array(marks[0]), rtol=1e-12)
        score += award(call, 1, good, words)
    return score


def check_noise_norms(call, generator: np.random.Generator) -> float:
    """The sum: 1 point for a batch, 1 for tiny values. The bound: 1 for few steps, 1 for many."""
    score, bounds = 0.0, {True: [], False: []}
    batch = np.sort(generator.uniform(0.05, 1, (2, 3, 5)), -1)
    tiny = generator.permutation(np.append(10.0 ** -generator.uniform(0, 7.9, 5), [1.0, 1e-8]))
    for values, counts, words in (
        (batch, (1, 2, 3, 50), "the sum is wrong on a batch"),
        (tiny, (10**4, 10**5), "the sum is wrong or not exact for tiny singular values"),
    ):
        good = []
        for steps in counts:
            eta = generator.uniform(0.3, 1, values.shape[:-1])
            if steps in (2, 10**5):  # the longest steps, with which a share is 1 at once
                eta = values.max(-1) ** -2.0
            answer = call("noise_norms", values, np.asarray(eta), steps)
            sums = [
                math.fsum((_shares(values[i], float(eta[i]), steps) / values[i]) ** 2)
                for i in np.ndindex(values.shape[:-1])
            ]
            shape = (*values.shape[:-1], 2)
            fits = has_shape(answer, shape)
            right = np.reshape(sums, values.shape[:-1])
            good.append(fits and agrees(answer[..., 0], right, rtol=1e-8))
            limit = _constant(steps) * values.shape[-1] * steps * eta
            bounds[values is batch].append((answer, limit))
        score += award(call, 1, all(good), words)
    for few, words in ((True, "not sharp for few steps"), (False, "wrong for many steps")):
        good = [
            has_shape(answer, (*limit.shape, 2)) and agrees(answer[..., 1], limit, rtol=1e-5)
            for answer, limit in bounds[few]
        ]
        score += award(call, 1, all(good), f"the bound is {words}")
    return score


def check_ridge_distance(call, generator: np.random.Generator) -> float:
    """1 point each: a single problem, a batch, many steps."""
    score = 0.0
    cases = [
        ((), 5, 3, "wrong on a single problem"),
        ((2, 3), 9, 25, "wrong on a batch"),
        ((), 7, 10**7, "wrong after many steps"),
    ]
    for batch, columns, steps, words in cases:
        problems = []
        for _ in range(math.prod(batch)):
            left, values, right = _factors(generator, 7, columns, 40.0)
            y, eta = generator.normal(0, 1, 7), 0.7
            shares = _shares(values, eta, steps)
            ridge = [float(_ridge(s, eta, steps)) for s in values]
            apart = math.sqrt(math.fsum(((shares - ridge) * (left.T @ y)) ** 2))
            problems.append(((left * values) @ right, y, apart))
        z, y, right = (np.array(part).reshape(*batch, *part[0].shape)
                       if np.ndim(part[0]) else np.reshape(part, batch)
                       for part in zip(*problems, strict=True))  # fmt: skip
        answer = call("ridge_distance", z, y, 0.7, steps)
        good = agrees(answer, right, rtol=1e-7, atol=1e-12)
        if steps == 3:  # one number, the longest step; equal columns count as one that is longer
            s, y = float(z[0, 0]), y[:1]
            share = 1 - float(_ridge(s, s**-2, 1))
            for columns in (z[:1, :1], np.full((1, 2), s / math.sqrt(2))):
                answer = call("ridge_distance", columns, y, s**-2, 1)
                good &= agrees(answer, np.array(share * abs(y[0])), rtol=1e-7)
        score += award(call, 1, good, words)
    return score


def check_gaussian_risk(call, generator: np.random.Generator) -> float:
    """1 point each: fewer columns than rows, more, and nearly as many."""
    rows = int(generator.integers(12, 40))
    noise, signal = (float(generator.uniform(0.2, 2)) for _ in range(2))
    few = generator.choice(np.arange(1, rows - 1), 4, replace=False)
    many = rows + generator.choice(np.arange(2, 60), 4, replace=False)
    near = rows + np.array([-1, 0, 1])
    extra = np.array([rows - 2, rows + 2])
    columns = generator.permutation(np.concatenate([few, many, near, extra])).astype(float)
    answers = []
    for size in (signal, 0.0):
        right = np.array([_risk(rows, int(p), noise, size) for p in columns])
        answers.append((call("gaussian_risk", rows, columns, noise, size), right))
    score = 0.0
    for part, words in (
        (columns <= rows - 2, "wrong for fewer columns than rows"),
        (columns >= rows + 2, "wrong for more columns than rows"),
        (np.abs(columns - rows) <= 1, "wrong for nearly as many columns as rows"),
    ):
        good = [
            has_shape(answer, right.shape) and agrees(answer[part], right[part], rtol=1e-10)
            for answer, right in answers
        ]
        score += award(call, 1, all(good), words)
    return score


def check_heavy_ball(call, generator: np.random.Generator) -> float:
    """1 point each: the first steps, a batch, many steps."""
    score = 0.0
    cases = [
        ((), 5, (1, 2, 3), "wrong after the first steps"),
        ((2, 3), 8, (20,), "wrong on a batch"),
        ((), 6, (2000,), "wrong after many steps"),
    ]
    for batch, columns, counts, words in cases:
        good = []
        for steps in counts:
            z = generator.normal(0, 1, (*batch, 6, columns))
            if steps > 1000:  # still on its way then
                left, values, right = _factors(generator, 6, columns, 300.0)
                z = (left * values) @ right
            y = generator.normal(0, 1, (*batch, 6))
            eta = float(
                generator.uniform(0.4, 0.9) / np.linalg.norm(z, 2, axis=(-2, -1)).max() ** 2
            )
            momentum = 0.0 if steps == 2 else float(generator.uniform(0.3, 0.9))
            answer = call("heavy_ball", z, y, eta, momentum, steps)
            right = [_ball(z[i], y[i], eta, momentum, steps) for i in np.ndindex(batch)]
            right = np.reshape(right, (*batch, columns))
            good.append(agrees(answer, right, rtol=1e-7, atol=1e-8))
        score += award(call, 1, all(good), words)
    return score


def _factors(generator, rows: int, columns: int, condition: float):
    """Singular vectors and values; the largest value is 1."""
    rank = min(rows, columns)
    left = np.linalg.qr(generator.normal(0, 1, (rows, rank)))[0]
    right = np.linalg.qr(generator.normal(0, 1, (columns, rank)))[0].T
    values = np.exp(-generator.uniform(0, math.log(condition), rank))
    values[0], values[-1] = 1.0, 1 / condition
    return left, values, right


def _shares(values: np.ndarray, eta: float, steps: int) -> np.ndarray:
    """1 - (1 - eta s^2)^t with 50 decimal digits."""
    with localcontext() as context:
        context.prec = 50
        reach = [Decimal(eta) * Decimal(float(s)) ** 2 for s in values]
        return np.array([float(1 - (1 - a) ** steps) for a in reach])


def _ridge(value: float, eta: float, steps: int) -> Fraction:
    """s^2 / (s^2 + 1/(eta t))."""
    square = Fraction(float(value)) ** 2
    return square / (square + 1 / (Fraction(eta) * steps))


def _loop(z, y, eta: float, steps: int, start) -> np.ndarray:
    beta = np.array(start)
    for _ in range(steps):
        beta = beta - eta * (z.T @ (z @ beta - y))
    return beta


def _ball(z, y, eta: float, momentum: float, steps: int) -> np.ndarray:
    before = now = np.zeros(z.shape[1])
    for _ in range(steps):
        ahead = now + momentum * (now - before) + eta * (z.T @ (y - z @ now))
        before, now = now, ahead
    return now


def _peaks(generator, count: int, columns: int, marks: np.ndarray, never: bool):
    """Problems whose error passes the level well between two marks; one of them never does."""
    level = 3.0
    problems, answers = [], []
    while len(problems) < count:
        left, values, right = _factors(generator, 9, columns, 10.0 ** generator.uniform(2, 3))
        last = never and not problems
        y = generator.normal(0, 0.4 if last else 1, 9)
        z = (left * values) @ right
        test = generator.normal(0, 1, (5, columns)) / columns**0.5
        truth = test @ generator.normal(0, 0.3, columns)
        if last:
            test, truth = 1e-3 * test, 1e-3 * truth
        # As powers of the matrix of a step.
        step = np.eye(columns) - z.T @ z
        errors = []
        for mark in marks:
            kept = np.linalg.matrix_power(step, int(mark))
            beta = (np.eye(columns) - kept) @ (np.linalg.pinv(z) @ y)
            errors.append(((test @ beta - truth) ** 2).mean())
        above = np.array(errors) > level
        clear = np.abs(np.array(errors) / level - 1).min() > 1e-3
        if not clear or above.any() == last or above[:6].any():
            continue
        problems.append((z, y, test, truth))
        answers.append(marks[above.argmax()] if above.any() else math.inf)
    return problems, answers, level


def _constant(steps: int) -> float:
    """The root in w = 1 - a of sum of w^-j = 2t, by bisection of the closed form of the sum."""
    if steps == 1:
        return 1.0
    low, high = 0.0, 1.0  # of a
    for _ in range(200):
        a = (low + high) / 2
        # (1 - w^t) / (a w^(t - 1)) grows with a.
        log = math.log1p(-a)
        total = -math.expm1(steps * log) / a * math.exp(min(-(steps - 1) * log, 700.0))
        low, high = (a, high) if total < 2 * steps else (low, a)
    return math.expm1(steps * math.log1p(-low)) ** 2 / (steps * low)


def _risk(rows: int, columns: int, noise: float, signal: float) -> float:
    if abs(rows - columns) <= 1:
        return math.inf
    if columns < rows:
        return float(Fraction(noise) * Fraction(columns, rows - columns - 1))
    price = Fraction(noise) * Fraction(rows, columns - rows - 1)
    return float(price + Fraction(signal) * (1 - Fraction(rows, columns)))
